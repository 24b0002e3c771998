// SPDX-License-Identifier: 0BSD
//! The state at entry and the boot information.

use crate::boot::{at, entries};
use crate::call::call;
use crate::machine::{boot, page, PAGE};
use crate::paravirt_abi::*;
use crate::start::{RDI, RUST_AT_ENTRY};
use crate::tap::case;
use core::mem::size_of;

const FLAG_IF: u64 = 0x200;
const FLAG_DF: u64 = 0x400;

pub fn run() {
    entry();
    records();
    memory_map();
    shared_pages();
    copies();
}

fn entry() {
    let r = RUST_AT_ENTRY.read();
    let mut c = case("BOOT-1 registers and flags at entry");
    c.is(r.general[RDI] as i64, boot().gpa as i64, "RDI");
    c.is(boot().gpa as i64 & 7, 0, "bits 2:0 of the address");
    for (i, value) in r.general.iter().enumerate() {
        if i != RDI {
            c.is(*value as i64, 0, "a general register");
        }
    }
    c.is((r.rflags & (FLAG_IF | FLAG_DF)) as i64, FLAG_IF as i64, "IF and DF");
    c = case("BOOT-10 the x87 control word at entry");
    c.is(r.fcw as i64, 0x37f, "FCW");
    if crate::machine::is_user() {
        c.is(r.mxcsr as i64, 0x1f80, "MXCSR"); // at CPL 0 a KVM that emulates cannot be asked
    }
}

fn records() {
    let (mut counts, mut seen, mut last, mut whole) = ([0; 9], 0, None, true);
    let mut end = boot().gpa + size_of::<BootInfo>() as u64;
    for entry in entries(boot().gpa) {
        let kind = entry.head.r#type as usize;
        if kind < counts.len() {
            counts[kind] += 1;
        }
        let used = entry.payload + entry.head.size_bytes as u64;
        end = (used + 7) & !7;
        whole &= (used..end).all(|gpa| at::<u8>(gpa) == 0);
        seen += 1;
        last = Some(entry.head.r#type);
    }
    let mut c = case("BOOT-8 one record each of ABI, MEMORY_MAP, VCPUS and PAGES, END last");
    for kind in [BOOT_RECORD_ABI, BOOT_RECORD_MEMORY_MAP, BOOT_RECORD_VCPUS, BOOT_RECORD_PAGES] {
        c.is(counts[kind as usize], 1, "records of a type");
    }
    c.is(last.map_or(-1, |kind| kind as i64), BOOT_RECORD_END as i64, "type of the last record");
    c.is(seen, boot().info.records as i64, "records, as the head says");
    c = case("BOOT-16 records are padded with zeros and end where the head says");
    c.holds(whole, "the padding is zero");
    c.is(end as i64, (boot().gpa + boot().info.size_bytes as u64) as i64, "the end");
    c = case("BOOT-13 the guest is entered on vCPU 0, the others are STOPPED");
    c.is(boot().abi.vcpu as i64, 0, "the vCPU of the record ABI");
    for vcpu in 1..boot().vcpus {
        let answer = call(CALL_VCPU_STATE, &[vcpu as u64]);
        if answer.ok() {
            c.is(answer.value as i64, VCPU_STATE_STOPPED as i64, "state");
        }
    }
}

fn memory_map() {
    let mut c = case("BOOT-12 the memory map: whole pages, in order, none of page zero");
    let mut after = PAGE;
    for range in boot().memory {
        c.is((range.gpa % PAGE) as i64, 0, "bits 11:0 of an address");
        c.is((range.size_bytes % PAGE) as i64, 0, "bits 11:0 of a size");
        c.holds(range.gpa >= after, "in order, and not overlapping");
        after = range.gpa + range.size_bytes;
    }
    c = case("BOOT-12 RAM is zero at first and can be written");
    let gpa = crate::machine::take(2);
    for offset in (0..2 * PAGE).step_by(504) {
        let word = (gpa + offset) as *mut u64;
        c.is(at::<u64>(gpa + offset) as i64, 0, "at first");
        unsafe { word.write_volatile(!offset) };
        c.is(at::<u64>(gpa + offset) as i64, !offset as i64, "as written");
    }
}

fn is_host(gpa: u64, size_bytes: u64) -> bool {
    boot().memory.iter().any(|range| {
        range.kind == MEMORY_KIND_HOST && gpa >= range.gpa && gpa + size_bytes <= range.gpa + range.size_bytes
    })
}

fn shared_pages() {
    let pages = boot().pages;
    let mut c = case("BOOT-9 the boot information and its pages lie in memory of kind HOST");
    c.holds(is_host(boot().gpa, boot().info.size_bytes as u64), "the boot information");
    c.holds(is_host(pages.time_gpa, size_of::<TimePage>() as u64), "the time page");
    for vcpu in 0..boot().vcpus {
        let gpa = pages.vcpu_gpa + vcpu as u64 * pages.vcpu_stride_bytes;
        c.holds(is_host(gpa, size_of::<VcpuPage>() as u64), "the page of a vCPU");
        c.is(page(vcpu).index() as i64, vcpu as i64, "its index");
    }
}

fn copies() {
    static COPY: crate::shared::Shared<[u64; 512]> = crate::shared::Shared::new([0; 512]);
    let mut c = case("BOOT-9 base.boot_info copies what is in memory");
    let size = (boot().info.size_bytes as u64).min(PAGE);
    let answer = call(CALL_BASE_BOOT_INFO, &[COPY.gpa(), PAGE]);
    c.is(answer.status, STATUS_OK, "status");
    c.is(answer.value as i64, size as i64, "bytes written");
    c.holds((0..size).all(|i| at::<u8>(COPY.gpa() + i) == at::<u8>(boot().gpa + i)), "each byte");
}
