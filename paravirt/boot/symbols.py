"""Names for addresses in an image, for messages about guests that failed.

The image's symbol table is as hostile as the rest of it and pyelftools believes what it reads: any
trouble means that there is no name.
"""

from __future__ import annotations

import io

from ..errors import one_line
from .image import Image

SYMBOLS_MOST = 100_000
NAME_MOST = 100


def place(image: Image, gpa: int) -> str:
    """`gpa` as text, with the function that it lies in if that is known: ``0x201234 (pv_main+0x14)``."""
    try:
        name = _function(image, gpa)
    except Exception:  # whatever a hostile file makes pyelftools raise
        name = None
    return f"{gpa:#x} ({name})" if name else f"{gpa:#x}"


def _function(image: Image, gpa: int) -> str | None:
    from elftools.elf.elffile import ELFFile  # only for guests that failed
    from elftools.elf.sections import SymbolTableSection

    for section in ELFFile(io.BytesIO(image.contents)).iter_sections():
        if not isinstance(section, SymbolTableSection) or section.num_symbols() > SYMBOLS_MOST:
            continue
        for symbol in section.iter_symbols():
            start, size = symbol["st_value"], symbol["st_size"]
            if symbol["st_info"]["type"] == "STT_FUNC" and start <= gpa < start + size:
                return one_line(f"{symbol.name[:NAME_MOST]}+{gpa - start:#x}")
    return None
