"""``paravirt build``: a guest from one C file, wherever that lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from paravirt.boot.image import load_image
from paravirt.cli import main
from paravirt.errors import BuildFailed, ConfigError, OutputError

SOURCE = """\
#include "beside.h"

#include "paravirt/guest.h"
#include "paravirt/notes.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0));

int pv_main(void)
{
	pv_print(WORDS);
	return 0;
}
"""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/beside.h").write_text('#define WORDS "built\\n"\n')
    path = tmp_path / "src/mine.c"
    path.write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return path


@pytest.mark.kvm
def test_a_file_becomes_a_guest_that_runs(source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "src/mine.c"]) == 0
    assert main(["run", "mine.elf", "--timeout", "20"]) == 0
    assert capfd.readouterr() == ("built\n", "")
    assert sorted(p.name for p in Path().rglob("*")) == ["beside.h", "mine.c", "mine.elf", "src"]


def test_the_compiler_is_ones_own_choice(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "clang")
    assert main(["build", str(source), "--out", "other.elf"]) == 0
    assert load_image(Path("other.elf")).segments


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("int main(void) { return 0; }", "a guest begins at int pv_main(void)"),
        ('int pv_main(void) { printf("x"); return 0; }', "a guest has no libc; see paravirt/guest.h"),
        ("void *malloc(unsigned long); int pv_main(void) { return !malloc(9); }", "a guest has no libc"),
        ("double x; int pv_main(void) { x = x / 3; return 0; }", "guests have no floating point"),
        (
            "static volatile char big[5ul << 30]; int pv_main(void) { *big = 1; return 0; }",
            "the image is too large",
        ),
        ("int pv_main(void) { return pv_prnt; }", ""),
        ("int pv_prnt(void); int pv_main(void) { return pv_prnt(); }", ""),
    ],
)
def test_hints(
    source: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    compiler: str,
    code: str,
    hint: str,
) -> None:
    """What a newcomer does wrong is said in terms of guests; what is plain enough gets no hint."""
    monkeypatch.setenv("CC", compiler)
    source.write_text(code + "\n")
    assert main(["build", str(source)]) == BuildFailed.exit_status
    *said, last = capfd.readouterr().err.splitlines()
    assert said and not any(line.startswith("make") for line in said)
    assert last.partition("words are above")[2].startswith(f": {hint}" if hint else "")
    assert bool(hint) == (last != f"paravirt: {source} was not built; the compiler's words are above")


def test_what_does_not_compile(source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("src/beside.h").write_text("#define WORDS nonsense\n")
    assert main(["build", str(source)]) == BuildFailed.exit_status
    error = capfd.readouterr().err.splitlines()
    assert any("nonsense" in line and "error" in line for line in error)
    assert error[-1] == f"paravirt: {source} was not built; the compiler's words are above"
    assert not Path("mine.elf").exists()


@pytest.mark.parametrize(
    ("argv", "error", "words"),
    [
        (["none.c"], ConfigError, "there is no file none.c"),
        (["mine.s"], ConfigError, "mine.s is not a C file; give one whose name ends in .c"),
        (["src"], ConfigError, "src is not a C file; give one whose name ends in .c"),
        (["two words.c"], ConfigError, "use a path of letters, digits and . _ - + ~ only"),
        (
            ["src/mine.c", "--out", "none/mine.elf"],
            OutputError,
            "cannot write none/mine.elf: No such file or directory",
        ),
    ],
)
def test_bad_input(
    source: Path, capfd: pytest.CaptureFixture[str], argv: list[str], error: type[ConfigError], words: str
) -> None:
    Path("two words.c").write_text(SOURCE)
    Path("mine.s").touch()
    assert main(["build", *argv]) == error.exit_status
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("paravirt: ")
    assert words in line


def test_without_the_compiler(source: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "nonesuch-cc -m64")
    assert main(["build", str(source)]) == ConfigError.exit_status
    assert capfd.readouterr().err.startswith("paravirt: there is no nonesuch-cc; install")


def test_without_make(source: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(source.parent))
    assert main(["build", str(source)]) == ConfigError.exit_status
    assert "there is no make" in capfd.readouterr().err
