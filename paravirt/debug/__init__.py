"""Looking into a machine: a debugger's stub (gdb), what it may do to vCPUs and memory, and cores of machines.

    with Machine(MachineConfig(Path("guest.elf"), gdb=parse_gdb(":1234"))) as machine:
        machine.run()

Nothing here is loaded for a machine that nobody looks into.  The debugger is a peer: what it sends is checked, and
no packet of its ends the machine but the one that asks for that.
"""
