"""Debian Linux in QEMU on our devices: file systems, network, sockets, random bytes; back ends that die under load."""

from __future__ import annotations

import hashlib
import random
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from paravirt._native import ffi, lib
from paravirt.config import Disk
from paravirt.devices.block import BlockDevice
from paravirt.vhost_user.back_end import BackEnd
from tests.support.linux_image import initramfs, program, programs
from tests.support.qemu_linux import QemuLinux, shared_block
from tests.support.served_device import InProcess, InThread, wait_for
from tests.support.tap import HOST, NoTap, tap_device

HERE = Path(__file__).resolve().parent
GUEST = "10.0.2.15"
HTTP_PORT, VSOCK_PORT = 8000, 5000
DISK_BYTES = 96 << 20
FETCHED = random.Random(1).randbytes(6 << 20)
ECHOED = 1 << 20
PIECES = 16
KILLS = (3, 9)
"""After how many pieces of the first disk the back ends die."""
END = 12
"""After how many they are stopped in order."""
PROOF = ("random ", "vsock ", "fetched ", "checked ", "same ")
"""Lines that are shown, with -s or -rP."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="no qemu-system-x86_64"),
]

SCRIPT = f"""
ip link set lo up; ip addr add {GUEST}/24 dev eth0; ip link set eth0 up
dd if=/dev/hwrng bs=32 count=2 2>/dev/null | wc -c | sed 's/^/random /'
cat /sys/class/misc/hw_random/rng_current
/own/vsock_client {VSOCK_PORT} {ECHOED}
for disk in vda vdb; do
    mkdir -p /mnt/$disk
    /own/mke2fs -q -t ext4 /dev/$disk && mount -t ext4 /dev/$disk /mnt/$disk || echo "no file system on $disk"
done
work() {{
    for piece in $(seq 1 {PIECES}); do
        for part in a b c d; do
            dd if=/dev/urandom of=/mnt/$1/$piece$part bs=64k count=2 oflag=direct 2>/dev/null &
        done
        wait
        md5sum /mnt/$1/$piece? >> /tmp/$1.sums
        echo "wrote $1 $piece"
    done
    echo "worked $1"
}}
fetch() {{
    for turn in 1 2 3; do
        until wget -q -O /tmp/fetched http://{HOST}:{HTTP_PORT}/; do echo "no network yet"; done
        echo "fetched $(md5sum < /tmp/fetched)"
    done
}}
work vda & work vdb & fetch & wait
for disk in vda vdb; do
    sync; umount /mnt/$disk && /own/e2fsck -fn /dev/$disk > /tmp/check 2>&1; echo "checked $disk $?"
    mount -t ext4 -o ro /dev/$disk /mnt/$disk && md5sum -c /tmp/$disk.sums | grep -c OK | sed "s/^/same $disk /"
    umount /mnt/$disk
done
poweroff -f
"""


def serve_http(listener: socket.socket) -> None:
    """Answers every request with the same bytes."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(FETCHED) + FETCHED)


def serve_echo(listener: socket.socket) -> None:
    """Sends back what one program sends."""
    try:
        connection, _ = listener.accept()
    except OSError:
        return
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data)


@pytest.fixture
def kept() -> Iterator[ExitStack]:
    with ExitStack() as kept:
        yield kept


SECOND_SCRIPT = f"""
ip link set lo up; ip addr add {GUEST}/24 dev eth0; ip link set eth0 up
ls -d /sys/class/net/eth0/queues/rx-* | wc -l | sed 's/^/queues /'
wget -q -O /tmp/fetched http://{HOST}:{HTTP_PORT}/ && echo "fetched $(md5sum < /tmp/fetched)"
if dd if=/dev/vda bs=512 count=1 2>/dev/null | grep -q again; then
    for piece in $(seq 1 40); do
        dd if=/dev/urandom of=/dev/vda bs=64k count=4 seek=$piece oflag=direct 2>/dev/null && echo "wrote $piece"
    done
    md5sum < /dev/vda; poweroff -f
fi
echo again | dd of=/dev/vda conv=sync,fsync bs=512 2>/dev/null; reboot -f
"""


def listen(kept: ExitStack, listener: socket.socket, serve: object) -> None:
    """Serves until the test is over."""
    listener.listen()
    thread = threading.Thread(target=serve, args=(listener,), daemon=True)  # type: ignore[arg-type]
    kept.callback(thread.join)
    kept.callback(listener.close)
    kept.callback(listener.shutdown, socket.SHUT_RDWR)
    thread.start()


