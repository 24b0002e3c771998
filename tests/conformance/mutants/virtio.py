"""Hosts that get wrong what virtio asks of devices and no rule of ours says."""

from __future__ import annotations

from functools import partial

from tests.conformance.plant import Mutant

_status = partial(Mutant, file="paravirt/native/status.c")
_notify = partial(Mutant, file="paravirt/native/notify.c")
_device = partial(Mutant, file="paravirt/native/device.c")
_mmio = partial(Mutant, file="paravirt/native/mmio.c")
_ring = partial(Mutant, file="paravirt/native/ring.c")
_split = partial(Mutant, file="paravirt/native/ring_split.c")
_packed = partial(Mutant, file="paravirt/native/ring_packed.c")
_block = partial(Mutant, file="paravirt/native/block.c")
_request = partial(Mutant, file="paravirt/native/block_request.c")
_send = partial(Mutant, file="paravirt/native/net_send.c")
_receive = partial(Mutant, file="paravirt/native/net_receive.c")
_vsock = partial(Mutant, file="paravirt/devices/vsock.py")

_OFFERED = "*value = device->offered[args[1]];"
_WANTED = "*queue->state = wanted;"
_USED = "s->next_used = (uint16_t)(s->next_used + used->places);"
_FLAGS = (
    "if (!pv_ring_has(queue, PV_VIRTIO_F_EVENT_IDX)) "
    "return !(__atomic_load_n(&avail_of(queue)->flags, __ATOMIC_SEQ_CST) & PV_RING_F_AVAIL_NO_INTERRUPT);"
)
_CHAINS = (
    "pv_net_scatter(room->segments, room->segment_count, offsetof(struct pv_net_header, chains), &count, "
    "sizeof(count));"
)


def _interrupts(number: int, what: str, new: str) -> Mutant:
    """A host whose split queues decide about notifications by `new`, where flags are looked at."""
    return _split(id=what, rule=f"VIRTIO-2.7.7.2-{number}", old=_FLAGS, new=new)


BASIC = (
    _notify(
        id="giving_up_in_silence",
        rule="VIRTIO-2.1.2-3",
        old="interrupt(device, INTERRUPT_CONFIG, &device->state.config_vcpu, &device->state.config_channel);",
        new="",
    ),
    _device(
        id="cache_without_flush",
        rule="VIRTIO-2.2.2-1",
        old=_OFFERED,
        new="*value = device->offered[args[1]] & ~(device->type == PV_DEVICE_TYPE_BLOCK ? PV_BLOCK_F_FLUSH : 0);",
    ),
    _status(
        id="insists_on_event_idx",
        rule="VIRTIO-2.2.2-2",
        old="accepted[0] & PV_VIRTIO_F_VERSION_1",
        new="(accepted[0] & PV_VIRTIO_F_VERSION_1) && (accepted[0] & PV_VIRTIO_F_EVENT_IDX)",
    ),
    _device(
        id="offers_what_is_of_pci",
        rule="VIRTIO-2.2.2-4",
        old=_OFFERED,
        new="*value = device->offered[args[1]] | 1ull << 37;",
    ),
    _status(
        id="failed_for_good",
        rule="VIRTIO-2.4.1-1",
        old="__atomic_store_n(&s->status, 0, __ATOMIC_RELEASE);",
        new="s->status &= FAILED;",
    ),
    _status(
        id="config_comes_with_features_ok",
        rule="VIRTIO-2.5.2-1",
        old="if (good) memcpy(to, device->config + offset, size_bytes);",
        new="if (good && status_of(device) & FEATURES_OK) memcpy(to, device->config + offset, size_bytes); "
        "else if (good) memset(to, 0, size_bytes);",
    ),
    _status(
        id="queue_goes_on_where_it_was",
        rule="VIRTIO-2.6.1.1.1-2",
        old=_WANTED,
        new="wanted.next_avail = wanted.next_used = device->active ? 3 : 0; *queue->state = wanted;",
    ),
    _status(
        id="queue_keeps_its_size",
        rule="VIRTIO-2.6.1.2.1-1",
        old=_WANTED,
        new="if (device->active) wanted.size = 8; *queue->state = wanted;",
    ),
    _device(
        id="older_than_virtio_1", rule="VIRTIO-6.2-1", old=_OFFERED, new="*value = device->offered[args[1]] << 31;"
    ),
    _ring(
        id="order_is_forgotten",
        rule="VIRTIO-6.2-3",
        old="use(queue, &queue->staged);",
        new="if (pv_ring_has(queue, PV_VIRTIO_F_IN_ORDER)) queue->staged.head ^= 1; use(queue, &queue->staged);",
    ),
)

