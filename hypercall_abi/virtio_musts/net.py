"""Network (virtio 5.1)."""

from .schema import Clause, must, should

_NET = "paravirt/devices/test_net.py"
_AGREED = "paravirt/devices/test_net_agreed.py"
_TAP = "paravirt/devices/test_net_tap.py"
_QUEUES = "paravirt/devices/test_net_queues.py"
_D = "Device Types / Network Device"
_CONTROL = f"{_D} / Device Operation / Control Virtqueue"


def _without(feature: str) -> str:
    return f"{feature} is not offered"


CLAUSES = (
    Clause(
        "5.1.4.1",
        f"{_D} / Device configuration layout",
        (
            must(
                "Where MQ is offered, max_virtqueue_pairs is 1 to 0x8000.",
                tests=f"{_NET}::test_several_pairs_and_control",
            ),
            must("Where MTU is offered, mtu is 68 to 65535."),
            should("And 1280 or more."),
            must("mtu does not change.", tests=f"{_NET}::test_a_link_that_is_down"),
            must(
                "With MTU, the driver gets no frame that is longer than mtu and its Ethernet header, unless it is a "
                "large segment.",
                tests=f"{_AGREED}::test_what_is_longer_than_the_mtu_is_dropped",
            ),
            must(
                "With MTU, frames up to that length are sent on as they are.",
                tests=f"{_NET}::test_frames_are_sent_as_they_are {_TAP}::test_frames_pass_both_ways",
            ),
            must("rss_max_key_size is 40 or more.", no_case=_without("RSS or HASH_REPORT")),
            must("rss_max_indirection_table_length is 128 or more.", no_case=_without("RSS")),
            must("speed is one that there is, or unknown.", no_case=_without("SPEED_DUPLEX")),
            must("duplex is full, half or unknown.", no_case=_without("SPEED_DUPLEX")),
            should("Neither changes while the link is up.", no_case=_without("SPEED_DUPLEX")),
            should("HASH_REPORT and CTRL_RX_EXTRA are not offered without CTRL_VQ."),
        ),
    ),
    Clause(
        "5.1.6.2.2",
        f"{_D} / Device Operation / Packet Transmission",
        (
            must("Flags of a header that are not known are ignored."),
            must("Without NEEDS_CSUM, csum_start and csum_offset are not used."),
            must("hdr_len is not relied upon.", tests=f"{_TAP}::test_a_header_length_is_a_hint"),
            must(
                "Without NEEDS_CSUM, the frame's checksum is not relied upon.",
                tests=f"{_NET}::test_frames_are_sent_as_they_are",
            ),
            must("Segments of tunnels are cut as their own fields say.", no_case=_without("HOST_UDP_TUNNEL_GSO")),
        ),
    ),
    Clause(
        "5.1.6.3.2",
        f"{_D} / Device Operation / Setting Up Receive Buffers",
        (
            must(
                "num_buffers is the number of chains that a frame lies in.",
                tests=f"{_NET}::test_a_frame_lies_in_several_chains",
            ),
            must("Without MRG_RXBUF a frame lies in one.", tests=f"{_NET}::test_without_merging_a_frame_has_one_chain"),
        ),
    ),
    Clause(
        "5.1.6.4.1",
        f"{_D} / Device Operation / Processing of Incoming Packets",
        (
            must("Without MRG_RXBUF, num_buffers is 1."),
            must("With MRG_RXBUF, it is the number of buffers that the frame and its header are spread over."),
            must("All of them but the last are filled."),
            must(
                "They are used together: the driver sees no part of a frame.",
                tests=f"{_NET}::test_a_frame_lies_in_several_chains",
            ),
            must(
                "Without GUEST_CSUM, flags are 0.",
                tests=f"{_AGREED}::test_flags_that_were_not_agreed_on {_TAP}::test_checksums_that_were_not_agreed_on",
            ),
            should("And the frame's checksum is complete.", tests=f"{_TAP}::test_checksums_that_were_not_agreed_on"),
            must(
                "gso_type is of a kind that was agreed on: TCPV4, UDP, TCPV6 and UDP_L4 not without their features "
                "(four statements).",
                tests=f"{_TAP}::test_checksums_that_were_not_agreed_on",
            ),
            should(
                "Segments with ECN are not passed on without GUEST_ECN.",
                no_case="the kernel's TAP device cuts them, GUEST_ECN is not asked of it",
            ),
            must(
                "A frame with NEEDS_CSUM has the sum of its pseudo-header, and csum_start and csum_offset complete it "
                "(three statements).",
                tests=f"{_TAP}::test_a_large_segment_to_receive",
            ),
            must(
                "Without large segments agreed on, gso_type is NONE.",
                tests=f"{_TAP}::test_checksums_that_were_not_agreed_on",
            ),
            must("With a gso_type, NEEDS_CSUM and gso_size are set.", tests=f"{_TAP}::test_a_large_segment_to_receive"),
            must("With RSC_EXT, RSC_INFO and its counts are set.", no_case=_without("RSC_EXT")),
            must("Without it, RSC_INFO is not set."),
            should("hdr_len is not less than the headers are.", tests=f"{_TAP}::test_a_large_segment_to_receive"),
            must(
                "DATA_VALID is set where the checksum was validated.",
                no_case="the kernel says so in the header that it gives, which is passed on",
            ),
            must("Segments of tunnels come with fields of their own.", no_case=_without("GUEST_UDP_TUNNEL_GSO")),
        ),
    ),
    Clause(
        "5.1.6.5.6",
        f"{_CONTROL} / Automatic receive steering in multiqueue mode",
        (
            must("After a reset, frames come by receiveq1 alone.", tests=f"{_NET}::test_several_pairs_and_control"),
            must(
                "Once VQ_PAIRS_SET was used, none comes by a queue beyond those.",
                tests=f"{_NET}::test_several_pairs_and_control {_TAP}::test_a_pair_that_is_not_in_use_may_have_room",
            ),
            should(
                "What would come by a queue that is being reset comes by another.",
                no_case="a TAP device steers, and holds what is for a queue until that is back",
            ),
            must(
                "With all of them being reset, frames are dropped.",
                tests=f"{_QUEUES}::test_a_receive_queue_that_was_reset_wakes_nobody",
            ),
        ),
    ),
    Clause("5.1.6.5.1", f"{_CONTROL} / Packet Receive Filtering", not_here=_without("CTRL_RX")),
    Clause("5.1.6.5.2", f"{_CONTROL} / Setting MAC Address Filtering", not_here=_without("CTRL_MAC_ADDR")),
    Clause("5.1.6.5.3", f"{_CONTROL} / VLAN Filtering", not_here=_without("CTRL_VLAN")),
    Clause("5.1.6.5.4", f"{_CONTROL} / Gratuitous Packet Sending", not_here=_without("GUEST_ANNOUNCE")),
    Clause("5.1.6.5.7", f"{_CONTROL} / Receive-side scaling (RSS) / RSS processing", not_here=_without("RSS")),
    Clause("5.1.6.5.8", f"{_CONTROL} / RSS Context", not_here=_without("RSS_CONTEXT")),
    Clause("5.1.6.5.10", f"{_CONTROL} / Notifications Coalescing", not_here=_without("NOTF_COAL")),
    Clause("5.1.6.5.11", f"{_CONTROL} / Device Statistics", not_here=_without("DEVICE_STATS")),
    Clause("5.1.6.5.12", f"{_CONTROL} / Inner Header Hash", not_here=_without("HASH_TUNNEL")),
)
