"""The command line as a whole, and inspect, doctor and completion."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from paravirt import doctor
from paravirt.boot.bundled import bundled_guests, find_image
from paravirt.cli import COMMANDS, build_parser, conform, main
from paravirt.cli.completion import commands
from paravirt.cli.completion import run as completion
from paravirt.conform.host import choose
from paravirt.doctor import Verdict, examine
from paravirt.errors import ImageUnreadable
from tests.support.elf import (
    BLOCK,
    CODE_GPA,
    NET,
    OPTIONAL,
    READ_ONLY,
    SPIN,
    Elf,
    Load,
    R,
    W,
    cpu,
    manifest,
    privilege,
    pvh,
    require,
)
from tests.support.guests import shutdown, write_guest

# ---- the command line ----


def test_a_command_loads_only_what_it_needs() -> None:
    """Fast to start: neither the C core nor the ABI nor the ELF reader for a help text."""
    code = (
        "import sys\nfrom paravirt.cli import main\n"
        "try: main(['doctor', '--help'])\nexcept SystemExit: pass\n"
        "foreign = ('construct', 'elftools', 'hypercall_abi', 'cffi')\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in foreign))\n"
        "print(sorted(m for m in sys.modules if m.startswith('paravirt.')))"
    )
    path = str(Path(doctor.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=path, check=True)
    *_, foreign, ours = done.stdout.splitlines()
    assert foreign == "[]"
    assert "paravirt.machine" not in ours
    assert "paravirt.cli.run" not in ours


@pytest.mark.kvm
def test_a_guest_loads_only_the_kinds_that_it_has(tmp_path: Path) -> None:
    """A guest without devices none, one with a disk no other."""
    (tmp_path / "disk").write_bytes(bytes(4096))
    images = {
        "bare": write_guest(tmp_path / "bare", shutdown(), notes=[require()]),
        "disk": write_guest(tmp_path / "disk.elf", shutdown(), notes=[require(), manifest((BLOCK, 0, "disk"))]),
    }
    code = (
        "import sys\nfrom paravirt.cli import main\nassert main(sys.argv[1:]) == 0\n"
        "print(*sorted(m for m in sys.modules if m.startswith(('paravirt.attachments.', 'paravirt.devices.'))))"
    )

    def loaded(*argv: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", code, "run", "--timeout", "60", *argv], capture_output=True, text=True, check=True
        )
        return [name.removeprefix("paravirt.") for name in done.stdout.split()]

    always = {"attachments.block", "attachments.block_served", "attachments.pmem", "devices.service"}
    assert set(loaded(str(images["bare"]))) <= always
    with_disk = loaded(str(images["disk"]), "--disk", f"disk={tmp_path / 'disk'}")
    assert {"devices.block", "devices.disk_file"} <= set(with_disk)
    assert not any(kind in name for name in with_disk for kind in ("net", "vsock", "balloon", "entropy", "console"))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: paravirt {command}")
    assert "\nexamples:\n" in text
    assert "--debug" in text


@pytest.mark.parametrize(
    "command",
    [
        "conform host",
        "conform guest",
        "conform images",
        "extension show",
        "device list",
        "device add",
        "device remove",
        "device grow",
        "device link",
        "device block",
        "device net",
        "device vsock",
        "device entropy",
    ],
)
def test_so_has_every_command_of_a_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    text = capsys.readouterr().out
    assert text.startswith(f"usage: paravirt {command}")
    assert "\nexamples:\n" in text and "--debug" in text
    assert main([*command.split(), "x", "--hel"]) == 2  # no option is to be abbreviated


def test_chapters_in_examples_exist() -> None:
    named = re.findall(r"--chapter ([a-z_]+)", conform.EPILOG + conform.HOST_EPILOG)
    assert set(named) == set(choose(named))


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--help", "--version"):
        with pytest.raises(SystemExit) as left:
            main([option])
        assert left.value.code == 0
    text = capsys.readouterr().out
    assert all(f"  {command}" in text for command in COMMANDS)
    assert "ABI 1.0" in text.splitlines()[-1]


def test_find_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guests = tmp_path / "guests"
    guests.mkdir()
    (guests / "hello.elf").touch()
    (guests / "hello.map").touch()
    monkeypatch.setattr("paravirt.boot.bundled.GUESTS", guests)
    monkeypatch.chdir(tmp_path)
    assert bundled_guests() == ["hello"]
    assert find_image("hello") == guests / "hello.elf"
    assert find_image("./hello") == Path("hello")
    (tmp_path / "hello").touch()
    assert find_image("hello") == Path("hello")
    for text in ("demo", "", "hello.map", "..", "*"):
        if not Path(text).exists():
            with pytest.raises(ImageUnreadable, match=r"bundled: hello"):
                find_image(text)


# ---- inspect ----


@pytest.fixture
def image(tmp_path: Path) -> Path:
    devices = manifest((BLOCK, READ_ONLY, "input"), (NET, OPTIONAL, "lan"), (99, OPTIONAL, "x"))
    notes = [require({4: 0, 7: 3, 0x8001: 0}), devices, privilege(1), cpu(2), pvh(CODE_GPA + 2)]
    loads = [Load(data=SPIN * 2), Load(0x300000, b"data", memory_bytes=0x2000, flags=R | W)]
    return Elf(loads, notes).write(tmp_path / "guest.elf")


def test_inspect_json(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(image), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "path": str(image),
        "kind": "paravirt",
        "entry_gpa": 0x200000,
        "pvh_entry_gpa": 0x200002,
        "abi": [1, 0],
        "services": [
            {"service": "time", "features": 0},
            {"service": "device", "features": 3},
            {"service": "0x8001", "features": 0},
        ],
        "privilege": "user",
        "cpu_level": 2,
        "manifest": [
            {"name": "input", "type": "block", "optional": False, "read_only": True},
            {"name": "lan", "type": "net", "optional": True, "read_only": False},
            {"name": "x", "type": "99", "optional": True, "read_only": False},
        ],
        "segments": [
            {"number": 0, "gpa": 0x200000, "file_bytes": 4, "memory_bytes": 4, "permissions": "r-x"},
            {"number": 1, "gpa": 0x300000, "file_bytes": 4, "memory_bytes": 0x2000, "permissions": "rw-"},
        ],
    }


def test_inspect_for_people(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(image)]) == 0
    assert (
        capsys.readouterr().out
        == f"""\
