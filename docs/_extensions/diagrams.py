"""Sphinx directives for diagrams: ``sequence`` and ``layout``, as ``drawing.py`` draws them.

A sequence is written as lines of text, a layout is given a record's name.  Builders other than HTML get the source.
"""

from __future__ import annotations

from typing import Any, ClassVar

from docutils import nodes
from drawing import layout, sequence
from sphinx.util.docutils import SphinxDirective

from hypercall_abi import RECORDS


class _Drawing(SphinxDirective):
    """Puts an SVG where the builder can show it, the source elsewhere."""

    def _nodes(self, svg: str, source: str) -> list[nodes.Node]:
        if self.env.app.builder.format == "html":
            return [nodes.raw("", f'<div class="diagram">{svg}</div>', format="html")]
        return [nodes.literal_block(source, source)]


class Sequence(_Drawing):
    """``{sequence}``: lanes on the first line, then the steps."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The diagram; a line that is no step is an error of the document."""
        try:
            return self._nodes(sequence(list(self.content)), "\n".join(self.content))
        except ValueError as error:
            raise self.error(str(error)) from error


class Layout(_Drawing):
    """``{layout} NAME``: a record as it is declared."""

    required_arguments = 1
    option_spec: ClassVar[Any] = {}

    def run(self) -> list[nodes.Node]:
        """The diagram; an unknown record is an error of the document."""
        name = self.arguments[0]
        if name not in RECORDS:
            raise self.error(f"no record {name!r} is declared")
        return self._nodes(layout(RECORDS[name]), f"record {name}")


def setup(app: Any) -> dict[str, bool]:
    """What Sphinx calls."""
    app.add_directive("sequence", Sequence)
    app.add_directive("layout", Layout)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
