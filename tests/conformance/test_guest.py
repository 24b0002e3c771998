"""Guest conformance: each wrong guest is caught by the rule that it breaks, right ones pass, every rule is seen."""

from __future__ import annotations

import json
import os
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hypercall_abi import RULES
from paravirt.boot.bundled import GUESTS
from paravirt.boot.image import load_image
from paravirt.cli import main
from paravirt.config import Disk, MachineConfig
from paravirt.conform import findings, guest
from paravirt.conform.guest import ALL, KINDS, Run, bound, judge, provoked
from paravirt.errors import ConfigError
from tests.conformance.guest_table import files, found_in_calls, wrongs
from tests.support.elf import privilege, require
from tests.support.guests import shutdown, write_guest
from tests.support.tree import ROOT

HANG_S = 1.5
LATER = {  # wrongs that only an injection shows; the others are seen in the plain run
    "CALL-9": "poison",
    "CALL-10": "poison",
    "ERR-1": "later-status",
    "BATCH-5": "continue",
    "MEM-6": "continue",
    "EVT-4": "spurious-events",
    "TIME-6": "clock",
    "VCPU-4": "early-block",
    "BOOT-6": "spurious-events",
    "BOOT-7": "boot-records",
}
ELSEWHERE = {"EVT-9"}  # KVM by page tables delivers upcalls that nobody ended


def cited(runs: list[Run]) -> set[str]:
    return {rule for run in runs for finding in run.findings for rule in finding.rule.split()}


def caught(image: str, rule: str, accel: str = "auto") -> set[str]:
    """The rules found broken, with as few runs as show it."""
    timeout_s = HANG_S if rule in findings.HANGS else None
    config = MachineConfig(GUESTS / f"{image}.elf", command_line=rule, vcpus=2, timeout_s=timeout_s, accel=accel)  # type: ignore[arg-type]
    wanted = (LATER[rule],) if rule in LATER else ()
    return cited(list(judge(config, 0, wanted, lambda _name: None)))


def test_there_are_enough_of_them() -> None:
    rules = {*wrongs("wrong"), *wrongs("wrong_devices")}
    assert len(rules) >= 30
    assert rules <= set(RULES)


@pytest.mark.kvm
@pytest.mark.parametrize("rule", [rule for rule in wrongs("wrong") if rule not in ELSEWHERE])
def test_a_wrong_guest_is_caught(rule: str) -> None:
    assert rule in caught("wrong", rule)


@pytest.mark.kvm
@pytest.mark.parametrize("rule", wrongs("wrong_devices"))
def test_a_wrong_driver_is_caught(rule: str) -> None:
    assert rule in caught("wrong_devices", rule)


def test_an_upcall_that_is_not_ended_is_caught() -> None:
    pytest.importorskip("unicorn", reason="the software vCPU is an optional extra")
    assert "EVT-9" in caught("wrong", "EVT-9", "software")


@pytest.mark.kvm
def test_who_runs_on_over_a_mandatory_record_is_caught(tmp_path: Path) -> None:
    """BOOT-3, by a guest that does not even look at the boot information."""
    runs = list(
        judge(MachineConfig(write_guest(tmp_path / "g.elf", shutdown())), 0, ("boot-mandatory",), lambda _: None)
    )
    assert [finding.rule for run in runs for finding in run.findings] == ["BOOT-3"]


def test_an_image_that_needs_an_experiment_is_caught(tmp_path: Path) -> None:
    """VND-3; a host that has the service would run it."""
    image = write_guest(tmp_path / "g.elf", shutdown(), notes=[require({0xC123: 0}), privilege(0)])
    assert [finding.rule for finding in findings.judge_image(load_image(image))] == ["VND-3"]


def test_every_rule_that_binds_a_guest_is_seen_or_has_a_reason() -> None:
    seen = found_in_calls() | provoked()
    missing = bound() - seen - set(guest.UNSEEN)
    assert not missing
    assert not set(guest.UNSEEN) & seen, "a reason for what is seen after all"
    assert set(guest.UNSEEN) <= set(RULES)


@pytest.mark.kvm
def test_the_demo_passes(tmp_path: Path) -> None:
    """With everything at once, too: two vCPUs, two disks, SMP, events, clock."""
    given, report = tmp_path / "in.tar", tmp_path / "report"
    import tarfile

    with tarfile.open(given, "w") as archive:
        archive.add(ROOT / "docs/abi", "abi")
    with given.open("ab") as file:
        file.truncate(given.stat().st_size + -given.stat().st_size % 512)
    report.write_bytes(bytes(1 << 20))
    disks = (Disk("input", given, read_only=True), Disk("report", report))
    runs = list(judge(MachineConfig(GUESTS / "demo.elf", vcpus=2, disks=disks), 0, (*KINDS, ALL), lambda _: None))
    assert [run.injection for run in runs] == ["plain", *KINDS, ALL]
    assert not [finding for run in runs for finding in run.findings]
    assert report.read_bytes() == bytes(1 << 20), "each run has a disk of its own"
    touched = {run.injection for run in runs if run.touched}
    assert {"failed", "later-status", "quota"} <= touched
    # The disks are faster than a software vCPU, which then waits for nothing.
    assert {"early-block", ALL} <= touched or os.environ["PARAVIRT_ACCEL"] == "software"


@pytest.mark.kvm
def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", "guest", "hello", "--junit", str(tmp_path / "r.xml")]) == 0
    assert capsys.readouterr().out.endswith("passed: the guest broke no rule\n")
    suite = ElementTree.parse(tmp_path / "r.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures")) == (str(len(KINDS) + 2), "0")
    assert main(["conform", "guest", "wrong", "--cmdline", "CALL-5", "--inject", "quota", "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert not result["passed"]
    assert {f["rule"] for run in result["runs"] for f in run["findings"]} == {"CALL-5"}


@pytest.mark.kvm
def test_a_guest_that_does_not_end_properly_is_blamed_for_no_injection(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", "guest", "hello", "--status", "3"]) == 1
    out = capsys.readouterr().out
    assert "END: not its proper end (POWEROFF, status 3): it ended with POWEROFF, status 0" in out
    assert "say with --status what that" in out
    assert "quota" not in out


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["hello", "--inject", "nothing"], "there is no injection 'nothing'; there are poison, "),
        (["nothing"], "nothing"),
        (["hello", "--input", "missing"], "cannot read missing"),
        (["hello", "--memory", "7"], "memory of 7"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", "guest", *arguments]) in (2, 10)
    err = capsys.readouterr().err
    assert word in err
    assert err.count("\n") == 1


def test_unknown_injections_are_named() -> None:
    with pytest.raises(ConfigError, match="there is no injection 'x'"):
        guest.choose(("x",))


def test_the_tables_of_the_specification_are_current() -> None:
    stale = [str(path) for path, text in files().items() if not path.exists() or path.read_text() != text]
    assert not stale, "run python -m tests.conformance.guest_table"
