"""Extensions from the command line: the examples and their guests, masks, traces, mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paravirt.cli import main
from paravirt.config import ExtensionConfig
from paravirt.errors import ConfigError, ExtensionError, ServiceNotOffered
from paravirt.extensions import open_extension
from paravirt.extensions.base import Extension
from paravirt.extensions.header import guest_header
from paravirt.extensions.plugin import PluginExtension
from paravirt.recording.reader import read
from tests.paravirt.extensions.conftest import EXAMPLES, Compile

Install = Callable[[str, str, str], None]
Capture = pytest.CaptureFixture[str]

LOOKUP = (EXAMPLES / "lookup.py").read_text()
RAISING = """
from lookup_plugin import Lookup

class Raising(Lookup):
    def find(self, vcpu, gpa, size):
        raise LookupError("no table")
"""


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Extension], str]:
    """``build(source, extension)``: the guest, with the extension's own header."""
    directory = tmp_path_factory.mktemp("guests")

    def make(source: str, extension: Extension) -> str:
        copy = directory / f"{source}.c"  # the header is found beside it
        copy.write_text((EXAMPLES / copy.name).read_text())
        (directory / f"{extension.name}.h").write_text(guest_header(extension))
        extension.close()
        assert main(["build", str(copy), "--out", str(copy.with_suffix(".elf"))]) == 0
        return str(copy.with_suffix(".elf"))

    return make


@pytest.fixture(scope="session")
def uses_counter(build: Callable[[str, Extension], str], compiled: Compile) -> str:
    return build("uses_counter", open_extension(ExtensionConfig(str(compiled(EXAMPLES / "counter.c")), trusted=True)))


@pytest.fixture(scope="session")
def uses_lookup(build: Callable[[str, Extension], str]) -> str:
    names: dict[str, Any] = {"__name__": "lookup"}
    exec(LOOKUP, names)
    return build("uses_lookup", PluginExtension("lookup", names["Lookup"], ""))


@pytest.mark.kvm
@pytest.mark.parametrize("trusted", ["", ",trusted"])
def test_the_module(uses_counter: str, counter: Path, capfd: Capture, trusted: str) -> None:
    assert main(["run", uses_counter, "--extension", f"{counter}{trusted}:100", "--poison", "--timeout", "20"]) == 0
    assert capfd.readouterr() == ("total 101\ntotal 103\ntotal 106\n", "")


@pytest.mark.kvm
def test_the_plug_in(uses_lookup: str, install: Install, capfd: Capture) -> None:
    install("lookup", "Lookup", LOOKUP)
    assert main(["run", uses_lookup, "--extension", "lookup:one=1,two=2", "--poison", "--timeout", "20"]) == 0
    assert capfd.readouterr() == ("one is 1\ntwo is 2\ntwo: OK 2\nnine: NOT_FOUND\n", "")


@pytest.mark.kvm
def test_a_plug_in_that_raises_is_told_of(uses_lookup: str, install: Install, capfd: Capture) -> None:
    install("lookup", "Lookup", LOOKUP)
    install("raising", "Raising", RAISING)
    assert main(["run", uses_lookup, "--extension", "raising", "--timeout", "20"]) == 0
    out, err = capfd.readouterr()
    assert out == "two: FAILED 0\nnine: FAILED\n"
    assert err.startswith("paravirt: a call of the extension 'lookup' raised LookupError: no table (")
    assert err.count("\n") == 1


@pytest.mark.kvm
def test_a_status_beyond_64_bits_is_told_of(uses_lookup: str, install: Install, capfd: Capture) -> None:
    """It answers FAILED, as an exception does; without a traceback."""
    install("lookup", "Lookup", LOOKUP)
    install("beyond", "Raising", RAISING.replace('raise LookupError("no table")', "return 1 << 63"))
    assert main(["run", uses_lookup, "--extension", "beyond", "--timeout", "20"]) == 0
    out, err = capfd.readouterr()
    assert out == "two: FAILED 0\nnine: FAILED\n"
    assert "raised ValueError: the status 9223372036854775808 is not one of 64 bits" in err
    assert err.count("\n") == 1


