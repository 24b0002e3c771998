"""Hosts that get sockets wrong: chains that hold no packet, packets of no connection."""

from __future__ import annotations

from functools import partial

from tests.conformance.plant import Mutant

_packet = partial(Mutant, file="paravirt/native/vsock_packet.c")
_receive = partial(Mutant, file="paravirt/native/vsock_receive.c")

MUTANTS = (
    _packet(
        id="sock_data_may_end_early",
        rule="VSK-1",
        old="header.size_bytes > chain->readable_bytes - HEADER_BYTES",
        new="chain->readable_bytes < HEADER_BYTES",
    ),
    _packet(
        id="sock_header_may_be_short",
        rule="VSK-1",
        old="pv_chain_read(chain, 0, &header, HEADER_BYTES) != HEADER_BYTES",
        new="pv_chain_read(chain, 0, &header, HEADER_BYTES) == 0",
    ),
    _receive(
        id="sock_room_for_headers_alone",
        rule="VSK-2",
        old="vsock->room.writable_bytes <= HEADER_BYTES",
        new="vsock->room.writable_bytes < HEADER_BYTES",
    ),
    _packet(
        id="sock_wrong_addresses_get_no_answer",
        rule="VSK-3",
        old="reply_reset(vsock, &header, &vsock->statistics.resets_protocol);",
        new="add(&vsock->statistics.resets_protocol, 1);",
    ),
    _packet(
        id="sock_resets_are_answered",
        rule="VSK-3",
        old="if (header->operation == PV_VSOCK_OPERATION_RESET) return;",
        new="(void)header;",
    ),
    _packet(
        id="sock_strangers_get_no_answer",
        rule="VSK-3",
        old="reply_reset(vsock, &header, &vsock->statistics.resets_unknown);",
        new="add(&vsock->statistics.resets_unknown, 1);",
    ),
    _receive(
        id="sock_addresses_are_not_swapped",
        rule="VSK-3",
        old="reset->destination_port",
        new="reset->source_port",
    ),
)
