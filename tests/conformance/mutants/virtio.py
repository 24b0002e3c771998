"""Hosts that get wrong what virtio asks of any device and no rule of ours says."""

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

_OFFERED = "*value = device->offered[args[1]];"
_WANTED = "*queue->state = wanted;"
_ARMED = "__atomic_store_n(&used_of(queue)->flags, 0, __ATOMIC_SEQ_CST);"
_OTHERS = "offset >= SHM_LENGTH_LOW && offset <= SHM_BASE_HIGH ? UINT32_MAX : 0"
_USED = "s->next_used = (uint16_t)(s->next_used + used->places);"
_FLAGS = (
    "if (!pv_ring_has(queue, PV_VIRTIO_F_EVENT_IDX)) "
    "return !(__atomic_load_n(&avail_of(queue)->flags, __ATOMIC_SEQ_CST) & PV_RING_F_AVAIL_NO_INTERRUPT);"
)


def _interrupts(number: int, what: str, new: str) -> Mutant:
    """A host whose split queues decide about notifications by `new`, where flags are looked at."""
    return _split(id=what, rule=f"VIRTIO-2.7.7.2-{number}", old=_FLAGS, new=new)


BASIC = (
    _status(
        id="begins_with_its_first_queue",
        rule="VIRTIO-2.1.2-1",
        old="if (device->active) device->ops.queue_changed(device, setup->queue, true);",
        new="if (device->active) device->ops.queue_changed(device, setup->queue, true); "
        "else advance(device, DRIVER_OK);",
    ),
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
        id="offers_what_is_reserved",
        rule="VIRTIO-2.2.2-4",
        old=_OFFERED,
        new="*value = device->offered[args[1]] | 1ull << 44;",
    ),
    _device(
        id="offers_what_is_of_pci",
        rule="VIRTIO-6.2-4",
        old=_OFFERED,
        new="*value = device->offered[args[1]] | 1ull << 37;",
    ),
    _status(
        id="agrees_some_times",
        rule="VIRTIO-2.2.2-5",
        old="accepted[0] & PV_VIRTIO_F_VERSION_1",
        new="(accepted[0] & PV_VIRTIO_F_VERSION_1) && ({ static uint32_t times; ++times < 12; })",
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
    _split(
        id="another_flag",
        rule="VIRTIO-2.7.10.2-1",
        old=_ARMED,
        new="__atomic_store_n(&used_of(queue)->flags, 2, __ATOMIC_SEQ_CST);",
    ),
    _split(
        id="answers_a_doorbell",
        rule="VIRTIO-2.7.10.2-3",
        old=_ARMED,
        new=f"static uint32_t idle; {_ARMED} if (!queue->state->next_avail && ++idle % 4 == 0) "
        "__atomic_store_n(&used_of(queue)->index, 1, __ATOMIC_SEQ_CST);",
    ),
    _packed(
        id="device_writes_the_drivers_event",
        rule="VIRTIO-2.8.15-1",
        old=_USED,
        new=f"*(uint32_t *)(void *)queue->driver = 0; {_USED}",
    ),
)

MMIO = (
    _mmio(id="another_magic", rule="VIRTIO-4.2.2.1-1", old="return PV_MMIO_MAGIC_VALUE;", new="return 0x56415250u;"),
    _mmio(id="legacy_version", rule="VIRTIO-4.2.2.1-2", old="return 2;", new="return 1;"),
    _status(
        id="every_queue_is_ready",
        rule="VIRTIO-4.2.2.1-7",
        old="device->active = 1;",
        new="device->active = 1; "
        "for (uint32_t i = 0; i < device->queue_count; i++) "
        "if (device->queues[i].state->size && !device->queues[i].state->enabled) pv_queue_enable(&device->queues[i]);",
    ),
    _mmio(
        id="queue_reset_is_never_over",
        rule="VIRTIO-4.2.2.1-8",
        old=_OTHERS,
        new=f"offset == PV_MMIO_QUEUE_RESET && !(queue && queue->state->enabled) ? 1 : {_OTHERS}",
    ),
    _mmio(
        id="queue_reset_once_ready",
        rule="VIRTIO-4.2.2.1-9",
        old=_OTHERS,
        new=f"offset == PV_MMIO_QUEUE_RESET && queue && queue->state->enabled ? 1 : {_OTHERS}",
    ),
    _mmio(
        id="queue_reset_by_another_value",
        rule="VIRTIO-4.2.2.1-10",
        old="if (value == 1) pv_device_queue_reset(device, s->queue_selector);",
        new="if (value == 2) pv_device_queue_reset(device, s->queue_selector);",
    ),
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

MUTANTS = (*BASIC, *QUEUES, *MMIO)
