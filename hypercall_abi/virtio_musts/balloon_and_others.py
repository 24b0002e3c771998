"""Console, entropy, balloon, sockets and persistent memory (virtio 5.3, 5.4, 5.5, 5.10, 5.19): few statements each."""

from .schema import Clause, must, should

_CONSOLE = "Device Types / Console Device"
_BALLOON = "Device Types / Memory Balloon Device"
_SOCKET = "Device Types / Socket Device"
_PMEM = "Device Types / PMEM Device"
_NO_HINTS = "FREE_PAGE_HINT is not offered"
_VSOCK = "paravirt/devices/test_vsock.py"
_BALLOON_TEST = "paravirt/devices/test_balloon.py"

CLAUSES = (
    Clause(
        "5.3.5.1",
        f"{_CONSOLE} / Device Initialization",
        (
            must(
                "emerg_wr can be written while the device is not configured.",
                tests="paravirt/devices/test_console.py::test_emergency_write",
            ),
            should(
                "The lower byte of what is written there is put out.",
                tests="paravirt/devices/test_console.py::test_emergency_write",
            ),
        ),
    ),
    Clause(
        "5.3.6.2.1", f"{_CONSOLE} / Device Operation / Multiport Device Operation", not_here="MULTIPORT is not offered"
    ),
    Clause(
        "5.4.6.2",
        "Device Types / Entropy Device / Device Operation",
        (must("Each buffer gets one random byte or more."),),
    ),
    Clause(
        "5.5.3.2",
        f"{_BALLOON} / Feature bits",
        not_here="a device may refuse a driver that leaves MUST_TELL_HOST out; ours does not",
    ),
    Clause(
        "5.5.6.2",
        f"{_BALLOON} / Device Operation",
        not_here="it says what a device may do with pages, and nothing that it has to",
    ),
    Clause(
        "5.5.6.3.2",
        f"{_BALLOON} / Device Operation / Memory Statistics",
        (
            must("Statistics with tags that are not known are ignored.", tests=f"{_BALLOON_TEST}::test_statistics"),
            must("They may come in any order.", tests=f"{_BALLOON_TEST}::test_statistics"),
        ),
    ),
    Clause("5.5.6.5.2", f"{_BALLOON} / Device Operation / Free Page Hinting", not_here=_NO_HINTS),
    Clause("5.5.6.6.2", f"{_BALLOON} / Device Operation / Page Poison", not_here="PAGE_POISON is not offered"),
    Clause(
        "5.5.6.7.2",
        f"{_BALLOON} / Device Operation / Free Page Reporting",
        (
            must(
                "With PAGE_POISON, a page that was reported is not changed to another value than poison_val.",
                no_case="PAGE_POISON is not offered",
            ),
        ),
    ),
    Clause(
        "5.10.3.2",
        f"{_SOCKET} / Feature bits",
        (
            should("NO_IMPLIED_STREAM is offered."),
            should("Where no feature was agreed on, there are streams.", tests=f"{_VSOCK}::test_without_features"),
        ),
    ),
    Clause(
        "5.10.6.1.2",
        f"{_SOCKET} / Device Operation / Virtqueue Flow Control",
        (
            must(
                "The transmit queue is served while the receive queue is full, as long as there is room for answers "
                "elsewhere.",
                tests=f"{_VSOCK}::test_no_room_for_packets "
                "paravirt/devices/test_vsock_hostile.py::test_answers_that_nobody_takes_stop_the_guest_itself",
            ),
        ),
    ),
    Clause(
        "5.10.6.3.2",
        f"{_SOCKET} / Device Operation / Buffer Space Management",
        (
            must(
                "No more data is sent than the driver has room for.",
                tests=f"{_VSOCK}::test_slow_reader_of_the_guest "
                "paravirt/devices/test_vsock_model.py::test_random_streams",
            ),
            must(
                "buf_alloc and fwd_cnt of every packet of a stream hold.",
                tests=f"{_VSOCK}::test_slow_reader_of_the_host "
                "paravirt/devices/test_vsock_model.py::test_random_streams",
            ),
        ),
    ),
    Clause(
        "5.10.6.4.2",
        f"{_SOCKET} / Device Operation / Receive and Transmit",
        (
            must("guest_cid is none of the reserved ones."),
            must("A packet of a type that is not known is answered by RST.", "VSK-3"),
        ),
    ),
    Clause(
        "5.19.5.1",
        f"{_PMEM} / Device Initialization",
        (
            must(
                "With SHMEM_REGION, the region is shared memory region 0, start and size are zero.",
                no_case="SHMEM_REGION is not offered",
            ),
            must("Without it, start is its address and size its length.", "PMEM-1"),
        ),
    ),
    Clause(
        "5.19.7.1",
        f"{_PMEM} / Device Operation / Virtqueue flush",
        (
            must(
                "What was stored before a flush survives a reset and a loss of power once it is answered.",
                tests="system/test_durability.py::test_what_was_flushed_of_a_mapped_disk_is_there "
                "paravirt/devices/test_pmem.py::test_a_flush_is_answered_after_the_sync",
            ),
        ),
    ),
    Clause(
        "5.19.7.2.1",
        f"{_PMEM} / Device Operation / Virtqueue return",
        (must("The answer is 0 for success and -1 for failure.", "PMEM-5"),),
    ),
)
