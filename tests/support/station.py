"""Frames of a small station on a network, made by hand: ARP, IPv4, ICMP echo, UDP."""

from __future__ import annotations

import socket
import struct

OURS, GUEST = "10.0.2.2", "10.0.2.15"
OUR_MAC = bytes.fromhex("020000000002")
BROADCAST = b"\xff" * 6
ICMP, UDP = 1, 17
ECHO_PORT, END_PORT = 7, 9


def checksum(data: bytes) -> int:
    """Of the internet (RFC 1071)."""
    total: int = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ask_mac(ip: str = GUEST) -> bytes:
    """An ARP request for `ip`."""
    body = bytes.fromhex("0001080006040001") + OUR_MAC + socket.inet_aton(OURS) + bytes(6) + socket.inet_aton(ip)
    return BROADCAST + OUR_MAC + b"\x08\x06" + body


def ip_frame(to_mac: bytes, protocol: int, body: bytes) -> bytes:
    """An IPv4 packet to the guest."""
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0)
    head += socket.inet_aton(OURS) + socket.inet_aton(GUEST)
    head = head[:10] + struct.pack(">H", checksum(head)) + head[12:]
    return to_mac + OUR_MAC + b"\x08\x00" + head + body


def echo(to_mac: bytes, payload: bytes, number: int = 1) -> bytes:
    """An ICMP echo request."""
    body = struct.pack(">BBHHH", 8, 0, 0, 77, number) + payload
    return ip_frame(to_mac, ICMP, body[:2] + struct.pack(">H", checksum(body)) + body[4:])


def datagram(to_mac: bytes, port: int, payload: bytes) -> bytes:
    """A UDP datagram from port 5000, without a checksum."""
    return ip_frame(to_mac, UDP, struct.pack(">HHHH", 5000, port, 8 + len(payload), 0) + payload)


def udp_is_right(packet: bytes) -> bool:
    """Whether the checksum of the UDP datagram in an IPv4 packet holds."""
    length = len(packet) - 20
    pseudo = packet[12:20] + struct.pack(">HH", UDP, length)
    return checksum(pseudo + packet[20:]) == 0