image      {image}
kind       paravirt guest
entry      0x200000
PVH entry  0x200002 (boots elsewhere too)
ABI        1.0
services   time, device (features 0x3), 0x8001
privilege  user
CPU        x86-64-v2

device  type   needed  access
input   block  yes     read
lan     net    no      read, write
x       99     no      read, write

segment  from      to        access  file  memory
0        0x200000  0x200004  r-x     4     4
1        0x300000  0x302000  rw-     4     8K
"""
    )


def test_inspect_a_plain_guest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(Elf(notes=[pvh()]).write(tmp_path / "plain"))]) == 0
    text = capsys.readouterr().out
    assert "plain guest, entered by PVH" in text
    assert "devices: every one is offered" in text
    assert main(["inspect", str(Elf().write(tmp_path / "none"))]) == 0
    assert "devices: none" in capsys.readouterr().out


# ---- doctor ----


@pytest.mark.kvm
@pytest.mark.only_kvm("says what KVM is like")
def test_doctor_where_guests_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert text.endswith("guests can run here\n")
    assert "OK    kvm" in text
    assert main(["doctor", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["able"] is True
    names = [finding["name"] for finding in answer["findings"]]
    assert names == "core kvm abilities vcpus debugger software cpu io_uring memory guests compiler python".split()


@pytest.mark.parametrize(
    ("device", "text", "advice"),
    [
        ("/nonexistent/kvm", "No such file", "modprobe"),
        ("/dev/null", "/dev/null is not KVM", "a real KVM device"),
        ("/proc/sys/kernel/version", "no permission", "usermod -aG kvm"),
    ],
)
def test_doctor_where_kvm_is_not(capsys: pytest.CaptureFixture[str], device: str, text: str, advice: str) -> None:
    assert main(["doctor", "--kvm-device", device, "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    (finding,) = (f for f in answer["findings"] if f["verdict"] == "fail")
    assert finding["name"] == "kvm"
    assert text in finding["text"]
    assert advice in finding["advice"]
    assert main(["doctor", "--kvm-device", device]) == 1
    out = capsys.readouterr().out
    assert out.endswith("guests cannot run here\n")
    assert "FAIL  kvm" in out
    assert f"      → {finding['advice']}\n" in out


def test_doctor_where_only_the_software_vcpu_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paravirt.doctor.KVM_DEVICE", Path("/nonexistent/kvm"))
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "WARN  kvm" in out
    assert "OK    software" in out
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "FAIL  kvm" in out
    assert "pip install 'paravirt[software]'" in out


def by_name(findings: list[doctor.Finding]) -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in findings}


def test_doctor_without_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paravirt._native", None)
    found = by_name(examine())
    assert found["core"].verdict == Verdict.FAIL
    assert found["core"].advice
    assert "kvm" not in found


def test_doctor_with_little_of_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    monkeypatch.setattr(doctor, "host_cpu_flags", lambda: frozenset({"vmx"}))
    monkeypatch.setattr(doctor, "host_memory_bytes", lambda: 100 << 20)
    found = by_name(examine(Path("/nonexistent")))
    assert [found[name].verdict for name in ("cpu", "memory", "compiler")] == [Verdict.WARN] * 3
    assert all(f.advice for f in found.values() if f.verdict != Verdict.OK)
    assert found["memory"].text == "100M available of 100M"


# ---- completion ----


def test_completion_knows_every_option() -> None:
    found = {c.name: c for c in commands()}
    assert set(found) == set(COMMANDS)
    flags = {flag: option for option in found["run"].options for flag in option.flags}
    assert flags["--privilege"].words == ("user", "supervisor")
    assert flags["--disk"].files
    assert flags["--trace"].files
    assert not flags["--poison"].takes_value
    assert found["completion"].words == ("bash", "fish", "zsh")
    assert found["run"].files
    assert {"base", "time", "device"} <= set(found["abi"].words) & set(flags["--deny"].words)


def complete(script: str, *words: str) -> set[str]:
    quoted = " ".join(f"'{word}'" for word in words)
    code = (
        f"{script}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _paravirt; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run(["bash", "-euc", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.fixture
def bash(capsys: pytest.CaptureFixture[str]) -> Iterator[str]:
    assert main(["completion", "bash"]) == 0
    yield capsys.readouterr().out


def test_bash_completes(bash: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "guest.elf").touch()
    assert complete(bash, "paravirt", "") == {*COMMANDS, "--help", "--version"}
    assert complete(bash, "paravirt", "in") == {"inspect"}
    assert complete(bash, "paravirt", "run", "--pr") == {"--privilege"}
    assert complete(bash, "paravirt", "run", "--privilege", "s") == {"supervisor"}
    assert complete(bash, "paravirt", "run", "gu") == {"guest.elf"}
    assert complete(bash, "paravirt", "run", "--disk", "input=g") == {"guest.elf"}
    assert complete(bash, "paravirt", "completion", "") == {"bash", "fish", "zsh", "--debug", "--help", "-h"}
    assert complete(bash, "paravirt", "run", "--memory", "") == set()
    assert complete(bash, "paravirt", "run", "--deny", "d") == {"device"}
    assert complete(bash, "paravirt", "abi", "d") == {"device", "diff"}
    assert complete(bash, "paravirt", "conform", "") >= {"host", "guest", "images"}
    assert complete(bash, "paravirt", "conform", "host", "--l") == {"--launcher"}
    assert complete(bash, "paravirt", "conform", "guest", "--inj") == {"--inject"}
    assert complete(bash, "paravirt", "conform", "host", "--chapter", "call") == {"calls", "callring"}
    assert complete(bash, "paravirt", "extension", "show", "--j") == {"--json"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_option_is_in_every_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert completion(build_parser(["completion"]).parse_args(["completion", shell])) == 0
    script = capsys.readouterr().out
    for command in commands():
        for option in command.options:
            for flag in option.flags:
                assert (
                    flag if shell != "fish" else f"-l {flag[2:]}" if flag[:2] == "--" else f"-s {flag[1:]}"
                ) in script
    for number, line in enumerate(script.splitlines()):
        assert line.replace("\\'", "").replace("'\\''", "").count("'") % 2 == 0, (number, line)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_parse(shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """By the shell itself, where it is installed; bash always is."""
    program = shutil.which(shell)
    if not program and shell != "bash":
        pytest.skip(f"no {shell} here")
    assert program
    assert main(["completion", shell]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    subprocess.run([program, "-n", str(script)], check=True)
