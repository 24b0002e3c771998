"""What a machine is made of, as values that check themselves.

`MachineConfig` is all that :class:`paravirt.machine.Machine` is given.  A wrong value raises
:class:`ConfigError` when the object is made.  What depends on the host or on the image is checked
later: `check_host` here, disks and KVM where they are opened, the manifest in ``boot/manifest.py``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple

from .attachments import DEVICE_NAME_BYTES, Attachment, word_of
from .attachments.block import Disk, parse_disk
from .attachments.block_served import ServedDisk
from .errors import ConfigError, HostLimit, HostMemory
from .values import Value, check_choice, check_name

if TYPE_CHECKING:
    from .abi import Service
    from .debug.address import GdbConfig

__all__ = ["DEVICE_NAME_BYTES", "Disk", "ServedDisk", "parse_disk"]
MIB = 1 << 20
NO_BOUND = (1 << 63) - 1
PAGE_BYTES = 4096
MEMORY_STEP_BYTES = 2 * MIB  # guest memory is mapped in pages of 2 MiB
MEMORY_LEAST_BYTES = 4 * MIB
MEMORY_MOST_BYTES = 1 << 40
VCPUS_MOST = 64  # limit VCPUS
DEVICES_MOST = 32  # limit DEVICES
MACHINE_NAME_BYTES = 48  # boot_machine.name
COMMAND_LINE_BYTES = 4096
EXTENSION_OPTIONS_BYTES = 1000  # a message to its process

Privilege = Literal["user", "supervisor"]
Transport = Literal["auto", "calls", "mmio"]
Accel = Literal["auto", "kvm", "software"]
IoEngine = Literal["auto", "uring", "threads"]

ACCELERATORS: tuple[Accel, ...] = ("auto", "kvm", "software")
KVM_DEVICE = Path("/dev/kvm")

_SIZE = re.compile(r"(\d{1,20})\s*([KMGT]?)(?:i?B)?", re.IGNORECASE | re.ASCII)


def parse_size(text: str) -> int:
    """Bytes of a size such as ``128M``, ``1G``, ``4096`` (powers of 1024).  Raises ConfigError."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ConfigError(f"{text!r} is not a size; write for example 128M or 1G")
    return int(match[1]) << (10 * " KMGT".index(match[2].upper() or " "))


def show_size(size_bytes: int) -> str:
    """`size_bytes` in the largest unit in which it is a whole number: ``128M``."""
    for shift, unit in ((40, "T"), (30, "G"), (20, "M"), (10, "K")):
        if size_bytes and size_bytes % (1 << shift) == 0:
            return f"{size_bytes >> shift}{unit}"
    return f"{size_bytes}"


def parse_pin(text: str) -> tuple[int, ...]:
    """Numbers of the host's CPUs, written ``2,3``: one for each vCPU.  Raises ConfigError."""
    if not re.fullmatch(r"\d{1,6}(,\d{1,6})*", text, re.ASCII):
        raise ConfigError(f"{text!r} is no list of CPUs; write a number for each vCPU, for example 2,3")
    return tuple(map(int, text.split(",")))


class ExtensionConfig(Value):
    """An extension: the path of a binary module, or the entry point of a plug-in."""

    name: str
    options: str = ""
    trusted: bool = False
    """A module in this process: its calls are faster, and its bugs are this process's."""
    timeout_ns: int = 1_000_000_000
    """How long an isolated module may take for a call before it is withdrawn."""

    def __post_init__(self) -> None:
        if not self.name or "\0" in self.name:
            raise ConfigError(f"the extension {self.name!r} is no name; give the path of a module or an entry point")
        size = len(self.options.encode("utf-8", "surrogatepass"))
        encodable = not any("\ud800" <= c <= "\udfff" for c in self.options)  # what an argument holds that is not UTF-8
        if size > EXTENSION_OPTIONS_BYTES or not encodable or "\0" in self.options:
            raise ConfigError(
                f"the options of {self.name} must be at most {EXTENSION_OPTIONS_BYTES} bytes of UTF-8, without NUL"
            )
        if not 0 < self.timeout_ns < 1 << 62:
            raise ConfigError(
                f"the time-out of {self.name} must be positive and below 2^62 ns, it is {self.timeout_ns}"
            )

    @property
    def is_module(self) -> bool:
        """Whether it is a shared object rather than Python."""
        return "/" in self.name or self.name.endswith(".so")


