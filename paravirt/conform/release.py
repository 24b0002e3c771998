"""The conformance images as one file that is of use without Python.

``conformance-VERSION.tar`` (VERSION: the ABI's) holds the images, a page that says how to run and judge them, and the
table of rules.  Made from the same images it has the same bytes.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

from hypercall_abi import RULES, VERSION
from hypercall_abi.virtio_musts import MUSTS

from ..errors import ConfigError, OutputError
from .host import ALL, BALLOONS, DISKS, LOOPS, MMIO, SOCKETS, chapters

README = """\
Conformance images of the paravirt hypercall ABI {version}
========================================================

Each image is an ELF file for x86-64 that a host boots; it judges that host, says so on the console
(console.write), and shuts the machine down: reason POWEROFF and status 0 if every case passed, reason
FAILURE and status 1 if not. No other program is needed.

images/conformance_NAME.elf     a chapter
images/conformance_all.elf      every chapter that can share a machine, in one run
images/refused_RULE_what.elf    must not be booted at all: the host breaks RULE if it enters the image
rules.tsv                       rule, whom it binds, text, or why no case can prove it; after them, whose ids
                                begin with VIRTIO, what virtio asks of devices

Give a machine 64 MiB of memory or more and two to four vCPUs (cases that need more than one are skipped on
one). Images say in their notes which devices they take, all of them optional: {devices}.
Chapters whose name begins with {mmio} want their devices by virtio-mmio. Run each image entered at CPL 3 and,
if the host offers it, at CPL 0; their privilege note leaves the choice to the host.

The console is TAP, one line for each case:

    ok 7 - CALL-5 base_version: an argument beyond those declared
    # got -2, expected -3: what was looked at
    not ok 8 - CALL-7 base_services: an empty buffer, wherever it is
    ok 9 - BLK-1 disks # SKIP no such device
    1..9

A host passes a chapter if there is a plan (1..N), N cases with the numbers 1 to N in order, none of them
"not ok", and the machine was shut down with success. Lines that begin with # stand above the case that
they explain. By hand:

    HOST images/conformance_calls.elf | grep -e '^not ok' -e '^1\\.\\.'

With the Python package the same, for any host that is a command:

    paravirt conform host --launcher 'HOST {{image}}'

The images are free for any use (0BSD).
"""


def table() -> Iterator[str]:
    """The rules, and what virtio asks of devices, a line each."""
    yield "rule\tbinds\ttext\tno case\n"
    for rule in RULES.values():
        yield f"{rule.id}\t{rule.binds}\t{rule.text}\t{rule.no_case}\n"
    for id, must in MUSTS.items():
        yield f"{id}\thost\t{must.text}\t{must.no_case}\n"


def contents() -> dict[str, bytes]:
    """The files by name.  Raises ConfigError if the images are not built."""
    images = {path.name: path for paths in chapters().values() for path in paths}
    if f"conformance_{ALL}.elf" not in images:
        raise ConfigError("there are no conformance images; build them with make -C guest_drivers")
    words = {"--disk": "disk", "--pmem": "mapped disk"}
    disks = ", ".join(f"a {words[option]} {name} of {size >> 10} KiB" for name, (option, size) in DISKS.items())
    others = "".join(f", a network {name} that gives back each frame that is sent" for name in LOOPS)
    others += "".join(f", a vsock {name} to whose host side nobody talks" for name in SOCKETS)
    others += "".join(f", a balloon {name} that wants nothing" for name in BALLOONS)
    readme = README.format(version=".".join(map(str, VERSION)), devices=disks + others, mmio=MMIO)
    files = {"README": readme.encode(), "rules.tsv": "".join(table()).encode()}
    return files | {f"images/{name}": path.read_bytes() for name, path in sorted(images.items())}


def write(directory: Path) -> Path:
    """Makes the file in `directory`; its path.  Raises ConfigError, OutputError."""
    name = f"conformance-{'.'.join(map(str, VERSION))}"
    files = contents()
    path = directory / f"{name}.tar"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for file, data in files.items():
                entry = tarfile.TarInfo(f"{name}/{file}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; give another directory") from error
    return path