def client(place: Path) -> bytes:
    """The program vsock_client."""
    target = place / "vsock_client"
    source = HERE.parent / "support" / "vsock_client.c"
    subprocess.run(["gcc", "-O1", "-static", "-Wall", "-Wextra", "-Werror", source, "-o", target], check=True)
    return target.read_bytes()


class Devices:
    """Two disks, a network, sockets and random bytes, each served by a process; `mortal` are those that may die."""

    def __init__(self, place: Path, kept: ExitStack) -> None:
        self.images = [place / f"disk{number}.img" for number in range(2)]
        for image in self.images:
            with image.open("wb") as file:
                file.truncate(DISK_BYTES)
        self._at = {name: place / name for name in ("disk0", "disk1", "net", "vsock", "random")}
        self.mortal = [
            *(InProcess(self._at[f"disk{n}"], "block", "--disk", str(image)) for n, image in enumerate(self.images)),
            InProcess(self._at["net"], "net", "--net", "tap:tap0"),
        ]
        others = [
            InProcess(self._at["vsock"], "vsock", "--vsock", f"{place / 'guest.sock'},cid=7"),
            InProcess(self._at["random"], "entropy"),
        ]
        for process in (*self.mortal, *others):
            kept.enter_context(process)

    def words(self) -> list[str]:
        """QEMU's; its version 7.2 ends by SIGSEGV where its emulation has MSI-X of a vhost network: vectors=0."""
        return [
            *shared_block(0, self._at["disk0"]),
            *shared_block(1, self._at["disk1"], ",packed=on"),
            *("-chardev", f"socket,id=net,path={self._at['net']},reconnect=1"),
            *("-netdev", "vhost-user,id=net,chardev=net", "-device", "virtio-net-pci,netdev=net,romfile=,vectors=0"),
            *("-chardev", f"socket,id=vsock,path={self._at['vsock']}", "-device", "vhost-user-vsock-pci,chardev=vsock"),
            *(
                "-chardev",
                f"socket,id=random,path={self._at['random']}",
                "-device",
                "vhost-user-rng-pci,chardev=random",
            ),
        ]

    def die(self) -> None:
        """They are killed, and started again."""
        for process in self.mortal:
            process.kill()
        self._start()

    def end(self) -> None:
        """They are stopped as services are, in order, and started again."""
        for process in self.mortal:
            assert process.stop() == (143, "paravirt: terminated\n")
        self._start()

    def _start(self) -> None:
        """All at once: a guest gives up on a network after three seconds without an answer."""
        for process in self.mortal:
            process.launch()
        for process in self.mortal:
            process.wait_served()


def prepare(place: Path, kept: ExitStack, script: str = SCRIPT, pairs: int = 1) -> Path:
    """The initramfs, and who answers its requests on this host."""
    try:
        kept.enter_context(tap_device("tap0", pairs=pairs))
    except NoTap as why:
        pytest.skip(str(why))
    listen(kept, socket.create_server((HOST, HTTP_PORT)), serve_http)
    echo = socket.socket(socket.AF_UNIX)
    echo.bind(str(place / f"guest.sock_{VSOCK_PORT}"))
    listen(kept, echo, serve_echo)
    load = ("virtio_pci", "virtio_blk", "virtio_net", "virtio_rng", "vmw_vsock_virtio_transport", "ext4", "af_packet")
    files = programs("mke2fs", "e2fsck") | {"own/vsock_client": client(place)}
    initrd = place / "initrd"
    initrd.write_bytes(initramfs(script, load=load, files=files))
    return initrd


@pytest.mark.rights
def test_linux_on_our_devices(tmp_path: Path, kept: ExitStack) -> None:
    """Accept 3: checksums are equal and file systems clean, though the back ends died twice."""
    initrd = prepare(tmp_path, kept)
    devices = Devices(tmp_path, kept)
    with QemuLinux(initrd, devices.words()) as machine:
        for count in KILLS:
            machine.wait_line(f"wrote vda {count}")
            devices.die()
            print(f"killed and started again after: wrote vda {count}")
        machine.wait_line(f"wrote vda {END}")
        devices.end()
        print(f"ended and started again after: wrote vda {END}")
        assert machine.wait() == 0
        said = machine.said
    print("\n".join(line for line in machine.lines if line.startswith(PROOF)))
    wanted = ["random 64", "virtio_rng.0", f"vsock echoed {ECHOED}"]
    for disk in ("vda", "vdb"):
        wanted += [f"checked {disk} 0", f"same {disk} {PIECES * 4}"]
    assert not [line for line in wanted if line not in machine.lines], said
    assert said.count(f"fetched {hashlib.md5(FETCHED).hexdigest()}") == 3, said
    for image in devices.images:
        done = subprocess.run([program("e2fsck"), "-fn", image], check=True, capture_output=True, text=True)
        print(done.stdout.splitlines()[-1])


