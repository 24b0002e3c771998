"""The guest library compiled for the host, under the sanitizers; the C programs beside this file do the work.

What reads bytes that others made (archives, boot information) is also fed with damaged ones: whatever it
answers, it reads nothing beyond them.
"""

from __future__ import annotations

import hashlib
import io
import random
import shutil
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest

from hypercall_abi.boot import (
    BOOT_ABI,
    BOOT_FLAG,
    BOOT_HEADER,
    BOOT_INFO,
    BOOT_MACHINE,
    BOOT_MAGIC,
    BOOT_MEMORY,
    BOOT_PAGES,
    BOOT_RECORD,
    BOOT_TABLES,
    BOOT_VCPUS,
)
from hypercall_abi.conventions import STATUS
from hypercall_abi.schema import Record
from tests.support.tree import ROOT

HERE = Path(__file__).resolve().parent
LIBRARY = ROOT / "guest_drivers" / "lib"
INCLUDES = [f"-I{ROOT / name}" for name in ("hypercall_abi/include", "guest_drivers/include", "tests/native")]
FLAGS = (
    "-std=gnu11 -g -O1 -Wall -Wextra -Wshadow -Wconversion -Werror -DPV_CALL_EXTERN "
    "-fsanitize=address,undefined -fno-sanitize-recover=all"
).split()
STRING_FUNCTIONS = "memcpy memmove memset memcmp strlen strnlen strcmp strncmp strstr".split()
QUEUES = ["virtio.c", "virtqueue.c", "virtqueue_packed.c", "virtqueue_split.c"]
PROGRAMS = {
    "library_text": ["format.c"],
    "library_input": ["sha256.c", "tar.c", "boot.c", "status.c"],
    "library_calls": ["base.c", "event.c", "time.c"],
    "library_random": ["random.c", "continuity.c", "sha256.c"],
    "library_block": ["block.c", *QUEUES],
    "library_queues": ["net.c", "pmem.c", "vsock.c", "vsock_packet.c", *QUEUES],
}
DAMAGED = 1500


def compile_program(cc: str, name: str, out: Path) -> Path:
    """The program `name`.c with its part of the library."""
    sources = [HERE / f"{name}.c", *(LIBRARY / source for source in PROGRAMS[name])]
    objects: list[Path] = []
    if name == "library_text":  # the functions under other names, to stand beside the C library's
        renames = [f"-D{function}=guest_{function}" for function in STRING_FUNCTIONS]
        objects.append(out / "string.o")
        run([cc, *FLAGS, "-ffreestanding", *renames, *INCLUDES, "-c", LIBRARY / "string.c", "-o", objects[0]])
    run([cc, *FLAGS, *INCLUDES, *sources, *objects, "-o", out / name])
    return out / name


def run(command: list[str | Path], data: bytes = b"") -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(command, input=data, capture_output=True, timeout=100)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode(errors="replace")


@pytest.fixture(scope="module", params=["gcc", "clang"])
def cc(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if not shutil.which(name):
        pytest.skip(f"no {name}")
    return name


@pytest.fixture(scope="module")
def reader(cc: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_program(cc, "library_input", tmp_path_factory.mktemp("reader"))


def feed(reader: Path, what: str, cases: list[bytes]) -> list[str]:
    """The lines printed for the cases."""
    return run([reader, what], b"".join(struct.pack("<I", len(case)) + case for case in cases)).splitlines()


@pytest.mark.parametrize("name", ["library_text", "library_calls", "library_random", "library_block", "library_queues"])
def test_program(cc: str, name: str, tmp_path: Path) -> None:
    """Rules CALL-5, BATCH-1, EVT-3 to EVT-7, TIME-4, CONT-8, BLK-5 as the driver keeps them."""
    run([compile_program(cc, name, tmp_path)])


def test_sha256(reader: Path) -> None:
    source = random.Random(1)
    sizes = [*range(130), 1000, 4096, 65537, 1 << 20]
    cases = [source.randbytes(size) for size in sizes]
    assert feed(reader, "sha256", cases) == [hashlib.sha256(case).hexdigest() for case in cases]


def test_status_names(reader: Path) -> None:
    """All that are declared; of others what rule ERR-1 takes them for."""
    declared = {value.name: value.number for value in STATUS}
    cases = [struct.pack("<q", value) for value in (*declared.values(), min(declared.values()) - 1, 2)]
    assert feed(reader, "status", cases) == [*declared, "FAILED", "OK"]


def archive(archive_format: int, names: list[str], seed: int = 2) -> tuple[bytes, list[tuple[str, bytes]]]:
    """A tar of files, directories and links, and its files."""
    source, files, out = random.Random(seed), [], io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=archive_format) as tar:
        for number, name in enumerate(names):
            for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE):
                other = tarfile.TarInfo(f"other-{number}-{kind!r}")
                other.type, other.linkname = (
                    kind,
                    "elsewhere/" * (number if archive_format == tarfile.USTAR_FORMAT else 8),
                )
                tar.addfile(other)
            info = tarfile.TarInfo(name)
            data = source.randbytes(source.choice([0, 1, 511, 512, 513, 4000]))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
            files.append((name, data))
    return out.getvalue(), files


