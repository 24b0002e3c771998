"""Sphinx configuration: Markdown by MyST; warnings are errors in ./dev docs."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent / "_extensions"))

from hypercall_abi import VERSION

project = "paravirt"
author = "The paravirt authors"
copyright = "The paravirt authors"
release = ".".join(map(str, VERSION))

extensions = ["myst_parser", "diagrams"]
exclude_patterns = ["abi/generated", "_extensions"]
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]
highlight_language = "none"
html_theme = "alabaster"
html_theme_options = {"description": "A hypercall ABI, a hypervisor for it, and guest drivers", "page_width": "75em"}
