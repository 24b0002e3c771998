"""Block (virtio 5.2)."""

from .schema import Clause, must, should

_NOT_ZONED = "ZONED is not offered"
_LIFE = "system/test_durability.py"

CLAUSES = (
    Clause(
        "5.2.5.2",
        "Device Types / Block Device / Device Initialization",
        (
            should("FLUSH is always offered."),
            must("FLUSH is offered where CONFIG_WCE is."),
            must("With CONFIG_WCE and without FLUSH, writeback is 0 at first."),
            must("The padding unused0 and unused1 is 0 at first."),
            should("A disk without zones does not offer ZONED."),
            must("Legacy devices do not offer ZONED.", no_case="devices here are no legacy devices"),
            should("A disk with zones whose driver left ZONED out has zoned fields of 0.", no_case=_NOT_ZONED),
            must("A host-managed one refuses FEATURES_OK then.", no_case=_NOT_ZONED),
            must(
                "model, zone_sectors, max_open_zones, max_active_zones, max_append_sectors and write_granularity tell "
                "of the zones, unused2 is 0.",
                no_case=_NOT_ZONED,
            ),
        ),
    ),
    Clause(
        "5.2.6.2",
        "Device Types / Block Device / Device Operation",
        (
            should(
                "A change of capacity is followed by a configuration change notification.",
                tests="system/test_growing.py::test_a_disk_grows",
            ),
            must("Where RO is offered, a write answers IOERR.", "BLK-2"),
            must("And nothing is written.", "BLK-2"),
            must("Discard, secure erase and write zeroes with a flag that is not known answer UNSUPP.", "BLK-7"),
            must("A discard with the flag unmap answers UNSUPP.", "BLK-7"),
            must("What write zeroes covered reads as zeros, whether or not unmap was set."),
            should(
                "write_zeroes_may_unmap is 0 if and only if write zeroes never gives sectors back.",
                tests="paravirt/devices/test_block.py::test_config "
                "paravirt/devices/test_block.py::test_discard_and_write_zeroes",
            ),
            should(
                "A change of write_zeroes_may_unmap is followed by a configuration change notification.",
                no_case="it does not change",
            ),
            must(
                "Writes that are stable are in persistent storage before they, or the flush after them, are answered.",
                tests=f"{_LIFE}::test_what_was_flushed_is_there "
                f"{_LIFE}::test_what_a_disk_without_a_cache_answered_is_there "
                "paravirt/devices/test_block.py::test_durable_without_flush",
            ),
            should(
                "LIFETIME is offered where the storage has such metrics.",
                no_case="files and block devices have none that could be asked for",
            ),
            must("LIFETIME is not offered where there are none.", no_case="LIFETIME is never offered"),
            must("Lifetime metrics have no reserved values.", no_case="LIFETIME is not offered"),
            must("Without ZONED, requests of zones answer UNSUPP."),
            must("Requests of zones change, report and refuse as the states of zones say.", no_case=_NOT_ZONED),
        ),
    ),
)
