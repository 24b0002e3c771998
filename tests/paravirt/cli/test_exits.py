"""What KVM and its device can answer that no machine at hand answers: the errors it becomes.

Here the answers are made up, at the border to the C core; what a guest can bring about by itself is in
``test_bad_input.py``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paravirt import errors
from paravirt._native import ffi, lib
from paravirt.cli import main
from paravirt.vcpu import Vcpu, exit_error
from tests.support.guests import shutdown, write_guest

pytestmark = pytest.mark.kvm
only_kvm = pytest.mark.only_kvm("makes up KVM's answers")

KINDS = {
    lib.PV_EXIT_TRIPLE_FAULT: (errors.TripleFault, "rip 0x1234"),
    lib.PV_EXIT_UNKNOWN: (errors.UnknownExit, "KVM exit reason 77"),
    lib.PV_EXIT_INTERNAL: (errors.KvmInternalError, "KVM internal error 77"),
    lib.PV_EXIT_ENTRY: (errors.EntryFailed, "0x80000021"),
    lib.PV_EXIT_UNSUPPORTED: (errors.SoftwareUnsupported, "does not do what vCPU 0 at rip 0x1234 wants"),
    lib.PV_EXIT_ENGINE: (errors.EngineLost, "the software vCPU's engine ended"),
    lib.PV_EXIT_REGION: (errors.DiskLost, "what is mapped for device 77"),
    lib.PV_EXIT_ERROR: (errors.HostCallFailed, "KVM_RUN failed on vCPU 0"),
}


class Core:
    """The C core with some of its answers replaced."""

    def __init__(self, **replaced: object) -> None:
        self.__dict__ |= replaced

    def __getattr__(self, name: str) -> Any:
        return getattr(lib, name)


@pytest.fixture
def run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[[], tuple[int, str]]:
    image = write_guest(tmp_path / "guest.elf", shutdown())

    def run() -> tuple[int, str]:
        status = main(["run", str(image), "--vcpus", "2"])
        out, err = capfd.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        return status, err

    return run


def test_every_kind_of_exit_is_covered() -> None:
    kinds = {getattr(lib, name) for name in dir(lib) if name.startswith("PV_EXIT_")}
    assert kinds == {*KINDS, lib.PV_EXIT_STOPPED}


@pytest.mark.parametrize("kind", KINDS)
def test_exits(run: Callable[[], tuple[int, str]], monkeypatch: pytest.MonkeyPatch, kind: int) -> None:
    def run_for_nothing(vcpu: Vcpu, _run: object, ended: Any) -> None:
        made_up = {"kind": kind, "reason": 77, "rip": 0x1234, "detail": 0x80000021}
        ended(vcpu, ffi.new("struct pv_exit *", made_up if vcpu.index == 0 else {}))

    monkeypatch.setattr(Vcpu, "_run", run_for_nothing)
    error, text = KINDS[kind]
    status, line = run()
    assert status == error.exit_status
    assert text in line


@pytest.mark.parametrize("reason", [*range(48), 0xFFFFFFFF])
def test_every_exit_reason_is_named_by_its_number(reason: int) -> None:
    result = ffi.new("struct pv_exit *", {"kind": lib.PV_EXIT_UNKNOWN, "reason": reason})
    error = exit_error(3, result)
    assert isinstance(error, errors.UnknownExit)
    assert f"exit reason {reason} on vCPU 3" in str(error)


@only_kvm
def test_kvm_allows_fewer_vcpus(run: Callable[[], tuple[int, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paravirt.accel.kvm.lib", Core(pv_kvm_vcpus_most=lambda _fd: 1))
    status, line = run()
    assert status == errors.HostLimit.exit_status
    assert "2 vCPUs: KVM here allows 1" in line


@only_kvm
def test_kvm_lacks_a_capability(run: Callable[[], tuple[int, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paravirt.accel.kvm.lib", Core(pv_kvm_check=lambda _fd, _capability: 0))
    status, line = run()
    assert status == errors.KvmTooOld.exit_status
    assert "lacks KVM_CAP_" in line


@only_kvm
@pytest.mark.parametrize("step", ["pv_kvm_add_memory", "pv_kvm_vcpu_create"])
def test_kvm_refuses_a_step(run: Callable[[], tuple[int, str]], monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    name = ffi.new("char[]", b"KVM_STEP")

    def refuse(kvm: Any, *_: object) -> int:
        kvm.failed = name
        return -errno.ENOMEM

    monkeypatch.setattr("paravirt.accel.kvm.lib", Core(**{step: refuse}))
    status, line = run()
    assert status == errors.HostCallFailed.exit_status
    assert "KVM refused KVM_STEP: Cannot allocate memory" in line