def tar_lines(files: list[tuple[str, bytes]]) -> list[str]:
    """What library_input prints for them."""
    lines = []
    for name, data in files:
        total = 0
        for byte in data:
            total = (total * 31 + byte) & 0xFFFFFFFF
        lines.append(f"file {len(data)} {total} {name.encode().hex()}")
    return [*lines, "end"]


SHORT = ["a", "dir/b", "x" * 100, "d" * 90 + "/" + "n" * 90, "sub/" * 30 + "f"]
LONG = [*SHORT, "l" * 300, "deep/" * 150 + "file", "größe/名前", "mixed " + "é" * 120]


@pytest.mark.parametrize(
    ("archive_format", "names"),
    [(tarfile.USTAR_FORMAT, SHORT), (tarfile.PAX_FORMAT, LONG), (tarfile.GNU_FORMAT, LONG)],
    ids=["ustar", "pax", "gnu"],
)
def test_tar(reader: Path, archive_format: int, names: list[str]) -> None:
    data, files = archive(archive_format, names)
    assert feed(reader, "tar", [data]) == tar_lines(files)
    last = len(data.rstrip(b"\0"))
    assert feed(reader, "tar", [data[: last + -last % 512]]) == tar_lines(files)  # no end mark


def test_tar_name_too_long(reader: Path) -> None:
    for archive_format in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        data, _ = archive(archive_format, ["n" * 1024])
        assert feed(reader, "tar", [data])[-1] == "malformed"
        data, files = archive(archive_format, ["n" * 1023])
        assert feed(reader, "tar", [data]) == tar_lines(files)


def test_tar_malformed(reader: Path) -> None:
    data, _ = archive(tarfile.USTAR_FORMAT, ["only"])
    start = data.index(b"only") // 512 * 512
    wrong_sum = bytearray(data)
    wrong_sum[start] ^= 1
    huge = bytearray(data)
    huge[start + 124 : start + 136] = b"77777777777\0"
    huge[start + 148 : start + 156] = b" " * 8
    huge[start + 148 : start + 156] = b"%06o\0 " % sum(huge[start : start + 512])
    for case in (bytes(wrong_sum), bytes(huge), b"not a tar at all".ljust(1024, b".")):
        assert feed(reader, "tar", [case])[-1] == "malformed"
    assert feed(reader, "tar", [b"", bytes(512), bytes(100)]) == ["end"] * 3


def damage(cases: list[bytes], seed: int) -> list[bytes]:
    """Copies with a few bytes changed, cut short or doubled."""
    source, out = random.Random(seed), []
    for _ in range(DAMAGED):
        case = bytearray(source.choice(cases))
        for _ in range(source.randrange(4)):
            place = source.randrange(len(case))
            case[place] = source.choice([0, 0xFF, source.randrange(256), 0x20, 0x37])
        if source.random() < 0.3:
            del case[source.randrange(len(case)) :]
        out.append(bytes(case))
    return out


def fix_sums(case: bytes) -> bytes:
    """The case with right checksums, so that damage reaches what lies behind them."""
    fixed = bytearray(case)
    for start in range(0, len(fixed) - 511, 512):
        if fixed[start + 257 : start + 262] == b"ustar":
            fixed[start + 148 : start + 156] = b" " * 8
            fixed[start + 148 : start + 156] = b"%06o\0 " % sum(fixed[start : start + 512])
    return bytes(fixed)


def test_damaged_archives(reader: Path) -> None:
    cases = [archive(kind, LONG, 3)[0] for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)]
    lines = feed(reader, "tar", [fix_sums(case) for case in damage(cases, 4)])
    assert sum(line in ("end", "malformed") for line in lines) == DAMAGED
    assert "malformed" in lines


def boot_record(kind: int, payload: bytes, flags: int = 0) -> bytes:
    head: bytes = BOOT_HEADER.build({"type": kind, "flags": flags, "size_bytes": len(payload)})
    return head + payload + bytes(-len(payload) % 8)


def built(record: Record, **values: object) -> bytes:
    data: bytes = record.build(values)
    return data


