"""``paravirt completion``: a shell's completion script, made from the same parsers that read the command line."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hypercall_abi import SERVICES

from ..boot.bundled import bundled_guests
from ..conform.host import chapters
from . import COMMANDS, abi, build_parser
from .common import add_command, show

EPILOG = """\
examples:
  source <(paravirt completion bash)                                 # this shell; put it into ~/.bashrc to keep
  paravirt completion zsh > ~/.zfunc/_paravirt                       # with ~/.zfunc in fpath
  paravirt completion fish > ~/.config/fish/completions/paravirt.fish
"""


@dataclass(frozen=True)
class Option:
    """One option of a command, as far as completion cares."""

    flags: tuple[str, ...]
    help: str
    takes_value: bool
    words: tuple[str, ...]
    """Values to offer."""
    files: bool
    """Offer files as values."""


@dataclass(frozen=True)
class Command:
    """One command: its options, the words and whether files are offered as its arguments."""

    name: str
    help: str
    options: tuple[Option, ...]
    words: tuple[str, ...]
    files: bool


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = add_command(subparsers, "completion", "print a completion script for a shell", EPILOG)
    parser.add_argument("shell", choices=sorted(SHELLS), help="the shell")


def run(args: argparse.Namespace) -> int:
    """Carries the command out."""
    show("\n".join(SHELLS[args.shell](commands())))
    return 0


def _subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Its commands; none if it has none."""
    actions = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return {name: inner for action in actions for name, inner in action.choices.items()}


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """What it reads, and after that what its commands read: an option that several have comes once."""
    flags: set[str] = set()
    for each in (parser, *_subparsers(parser).values()):
        for action in each._actions:
            if not flags.intersection(action.option_strings):
                flags.update(action.option_strings)
                yield action


def _words(action: argparse.Action) -> tuple[str, ...]:
    if action.metavar == "IMAGE":
        return tuple(bundled_guests())
    if action.metavar == "SERVICE[.CALL]":
        return (*SERVICES, *(() if action.option_strings else abi.VERBS))
    if action.option_strings == ["--chapter"]:
        return tuple(chapters())
    return tuple(map(str, action.choices or ()))


def _files(action: argparse.Action) -> bool:
    return action.type is Path or any(word in str(action.metavar) for word in ("FILE", "PATH", "IMAGE"))


def _option(action: argparse.Action) -> Option:
    return Option(tuple(action.option_strings), action.help or "", action.nargs != 0, _words(action), _files(action))


def commands() -> list[Command]:
    """The commands with their options, read off the parsers."""
    found = []
    for name, parser in _subparsers(build_parser(list(COMMANDS))).items():
        options = tuple(_option(a) for a in _actions(parser) if a.option_strings)
        arguments = [a for a in _actions(parser) if not a.option_strings]
        words = tuple(word for a in arguments for word in _words(a))
        found.append(Command(name, COMMANDS[name], options, words, any(map(_files, arguments))))
    return found


def _bash(found: list[Command]) -> Iterator[str]:
    yield "_paravirt() {"
    yield '\tlocal word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} words="" files=""'
    yield "\tif ((COMP_CWORD == 1)); then"
    yield f'\t\twords="{" ".join(c.name for c in found)} --help --version"'
    yield '\telse case "${COMP_WORDS[1]} $previous" in'
    for c in found:
        for o in (o for o in c.options if o.takes_value):
            pattern = "|".join(f'"{c.name} {flag}"' for flag in o.flags)
            yield f'\t\t{pattern}) words="{" ".join(o.words)}" files={"1" if o.files else ""} ;;'
    for c in found:
        words = " ".join([*(flag for o in c.options for flag in o.flags), *c.words])
        yield f'\t\t"{c.name} "*) words="{words}" files={"1" if c.files else ""} ;;'
    yield "\tesac fi"
    yield "\tmapfile -t COMPREPLY < <("
    yield '\t\tcompgen -W "$words" -- "$word" || true'
    yield '\t\t[[ ! $files ]] || compgen -f -- "${word#*=}"'
    yield "\t)"
    yield "}"
    yield "complete -o filenames -F _paravirt paravirt"


def _zsh_text(text: str) -> str:
    for char in "\\:[]":
        text = text.replace(char, "\\" + char)
    return text.replace("'", "'\\''")


def _zsh(found: list[Command]) -> Iterator[str]:
    yield "#compdef paravirt"
    yield "_paravirt() {"
    yield "\tif ((CURRENT == 2)); then"
    yield "\t\tlocal -a names=("
    for c in found:
        yield f"\t\t\t'{c.name}:{_zsh_text(c.help)}'"
    yield "\t\t)\n\t\t_describe command names\n\t\treturn\n\tfi"
    yield "\tshift words\n\t((CURRENT--))"
    yield "\tcase $words[1] in"
    for c in found:
        yield f"\t{c.name}) _arguments \\"
        for o in c.options:
            action = f"({' '.join(o.words)})" if o.words else "_files" if o.files else ""
            value = f":value:{action}" if o.takes_value else ""
            for flag in o.flags:
                yield f"\t\t'*{flag}[{_zsh_text(o.help)}]{value}' \\"
        both = [f"compadd {' '.join(c.words)}"] * bool(c.words) + ["_files"] * c.files
        yield f"\t\t'*:argument:{{{'; '.join(both) or '_message argument'}}}' ;;"
    yield "\tesac"
    yield "}"
    yield '[[ $funcstack[1] == _paravirt ]] && _paravirt "$@" || compdef _paravirt paravirt'


def _fish_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _fish(found: list[Command]) -> Iterator[str]:
    yield "complete -c paravirt -f"
    for c in found:
        here = f"complete -c paravirt -n '__fish_seen_subcommand_from {c.name}'"
        yield f"complete -c paravirt -n __fish_use_subcommand -a {c.name} -d {_fish_text(c.help)}"
        for o in c.options:
            flags = " ".join(f"-l {f[2:]}" if f.startswith("--") else f"-s {f[1:]}" for f in o.flags)
            value = f" -x -a {_fish_text(' '.join(o.words))}" if o.words else " -r -F" if o.files else " -x"
            yield f"{here} {flags} -d {_fish_text(o.help)}{value if o.takes_value else ''}"
        if c.words or c.files:
            yield f"{here}{' -F' if c.files else ''} -a {_fish_text(' '.join(c.words))}"


SHELLS = {"bash": _bash, "fish": _fish, "zsh": _zsh}
