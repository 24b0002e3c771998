"""What the host and the software vCPUs' process say to each other; ``native/software.h`` is the other half.

A vCPU has a socket of its own: an exit goes to the host, an entry comes back.  All share a control
socket.  Each record is one message.
"""

from __future__ import annotations

import struct

# kind, size in bytes, port or GPA, value, rip, rsp, cr2, steal in ns, then the registers of EXIT_REGISTERS
EXIT = struct.Struct("<IIQQQQQQ7Q")
EXIT_TRAP, EXIT_DOORBELL, EXIT_READ, EXIT_WRITE, EXIT_TRIPLE_FAULT, EXIT_INTERNAL = range(1, 7)
EXIT_REGISTERS = ("RAX", "RDI", "RSI", "RCX", "R8", "R9", "R10")

# kind, padding, value read, then the registers of ENTRY_REGISTERS; of a start: entry, stack, argument
ENTRY = struct.Struct("<IIQ7QQQQ")
ENTRY_START, ENTRY_RESUME, ENTRY_RESUME_POISONED, ENTRY_GO_ON = range(1, 5)
ENTRY_REGISTERS = ("RAX", "RDX", "RCX", "R8", "R9", "R10", "R11")

# kind, vCPU, value
CONTROL = struct.Struct("<IIQ")
CONTROL_KICK = 1
"""Host: something waits for a moment in which no guest code runs."""
CONTROL_REST = 2
"""Engine: none runs now."""
CONTROL_UPCALL = 3
"""Host, at rest: the vCPU is to take an interrupt; `value` is its vector, 2 being the NMI, and from bit 8 on the GPA
of the word in which it may be ended (EVT-13), or 0."""
CONTROL_GO = 4
"""Host: the rest is over."""
CONTROL_MODE = 5
"""Host: the vCPU will start in the mode that vCPU `value`, which is at a trap, has now."""

SETUP_MOST_BYTES = 65536
"""Of the first message on the control socket: JSON, see Software.begin(); with it come the files of mapped disks."""
REGIONS_MOST = 32
"""Mapped disks of a machine: it has no more devices."""
