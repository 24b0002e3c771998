"""Records the golden recordings anew: `python tests/paravirt/recording/record_golden.py`, from the top of the tree.

They are calls and answers as this host gave them once, so that a host that answers otherwise is noticed.  To be run
when an answer changed on purpose, which the commit then says.
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2]))  # the tree's own package, when run as a script

from paravirt import MachineConfig  # noqa: E402
from paravirt.config import Disk  # noqa: E402
from paravirt.machine import Machine  # noqa: E402

GOLDEN = HERE / "golden"
GUESTS = HERE.parents[2] / "paravirt" / "guests"
MIB = 1 << 20


def disk(place: Path, name: str, size_bytes: int, read_only: bool = False) -> Disk:
    """An empty disk of its own."""
    path = place / name
    path.write_bytes(b"")
    with path.open("r+b") as file:
        file.truncate(size_bytes)
    return Disk(name, path, read_only)


def archive(place: Path) -> Disk:
    """A tar with two files."""
    for name in ("one", "two"):
        (place / name).write_bytes(name.encode() * 1000)
    with tarfile.open(place / "input", "w") as tar:
        for name in ("one", "two"):
            tar.add(place / name, name)
    return Disk("input", place / "input", True)


def configurations(place: Path) -> dict[str, MachineConfig]:
    """What is recorded, by the name of its file; `place` is a directory for disks.

    Not ``calls``: its guest is built no more, the recording outlives it.
    """

    def config(guest: str, *disks: Disk, vcpus: int = 1, poison: bool = False) -> MachineConfig:
        return MachineConfig(
            GUESTS / f"{guest}.elf", memory_bytes=32 * MIB, vcpus=vcpus, disks=disks, poison=poison, timeout_s=60
        )

    return {
        "hello": config("hello"),
        "demo": config("demo", archive(place), disk(place, "report", MIB), vcpus=2, poison=True),
        "devices": config("devices", disk(place, "scratch", MIB), disk(place, "fixed", 256 << 10, True)),
    }


def record(config: MachineConfig, path: Path) -> None:
    """Runs a guest and leaves the recording at `path`."""
    with Machine(config.replace(record=path)) as machine:
        machine.run()


def main() -> None:
    """Writes them all."""
    GOLDEN.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        for name, config in configurations(Path(place)).items():
            record(config, GOLDEN / f"{name}.pcapng")
            print(f"{name}: {(GOLDEN / f'{name}.pcapng').stat().st_size} bytes")


if __name__ == "__main__":
    main()