def parse_extension(text: str) -> ExtensionConfig:
    """An extension written ``NAME|PATH[,trusted][:OPTIONS]``.  Raises ConfigError."""
    name, _, options = text.partition(":")
    trusted = name.endswith(",trusted")
    return ExtensionConfig(name.removesuffix(",trusted"), options, trusted)


class Budgets(Value):
    """What a guest may cost its host; a guest that is over a budget harms only itself."""

    console_bytes: int | None = None
    """Console output of the machine, resets included; beyond it console.write answers QUOTA, and other consoles are
    silent.  None: 16 MiB, and no bound for plain guests, whose kernels write there as long as they live."""
    trace_marks: int = 100_000
    """Trace marks of the machine, resets included; beyond it the service trace answers QUOTA."""
    trace_events: int = 2_000_000
    """Events that are written to a trace (some 300 bytes each); those beyond are counted as lost."""
    recording_bytes: int = 1 << 30
    """Size of a recording; one that would be larger is not complete, and an error."""
    doorbells_per_second: int = 200_000
    """Doorbells made as calls or exits, of the whole machine; 0: no bound."""
    poll_ns: int = 50_000
    """How long a device's thread looks for new buffers before it sleeps, at most: less where that was in vain; 0: not
    at all."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not 0 <= value < 1 << 63:
                raise ConfigError(f"the budget {name} must not be negative or above 2^63, it is {value}")
        if self.poll_ns > 10_000_000:
            raise ConfigError(f"the budget poll_ns is {self.poll_ns}; more than 10 ms of polling is not allowed")

    def console_most(self, plain: bool) -> int:
        """Bytes of output of a guest, plain or not."""
        if self.console_bytes is not None:
            return self.console_bytes
        return NO_BOUND if plain else 16 * MIB


def parse_console_bytes(text: str) -> int:
    """A size, or ``off`` for no bound.  Raises ConfigError."""
    return NO_BOUND if text == "off" else parse_size(text)


def parse_poll(text: str) -> int:
    """`Budgets.poll_ns` written ``auto``, ``off`` or as a number of ns.  Raises ConfigError."""
    if text in ("auto", "off"):
        return Budgets.poll_ns if text == "auto" else 0
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ConfigError(f"{text!r} is no time to poll; write auto, off, or a number of nanoseconds")
    return int(text)


class Denied(NamedTuple):
    """What is switched off for a guest (rule CALL-2)."""

    services: frozenset[int]
    """Numbers of whole services."""
    calls: dict[int, int]
    """Service number → bit mask of functions."""


def parse_deny(names: frozenset[str], more: Mapping[str, Service] = MappingProxyType({})) -> Denied:
    """Numbers of the services (``time``) and calls (``time.deadline``) named, those of extensions in `more`.

    Raises ConfigError for a name that does not exist and for anything of the service base, without
    which a guest could not even ask what there is.
    """
    if not names:
        return Denied(frozenset(), {})
    from .abi import SERVICES as STANDARD  # loads the C core, which not every command needs

    known_services = {**STANDARD, **more}

    services: set[int] = set()
    calls: dict[int, int] = {}
    for name in sorted(names):
        service_name, dot, call_name = name.partition(".")
        service = known_services.get(service_name)
        if service is None:
            raise ConfigError(f"cannot deny {name!r}: no such service; there are {', '.join(known_services)}")
        if not service.optional:
            raise ConfigError(f"cannot deny {name!r}: the service {service_name} is always offered")
        if not dot:
            services.add(service.number)
            continue
        call = service.calls.get(call_name)
        if call is None:
            known = ", ".join(service.calls)
            raise ConfigError(f"cannot deny {name!r}: no such call; {service_name} has {known}")
        calls[service.number] = calls.get(service.number, 0) | 1 << call.number
    return Denied(frozenset(services), calls)


def new_uuid() -> bytes:
    """A random UUID (version 4); the module uuid would take longer to load than this guest to start."""
    value = bytearray(os.urandom(16))
    value[6], value[8] = value[6] & 0x0F | 0x40, value[8] & 0x3F | 0x80
    return bytes(value)


class MachineConfig(Value):
    """A machine: what it boots, how large it is, what it is offered and how it is observed."""

    image: Path
    memory_bytes: int = 128 * MIB
    huge_pages: bool = False
    """Guest memory in pages of 2 MiB; an error where the host has none."""
    populate: bool = False
    """Have the host back all of it before the guest starts."""
    progress: Callable[[int, int], object] | None = None
    """Called with the bytes populated and those to be."""
    balloon_bytes: int = 0
    """How much of it the guest is asked to give back from the start; `Machine.balloon` asks for another amount."""
    vcpus: int = 1
    pin: tuple[int, ...] = ()
    """The host's CPU that each vCPU stays on, one for each; empty: where the host's scheduler puts them."""
    disks: tuple[Disk | ServedDisk, ...] = ()
    devices: tuple[Attachment, ...] = ()
    """What is attached beside disks."""
    command_line: str = ""
    initrd: Path | None = None
    """An initial RAM disk, for an image without notes."""
    console: Callable[[bytes], object] | None = None
    """Called with what the guest writes, from a thread of the machine; None throws it away."""
    console_input: bytes | int = b""
    """What the guest reads: the bytes, or a file descriptor that stays the caller's."""
    privilege: Privilege = "user"
    """Level of an image that leaves the choice to the host."""
    poison: bool = False
    """Scramble whatever the ABI calls undefined."""
    deny: frozenset[str] = frozenset()
    """Services (``time``) and calls (``time.deadline``) switched off for this guest."""
    extensions: tuple[ExtensionConfig, ...] = ()
    """Services of vendors and experiments."""
    trace: Path | None = None
    """Where a Chrome/Perfetto trace is written; None: no trace."""
    record: Path | None = None
    """Where a recording of the guest's calls is written; None: none."""
    gdb: GdbConfig | None = None
    """Where the machine listens for a debugger; None: it does not."""
    timeout_s: float | None = None
    """How long the guest may run."""
    transport: Transport = "auto"
    """How the guest reaches its virtio devices; auto: by calls, but for images that are not written for them."""
    name: str = "paravirt"
    uuid: bytes = b""
    """16 bytes, RFC 4122; empty: a new one."""
    boot_records: tuple[tuple[int, int, bytes], ...] = ()
    """Further boot records (type, flags, payload), put before END; for vendors and tests."""
    budgets: Budgets = Budgets()
    io_engine: IoEngine = "auto"
    kvm_device: Path = KVM_DEVICE
    cpu: str = "host"
    """The CPU that the guest sees, on KVM: ``host`` or ``x86-64-v1`` to ``v4``, then ``,+feature`` or ``,-feature``."""
    accel: Accel = "auto"
    """What runs vCPUs; auto: what PARAVIRT_ACCEL says, else KVM where it can be opened, else the software vCPU."""

    def __post_init__(self) -> None:
        self._check_size()
        self._check_devices()
        self._check_text()
        check_choice("the privilege", self.privilege, ("user", "supervisor"))
        check_choice("the transport", self.transport, ("auto", "calls", "mmio"))
        if self.accel == "auto":
            self.__dict__["accel"] = os.environ.get("PARAVIRT_ACCEL") or "auto"
        check_choice("the accelerator", self.accel, ACCELERATORS)
        if self.cpu != "host":
            from .accel.cpuid import parse_cpu  # what has no other CPU need not know of them

            parse_cpu(self.cpu)
        check_choice("the I/O engine", self.io_engine, ("auto", "uring", "threads"))
        if self.timeout_s is not None and not 0 < self.timeout_s < 1e9:
            raise ConfigError(f"the time-out must be more than 0 s and less than 10^9 s, it is {self.timeout_s}")
        for kind, flags, _ in self.boot_records:
            if not (0 <= kind < 1 << 16 and 0 <= flags < 1 << 16):
                raise ConfigError(f"boot record ({kind}, {flags}, …): type and flags are 16 bits")
        self.__dict__["uuid"] = self.uuid or new_uuid()
        if len(self.uuid) != 16:
            raise ConfigError(f"the machine's UUID must have 16 bytes, it has {len(self.uuid)}")
        if not self.extensions:  # whose names are known once they are loaded
            parse_deny(self.deny)

    def _check_size(self) -> None:
        if not MEMORY_LEAST_BYTES <= self.memory_bytes <= MEMORY_MOST_BYTES:
            raise ConfigError(f"memory of {show_size(self.memory_bytes)}: it must be from 4M to 1T{self._meant()}")
        if self.memory_bytes % MEMORY_STEP_BYTES:
            raise ConfigError(f"memory of {show_size(self.memory_bytes)}: it must be a multiple of 2M")
        if not 1 <= self.vcpus <= VCPUS_MOST:
            raise ConfigError(f"{self.vcpus} vCPUs: a machine has from 1 to {VCPUS_MOST}")
        if self.pin and len(self.pin) != self.vcpus:
            raise ConfigError(f"{len(self.pin)} CPUs to pin {self.vcpus} vCPUs to: give one for each")
        self.check_balloon(self.balloon_bytes)

    def check_balloon(self, target_bytes: int) -> None:
        """Raises ConfigError for a balloon that this machine cannot have."""
        if target_bytes % PAGE_BYTES or not 0 <= target_bytes <= self.memory_bytes:
            raise ConfigError(
                f"a balloon of {show_size(target_bytes)}: it must be whole pages of 4K and at most the guest's "
                f"{show_size(self.memory_bytes)}"
            )

    def _meant(self) -> str:
        n = self.memory_bytes
        return f"; {n} is bytes, did you mean {n}M?" if 4 <= n < 1 << 16 else ""

    @property
    def attached(self) -> tuple[Attachment, ...]:
        """All of them."""
        return (*self.disks, *self.devices)

    def _check_devices(self) -> None:
        kinds: dict[str, str] = {}  # by the name alone: it is how a running machine's devices are spoken of
        for device in self.attached:
            name, word = device.name, word_of(device.kind)
            if name in kinds:
                two = f"two {word}s" if kinds[name] == word else f"a {kinds[name]} and a {word}"
                raise ConfigError(f"{two} are called {name!r}; give each device its own name")
            kinds[name] = word
        if len(kinds) > DEVICES_MOST:
            raise ConfigError(f"{len(kinds)} devices: a machine has at most {DEVICES_MOST}")

    def _check_text(self) -> None:
        check_name("the machine name", self.name, MACHINE_NAME_BYTES)
        try:
            size = len(self.command_line.encode())
        except UnicodeEncodeError as error:
            raise ConfigError("the command line is not valid text; write it in UTF-8") from error
        if size >= COMMAND_LINE_BYTES or "\0" in self.command_line:
            raise ConfigError(f"the command line must be shorter than {COMMAND_LINE_BYTES} bytes and without NUL")

    def denied(self, extensions: Mapping[str, Service] = MappingProxyType({})) -> Denied:
        """`deny` in numbers.  Raises ConfigError for what neither the standard nor `extensions` have."""
        return parse_deny(self.deny, extensions)


def host_memory_bytes() -> int:
    """Bytes of memory that this process could ever have: the machine's, or its control group's if less."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return memory
    return min(memory, int(limit)) if limit.isdigit() else memory


def check_host(config: MachineConfig) -> None:
    """Raises HostMemory or HostLimit if the host lacks what is asked for.  The machine calls it first of all."""
    if not isinstance(config, MachineConfig):
        raise ConfigError(f"a machine is made of a MachineConfig, not of {config!r:.80}")
    available = host_memory_bytes()
    if config.memory_bytes > available:
        raise HostMemory(
            f"a guest memory of {show_size(config.memory_bytes)} is more than this machine's "
            f"{available // MIB}M; give less with --memory"
        )
    here = os.sched_getaffinity(0)
    for cpu in config.pin:
        if cpu not in here:
            shown = ", ".join(map(str, sorted(here)))
            raise HostLimit(f"cannot pin a vCPU to CPU {cpu}: this process may use {shown}; give others with --pin")
