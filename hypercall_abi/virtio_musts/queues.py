"""Virtqueues, split and packed (virtio 2.7, 2.8)."""

from .schema import Clause, must, should

_Q = "Basic Facilities of a Virtio Device / Virtqueues /"
_P = "Basic Facilities of a Virtio Device / Packed Virtqueues"
_PACKED = "paravirt/virtio/test_packed.py"

CLAUSES = (
    Clause(
        "2.7.4.1",
        "Basic Facilities of a Virtio Device / Message Framing",
        (
            must(
                "Nothing is assumed of how a message is laid out over descriptors.",
                "BLK-10",
                "paravirt/devices/test_net.py::test_framing_is_free "
                "paravirt/devices/test_vsock_hostile.py::test_any_framing "
                "paravirt/devices/test_pmem.py::test_a_request_in_pieces",
            ),
        ),
    ),
    Clause(
        "2.7.5.1",
        f"{_Q} The Virtqueue Descriptor Table",
        (
            must("Device-readable buffers are not written."),
            should(
                "Device-writable buffers are not read.",
                no_case="what a device only reads leaves no trace that a driver could see",
            ),
        ),
    ),
    Clause(
        "2.7.5.3.2",
        f"{_Q} The Virtqueue Descriptor Table / Indirect Descriptors",
        (
            must("WRITE is ignored in a descriptor that refers to a table.", "VQ-9"),
            must("A chain may begin with descriptors of its own and end with one that refers to a table."),
        ),
    ),
    Clause(
        "2.7.7.2",
        f"{_Q} Used Buffer Notification Suppression",
        (
            must("Without EVENT_IDX, used_event is ignored."),
            should("Without EVENT_IDX, flags of 1: no notification is sent."),
            must("Without EVENT_IDX, flags of 0: a notification is sent."),
            must("With EVENT_IDX, the lower bit of flags is ignored."),
            must(
                "With EVENT_IDX, a notification is sent when the entry that used_event names is written.",
                tests="paravirt/virtio/test_ring.py::test_wants_interrupt native/test_ring.py::test_steps",
            ),
            should(
                "With EVENT_IDX, none is sent otherwise.",
                tests="paravirt/virtio/test_ring.py::test_wants_interrupt native/test_ring.py::test_steps",
            ),
        ),
    ),
    Clause(
        "2.7.8.2",
        f"{_Q} The Virtqueue Used Ring",
        (
            must(
                "An entry's length is there before the used index says so.", "VQ-12", "native/test_ring.py::test_pair"
            ),
            must(
                "As many bytes as the length says were written, from the first writable buffer on, before the used "
                "index says so."
            ),
        ),
    ),
    Clause(
        "2.7.10.2",
        f"{_Q} Available Buffer Notification Suppression",
        (
            must("Without EVENT_IDX, flags of the used ring are 0 or 1."),
            must("With EVENT_IDX, they are 0."),
            must("Notifications that there was no need of do no harm."),
        ),
    ),
    Clause(
        "2.8.12",
        _P,
        (
            must(
                "Descriptors are taken up in the order of the ring.",
                "VQ-11",
                f"{_PACKED}::test_any_driver native/test_ring.py::test_pair",
            ),
            must(
                "Used descriptors are written in the order in which they are done.",
                "VQ-11",
                f"{_PACKED}::test_any_driver native/test_ring.py::test_pair",
            ),
        ),
    ),
    Clause(
        "2.8.15",
        f"{_P} / The Virtqueue Descriptor Table",
        (
            must("Device-readable buffers are not written."),
            should(
                "Device-writable buffers are not read.",
                no_case="what a device only reads leaves no trace that a driver could see",
            ),
            must("A descriptor is not used before its AVAIL flag has changed.", "VQ-13", f"{_PACKED}::test_any_driver"),
            must(
                "A descriptor is not changed after its USED flag was.",
                tests=f"{_PACKED}::test_any_driver native/test_ring.py::test_device_between_threads",
            ),
        ),
    ),
    Clause(
        "2.8.18",
        f"{_P} / Scatter-Gather Support",
        (
            must(
                "Descriptors that NEXT links are used in the order of the ring.", "VQ-11", f"{_PACKED}::test_any_driver"
            ),
        ),
    ),
)
