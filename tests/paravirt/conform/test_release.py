"""The release file: all images, readable words, the same bytes each time."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from hypercall_abi import RULES
from hypercall_abi.virtio_musts import MUSTS
from paravirt.boot.bundled import GUESTS
from paravirt.cli import main
from paravirt.conform import host, release


def test_the_file_holds_images_words_and_rules(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", "images", str(tmp_path / "out")]) == 0
    path = Path(capfd.readouterr().out.strip())
    assert path.name == "conformance-1.0.tar"
    with tarfile.open(path) as tar:
        files = {entry.name.partition("/")[2]: tar.extractfile(entry) for entry in tar.getmembers()}
        data = {name: file.read() for name, file in files.items() if file}
    for image in GUESTS.glob("conformance_*.elf"):
        assert data[f"images/{image.name}"] == image.read_bytes()
    assert "rules.tsv" in data["README"].decode()
    assert [line.split("\t")[0] for line in data["rules.tsv"].decode().splitlines()[1:]] == [*RULES, *MUSTS]
    first = path.read_bytes()
    os.utime(GUESTS / "conformance_all.elf")
    assert release.write(tmp_path / "out").read_bytes() == first


def test_what_cannot_be_written_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert main(["conform", "images", str(tmp_path / "file")]) == 46
    assert "cannot write" in capfd.readouterr().err


def test_without_images_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(host.chapters, "__defaults__", (tmp_path,))
    assert main(["conform", "images", str(tmp_path)]) == 2
    assert "make -C guest_drivers" in capfd.readouterr().err