@pytest.mark.rights
def test_linux_begins_again_and_is_paused(tmp_path: Path, kept: ExitStack) -> None:
    """A reboot, then a machine that is stopped and goes on under load; a network with two pairs of queues."""
    initrd = prepare(tmp_path, kept, SECOND_SCRIPT, pairs=2)
    image, disk, lan, monitor = (tmp_path / name for name in ("disk.img", "disk", "lan", "monitor"))
    with image.open("wb") as file:
        file.truncate(16 << 20)
    kept.enter_context(InProcess(disk, "block", "--disk", str(image)))
    kept.enter_context(InProcess(lan, "net", "--net", "tap:tap0,pairs=2"))
    words = [
        *shared_block(0, disk),
        *("-chardev", f"socket,id=lan,path={lan},reconnect=1", "-netdev", "vhost-user,id=lan,chardev=lan,queues=2"),
        *("-device", "virtio-net-pci,netdev=lan,romfile=,vectors=0,mq=on"),
    ]
    with QemuLinux(initrd, words, cpus=2, monitor=monitor) as machine:
        for count in (5, 15):
            machine.wait_line(f"wrote {count}")
            machine.pause()
        assert machine.wait() == 0
        said = machine.said
    assert said.count("queues 2") == 2, said
    assert said.count(f"fetched {hashlib.md5(FETCHED).hexdigest()}") == 2, said
    assert machine.lines.count("wrote 40") == 1, said
    assert hashlib.md5(image.read_bytes()).hexdigest() in said, said


FAULT_SCRIPT = """
dd if=/dev/vda bs=4k count=1 2>/dev/null | wc -c | sed 's/^/read /'
while dd if=/dev/vda of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null; do :; done
"""


def test_qemu_is_told_of_a_fault(tmp_path: Path, kept: ExitStack, caplog: pytest.LogCaptureFixture) -> None:
    """The ring offers more than it has room for, since somebody writes to its memory: QEMU says that it was told."""
    image, initrd, disk = (tmp_path / name for name in ("disk.img", "initrd", "disk"))
    image.write_bytes(bytes(1 << 20))
    initrd.write_bytes(initramfs(FAULT_SCRIPT, load=("virtio_pci", "virtio_blk")))
    back_end = kept.enter_context(InThread(BackEnd(BlockDevice("disk", Disk("disk", image), queues=2), disk)))

    def is_at_fault() -> bool:
        memory, gpa = ffi.addressof(back_end.machine, "memory"), back_end.native.queues[0].state.driver_gpa
        ring = ffi.cast("uint16_t *", lib.pv_memory_at(memory, gpa, 4))
        ring[1] = (ring[1] + 1000) & 0xFFFF
        return bool(back_end.native.last_fault != ffi.NULL)

    with QemuLinux(initrd, shared_block(0, disk)) as machine:
        machine.wait_line("read 4096")
        wait_for(is_at_fault, "no fault")
        wait_for(lambda: "vhost vring error in virtqueue 0" in machine.said, "QEMU was not told")
    assert caplog.text.count("broke rule VQ-7") == 1


GROWTH_SCRIPT = """
sectors() { cat /sys/block/vda/size | sed 's/^/sectors /'; }
sectors
until test $(cat /sys/block/vda/size) -gt 2048; do sleep 0.2; done
sectors
dd if=/dev/vda bs=512 skip=2048 iflag=direct 2>/dev/null | md5sum
poweroff -f
"""


def test_a_disk_that_grows(tmp_path: Path, kept: ExitStack) -> None:
    """Linux has the larger disk at once, and reads what is new."""
    image, initrd, disk = (tmp_path / name for name in ("disk.img", "initrd", "disk"))
    image.write_bytes(bytes(2048 * 512))
    initrd.write_bytes(initramfs(GROWTH_SCRIPT, load=("virtio_pci", "virtio_blk")))
    kept.enter_context(InProcess(disk, "block", "--disk", str(image)))
    with QemuLinux(initrd, shared_block(0, disk)) as machine:
        machine.wait_line("sectors 2048")
        with image.open("ab") as file:
            file.write(FETCHED[: 1024 * 512])
        assert machine.wait() == 0
    assert machine.lines.count("sectors 3072") == 1, machine.said
    assert f"{hashlib.md5(FETCHED[: 1024 * 512]).hexdigest()}  -" in machine.lines, machine.said
