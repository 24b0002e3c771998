"""``python -m hypercall_abi``: writes what is generated from the declaration, holds it to what was released.

``emit NAME`` writes the generated files of an output; ``--check`` only compares.  ``check`` compares the
declaration with the newest released description, ``release`` adds one.
"""

import argparse
import sys
from pathlib import Path

from . import release
from .description import DescriptionError
from .emit import OUTPUTS

ROOT = Path(__file__).parent


def _stale(files: dict[str, str]) -> dict[Path, str]:
    paths = {(ROOT / place).resolve(): text for place, text in files.items()}
    return {path: text for path, text in paths.items() if not path.exists() or path.read_text() != text}


def _write(files: dict[Path, str]) -> None:
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _emit(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    status = 0
    for name in args.output or OUTPUTS:
        if name not in OUTPUTS:
            parser.error(f"no output {name!r}; there are: {', '.join(OUTPUTS)}")
        files = OUTPUTS[name]()
        if args.stdout:
            sys.stdout.write("\n".join(files.values()))
        elif args.check:
            for path in _stale(files):
                print(f"{path} is stale: run python -m hypercall_abi emit {name}", file=sys.stderr)
                status = 1
        else:
            _write(_stale(files))
    return status


def _check() -> int:
    lines = release.check()
    for line in lines:
        print(line, file=sys.stderr)
    return 1 if lines else 0


def _release(args: argparse.Namespace) -> int:
    print(release.release(draft=args.draft, replace=args.replace))
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; 1 if a file is stale, or the version is not what the changes ask for."""
    parser = argparse.ArgumentParser(prog="python -m hypercall_abi", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    emit = commands.add_parser("emit", help="write generated files")
    emit.add_argument("output", nargs="*", metavar="NAME", help=f"{', '.join(OUTPUTS)} (default: all)")
    emit.add_argument("--check", action="store_true", help="compare with the files, write nothing")
    emit.add_argument("--stdout", action="store_true", help="print the texts instead")
    commands.add_parser("check", help="compare with the newest released description")
    keep = commands.add_parser("release", help="keep the description as that of its version")
    keep.add_argument("--draft", action="store_true", help="of a version that nobody was given yet")
    keep.add_argument("--replace", action="store_true", help="whatever the draft before said")
    args = parser.parse_args(arguments)
    try:
        if args.command == "emit":
            return _emit(parser, args)
        return _check() if args.command == "check" else _release(args)
    except (DescriptionError, release.ReleaseError) as error:
        print(f"hypercall_abi: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
