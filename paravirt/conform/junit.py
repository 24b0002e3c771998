"""JUnit XML as a file, for what either side's conformance came to; the trees are made where the results are known."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from ..errors import OutputError


def write(path: Path, root: ElementTree.Element) -> None:
    """Writes the tree to `path`, which ``--junit`` named.  Raises OutputError."""
    tree = ElementTree.ElementTree(root)
    ElementTree.indent(tree)
    try:
        tree.write(path, encoding="utf-8", xml_declaration=True)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = error.strerror if isinstance(error, OSError) else error
        raise OutputError(f"cannot write {path}: {why}; give another --junit") from error
