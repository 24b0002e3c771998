"""Judging hosts that are commands: those that pass, and every way in which one can fail."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree

import pytest

from paravirt.cli import main
from paravirt.conform import host, launch
from paravirt.conform.host import PROVABLE, Plan, Run, choose, judge
from paravirt.conform.report import junit, weigh
from paravirt.conform.tap import Case
from paravirt.errors import ConfigError
from tests.support.waiting import wait_for

GOOD = "print('ok 1 - CALL-1 a'); print('1..1')"


@pytest.fixture(autouse=True)
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images that no command of these tests reads."""
    for name in ("conformance_all", "conformance_calls", "conformance_time", "refused_note_2_unknown_type"):
        (tmp_path / f"{name}.elf").write_bytes(b"")
    monkeypatch.setattr(host.chapters, "__defaults__", (tmp_path,))
    return tmp_path


def python(code: str) -> str:
    """A launcher that runs `code` instead of the image."""
    return f"{shlex.join([sys.executable, '-c', code])} {{image}}"


def judged(code: str, chapter: str = "calls", timeout_s: float = 20.0) -> Run:
    (run,) = judge(Plan((chapter,), launcher=python(code), timeout_s=timeout_s), lambda *_: None)
    return run


def test_chapters_are_what_was_built() -> None:
    assert choose(()) == ("calls", "time", "refused")
    assert choose(("time", "all", "time")) == ("time", "all")
    with pytest.raises(ConfigError, match="no chapter 'tiem'; there are all, calls"):
        choose(("tiem",))


def test_a_host_that_passes() -> None:
    run = judged(GOOD)
    assert run.passed
    assert run.cases == (Case(1, True, ("CALL-1",), "a"),)


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (f"{GOOD}; raise SystemExit(3)", "exit status is 3, although every case passed"),
        ("print('not ok 1 - CALL-1 a'); print('1..1')", "exit status is 0, although a case failed"),
        (f"{GOOD}; import os; os.abort()", "ended by SIGABRT"),
        ("raise SystemExit('no such machine')", "it said: no such machine"),
        ("print('ok 1 - CALL-1 a')", "no plan"),
    ],
)
def test_a_host_that_fails(code: str, problem: str) -> None:
    run = judged(code)
    assert not run.passed
    assert any(problem in text for text in run.problems), run.problems


def test_a_host_that_shows_no_case_is_not_said_to_have_passed_any() -> None:
    run = judged("raise SystemExit('no such machine')")
    assert run.problems[0] == "the host's exit status is 1; it said: no such machine"


def test_a_host_that_hangs_is_ended_with_its_children() -> None:
    code = "import subprocess; subprocess.Popen(['sleep', '60']); print('ok 1 - CALL-1 a', flush=True)"
    for more in ("", "; import time; time.sleep(60)"):
        began = time.monotonic()
        run = judged(code + more, timeout_s=0.5)
        assert time.monotonic() - began < 10
        assert any("did not end within 0.5 s" in text for text in run.problems)


