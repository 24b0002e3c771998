"""The process of an isolated module: ``python -m paravirt.extensions.worker PATH FD``.  All the work is C's."""

from __future__ import annotations

import os
import sys

from .._native import lib


def main(path: str, fd: str) -> None:
    """Serves the module at `path` over the socket `fd` until it closes."""
    lib.pv_module_serve(os.fsencode(os.path.abspath(path)), int(fd))


if __name__ == "__main__":
    main(*sys.argv[1:])
