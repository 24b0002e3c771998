"""What a guest's conformance came to, as JUnit XML: a case for each injection, its findings as the failure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from .guest import Run
from .junit import write


def junit(image: str, runs: Sequence[Run]) -> ElementTree.Element:
    """The tree."""
    failures = sum(bool(run.findings) for run in runs)
    root = ElementTree.Element("testsuites")
    counts = {"tests": str(len(runs)), "failures": str(failures), "errors": "0", "skipped": "0"}
    seconds = f"{sum(run.seconds for run in runs):.3f}"
    suite = ElementTree.SubElement(root, "testsuite", {"name": "conformance.guest", "time": seconds, **counts})
    for run in runs:
        named = {"classname": f"conformance.guest.{image}", "name": run.injection, "time": f"{run.seconds:.3f}"}
        case = ElementTree.SubElement(suite, "testcase", named)
        if run.findings:
            first = run.findings[0]
            failure = ElementTree.SubElement(case, "failure", {"type": first.rule or "end", "message": first.text})
            failure.text = "\n".join(f"{f.rule or 'END'}: {f.text}" for f in run.findings)
    return root


def write_junit(path: Path, image: str, runs: Sequence[Run]) -> None:
    """Writes `junit` to `path`.  Raises OutputError."""
    write(path, junit(image, runs))
