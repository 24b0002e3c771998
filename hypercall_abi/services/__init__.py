"""The services of version 1, one file each, in the order of their numbers."""

from . import base, console, continuity, device, entropy, event, memory, system, time, trace, vcpu

MODULES = (base, console, event, time, vcpu, memory, device, system, continuity, entropy, trace)
