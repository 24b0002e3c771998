"""The paravirt hypercall ABI: its one declaration.

>>> from hypercall_abi import SERVICES
>>> hex(SERVICES["time"].id("deadline"))
'0x40000'

Everything is data (see :mod:`hypercall_abi.schema`); :mod:`hypercall_abi.emit` makes the C header
from it.  Needs nothing but ``construct``.
"""

from . import boot, callring, conventions, cpuid, devices, mmio, notes, recording, services, vendors, virtqueue
from .schema import Constants, Limit, Record, Service, by_name, declared

MODULES = (
    *(conventions, callring, *services.MODULES, boot, notes, cpuid, virtqueue),
    *(*devices.MODULES, mmio, vendors, recording),
)

SERVICES = by_name(declared(MODULES, Service), "name")
RECORDS = by_name(declared(MODULES, Record), "name_")
CONSTANTS = by_name(declared(MODULES, Constants), "name")
LIMITS = by_name(sorted(declared(MODULES, Limit), key=lambda limit: limit.id), "name")
RULES = by_name((rule for module in MODULES for rule in getattr(module, "RULES", ())), "id")

STATUS = conventions.STATUS
VERSION = (conventions.ABI.MAJOR, conventions.ABI.MINOR)
