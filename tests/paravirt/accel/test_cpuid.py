"""CPU models: what each says of features, and what becomes of the host's leaves."""

from __future__ import annotations

import pytest

from paravirt.accel.cpuid import FEATURES, Register, change, missing, parse_cpu
from paravirt.errors import ConfigError

ALL = 0xFFFF_FFFF
EVERYTHING = {register: ALL for register, _ in FEATURES.values()}


def kept(text: str, function: int, index: int, register: int) -> int:
    return change(parse_cpu(text), function, index).keep[register]


def has(text: str, name: str) -> bool:
    """Whether the feature stays on a host that has everything."""
    (function, index, register), bit = FEATURES[name]
    return bool(kept(text, function, index, register) >> bit & 1)


@pytest.mark.parametrize(
    ("text", "there", "gone"),
    [
        ("x86-64-v1", "sse2 syscall nx apic hypervisor", "pni xsave avx aes rdrand"),
        ("x86-64-v2", "pni sse4_2 popcnt cx16 lahf_lm", "xsave avx movbe avx2 bmi1"),
        ("x86-64-v3", "xsave avx avx2 bmi2 abm", "avx512f aes xsavec vaes"),
        ("x86-64-v4", "avx512f avx512vl", "avx512vbmi la57"),
        ("x86-64-v2,+aes,+rdrand,-popcnt", "aes rdrand pni", "popcnt"),
        ("x86-64-v3,+svm", "svm avx", "vmx rtm hle pdcm"),
        ("host,-avx512f,-x2apic", "avx2 aes la57", "avx512f x2apic"),
        ("host,-vmx,-svm,-rtm,-hle", "x2apic pdcm", "vmx svm rtm hle"),
    ],
)
def test_what_a_model_has(text: str, there: str, gone: str) -> None:
    assert [name for name in there.split() if not has(text, name)] == []
    assert [name for name in gone.split() if has(text, name)] == []


def test_a_feature_that_nobody_has_named_is_gone() -> None:
    assert kept("x86-64-v4", 7, 1, 0) == 0
    assert kept("x86-64-v4", 0x19, 0, 0) == 0


def test_what_newer_kvm_offers_is_gone_from_levels() -> None:
    assert kept("x86-64-v2", 0x4000_0001, 0, 0) == 0x0100_2AEB
    assert change(parse_cpu("x86-64-v2"), 0x4000_0001, 0).keep[1:] == (0, 0, 0)
    assert kept("host", 0x4000_0001, 0, 0) == ALL
    assert kept("x86-64-v2", 0x4000_0000, 0, 1) == ALL, "KVM's name"


def test_the_leaf_of_nested_svm_is_there_with_it() -> None:
    assert kept("x86-64-v2", 0x8000_000A, 0, 3) == 0
    assert kept("x86-64-v2,+svm", 0x8000_000A, 0, 3) == ALL


def test_what_tells_a_kernel_of_defects_stays() -> None:
    assert kept("x86-64-v1", 7, 0, 3) >> 26 & 1, "IBRS and IBPB"


def test_state_components_are_those_of_the_level() -> None:
    assert change(parse_cpu("x86-64-v2"), 0xD, 0).keep[0] == 0
    v3 = change(parse_cpu("x86-64-v3"), 0xD, 0)
    assert (v3.keep[0], v3.put[2]) == (7, 832)
    assert change(parse_cpu("x86-64-v3"), 0xD, 2).keep[0] == ALL
    assert change(parse_cpu("x86-64-v3"), 0xD, 5).keep[0] == 0
    assert change(parse_cpu("x86-64-v4"), 0xD, 5).keep[0] == ALL


def test_what_a_host_cannot_give_is_named() -> None:
    assert missing(parse_cpu("x86-64-v4,+vaes"), EVERYTHING) == []
    less = {**EVERYTHING, Register(7, 0, 1): ALL & ~(1 << 5)}
    assert missing(parse_cpu("x86-64-v3"), less) == ["avx2"]
    assert missing(parse_cpu("x86-64-v3,-avx2"), less) == []
    assert missing(parse_cpu("x86-64-v2,+avx2"), less) == ["avx2"]


@pytest.mark.parametrize("text", ["", "x86-64-v5", "x86-64-v", "Host", "host,avx", "host,+nothing", "host,"])
def test_models_that_do_not_exist(text: str) -> None:
    with pytest.raises(ConfigError, match="there are|give host"):
        parse_cpu(text)
