"""Ids of devices (virtio 1.4, section 5)."""

from ..schema import Constants

DEVICE_TYPE = Constants(
    "device_type",
    "Virtio device ids (virtio 5).",
    ("NET", 1, "Network."),
    ("BLOCK", 2, "Block."),
    ("CONSOLE", 3, "Console."),
    ("ENTROPY", 4, "Entropy."),
    ("BALLOON", 5, "Balloon."),
    ("VSOCK", 19, "Socket."),
    ("PMEM", 27, "Persistent memory."),
)
