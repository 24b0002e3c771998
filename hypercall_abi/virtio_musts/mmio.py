"""The transport virtio-mmio (virtio 4.2), whose status machine calls share; and of what there is nothing here."""

from .schema import Clause, must

_MMIO = "paravirt/virtio/test_mmio.py"

CLAUSES = (
    Clause(
        "4.2.2.1",
        "Virtio Transport Options / Virtio Over MMIO / MMIO Device Register Layout",
        (
            must("MagicValue reads 0x74726976."),
            must("Version reads 2."),
            must(
                "An event's bit stands in InterruptStatus from when it happens until it is acknowledged.",
                tests=f"{_MMIO}::test_interrupts",
            ),
            must("Bits of events that did not happen are zero there.", tests=f"{_MMIO}::test_interrupts"),
            must("A reset clears InterruptStatus, and QueueReady of every queue.", tests=f"{_MMIO}::test_interrupts"),
            must(
                "ConfigGeneration changes where a driver might see two states of the configuration as one.",
                tests="paravirt/virtio/test_status.py::test_config_event_only_when_running "
                "system/test_growing.py::test_a_disk_grows",
            ),
            must("While QueueReady is zero the queue's contents are not touched."),
            must("With RING_RESET, QueueReset reads 0 after a reset."),
            must("With RING_RESET, it reads 0 after the queue was enabled by QueueReady."),
            must("Writing 1 to QueueReset resets the queue.", tests=f"{_MMIO}::test_queue_reset"),
            must(
                "QueueReset reads 1 as long as the queue's reset lasts.",
                no_case="here it lasts as long as the write to the register, and the driver goes on when it is over",
            ),
            must("Afterwards QueueReset and QueueReady read 0.", tests=f"{_MMIO}::test_queue_reset"),
        ),
    ),
    Clause(
        "4.1",
        "Virtio Transport Options / Virtio Over PCI Bus",
        not_here="devices here are on no PCI bus; this stands for all clauses of section 4.1",
    ),
    Clause(
        "2.12",
        "Basic Facilities of a Virtio Device / Device groups",
        not_here="ADMIN_VQ is not offered; for all clauses of administration, sections 2.12 and 2.13",
    ),
    Clause(
        "7.4",
        "Conformance / Legacy Interface: Transitional Device and Transitional Driver Conformance",
        not_here="devices here are not transitional; for all sections about legacy interfaces",
    ),
    Clause(
        "4.3",
        "Virtio Transport Options / Virtio over channel I/O",
        not_here="nor on a channel of an IBM Z; for all clauses of section 4.3",
    ),
)
