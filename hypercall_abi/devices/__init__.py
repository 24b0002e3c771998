"""Devices, a file each: what virtio's own specification leaves to be said, and its layouts under our names.

A file is called after its device with ``virtio_`` before it: services have the short names.
"""

from . import types, virtio_balloon, virtio_block, virtio_console, virtio_net, virtio_pmem, virtio_vsock

MODULES = (types, virtio_balloon, virtio_block, virtio_console, virtio_net, virtio_pmem, virtio_vsock)