ABI = built(BOOT_ABI, major=1, minor=0, trap_kind=1, trap=0x5050, doorbell=0x5054, privilege=1, vcpu=0)
NEEDED = [
    boot_record(BOOT_RECORD.ABI, ABI, 1),
    boot_record(BOOT_RECORD.MEMORY_MAP, built(BOOT_MEMORY, gpa=0, size_bytes=4096, kind=1, flags=0) * 3),
    boot_record(BOOT_RECORD.VCPUS, built(BOOT_VCPUS, count=4, flags=0)),
    boot_record(
        BOOT_RECORD.PAGES,
        built(BOOT_PAGES, time_gpa=0x1000, vcpu_gpa=0x2000, vcpu_stride_bytes=4096, continuity_gpa=0),
    ),
]
OTHERS = [
    boot_record(BOOT_RECORD.COMMAND_LINE, b"a line\0"),
    boot_record(BOOT_RECORD.MACHINE, built(BOOT_MACHINE, uuid=bytes(16), name="box")),
    boot_record(BOOT_RECORD.SEED, b"\1\2\3"),
    boot_record(
        BOOT_RECORD.TABLES,
        built(BOOT_TABLES, idt_gpa=0x3000, code_selector=0x33, data_selector=0x2B, idt_bytes=4096),
    ),
]
END = boot_record(BOOT_RECORD.END, b"")
FULL_LINE = "0 refused 0 trap 20560 vcpus 4 ranges 3 seed 3 sum 12294 pages 4096 tables 12288 name box line a line"


def info(*records: bytes) -> bytes:
    body = b"".join(records)
    size = BOOT_INFO.size + len(body)
    return built(BOOT_INFO, magic=BOOT_MAGIC.MAGIC, size_bytes=size, records=len(records)) + body


def statuses(reader: Path, *cases: bytes) -> list[int]:
    return [int(line.split()[0]) for line in feed(reader, "boot", list(cases))]


def test_boot_information(reader: Path) -> None:
    """Rule BOOT-7."""
    assert feed(reader, "boot", [info(*NEEDED, *OTHERS, END), info(*OTHERS, *NEEDED, END)]) == [FULL_LINE] * 2
    longer = [boot_record(BOOT_RECORD.ABI, ABI + bytes(8)), *NEEDED[1:]]  # a later minor version's
    assert statuses(reader, info(*NEEDED, END), info(*longer, END)) == [STATUS.OK] * 2


def test_unknown_boot_records(reader: Path) -> None:
    """Rule BOOT-3."""
    odd = [boot_record(kind, b"12345") for kind in (9, 0x7FFF, BOOT_RECORD.VENDOR, 0xFFFF)]
    assert feed(reader, "boot", [info(*odd, *NEEDED, *odd, *OTHERS, END)]) == [FULL_LINE]
    refused = boot_record(0x8001, b"", BOOT_FLAG.MANDATORY)
    line = feed(reader, "boot", [info(refused, *NEEDED, END)])[0]
    assert line.startswith(f"{STATUS.NOT_SUPPORTED} refused {0x8001} trap {0x5050}")  # it can still say so


def test_bad_boot_information(reader: Path) -> None:
    """Rule BOOT-8, and what is damaged."""
    good = info(*NEEDED, END)
    missing = [info(*NEEDED[:i], *NEEDED[i + 1 :], END) for i in range(len(NEEDED))]
    assert statuses(reader, *missing) == [STATUS.NOT_SUPPORTED] * len(NEEDED)
    other_major = info(boot_record(BOOT_RECORD.ABI, b"\2" + ABI[1:]), *NEEDED[1:], END)
    assert statuses(reader, other_major) == [STATUS.NOT_SUPPORTED]
    cases = [good[:size] for size in range(len(good))]
    cases += [info(*NEEDED), info(END, *NEEDED, END), info(*NEEDED, END)[:8] + bytes(8) + good[16:]]
    cases += [info(*NEEDED, boot_record(kind, b"short"), END) for kind in (1, 2, 3, 4, 5, 6, 8)]
    cases += [info(*NEEDED, boot_record(BOOT_RECORD.COMMAND_LINE, b""), END)]
    assert set(statuses(reader, *cases)) == {STATUS.INVALID}


def test_damaged_boot_information(reader: Path) -> None:
    lines = feed(reader, "boot", damage([info(*OTHERS, *NEEDED, END)], 5))
    found = {int(line.split()[0]) for line in lines if line.split()[1:2] == ["refused"]}
    assert {STATUS.OK, STATUS.INVALID} <= found <= {STATUS.OK, STATUS.INVALID, STATUS.NOT_SUPPORTED}
