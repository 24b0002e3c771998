"""Hosts that get devices wrong: the status machine, both transports, disks."""

from __future__ import annotations

from functools import partial

from tests.conformance.plant import Mutant

_status = partial(Mutant, file="paravirt/native/status.c")
_notify = partial(Mutant, file="paravirt/native/notify.c")
_device = partial(Mutant, file="paravirt/native/device.c")
_mmio = partial(Mutant, file="paravirt/native/mmio.c")
_ring = partial(Mutant, file="paravirt/native/ring.c")
_kvm = partial(Mutant, file="paravirt/native/kvm.c")
_block = partial(Mutant, file="paravirt/native/block_request.c")
_serve = partial(Mutant, file="paravirt/native/block_serve.c")
_balloon = partial(Mutant, file="paravirt/native/balloon.c")
_layout = partial(Mutant, file="paravirt/boot/layout.py")

DEVICE = (
    _status(
        id="starts_acknowledged",
        rule="DEV-1",
        old="device->interrupt_fd = -1;",
        new="device->interrupt_fd = -1; device->state.status = ACKNOWLEDGE;",
    ),
    _device(
        id="devices_in_parts",
        rule="DEV-21",
        old="args[1] - *value < sizeof(info)",
        new="args[1] - *value < 8",
    ),
    _status(id="unknown_bits_are_fine", rule="DEV-2", old="status & ~known", new="0"),
    _status(id="driver_sets_needs_reset", rule="DEV-2", old="added & NEEDS_RESET", new="0"),
    _status(id="version_1_not_asked_for", rule="DEV-3", old="accepted[0] & PV_VIRTIO_F_VERSION_1", new="true"),
    _status(id="unoffered_feature_agreed", rule="DEV-3", old="!(accepted[0] & ~device->offered[0])", new="true"),
    _status(
        id="features_after_features_ok",
        rule="DEV-4",
        old="answer = PV_STATUS_BAD_STATE;",
        new="device->state.accepted[block] = features;",
    ),
    _status(
        id="queue_before_features_ok",
        rule="DEV-5",
        old="!(status & FEATURES_OK) || status & (NEEDS_RESET | FAILED)",
        new="status & (NEEDS_RESET | FAILED)",
    ),
    _status(
        id="config_may_be_written",
        rule="DEV-6",
        old="!size_bytes || offset >= device->config_writable_from",
        new="true",
    ),
    _status(id="config_reaches_further", rule="DEV-6", old="size_bytes <= end - offset", new="size_bytes <= end"),
    _status(
        id="needs_reset_can_be_cleared",
        rule="DEV-7",
        old="answer = check_status(before, status);",
        new="answer = check_status(before, status); if (!(status & NEEDS_RESET)) device->state.status &= ~NEEDS_RESET;",
    ),
    _kvm(
        id="doorbell_rings_nowhere",
        rule="DEV-8",
        old="return set_ioeventfd(kvm, fd, PV_DOORBELL_PORT, value, KVM_IOEVENTFD_FLAG_PIO);",
        new="return set_ioeventfd(kvm, eventfd(0, EFD_CLOEXEC), PV_DOORBELL_PORT, value, KVM_IOEVENTFD_FLAG_PIO);",
    ),
    _status(id="driver_without_acknowledge", rule="DEV-9", old="status & DRIVER && !(status & ACKNOWLEDGE)", new="0"),
    _ring(id="odd_sizes_are_fine", rule="DEV-10", old="size & (size - 1)", new="0"),
    _status(
        id="channel_not_looked_at",
        rule="DEV-10",
        old="channel >= PV_LIMIT_CHANNELS && channel != PV_NO_CHANNEL",
        new="0",
    ),
    _notify(
        id="notify_of_any_queue",
        rule="DEV-11",
        old="!running(device) || !queue->state->enabled",
        new="!running(device)",
    ),
    _notify(
        id="too_many_doorbells_are_a_failure",
        rule="DEV-12",
        old="if (!spend_doorbell(device->machine)) return PV_STATUS_QUOTA;",
        new="static uint32_t rung; if (++rung > 5000) return PV_STATUS_FAILED;",
    ),
    _device(id="two_transports", rule="DEV-13", old="device->mmio", new="0"),
    _status(id="reset_keeps_features", rule="DEV-15", old="s->accepted[0] = s->accepted[1] = 0;", new=""),
    _status(id="reset_keeps_queues", rule="DEV-15", old="forget_queue(&device->queues[i]);", new=""),
    _status(
        id="binding_does_not_change",
        rule="DEV-16",
        old="__atomic_store_n(to_channel, (uint32_t)channel, __ATOMIC_SEQ_CST);",
        new="",
    ),
    _status(
        id="queue_reset_not_agreed",
        rule="DEV-17",
        old="queue->state->enabled && agreed(device, PV_VIRTIO_F_RING_RESET)",
        new="queue->state->enabled",
    ),
    _status(
        id="queue_reset_keeps_the_queue",
        rule="DEV-17",
        old="if (allowed) forget_queue(queue);",
        new="",
    ),
    _status(
        id="padding_not_looked_at",
        rule="CALL-14",
        old="memcmp(setup->reserved0, zero, sizeof(zero)) != 0",
        new="0",
    ),
)

