"""The library's own entropy device: it fills what is there, and the machine's end ends it."""

from __future__ import annotations

import threading

from hypercall_abi.virtqueue import VIRTIO_FEATURE
from paravirt._native import ffi, lib
from tests.paravirt.virtio.bare_device import SCRATCH_GPA
from tests.support.fake_machine import RAM_GPA, FakeMachine

SIZE = 8
AREAS = RAM_GPA + 0x1_0000, RAM_GPA + 0x1_4000, RAM_GPA + 0x1_8000
RUNNING = 15  # ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK
PATIENCE_S = 20.0


def machine_with_a_chain() -> FakeMachine:
    """A running device with one chain of 16 bytes at SCRATCH_GPA."""
    machine = FakeMachine()
    device = lib.pv_entropy_create(machine.native, b"entropy")
    assert device != ffi.NULL
    queue = device.queues[0]
    queue.state.size = SIZE
    queue.state.descriptors_gpa, queue.state.driver_gpa, queue.state.device_gpa = AREAS
    queue.features = VIRTIO_FEATURE.VERSION_1
    assert lib.pv_queue_enable(ffi.addressof(queue)) == 0
    device.state.status, device.active = RUNNING, 1
    words = (SCRATCH_GPA, 8), (16, 4), (2, 2), (0, 2)  # address, length, WRITE, next
    machine.write(AREAS[0], b"".join(word.to_bytes(size, "little") for word, size in words))
    machine.write(AREAS[1], (1 << 16).to_bytes(4, "little"))  # flags, idx
    return machine


def test_a_chain_is_filled() -> None:
    machine = machine_with_a_chain()
    assert machine.call("device.notify", 0, 0) == (0, 0)
    assert any(machine.read(SCRATCH_GPA, 16))
    assert machine.read(AREAS[2], 12) == bytes.fromhex("0000 0100 00000000 10000000")


def test_the_machines_end_ends_it() -> None:
    """Chains that wait when the machine ends wait for ever; the vCPU that rang does not."""
    machine = machine_with_a_chain()
    machine.native.ending = 1
    bell = threading.Thread(target=machine.call, args=("device.notify", 0, 0), daemon=True)
    bell.start()
    bell.join(PATIENCE_S)
    assert not bell.is_alive()
