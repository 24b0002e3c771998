"""Status, features, reset, configuration, one queue's reset, shared memory, reserved features (virtio 2, 6)."""

from .schema import Clause, must, should

_STATUS = "paravirt/virtio/test_status.py"

CLAUSES = (
    Clause(
        "2.1.2",
        "Basic Facilities of a Virtio Device / Device Status Field",
        (
            must("Before DRIVER_OK no buffer is consumed, and no used buffer notification is sent."),
            should("NEEDS_RESET is set when nothing but a reset will help.", "DEV-7 VQ-10"),
            must(
                "Once it set NEEDS_RESET while DRIVER_OK was set, it sends a configuration change notification.",
                "DEV-7",
            ),
        ),
    ),
    Clause(
        "2.2.2",
        "Basic Facilities of a Virtio Device / Feature Bits",
        (
            must("No feature is offered without those that it requires."),
            should("Any valid subset of what is offered is accepted."),
            must("Where a set of features is not accepted, FEATURES_OK stays clear.", "DEV-3"),
            must(
                "Nothing is offered that the device could not do: no bit that is not defined, reserved, or not of this "
                "transport or type."
            ),
            should("What was agreed once can be agreed again after a reset."),
        ),
    ),
    Clause(
        "2.4.1",
        "Basic Facilities of a Virtio Device / Device Reset",
        (
            must("A reset sets the device status to 0.", "DEV-1 DEV-15"),
            must(
                "From then on, until the driver initializes the device again, it sends no notification and leaves the "
                "queues alone.",
                "DEV-15",
            ),
        ),
    ),
    Clause(
        "2.5.2",
        "Basic Facilities of a Virtio Device / Device Configuration Space",
        (must("Every configuration field whose feature is offered can be read before FEATURES_OK."),),
    ),
    Clause(
        "2.6.1.1.1",
        "Basic Facilities of a Virtio Device / Virtqueues / Virtqueue Reset / Virtqueue Reset",
        (
            must("After a queue's reset nothing of it is executed, and the driver is not notified for it.", "DEV-17"),
            must("All state of the queue goes back to the default, positions in its rings too.", "DEV-17"),
        ),
    ),
    Clause(
        "2.6.1.2.1",
        "Basic Facilities of a Virtio Device / Virtqueues / Virtqueue Reset / Virtqueue Re-enable",
        (must("A queue that is enabled again is as the driver now says: size and areas may be others."),),
    ),
    Clause(
        "2.10.2",
        "Basic Facilities of a Virtio Device / Shared Memory Regions",
        (
            must(
                "No shared memory region controls the device or streams data.",
                "MMIO-3",
            ),
        ),
    ),
    Clause(
        "6.2",
        "Reserved Feature Bits",
        (
            must("VERSION_1 is offered."),
            should(
                "ACCESS_PLATFORM is offered by devices whose access to memory is translated or limited.",
                no_case="devices here reach all guest memory at the addresses that the driver uses",
            ),
            must("With IN_ORDER, buffers are used in the order in which they were made available."),
            must("SR_IOV is offered by none but PCI devices that have the capability."),
        ),
    ),
)
