"""``python -m hypercall_abi emit NAME`` writes a generated file; ``--check`` only compares."""

import argparse
import sys
from pathlib import Path

from .emit import OUTPUTS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hypercall_abi", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    emit = commands.add_parser("emit", help="write generated files")
    emit.add_argument("output", nargs="*", metavar="NAME", help=f"{', '.join(OUTPUTS)} (default: all)")
    emit.add_argument("--check", action="store_true", help="compare with the committed file, write nothing")
    emit.add_argument("--stdout", action="store_true", help="print it instead")
    args = parser.parse_args()
    stale = 0
    for name in args.output or OUTPUTS:
        if name not in OUTPUTS:
            parser.error(f"no output {name!r}; there are: {', '.join(OUTPUTS)}")
        function, place = OUTPUTS[name]
        path = (Path(__file__).parent / place).resolve()
        text = function()
        if args.stdout:
            sys.stdout.write(text)
        elif not path.exists() or path.read_text() != text:
            if args.check:
                print(f"{path} is stale: run python -m hypercall_abi emit {name}", file=sys.stderr)
                stale = 1
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
    return stale


if __name__ == "__main__":
    sys.exit(main())
