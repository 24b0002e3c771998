"""Debuggers for tests: a scripted client of the protocol, typed here again on purpose, and gdb itself."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from paravirt.config import MachineConfig
from paravirt.debug.address import GdbConfig
from paravirt.machine import Machine

PATIENCE_S = 60


class Client:
    """One debugger at `place`, a port of this host's or a path."""

    def __init__(self, place: int | Path) -> None:
        family = socket.AF_INET if isinstance(place, int) else socket.AF_UNIX
        self.socket = socket.socket(family)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(("127.0.0.1", place) if isinstance(place, int) else str(place))
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.socket.close()

    def send(self, contents: bytes) -> None:
        """A packet."""
        self.socket.sendall(b"$%s#%02x" % (contents, sum(contents) & 255))

    def receive(self) -> bytes:
        """The next packet's contents, acknowledged.  Raises EOFError if there will be none."""
        while b"$" not in self._rest or len(self._rest.partition(b"$")[2].partition(b"#")[2]) < 2:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self._rest += data
        contents, _, rest = self._rest.partition(b"$")[2].partition(b"#")
        assert int(rest[:2], 16) == sum(contents) & 255
        self._rest = rest[2:]
        with suppress(BrokenPipeError):  # those were its last words
            self.socket.sendall(b"+")
        return contents

    def ask(self, contents: bytes) -> bytes:
        """A packet, and the answer to it."""
        self.send(contents)
        return self.receive()

    def register(self, number: int) -> int:
        """A register's value."""
        return int.from_bytes(bytes.fromhex(self.ask(b"p%x" % number).decode()), "little")


RIP, RAX = 16, 0


@contextmanager
def debugged(config: MachineConfig, gdb: GdbConfig | None = None) -> Iterator[tuple[Machine, Client]]:
    """A machine that waits for its debugger, which has just connected."""
    with Machine(config.replace(gdb=gdb or GdbConfig())) as machine:
        machine.start()
        assert machine.gdb
        with Client(place(machine)) as client:
            yield machine, client


def place(machine: Machine) -> int | Path:
    """Where its debugger connects."""
    assert machine.gdb
    path = machine.gdb.config.path
    return path if path is not None else int(machine.gdb.place.rpartition(":")[2])


def symbols(image: Path) -> dict[str, int]:
    """Addresses by name."""
    with image.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        return {symbol.name: symbol["st_value"] for symbol in table.iter_symbols()}


def gdb(image: Path, *commands: str, core: Sequence[str] = ()) -> str:
    """What gdb says to those commands about `image`."""
    options = [word for command in ("set pagination off", "set confirm off", *commands) for word in ("-ex", command)]
    done = subprocess.run(
        ["gdb", "-q", "-nx", "-batch", str(image), *core, *options],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    return done.stdout
