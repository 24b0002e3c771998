"""Hosts that get networks wrong: what is a fault of the driver's, and frames that do not fit."""

from __future__ import annotations

from functools import partial

from tests.conformance.plant import Mutant

_send = partial(Mutant, file="paravirt/native/net_send.c")
_receive = partial(Mutant, file="paravirt/native/net_receive.c")

MUTANTS = (
    _send(id="no_header_is_no_frame", rule="NET-1", old='pv_device_fault(device, "NET-1");', new=""),
    _receive(
        id="no_room_for_a_header_is_no_room",
        rule="NET-2",
        old='pv_device_fault(pv_net_device(pair), "NET-2");',
        new="",
    ),
    _send(
        id="checksums_for_nothing",
        rule="NET-3",
        old="header->flags && !(features & PV_NET_F_CSUM)",
        new="0",
    ),
    _send(
        id="segments_for_nothing",
        rule="NET-3",
        old="features & feature_of(header->segmentation)",
        new="(features | feature_of(header->segmentation))",
    ),
    _receive(
        id="what_fits_of_a_frame",
        rule="NET-4",
        old="pv_backend_count(&pair->statistics.receive_dropped_size, 1);",
        new="deliver(pair, room->bytes - PV_NET_HEADER_BYTES);",
    ),
)
