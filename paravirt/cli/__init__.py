"""The command `paravirt`: finds the command's module, runs it, turns errors into one line and a status.

A command is a module of this package with `add_parser(subparsers)` and `run(args) -> int`.  Only the
module of the command given is imported, since most of the start of a small guest is the start of Python.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType, ModuleType
from typing import Any, NoReturn

from ..errors import INTERRUPTED, ConfigError, OutputError, ParavirtError, one_line

COMMANDS = {
    "run": "boot a guest",
    "demo": "show and verify the whole of it with a guest that reads a disk",
    "top": "show what this user's machines are doing",
    "device": "attach, detach and grow devices of a running machine, or serve one to others",
    "balloon": "ask a running guest for memory",
    "pause": "have a running guest stand still",
    "resume": "let a guest that was paused go on",
    "dump": "write a core of a running machine, for gdb",
    "replay": "make recorded calls again and compare",
    "build": "build a guest from a C file",
    "inspect": "show what an image says of itself",
    "doctor": "check what this machine can do",
    "abi": "show the hypercall ABI",
    "extension": "show extensions, and what a guest needs to call them",
    "conform": "judge a host or a guest",
    "completion": "print a completion script for a shell",
}

EXAMPLES = """\
examples:
  paravirt run hello
  paravirt run my-guest.elf --disk data=disk.img --memory 256M
  paravirt inspect demo
  paravirt doctor
"""

INTERNAL_ERROR = 70
CLOSED_PIPE = 141  # what a shell shows for a process that SIGPIPE ended
ENDING = {signal.SIGTERM: "terminated", signal.SIGHUP: "the terminal is gone"}


class Terminated(KeyboardInterrupt):
    """A signal of ENDING: machines, hosts that were started and temporary files end as cleanly as by SIGINT."""

    def __init__(self, number: int) -> None:
        super().__init__(ENDING[signal.Signals(number)])
        self.exit_status = 128 + number


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Text as it is written; argparse itself would load shutil at every start only to ask for the width."""

    def __init__(self, prog: str) -> None:
        try:
            columns = os.get_terminal_size().columns
        except OSError:  # not a terminal
            columns = 100
        super().__init__(prog, width=columns - 2)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, as all errors of this command are."""

    def error(self, message: str) -> NoReturn:
        """Raises ConfigError instead of printing usage and leaving."""
        raise ConfigError(f"{message}; see {self.prog} --help")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, but what is unknown to a command is that command's error, not the whole line's."""
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._meant(unknown)}")
        return known, unknown

    def _meant(self, unknown: Sequence[str]) -> str:
        from difflib import get_close_matches  # only for those who mistype

        wrong = next((word.partition("=")[0] for word in unknown if word.startswith("-")), "")
        begun = [option for option in self._option_string_actions if wrong and option.startswith(wrong)]
        close = begun or get_close_matches(wrong, self._option_string_actions, 1, 0.7)
        return f" (did you mean {close[0]}?)" if close else ""


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import PackageNotFoundError, version  # takes 20 ms

        from hypercall_abi import VERSION

        try:
            package = version("paravirt")
        except PackageNotFoundError:
            package = "(not installed)"
        print(f"paravirt {package}, ABI {VERSION[0]}.{VERSION[1]}")
        parser.exit()


def command_module(name: str) -> ModuleType:
    """The module of the command `name`."""
    return importlib.import_module(f".{name}", __package__)


def build_parser(loaded: Sequence[str]) -> Parser:
    """The parser of the command line, with the commands in `loaded` and their options; with none, the names of all."""
    parser = Parser(
        prog="paravirt",
        description="Runs guests that speak the paravirt hypercall ABI, over KVM or on a CPU in software.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and leave")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        if name in loaded:
            command_module(name).add_parser(commands)
        elif not loaded:
            commands.add_parser(name, help=summary, add_help=False)
    return parser


def _complain(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody may be left to tell
        print(f"paravirt: {one_line(text)}", file=sys.stderr, flush=True)


def _trace(debug: bool) -> None:
    if debug:
        import traceback  # as dear as the rest of this module

        traceback.print_exc()


def _open_standard_streams() -> None:
    """A standard stream that the caller closed becomes /dev/null, lest a file opened later take its number."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _flush() -> bool:
    """Writes what is buffered; what cannot be written is dropped, or the interpreter would fail on it later."""
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return False
    return True


def _run(argv: Sequence[str]) -> int:
    wanted = next((a for a in argv if not a.startswith("-")), "")
    args = build_parser([wanted] if wanted in COMMANDS else []).parse_args(argv)
    return int(command_module(args.command).run(args))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (default: the process's); returns the exit status (see paravirt.errors)."""
    argv = sys.argv[1:] if argv is None else argv
    _open_standard_streams()
    with _ending_signals():
        status = _guarded(argv)
    if _flush() or status:
        return status
    _complain("cannot write to standard output; make room or redirect it")
    return OutputError.exit_status


def _terminate(number: int, _frame: FrameType | None) -> None:
    raise Terminated(number)


@contextlib.contextmanager
def _ending_signals() -> Iterator[None]:
    """Turns them into Terminated, but for what the caller ignores (nohup)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    for number in ENDING:
        if before[number] != signal.SIG_IGN:
            signal.signal(number, _terminate)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _guarded(argv: Sequence[str]) -> int:
    debug = "--debug" in argv
    try:
        return _run(argv)
    except BrokenPipeError:
        return CLOSED_PIPE
    except ParavirtError as error:
        _trace(debug)
        _complain(str(error))
        return error.exit_status
    except Terminated as terminated:
        _complain(str(terminated))
        return terminated.exit_status
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED
    except Exception as error:
        _trace(debug)
        _complain(f"internal error: {type(error).__name__}: {error}; please report it with the output of --debug")
        return INTERNAL_ERROR
