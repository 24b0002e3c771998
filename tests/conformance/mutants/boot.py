"""Hosts that get the start wrong: entry state, boot information, memory map, notes, CPUID."""

from __future__ import annotations

from functools import partial

from tests.conformance.plant import Mutant

_layout = partial(Mutant, file="paravirt/boot/layout.py")
_info = partial(Mutant, file="paravirt/boot/info.py")
_image = partial(Mutant, file="paravirt/boot/image.py")
_notes = partial(Mutant, file="paravirt/boot/notes.py")
_manifest = partial(Mutant, file="paravirt/boot/manifest.py")
_entry = partial(Mutant, file="paravirt/native/kvm_entry.c")
_kvm = partial(Mutant, file="paravirt/native/kvm.c")
_cpuid = partial(Mutant, file="paravirt/native/kvm_cpuid.c")

_WRITE_TSS = "memory.write(layout.tss_gpa, one_tss)"

BOOT = (
    _entry(
        id="entered_with_r15",
        rule="BOOT-1",
        old="ioctl(own->fd, KVM_SET_REGS, &regs) < 0",
        new="(regs.r15 |= !own->mode_given, ioctl(own->fd, KVM_SET_REGS, &regs)) < 0",
    ),
    _layout(
        id="page_zero_mapped", rule="BOOT-2", old="tables.map(0, PAGE_BYTES, 0)", new="tables.map(0, PAGE_BYTES, DATA)"
    ),
    _layout(id="text_is_writable", rule="BOOT-4", old="(WRITABLE if s.writable else 0)", new="WRITABLE"),
    _layout(id="data_is_executable", rule="BOOT-4", old="(0 if s.executable else NO_EXECUTE)", new="0"),
    _layout(id="pages_told_twice", rule="BOOT-8", old="config.boot_records", new="((BOOT_RECORD.PAGES, 0, pages),)"),
    _layout(
        id="host_area_is_no_hosts",
        rule="BOOT-9",
        old="(host_gpa, ranges[0][1], MEMORY_KIND.HOST)",
        new="(host_gpa, ranges[0][1], MEMORY_KIND.IMAGE)",
    ),
    _entry(
        id="xsave_without_a_note",
        rule="BOOT-10",
        old="CR4_LONG | (entry->xcr0 ? CR4_OSXSAVE : 0)",
        new="CR4_LONG | CR4_OSXSAVE",
    ),
    _kvm(id="local_apic_off", rule="BOOT-11", old="0x1ff", new="0xff"),
    _layout(id="page_zero_in_the_map", rule="BOOT-12", old="at = gpa or PAGE_BYTES", new="at = gpa"),
    _layout(
        id="ram_is_dirty",
        rule="BOOT-12",
        old=_WRITE_TSS,
        new=f"memory.write(PAGE_BYTES, b'leftover')\n{_WRITE_TSS}",
    ),
    _layout(
        id="idt_has_a_gate",
        rule="BOOT-13",
        old=_WRITE_TSS,
        new=f"memory.write(layout.idt_gpa + 16 * 40, b'\\x01' * 16)\n{_WRITE_TSS}",
    ),
    _image(id="segments_may_overlap", rule="BOOT-14", old="one.end_gpa > next_one.gpa", new="False"),
    _layout(
        id="zeroed_data_is_not",
        rule="BOOT-15",
        old="memory.write(s.gpa, s.data)",
        new="memory.write(s.gpa, s.data)\n"
        "if s.memory_bytes - len(s.data) > 3 * PAGE_BYTES:\n    memory.write(s.end_gpa - 3 * PAGE_BYTES, b'\\xff' * 8)",
    ),
    _info(
        id="padding_is_not_zero",
        rule="BOOT-16",
        old="bytes(-len(payload) % 8)",
        new="b'\\x01' * (-len(payload) % 8)",
    ),
    _image(
        id="segments_may_move",
        rule="BOOT-17",
        old="notes.present and h.p_vaddr != h.p_paddr",
        new="False",
    ),
    _layout(
        id="boot_information_is_writable",
        rule="BOOT-18",
        old="tables.map(layout.time_page_gpa, layout.idt_gpa - layout.time_page_gpa, READ_ONLY)",
        new="tables.map(layout.time_page_gpa, layout.idt_gpa - layout.time_page_gpa, DATA)",
    ),
    _layout(
        id="ram_is_executable",
        rule="BOOT-18",
        old="tables.map(gpa, size, DATA)",
        new="tables.map(gpa, size, DATA & ~NO_EXECUTE)",
    ),
    _cpuid(id="signature_is_mixed_up", rule="CPUID-1", old="words[0]", new="words[1]"),
)

NOTES = (
    _notes(id="note_twice", rule="NOTE-1", old="(owner, kind) in seen", new="False"),
    _notes(
        id="mandatory_note_skipped",
        rule="NOTE-2",
        old="parser is None and kind >= NOTE.MANDATORY",
        new="False",
    ),
    _manifest(id="missing_device_is_fine", rule="NOTE-3", old="entry.optional", new="True"),
    _manifest(
        id="plain_guest_has_disks_alone",
        rule="NOTE-4",
        old="return (*given, *(PlannedDevice(kind, name) for name, kind in BUILT_IN.items()))",
        new="return tuple(given)",
    ),
    _image(id="missing_feature_is_fine", rule="NOTE-5", old="features & ~offered[number]", new="0"),
    _notes(id="name_may_be_empty", rule="NOTE-6", old="not name or not name.isprintable()", new="False"),
    _notes(id="name_twice", rule="NOTE-6", old="len({e.name for e in entries}) != len(entries)", new="False"),
    _layout(
        id="privilege_told_wrong",
        rule="NOTE-8",
        old='PRIVILEGE.USER if level == "user" else PRIVILEGE.SUPERVISOR',
        new='(PRIVILEGE.SUPERVISOR if level == "user" else PRIVILEGE.USER)',
    ),
    _manifest(
        id="read_only_is_not_heeded",
        rule="NOTE-10",
        old="attachment.restricted(read_only=entry.read_only)",
        new="attachment",
    ),
    _image(
        id="newer_minor_is_fine",
        rule="NOTE-7",
        old="notes.version[1] <= VERSION[1]",
        new="True",
    ),
    _image(
        id="other_major_is_fine",
        rule="NOTE-7",
        old="notes.version[0] == VERSION[0]",
        new="True",
    ),
)

MUTANTS = (*BOOT, *NOTES)
