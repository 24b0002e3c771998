"""The specification as one PDF: ``python docs/_extensions/pdf.py OUT.pdf``.

Sphinx makes one page of ``docs/abi``, WeasyPrint prints it.  Where WeasyPrint's libraries are missing it says so and
makes none: the HTML pages are the same text.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1]
MISSING = "no PDF: {}; for one: apt-get install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0"
STYLE = """
@page { size: A4; margin: 18mm 16mm; @bottom-center { content: counter(page); font-size: 8pt } }
body { font: 9.5pt/1.35 sans-serif }
a { color: inherit; text-decoration: none }
.headerlink, .sphinxsidebar, .footer { display: none }
table { border-collapse: collapse; font-size: 8.5pt; margin: 2mm 0 }
td, th { border: 0.2mm solid #999; padding: 0.6mm 1.2mm; text-align: left; vertical-align: top }
td p, th p, li p { margin: 0 }
pre { font-size: 7.5pt; background: #f5f5f5; padding: 1.5mm; white-space: pre-wrap }
h1 { break-before: page; font-size: 17pt } h2 { font-size: 13pt } h3 { font-size: 11pt }
.diagram { break-inside: avoid; margin: 2mm 0 } tr { break-inside: avoid }
"""


def main(target: str) -> int:
    """Writes `target`; 0 also where there is no PDF to be had, which is said."""
    try:
        from weasyprint import CSS, HTML
    except (ImportError, OSError) as error:
        print(MISSING.format(str(error).splitlines()[0]))
        return 0
    with tempfile.TemporaryDirectory() as work:
        options = ["-q", "-b", "singlehtml", "-D", "root_doc=abi/index", "-D", "suppress_warnings=toc.not_included"]
        made = subprocess.run([sys.executable, "-m", "sphinx", *options, str(DOCS), work])
        if made.returncode:
            return made.returncode
        HTML(str(Path(work) / "abi" / "index.html")).write_pdf(target, stylesheets=[CSS(string=STYLE)])
    print(f"written: {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
