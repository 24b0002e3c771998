"""The paravirt hypercall ABI: its one declaration.

>>> from hypercall_abi import SERVICES
>>> hex(SERVICES["time"].id("deadline"))
'0x40000'

Everything is data (see :mod:`hypercall_abi.schema`); :mod:`hypercall_abi.emit` makes the C header
from it.  Needs nothing but ``construct``.
"""

from . import boot, conventions, cpuid, devices, notes, services, virtqueue
from .schema import Constants, Limit, Record, Rule, Service, declared

MODULES = (conventions, *services.MODULES, boot, notes, cpuid, virtqueue, devices)

SERVICES = {s.name: s for s in declared(MODULES, Service)}
RECORDS = {r.name_: r for r in declared(MODULES, Record)}
CONSTANTS = {c.name: c for c in declared(MODULES, Constants)}
LIMITS = {limit.name: limit for limit in declared(MODULES, Limit)}
RULES: dict[str, Rule] = {r.id: r for m in MODULES for r in getattr(m, "RULES", ())}

STATUS = conventions.STATUS
VERSION = (conventions.ABI.MAJOR, conventions.ABI.MINOR)
