"""Pages that the library lays out only for who offers what they are for."""

from __future__ import annotations

from hypercall_abi.boot import BOOT_PAGES
from hypercall_abi.services.continuity import CONTINUITY_PAGE
from paravirt._native import ffi, lib
from tests.paravirt.boot.test_native import IMAGES, RECORD, Native, mapped, records


def test_a_host_that_announces_has_a_page_for_it() -> None:
    """One that does not offer NOTIFY names none."""
    for features in (0, int(lib.PV_CONTINUITY_FEATURE_NOTIFY)):
        native = Native()
        assert lib.pv_machine_offer(native.machine, lib.PV_SERVICE_CONTINUITY, features)
        entry, wrong = native.boot(IMAGES["plain"].build())
        assert wrong == ""
        gpa = BOOT_PAGES.parse(records(native, entry.rdi)[RECORD.PAGES][1]).continuity_gpa
        said = ffi.new("struct pv_announcement *", {"event": 2, "seed": bytes(range(32))})
        assert lib.pv_continuity_announce(native.machine, said) == bool(features)
        assert bool(gpa) == bool(features)
        if gpa:
            assert mapped(native.read, entry.cr3, gpa) == 5 | 1 << 63
            assert native.read(gpa, CONTINUITY_PAGE.size)[40:72] == bytes(range(32))
        native.close()
