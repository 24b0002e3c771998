"""What virtio 1.4 asks of devices, statement by statement, and what shows that ours do it.

Of the specification's clauses ("Device Requirements: …") every one that a device here could be held to is listed under
its label and section, its statements in their order and in our words: the specification itself binds (DEV-20).
A statement's id is ``VIRTIO-SECTION-NUMBER``; cases of host conformance cite it as they cite rules.

>>> from hypercall_abi.virtio_musts import MUSTS
>>> MUSTS["VIRTIO-2.4.1-1"].text
'A reset sets the device status to 0.'
"""

from . import balloon_and_others, basic, block, mmio, net, queues
from .schema import Clause, Must

CLAUSES: tuple[Clause, ...] = (
    *basic.CLAUSES,
    *queues.CLAUSES,
    *mmio.CLAUSES,
    *net.CLAUSES,
    *block.CLAUSES,
    *balloon_and_others.CLAUSES,
)

MUSTS: dict[str, Must] = {clause.id(number): must for clause in CLAUSES for number, must in enumerate(clause.musts, 1)}

__all__ = ["CLAUSES", "MUSTS", "Clause", "Must"]