def test_a_command_that_is_killed_leaves_no_host() -> None:
    """Neither the host nor its children, although nobody could clean up."""
    host = "import os, time; os.fork(); os.write(1, b'%d\\n' % os.getpid()); time.sleep(60)"
    code = f"from paravirt.conform.launch import launch; launch({[sys.executable, '-c', host]}, 60, print)"
    with subprocess.Popen([sys.executable, "-uc", code], stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout
        hosts = [int(command.stdout.readline()) for _ in range(2)]
        command.kill()
    wait_for(lambda: not any(_alive(pid) for pid in hosts), f"one of {hosts} lives on")


def _alive(pid: int) -> bool:
    """Not a zombie that nobody has waited for."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_a_host_that_floods_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "OUTPUT_MOST_BYTES", 1 << 20)
    for stream in ("output", "error"):
        run = judged(f"import sys\nwhile True: print('x' * 1000, file=sys.std{stream[:3]})")
        assert any(f"wrote more than 1M to its standard {stream}" in text for text in run.problems)


def test_what_a_host_writes_is_printable() -> None:
    """An escape sequence or a NUL is for neither a terminal nor an XML file."""
    run = judged("print('ok 1 - CALL-1 a\\x1b[31m\\0b'); print('1..1'); print('ok \\x07', end='')")
    assert run.cases[0].text == r"a\x1b[31m\x00b"
    assert run.problems == (r"the output ends within a line: 'ok \\x07'",)
    assert ElementTree.fromstring(ElementTree.tostring(junit([run], 0.0))).tag == "testsuites"


def test_a_value_with_braces_is_not_filled_in_again() -> None:
    assert launch.fill_in("vmm --kernel {image} {other} {a", image="/x/{vcpus} y", vcpus=2) == [
        "vmm", "--kernel", "/x/{vcpus} y", "{other}", "{a",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "passed"),
    [
        ("raise SystemExit(16)", True),
        ("raise SystemExit(0)", False),
        ("import os; os.abort()", False),
        ("print('1..0 # SKIP booted'); raise SystemExit(1)", False),
    ],
)
def test_images_to_be_refused(code: str, passed: bool) -> None:
    run = judged(code, "refused")
    assert [(case.passed, case.rules, case.text) for case in run.cases] == [
        (passed, ("NOTE-2",), "refused: unknown type")
    ]


def test_placeholders(images: Path) -> None:
    code = (
        "import os, sys; image, disk, rest = sys.argv[1:]\n"
        "print(f'ok 1 - CALL-1 {os.path.basename(image)} {os.path.basename(disk)} "
        "{os.stat(disk).st_size} {rest[-22:]}')\n"
        "print('1..1')"
    )
    launcher = python(code).replace("{image}", "{image} {disk} {fixed}/{memory}/{vcpus}/{privilege}")
    runs = list(judge(Plan(("calls",), launcher=launcher, vcpus=3, memory="32M"), lambda *_: None))
    assert [run.mode for run in runs] == ["user", "supervisor"]
    assert runs[1].cases[0].text == "conformance_calls.elf scratch 1048576 fixed/32M/3/supervisor"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--launcher", "true"], "has no {image}"),
        (["--launcher", "'{image}"], "check its quotes"),
        (["--launcher", "/nowhere/vmm {image}"], "cannot start '/nowhere/vmm': No such file"),
        (["--chapter", "nothing"], "there is no chapter 'nothing'"),
        (["--vcpus", "0"], "0 vCPUs"),
        (["--memory", "much"], "not a size"),
        (["--timeout", "nan"], "time-out"),
        (["--launcher", "true {image}", "--accel", "kvm"], "--accel is for our own host"),
        (["--accel", "hvf"], "invalid choice: 'hvf'"),
        (["--launch", "true {image}"], "unrecognized arguments: --launch"),
    ],
)
def test_wrong_usage_is_one_line(options: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", "host", *options]) == 2
    out, errors = capfd.readouterr()
    assert said in errors
    assert (out, errors.count("\n")) == ("", 1)


def test_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    launcher = ["--launcher", python(GOOD), "--chapter", "calls"]
    assert main(["conform", "host", *launcher, "--junit", str(tmp_path / "good.xml")]) == 0
    out, _ = capfd.readouterr()
    assert "CALL-1  1      passed" in out
    assert out.endswith("passed: 1 cases, 0 skipped\n")
    assert ElementTree.parse(tmp_path / "good.xml").getroot().tag == "testsuites"
    launcher[1] = python("print('not ok 1 - CALL-1 a'); print('1..1'); raise SystemExit(1)")
    assert main(["conform", "host", *launcher, "--json"]) == 1
    answer = json.loads(capfd.readouterr().out)
    assert (answer["passed"], answer["runs"][0]["cases"][0]["verdict"]) == (False, "failed")
    launcher[1] = python(GOOD)
    assert main(["conform", "host", *launcher, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["class"] == "", "one chapter shows no class"


@pytest.mark.parametrize(
    ("place", "why"), [("no/x.xml", "No such file"), ("", "Is a directory"), ("image.elf/x.xml", "Not a directory")]
)
def test_what_cannot_be_written_is_said_before_anything_runs(
    images: Path, place: str, why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (images / "image.elf").touch()
    report = images / place
    launcher = ["--launcher", python(f"open({str(images / 'ran')!r}, 'w')"), "--chapter", "calls"]
    assert main(["conform", "host", *launcher, "--junit", str(report)]) == 46
    assert f"cannot write {report}: {why}" in capfd.readouterr().err
    assert not (images / "ran").exists()


CASES = (
    Case(1, True, ("CALL-1",), "a"),
    Case(2, False, ("CALL-5", "VQ-3"), "b <&>", "", ("got 1",)),
    Case(3, True, ("CALL-7",), "c", "no disk"),
)


def test_the_verdict() -> None:
    good, skipping = Run("a", "user", CASES[:1], ()), Run("b", "user", CASES[:3:2], ())
    every = Run("c", "user", tuple(Case(n, True, (rule,), "d") for n, rule in enumerate(PROVABLE, 1)), ())
    assert (weigh([good, every]).kind, weigh([good, every]).without_result) == ("full host", ())
    assert weigh([good]).kind == weigh([good, skipping]).kind == "core host"
    assert "CALL-1" not in weigh([good, skipping]).without_result
    assert "CALL-7" in weigh([good, skipping]).without_result
    assert not weigh([Run("a", "user", CASES[:1], ("cut off",))]).passed
    assert not weigh([]).passed
    assert (weigh([Run("a", "", CASES, ())]).failed, weigh([Run("a", "", CASES, ())]).kind) == (1, "")


def test_junit_is_what_its_readers_expect() -> None:
    """The attributes and the order of elements that the usual schema of Ant's JUnit report demands."""
    root = ElementTree.fromstring(ElementTree.tostring(junit([Run("calls", "user", CASES, ("cut off",))], 0.0)))
    (suite,) = root
    demanded = {"name", "package", "id", "timestamp", "hostname", "tests", "failures", "errors", "time"}
    assert demanded <= set(suite.attrib)
    assert suite.attrib["timestamp"] == "1970-01-01T00:00:00"
    assert [suite.attrib[key] for key in ("tests", "failures", "errors", "skipped")] == ["4", "1", "1", "1"]
    assert [element.tag for element in suite] == ["properties", *["testcase"] * 4, "system-out", "system-err"]
    for case in suite.findall("testcase"):
        assert {"classname", "name", "time"} <= set(case.attrib)
    assert [[child.tag for child in case] for case in suite.findall("testcase")] == [
        [],
        ["failure"],
        ["skipped"],
        ["error"],
    ]
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert (failure.attrib, failure.text) == ({"type": "CALL-5", "message": "b <&>"}, "got 1")
