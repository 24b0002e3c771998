"""The reference model: the ABI as a program that can be asked what a host may answer.

It is written to be read beside the specification and to judge implementations; it knows neither KVM nor
threads, and takes no care to be fast.  A judge makes the same calls on a host and on the model, hands the
model the host's choice where the standard leaves one, and compares status, value and every byte of guest
memory that the standard defines:

>>> from hypercall_abi.model import Machine
>>> machine = Machine({0x10_0000: 0x1_0000}, pages_gpa=0x10_f000 - 0x1000)
>>> machine.call_by_name("event.send", 0, 20)
Answer(OK, 0)
>>> machine.page(0).pending[0] == 1 << 20
True

Start with `machine.py`, then `dispatch.py`; `services/` has a file per service, `virtio_device.py` and
`virtqueue.py` and `packed.py` what lies behind the service device.  Rule ids stand at the lines that carry them.
"""

from .answers import Answer, Disagreement, first
from .guest_memory import GuestMemory
from .machine import Machine
from .virtio_device import VirtioDevice

__all__ = ["Answer", "Disagreement", "GuestMemory", "Machine", "VirtioDevice", "first"]
