"""A plug-in: a table of names and numbers that the guest looks things up in.

Installed with the entry point ``lookup = lookup:Lookup`` of the group ``paravirt.extensions``; its options are the
table, written ``name=number,…``.
"""

from hypercall_abi import STATUS
from hypercall_abi.schema import U64, Arg, Buffer, Call, Limit, Record, Service, text
from paravirt.extensions.plugin import Plugin

ENTRY = Record(
    "lookup_entry",
    "One line of the table. Written by the host.",
    "name" / text(24) * "Name.",
    "number" / U64 * "Its number.",
)
NAME_BYTES = Limit(0, "NAME_BYTES", 24, "bytes", "A name.")
ENTRIES = Limit(1, "ENTRIES", 64, "records", "Of one call.")


class Lookup(Plugin):
    """The service lookup."""

    service = Service(
        0x8002,
        "lookup",
        "A table of names and numbers.",
        (
            Call(
                0,
                "find",
                "Looks a name up.",
                (Buffer("name", "The name.", "read", NAME_BYTES),),
                value="its number",
                statuses=("NOT_FOUND",),
            ),
            Call(
                1,
                "entries",
                "Lists the table from an entry on.",
                (Arg("first", "Number of the first entry wanted."),
                 Buffer("entries", "Room for them.", "write", ENTRIES, align=8, entry=ENTRY)),
                value="entries written",
            ),
        ),
    )  # fmt: skip
    vendor = "paravirt examples"
    version = "1"

    def __init__(self, options: str) -> None:
        super().__init__(options)
        pairs = (pair.partition("=") for pair in options.split(",") if pair)
        self.table = {name: int(number) for name, _, number in pairs}

    def find(self, _vcpu: int, name_gpa: int, name_bytes: int) -> int | tuple[int, int]:
        """A name that is no text is none of the table's."""
        name = self.host.read(name_gpa, name_bytes).decode(errors="replace")
        return (STATUS.OK, self.table[name]) if name in self.table else STATUS.NOT_FOUND

    def entries(self, _vcpu: int, first: int, entries_gpa: int, entries_count: int) -> tuple[int, int]:
        """As many as there is room for."""
        wanted = list(self.table.items())[first : first + entries_count]
        self.host.write(entries_gpa, b"".join(ENTRY.build({"name": n, "number": v}) for n, v in wanted))
        return STATUS.OK, len(wanted)

    def save(self) -> bytes:
        """The table as it was given."""
        return self.options.encode()

    def load(self, version: int, state: bytes) -> None:
        """Takes a saved table over."""
        if version != 1:
            raise ValueError(f"a table of version {version}, this plug-in knows 1")
        self.__init__(state.decode())