QUEUES = (
    _split(
        id="device_writes_the_available_ring",
        rule="VIRTIO-2.7.5.1-1",
        old=_USED,
        new=f"avail_of(queue)->flags = 2; {_USED}",
    ),
    _split(
        id="table_stands_alone",
        rule="VIRTIO-2.7.5.3.2-2",
        old="fault = enter_indirect(queue, &table, &d);",
        new='fault = chain->readable || chain->writable ? "VQ-6" : enter_indirect(queue, &table, &d);',
    ),
    _interrupts(1, "used_event_always_counts", ""),
    _interrupts(2, "told_all_the_same", "if (!pv_ring_has(queue, PV_VIRTIO_F_EVENT_IDX)) return true;"),
    _interrupts(3, "never_told", "if (!pv_ring_has(queue, PV_VIRTIO_F_EVENT_IDX)) return false;"),
    _interrupts(
        4,
        "flags_count_with_event_idx",
        "if (avail_of(queue)->flags & PV_RING_F_AVAIL_NO_INTERRUPT) return false; "
        "if (!pv_ring_has(queue, PV_VIRTIO_F_EVENT_IDX)) return true;",
    ),
    _split(
        id="told_of_everything",
        rule="VIRTIO-2.7.7.2-6",
        old="(uint16_t)(now - event - 1) < (uint16_t)(now - before)",
        new="true",
    ),
    _split(
        id="told_of_nothing",
        rule="VIRTIO-2.7.7.2-5",
        old="(uint16_t)(now - event - 1) < (uint16_t)(now - before)",
        new="false",
    ),
    _split(
        id="more_than_was_written",
        rule="VIRTIO-2.7.8.2-2",
        old="__atomic_store_n(&e->written_bytes, used->written_bytes, __ATOMIC_RELAXED);",
        new="__atomic_store_n(&e->written_bytes, used->written_bytes + 1, __ATOMIC_RELAXED);",
    ),
    _split(
        id="no_notify_with_event_idx",
        rule="VIRTIO-2.7.10.2-2",
        old="if (pv_ring_has(queue, PV_VIRTIO_F_EVENT_IDX)) "
        "__atomic_store_n(avail_event(queue), (uint16_t)(queue->state->next_avail - 1), __ATOMIC_RELAXED); "
        "else __atomic_store_n(&used_of(queue)->flags, PV_USED_F_NO_NOTIFY, __ATOMIC_RELAXED);",
        new="__atomic_store_n(&used_of(queue)->flags, PV_USED_F_NO_NOTIFY, __ATOMIC_RELAXED);",
    ),
    _packed(
        id="device_writes_the_drivers_event",
        rule="VIRTIO-2.8.15-1",
        old=_USED,
        new=f"*(uint32_t *)(void *)queue->driver = 0; {_USED}",
    ),
)

MMIO = (
    _mmio(
        id="one_event_acknowledged_is_all",
        rule="VIRTIO-4.2.2.1-3",
        old="__atomic_fetch_and(&s->interrupt_status, ~value, __ATOMIC_SEQ_CST);",
        new="__atomic_store_n(&s->interrupt_status, 0, __ATOMIC_SEQ_CST);",
    ),
    _mmio(
        id="events_that_did_not_happen",
        rule="VIRTIO-4.2.2.1-4",
        old="return __atomic_load_n(&device->state.interrupt_status, __ATOMIC_SEQ_CST);",
        new="return __atomic_load_n(&device->state.interrupt_status, __ATOMIC_SEQ_CST) | 4;",
    ),
    _status(
        id="events_survive_a_reset",
        rule="VIRTIO-4.2.2.1-5",
        old="__atomic_store_n(&s->interrupt_status, 0, __ATOMIC_SEQ_CST);",
        new="",
    ),
    _mmio(
        id="queue_reset_is_no_register",
        rule="VIRTIO-4.2.2.1-12",
        old="if (value == 1) pv_device_queue_reset(device, s->queue_selector);",
        new="",
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

MUTANTS = (*BASIC, *QUEUES, *MMIO, *DEVICES)
