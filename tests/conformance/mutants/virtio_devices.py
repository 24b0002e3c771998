"""Hosts that get wrong what virtio asks of devices of one type and no rule of ours says."""

from __future__ import annotations

from functools import partial

from tests.conformance.plant import Mutant

_status = partial(Mutant, file="paravirt/native/status.c")
_device = partial(Mutant, file="paravirt/native/device.c")
_block = partial(Mutant, file="paravirt/native/block.c")
_request = partial(Mutant, file="paravirt/native/block_request.c")
_send = partial(Mutant, file="paravirt/native/net_send.c")
_receive = partial(Mutant, file="paravirt/native/net_receive.c")
_vsock = partial(Mutant, file="paravirt/devices/vsock.py")
_entropy = partial(Mutant, file="paravirt/devices/entropy.py")

_OFFERED = "*value = device->offered[args[1]];"
_CONFIG = "if (good) memcpy(to, device->config + offset, size_bytes);"
_HINTS = "header->chains = 0;"
_CHAINS = (
    "pv_net_scatter(room->segments, room->segment_count, offsetof(struct pv_net_header, chains), &count, "
    "sizeof(count));"
)


def _offers(id: str, rule: str, type: str, with_: str, without: str) -> Mutant:
    """A host whose devices of `type` offer other features."""
    new = f"*value = device->offered[args[1]]; if (device->type == PV_DEVICE_TYPE_{type}) "
    return _device(id=id, rule=rule, old=_OFFERED, new=f"{new}*value = (*value | ({with_})) & ~(uint64_t)({without});")


def _configured(id: str, rule: str, type: str, offset: int, value: int) -> Mutant:
    """A host whose devices of `type` have two bytes of another value in their configuration."""
    new = f"{_CONFIG} if (good && device->type == PV_DEVICE_TYPE_{type}) for (uint64_t i = 0; i < size_bytes; i++) "
    one = f"if (offset + i - {offset} < 2) ((uint8_t *)to)[i] = (uint8_t)({value} >> 8 * (offset + i - {offset}));"
    return _status(id=id, rule=rule, old=_CONFIG, new=new + one)


def _received(id: str, number: int, field: str, value: int) -> Mutant:
    """A host that says something else in the header of a frame received."""
    new = (
        f"static const uint8_t value = {value}; "
        f"pv_net_scatter(room->segments, room->segment_count, offsetof(struct pv_net_header, {field}), &value, 1); "
    )
    return _receive(id=id, rule=f"VIRTIO-5.1.6.4.1-{number}", old=_CHAINS, new=new + _CHAINS)


NET = (
    _configured("mtu_of_nothing", "VIRTIO-5.1.4.1-2", "NET", 10, 67),
    _configured("mtu_without_ipv6", "VIRTIO-5.1.4.1-3", "NET", 10, 1279),
    _offers("control_without_a_queue", "VIRTIO-5.1.4.1-12", "NET", "1ull << 20", "PV_NET_F_CTRL_VQ"),
    _send(
        id="checksum_nobody_asked_for",
        rule="VIRTIO-5.1.6.2.2-2",
        old=_HINTS,
        new="header->chains = 0; if (header->checksum_start > 1514) return false;",
    ),
    _send(
        id="hint_is_believed",
        rule="VIRTIO-5.1.6.2.2-3",
        old=_HINTS,
        new="header->chains = 0; if (header->header_bytes > 1514) return false;",
    ),
    _receive(
        id="chains_are_not_filled",
        rule="VIRTIO-5.1.6.4.1-3",
        old="chain->bytes < bytes ? chain->bytes : bytes",
        new="chain->bytes < bytes ? chain->bytes - 1 : bytes",
    ),
    _received("checksum_is_said_to_be_good", 5, "flags", 2),
    _received("segments_that_are_none", 10, "segmentation", 1),
    _received("coalesced_by_nobody", 13, "flags", 4),
)

BLOCK = (
    _offers("no_flush", "VIRTIO-5.2.5.2-1", "BLOCK", "0", "PV_BLOCK_F_FLUSH | PV_BLOCK_F_CONFIG_WCE"),
    _offers("cache_mode_without_flush", "VIRTIO-5.2.5.2-2", "BLOCK", "PV_BLOCK_F_CONFIG_WCE", "PV_BLOCK_F_FLUSH"),
    _configured("padding_that_says_something", "VIRTIO-5.2.5.2-4", "BLOCK", 32, 0x100),
    _offers("zones_that_are_none", "VIRTIO-5.2.5.2-5", "BLOCK", "1ull << 17", "0"),
)

OTHERS = (
    _configured("guest_is_the_host", "VIRTIO-5.10.6.4.2-1", "VSOCK", 0, 2),
    _entropy(
        id="not_random",
        rule="VIRTIO-5.4.6.2-1",
        old="return chain.write(0, data)",
        new="return chain.write(0, bytes(range(256)) * (wanted // 256 + 1))",
    ),
)

DEVICES = (
    _send(
        id="unknown_flags_are_asked_for",
        rule="VIRTIO-5.1.6.2.2-1",
        old="header->flags &= PV_NET_HEADER_F_NEEDS_CHECKSUM;",
        new="",
    ),
    _receive(id="no_number_of_chains", rule="VIRTIO-5.1.6.4.1-1", old=_CHAINS, new=""),
    _receive(id="every_frame_in_one_chain", rule="VIRTIO-5.1.6.4.1-2", old=_CHAINS, new=f"count = 1; {_CHAINS}"),
    _block(
        id="cache_that_nobody_flushes",
        rule="VIRTIO-5.2.5.2-3",
        old="*writeback_field(device) = flush && !block->options.writethrough;",
        new="*writeback_field(device) = !block->options.writethrough;",
    ),
    _request(
        id="unmapped_is_not_zero",
        rule="VIRTIO-5.2.6.2-6",
        old="range->flags & RANGE_UNMAP ? PV_AIO_ZERO_UNMAP : PV_AIO_ZERO",
        new="range->flags & RANGE_UNMAP ? PV_AIO_SYNC : PV_AIO_ZERO",
    ),
    _request(
        id="zones_are_an_error",
        rule="VIRTIO-5.2.6.2-13",
        old="request->type = header.type;",
        new="request->type = header.type; if (header.type > 13) return done(outcome, PV_BLOCK_STATUS_IO_ERROR, 0);",
    ),
    _vsock(
        id="streams_are_implied",
        rule="VIRTIO-5.10.3.2-1",
        old="VSOCK_FEATURE.STREAM | VSOCK_FEATURE.NO_IMPLIED_STREAM",
        new="VSOCK_FEATURE.STREAM",
    ),
)

MUTANTS = (*NET, *BLOCK, *OTHERS, *DEVICES)