@pytest.mark.kvm
def test_masks_and_traces(uses_counter: str, counter: Path, tmp_path: Path, capfd: Capture) -> None:
    trace = tmp_path / "trace.json"
    run = ["run", uses_counter, "--extension", str(counter), "--timeout", "20"]
    assert main([*run, "--deny", "counter.history", "--trace", str(trace)]) == 1
    names = {event["name"] for event in json.loads(trace.read_text())["traceEvents"]}
    assert {"counter.add", "counter.history"} <= names
    assert main([*run, "--deny", "counter"]) == ServiceNotOffered.exit_status
    assert main([*run, "--deny", "counter.other"]) == ConfigError.exit_status
    assert "no such call; counter has add, history" in capfd.readouterr().err
    assert main(["run", uses_counter]) == ServiceNotOffered.exit_status
    assert "offer it with --extension" in capfd.readouterr().err


@pytest.mark.kvm
def test_a_recording_knows_the_service(uses_counter: str, counter: Path, tmp_path: Path, capfd: Capture) -> None:
    """The model leaves its calls out, since the standard does not have them; `base.services` is judged with it."""
    recording = tmp_path / "calls.pcapng"
    assert main(["run", uses_counter, "--extension", str(counter), "--timeout", "20", "--record", str(recording)]) == 0
    (life,) = read(recording)
    assert 0x8001 in life.services
    assert main(["replay", str(recording), "--model"]) == 0
    assert "left out: the standard does not have its service" in capfd.readouterr().out


def test_what_it_says_of_itself(counter: Path, install: Install, capsys: Capture) -> None:
    assert main(["extension", "show", str(counter)]) == 0
    shown = capsys.readouterr().out
    assert "counter (0x8001, vendor)" in shown
    assert "0x80010001  counter.history  2" in shown
    assert main(["extension", "show", str(counter), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["calls"]["add"] == {"number": 0, "registers": 3}
    install("lookup", "Lookup", LOOKUP)
    assert main(["extension", "list"]) == 0
    assert "lookup  lookup_plugin:Lookup" in capsys.readouterr().out


def test_the_header_of_a_plug_in_has_its_records(install: Install, capsys: Capture) -> None:
    install("lookup", "Lookup", LOOKUP)
    assert main(["extension", "header", "lookup"]) == 0
    header = capsys.readouterr().out
    assert (
        "#define PV_CALL_LOOKUP_FIND 0x80020000 /* (name_gpa, name_bytes) -> its number. Looks a name up. */" in header
    )
    assert 'PV_STATIC_ASSERT(sizeof(struct pv_lookup_entry) == 32, "lookup_entry");' in header


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("nothing", "no extension 'nothing': "),
        ("nothing.so", "nothing.so"),
        ("broken", "cannot be loaded: ZeroDivisionError: "),
        ("wrong", "is no class made from paravirt.extensions.plugin.Plugin"),
        ("bare", "its `service` is no hypercall_abi.schema.Service"),
        ("raising,trusted", "trusted is for binary modules"),
        ("lookup:one=x", "it does not begin: ValueError: "),
    ],
)
def test_mistakes_are_one_line(name: str, word: str, install: Install, capsys: Capture) -> None:
    install("lookup", "Lookup", LOOKUP)
    install("broken", "X", "1 / 0")
    install("wrong", "X", "X = 3")
    install("bare", "X", "from paravirt.extensions.plugin import Plugin\nclass X(Plugin): pass")
    install("raising", "Raising", RAISING)
    assert main(["extension", "show", name]) == ExtensionError.exit_status
    err = capsys.readouterr().err
    assert word in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("text", ["", ":x", "a:" + "x" * 1001, "a:\udcff"])
def test_a_wrong_option(text: str, capsys: Capture) -> None:
    assert main(["run", "hello", "--extension", text]) == ConfigError.exit_status
    assert capsys.readouterr().err.count("\n") == 1
