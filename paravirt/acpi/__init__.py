"""What a machine tells a kernel that was not written for us: tables after the ACPI specification, 6.5.

``aml.py`` encodes definitions, ``tables.py`` the fixed tables, ``dsdt.py`` says which devices there are, and
:func:`paravirt.acpi.firmware.tables_at` puts them together for a place in guest memory.  There is no hardware of a PC
in them ("hardware-reduced"): no timers, no interrupt controller but local APICs and one I/O APIC.
"""