MMIO = (
    _mmio(
        id="refused_status_is_shown",
        rule="DEV-14",
        old="pv_device_set_status(device, value, &after);",
        new="if (pv_device_set_status(device, value, &after) != PV_STATUS_OK) device->state.status |= value;",
    ),
    _mmio(
        id="narrow_reads_of_registers",
        rule="MMIO-1",
        old="if (size_bytes == 4) value = register_read(device, offset);",
        new="value = register_read(device, offset & ~3u);",
    ),
    _mmio(
        id="queue_taken_from_a_running_device",
        rule="MMIO-2",
        old="value == 0 && !device->active",
        new="value == 0",
    ),
    _mmio(
        id="shared_memory_of_no_size",
        rule="MMIO-3",
        old="offset >= SHM_LENGTH_LOW && offset <= SHM_BASE_HIGH ? UINT32_MAX : 0",
        new="0",
    ),
    _layout(
        id="one_window_for_all",
        rule="MMIO-4",
        old='f" virtio_mmio.device=512@{mmio_window_gpa(i):#x}:{FIRST_MMIO_LINE + i}"',
        new='f" virtio_mmio.device=512@{mmio_window_gpa(0):#x}:{FIRST_MMIO_LINE + i}"',
    ),
)

BLOCK = (
    _block(
        id="capacity_not_looked_at",
        rule="BLK-1",
        old="sectors <= capacity && sector <= capacity - sectors",
        new="sectors <= capacity",
    ),
    _block(
        id="read_only_says_ok",
        rule="BLK-2",
        old="if (options->read_only) /* BLK-2 */ return done(outcome, PV_BLOCK_STATUS_IO_ERROR, 0);",
        new="if (options->read_only) return done(outcome, PV_BLOCK_STATUS_OK, 0);",
    ),
    _serve(
        id="no_room_for_status_is_fine",
        rule="BLK-3",
        old='pv_device_fault(device, "BLK-3");',
        new="pv_queue_push(&device->queues[0], request->chain.head, 0);",
    ),
    _block(id="parts_of_sectors", rule="BLK-4", old="request->data_bytes % PV_BLOCK_SECTOR_BYTES", new="0"),
    _block(id="status_byte_not_counted", rule="BLK-5", old="(uint32_t)data_bytes + 1", new="(uint32_t)data_bytes"),
    _block(
        id="unknown_request_is_an_error",
        rule="BLK-6",
        old="request->type = header.type;",
        new="request->type = header.type; if (header.type > 13) return done(outcome, PV_BLOCK_STATUS_IO_ERROR, 0);",
    ),
    _block(id="flags_of_ranges_ignored", rule="BLK-7", old="request->ranges[i].flags & ~flags", new="0"),
    _block(
        id="header_in_one_piece",
        rule="BLK-10",
        old="chain->writable == 0",
        new="chain->writable == 0 || chain->segments[0].iov_len < sizeof(header)",
    ),
    _block(
        id="short_serial_number",
        rule="BLK-11",
        old="room < PV_BLOCK_ID_BYTES ? room : PV_BLOCK_ID_BYTES",
        new="strnlen(options->id, room < PV_BLOCK_ID_BYTES ? room : PV_BLOCK_ID_BYTES)",
    ),
)

BALLOON = (
    _balloon(id="parts_of_numbers", rule="BAL-1", old="size_bytes % sizeof(pages[0])", new="0"),
    _balloon(id="lists_without_end", rule="BAL-1", old="size_bytes / sizeof(pages[0]) > most", new="0"),
    _balloon(
        id="pages_that_are_nowhere",
        rule="BAL-1",
        old="if (!pv_memory_at(memory, gpa, size_bytes)) return false;",
        new="if (!pv_memory_at(memory, gpa, size_bytes)) continue;",
    ),
)

MUTANTS = (*DEVICE, *MMIO, *BLOCK, *BALLOON)
