"""What the pages name exists: files, links, commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from paravirt.cli import COMMANDS
from tests.docs.blocks import FENCE
from tests.support.tree import ROOT, tree

PAGES = [page for page in tree("*.md") if "generated" not in page.parts]
ROOMS = r"(?:hypercall_abi|paravirt|guest_drivers|tests|docs|\.ci)"
IN_CODE = re.compile(rf"`({ROOMS}/[\w./-]*)`")
IN_PICTURE = re.compile(rf"(?<![\w/.-])({ROOMS}/[\w/-]+\.\w+)")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[\w-]+)?\)")
COMMAND = re.compile(r"(?:`|^\$ )paravirt ([a-z]+)\b", re.MULTILINE)

names = [page.relative_to(ROOT).as_posix() for page in PAGES]


def prose(text: str) -> str:
    """`text` without its fenced blocks."""
    return FENCE.sub("", text)


def test_there_are_pages() -> None:
    assert {"README.md", "docs/architecture.md", "docs/abi/index.md"} <= set(names)


@pytest.mark.parametrize("name", names)
def test_the_files_named_exist(name: str) -> None:
    text = (ROOT / name).read_text()
    missing = [path for path in IN_CODE.findall(prose(text)) if not (ROOT / path).exists()]
    for fence in FENCE.finditer(text):
        if fence[2].strip() == "text":
            missing += [path for path in IN_PICTURE.findall(fence[3]) if not (ROOT / path).exists()]
    assert not missing


@pytest.mark.parametrize("name", names)
def test_the_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    dead = [link for link in LINK.findall(prose(page.read_text())) if not (page.parent / link).exists()]
    assert not dead


@pytest.mark.parametrize("name", names)
def test_the_commands_named_exist(name: str) -> None:
    assert set(COMMAND.findall((ROOT / name).read_text())) <= set(COMMANDS)


def test_every_page_is_reached() -> None:
    """Sphinx would say so too; here without it.  Pages of the specification are theirs to list."""
    listed = {page.parent / f"{entry}.md" for page in PAGES for entry in entries(page)}
    pages = {page for page in PAGES if (ROOT / "docs") in page.parents}
    assert pages - listed == {ROOT / "docs/index.md"}


def entries(page: Path) -> list[str]:
    """What the toctrees of `page` list."""
    blocks = (fence[3] for fence in FENCE.finditer(page.read_text()) if fence[2].strip() == "{toctree}")
    return [line for block in blocks for line in block.split() if re.fullmatch(r"[\w/.-]+", line)]
