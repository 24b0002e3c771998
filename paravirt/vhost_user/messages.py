"""Messages of the vhost-user protocol: numbers, layouts, feature bits.

All numbers are in the byte order of the machine.  Names are the protocol's own, but for *back end* where its old
texts say slave.
"""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from typing import NamedTuple

VERSION = 1
VERSION_MASK = 3
REPLY = 1 << 2
NEED_REPLY = 1 << 3

REGIONS_MOST = 8  # that a memory table has room for, each with a descriptor
CONFIG_BYTES_MOST = 256
PAYLOAD_BYTES_MOST = 12 + CONFIG_BYTES_MOST  # of messages that are known here

HEADER = struct.Struct("=III")  # request, flags, bytes of payload
U64 = struct.Struct("=Q")
VRING_STATE = struct.Struct("=II")  # index, number
VRING_ADDRESSES = struct.Struct("=IIQQQQ")  # index, flags, descriptors, used, available, log
MEMORY = struct.Struct("=II")  # regions, 0; then the regions
REGION = struct.Struct("=QQQQ")  # gpa, bytes, hva, offset in the file
CONFIG = struct.Struct("=III")  # offset, bytes, flags; then the bytes
INFLIGHT = struct.Struct("=QQHH")  # bytes, offset in the file, queues, size of each; padding may follow
INFLIGHT_PADDED_BYTES = 24
MEMORY_REGION = struct.Struct("=Q")  # 0; then one region

VRING_MASK = 0xFF  # number of the queue, in a message with a descriptor
VRING_NO_FD = 1 << 8  # there is none with it

FEATURE_PROTOCOL = 1 << 30
"""Feature bit that says: protocol features can be asked for.  A driver never sees it."""


class Request(IntEnum):
    """From the front end."""

    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    RESET_OWNER = 4
    SET_MEM_TABLE = 5
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    SET_VRING_ERR = 14
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    SET_BACKEND_REQ_FD = 21
    GET_CONFIG = 24
    SET_CONFIG = 25
    GET_INFLIGHT_FD = 31
    SET_INFLIGHT_FD = 32
    RESET_DEVICE = 34
    GET_MAX_MEM_SLOTS = 36
    ADD_MEM_REG = 37
    REM_MEM_REG = 38
    SET_STATUS = 39
    GET_STATUS = 40


class BackendRequest(IntEnum):
    """From the back end, over a socket of its own."""

    CONFIG_CHANGE = 2


class ProtocolFeature(IntFlag):
    """What both sides may use of the protocol."""

    MQ = 1 << 0
    REPLY_ACK = 1 << 3
    BACKEND_REQ = 1 << 5
    CONFIG = 1 << 9
    INFLIGHT_SHMFD = 1 << 12
    RESET_DEVICE = 1 << 13
    CONFIGURE_MEM_SLOTS = 1 << 15
    STATUS = 1 << 16


class Message(NamedTuple):
    """One message, whole."""

    request: int
    flags: int
    payload: bytes
    fds: tuple[int, ...] = ()


class Region(NamedTuple):
    """Guest memory as a peer maps it; `fd` stays the giver's."""

    gpa: int
    size_bytes: int
    hva: int
    fd: int
    offset: int


def pack_memory(regions: tuple[Region, ...]) -> bytes:
    """The payload of SET_MEM_TABLE; each region's descriptor goes with it."""
    packed = (REGION.pack(r.gpa, r.size_bytes, r.hva, r.offset) for r in regions)
    return MEMORY.pack(len(regions), 0) + b"".join(packed)
