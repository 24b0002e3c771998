"""``python -m hypercall_abi emit NAME`` writes the generated files of an output; ``--check`` only compares."""

import argparse
import sys
from pathlib import Path

from .emit import OUTPUTS

ROOT = Path(__file__).parent


def _stale(files: dict[str, str]) -> dict[Path, str]:
    paths = {(ROOT / place).resolve(): text for place, text in files.items()}
    return {path: text for path, text in paths.items() if not path.exists() or path.read_text() != text}


def _write(files: dict[Path, str]) -> None:
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; 1 if a file is stale under ``--check``."""
    parser = argparse.ArgumentParser(prog="python -m hypercall_abi", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    emit = commands.add_parser("emit", help="write generated files")
    emit.add_argument("output", nargs="*", metavar="NAME", help=f"{', '.join(OUTPUTS)} (default: all)")
    emit.add_argument("--check", action="store_true", help="compare with the files, write nothing")
    emit.add_argument("--stdout", action="store_true", help="print the texts instead")
    args = parser.parse_args(arguments)
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


if __name__ == "__main__":
    sys.exit(main())
