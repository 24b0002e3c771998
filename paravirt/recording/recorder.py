"""Has a machine write a recording of its calls: opens the file, says whose calls follow, and closes it.

The packets of calls are written by the C core (paravirt/native/record.c), in the threads that make them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypercall_abi import VERSION
from hypercall_abi.recording import (
    RECORDED,
    RECORDED_DEVICE,
    RECORDED_FLAG,
    RECORDED_MACHINE,
    RECORDED_SERVICE,
    RECORDING,
)

from .._native import ffi, lib
from ..attachments import FileAttachment
from ..boot.manifest import PlannedDevice
from ..config import MachineConfig, show_size
from ..errors import OutputError
from ..interrupts import heard
from . import pcapng

if TYPE_CHECKING:
    from ..machine import Machine

IMAGE_NAME_BYTES = 64


class Recorder:
    """Writes the recording at `path`, which is made at once.  Raises OutputError if it cannot be.

    After `bytes_most` the recording is not complete, which :meth:`close` says: the guest decides how many
    calls there are.
    """

    def __init__(self, path: Path, bytes_most: int, config: MachineConfig) -> None:
        self._path = path
        self._digest = ffi.string(lib.pv_abi_digest())
        self._sha256 = hashlib.sha256(config.image.read_bytes()).digest()
        self._image = config.image.name.encode()[:IMAGE_NAME_BYTES].decode(errors="ignore")
        self._captures: dict[int, Any] = {}
        self.native = ffi.new("struct pv_recording *")
        try:
            with heard():  # a pipe that nobody reads
                self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise self._refused(error.errno) from error
        lib.pv_recording_init(self.native, self._fd, bytes_most)
        head = pcapng.head(list(self._comments(config)), "paravirt")
        try:
            if os.write(self._fd, head) != len(head):
                raise OSError(errno.ENOSPC, "")  # a short write is a full disk
        except OSError as error:
            os.close(self._fd)
            raise self._refused(error.errno) from error

    def _comments(self, config: MachineConfig) -> Iterator[str]:
        yield f"paravirt hypercall ABI {VERSION[0]}.{VERSION[1]}, declaration {self._digest.decode()}"
        yield f"image {self._image}, SHA-256 {self._sha256.hex()}"
        disks = ", ".join(f"{disk.name}{' (read-only)' if disk.read_only else ''}" for disk in config.disks)
        yield (
            f"memory {show_size(config.memory_bytes)}, vCPUs {config.vcpus}, privilege {config.privilege}, "
            f"transport {config.transport}, poison {'on' if config.poison else 'off'}, "
            f"denied: {', '.join(sorted(config.deny)) or 'nothing'}, disks: {disks or 'none'}, "
            f"command line: {config.command_line!r}"
        )

    def record(self, machine: Machine) -> None:
        """Begins a life of `machine`, which is built and does not run yet."""
        packet = self._machine(machine)
        data = ffi.from_buffer(packet)
        part = ffi.new("struct iovec *", {"iov_base": data, "iov_len": len(packet)})
        lib.pv_recording_put(self.native, time.monotonic_ns(), part, 1)
        machine.native.recording = self.native
        for vcpu in machine.vcpus:
            capture = self._captures.setdefault(vcpu.index, ffi.new("struct pv_capture *"))
            vcpu.native.capture = capture
        machine.native.callrings.capture = self._captures.setdefault(-1, ffi.new("struct pv_capture *"))

    def _machine(self, machine: Machine) -> bytes:
        config, offered, denied = machine.config, machine.offered() | machine.extended(), machine.denied
        flags = RECORDED_FLAG.POISON if config.poison else 0
        flags |= RECORDED_FLAG.SUPERVISOR if machine.layout.mode == lib.PV_MODE_SUPERVISOR else 0
        flags |= RECORDED_FLAG.MMIO if any(native.mmio for _, native in machine.devices.devices) else 0
        head = RECORDED_MACHINE.build(
            {
                "kind": RECORDED.MACHINE,
                "format": RECORDING.FORMAT,
                "vcpus": config.vcpus,
                "major": VERSION[0],
                "minor": VERSION[1],
                "flags": flags,
                "services": len(offered),
                "devices": len(machine.plan),
                "memory_bytes": config.memory_bytes,
                "digest": bytes.fromhex(self._digest.decode()),
                "image_sha256": self._sha256,
                "image": self._image,
            }
        )
        services = (
            RECORDED_SERVICE.build({"service": n, "denied": denied.calls.get(n, 0), "offered": features})
            for n, features in sorted(offered.items())
        )
        return b"".join((bytes(head), *services, *map(_device, machine.plan)))

    def close(self) -> None:
        """Writes what is left, after the machine's end.  Raises OutputError if not all could be written."""
        error = lib.pv_recording_deinit(self.native)
        try:
            os.close(self._fd)
        except OSError as late:
            error = error or late.errno
        if error:
            raise self._refused(error)

    def discard(self) -> None:
        """As `close`, and takes the file away: the machine could not be made."""
        with suppress(OutputError):
            self.close()
        if self._path.is_file():  # not a device, nor a pipe
            with suppress(OSError):
                self._path.unlink()

    def _refused(self, error: int | None) -> OutputError:
        if error == errno.EFBIG:
            return OutputError(
                f"the recording {self._path} is not complete: the guest made more calls than there is room for; "
                "end it sooner with --timeout, or raise the budget recording_bytes"
            )
        return OutputError(
            f"cannot write the recording to {self._path}: {os.strerror(error or 0)}; give another --record"
        )


def _device(planned: PlannedDevice) -> bytes:
    size, read_only = 0, 0
    disk = planned.attachment
    if isinstance(disk, FileAttachment):
        fd = os.open(disk.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size, read_only = os.lseek(fd, 0, os.SEEK_END), int(disk.read_only)
        finally:
            os.close(fd)
    record = {"type": planned.type, "read_only": read_only, "size_bytes": size, "name": planned.name}
    return bytes(RECORDED_DEVICE.build(record))
