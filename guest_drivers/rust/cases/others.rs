// SPDX-License-Identifier: 0BSD
//! Services memory, entropy, system, trace and device: what each does when it is used well, and what it refuses.

use crate::boot::at;
use crate::call::call;
use crate::machine::{exists, take, NOWHERE, PAGE};
use crate::paravirt_abi::*;
use crate::shared::Shared;
use crate::tap::case;

#[repr(C, align(16))]
#[derive(Clone, Copy)]
struct Ranges([MemoryRange; 2]);
static RANGES: Shared<Ranges> = Shared::new(Ranges([MemoryRange::ZERO; 2]));

pub fn run() {
    if exists(CALL_MEMORY_DISCARD) {
        discard();
        bad_ranges();
    } else {
        case("MEM-1 MEM-2 MEM-3 MEM-4 MEM-5 memory").skip("not offered");
    }
    entropy();
    system();
    trace();
    devices();
}

/// memory.discard of two ranges, each (address, size).
fn discard_of(first: (u64, u64), second: (u64, u64)) -> crate::call::Answer {
    RANGES.write(Ranges([first, second].map(|(gpa, size_bytes)| MemoryRange { gpa, size_bytes })));
    call(CALL_MEMORY_DISCARD, &[RANGES.gpa(), 2])
}

fn fill(gpa: u64, pages: u64) {
    for i in 0..pages * 8 {
        unsafe { ((gpa + i * PAGE / 8) as *mut u64).write_volatile(0x5555) };
    }
}

fn sum(gpa: u64, pages: u64) -> i64 {
    (0..pages * 8).map(|i| at::<u64>(gpa + i * PAGE / 8) as i64).sum()
}

fn discard() {
    let gpa = take(4);
    let mut c = case("MEM-3 MEM-4 MEM-6 a discarded range reads as zero, and nothing else does; ranges overlap");
    fill(gpa, 4);
    let answer = discard_of((gpa, 2 * PAGE), (gpa + PAGE, 2 * PAGE));
    c.is(answer.status, STATUS_OK, "status");
    c.is(answer.value as i64, 2, "ranges done");
    c.is(sum(gpa, 3), 0, "what was discarded");
    c.is(sum(gpa + 3 * PAGE, 1), 8 * 0x5555, "what was not");
}

fn bad_ranges() {
    let gpa = take(2);
    let first = (gpa, PAGE);
    fill(gpa, 2);
    let mut c = case("MEM-2 ranges that are not whole pages");
    for second in [(gpa + 8, PAGE), (gpa, PAGE - 8), (gpa, 1)] {
        c.is(discard_of(first, second).status, STATUS_UNALIGNED, "status");
    }
    c = case("MEM-5 ranges of more than MEMORY_BYTES");
    c.is(discard_of((NOWHERE, LIMIT_MEMORY_BYTES), (1, 1 << 63)).status, STATUS_LIMIT, "before they are looked at");
    c = case("MEM-1 CALL-10 all ranges are checked before the first is touched");
    for second in [(NOWHERE, PAGE), (!0 - PAGE + 1, PAGE), (0, PAGE)] {
        let status = discard_of(first, second).status;
        c.holds(status == STATUS_BAD_ADDRESS || second.0 == 0 && status == STATUS_OK, "status");
        if status != STATUS_OK {
            c.is(sum(gpa, 2), 16 * 0x5555, "the first range");
        }
        fill(gpa, 2);
    }
}

fn entropy() {
    static ROOM: Shared<[[u64; 32]; 2]> = Shared::new([[0; 32]; 2]);
    let mut c = case("ENT-1 entropy.fill fills the whole buffer, never alike");
    if !exists(CALL_ENTROPY_FILL) {
        c.skip("not offered");
        return;
    }
    for i in 0..2 {
        let answer = call(CALL_ENTROPY_FILL, &[ROOM.gpa() + i * 256, LIMIT_ENTROPY_BYTES]);
        c.is(answer.status, STATUS_OK, "status");
        c.is(answer.value as i64, LIMIT_ENTROPY_BYTES as i64, "bytes written");
    }
    let room = ROOM.read();
    c.holds(room[0].iter().chain(room[1].iter()).all(|word| *word != 0), "no word was left out");
    c.holds(room[0].iter().zip(room[1].iter()).all(|(one, other)| one != other), "no word is as before");
}

fn system() {
    let mut c = case("SYS-1 a shutdown for no reason that is defined");
    for reason in [3, 0xffff_ffff, 1 << 32, !0] {
        c.is(call(CALL_SYSTEM_SHUTDOWN, &[reason, 0]).status, STATUS_INVALID, "status");
    }
    c = case("SYS-4 the watchdog: armed, replaced, disarmed");
    if !exists(CALL_SYSTEM_WATCHDOG) {
        c.skip("not offered");
        return;
    }
    for timeout in [3_600_000_000_000, !0, 0] {
        c.is(call(CALL_SYSTEM_WATCHDOG, &[timeout]).status, STATUS_OK, "status");
    }
}

fn trace() {
    let mut c = case("TRC-2 trace.end without a span");
    if !exists(CALL_TRACE_END) {
        c.skip("not offered");
        return;
    }
    c.is(call(CALL_TRACE_END, &[]).status, STATUS_OK, "status");
}

fn devices() {
    let mut c = case("CALL-6 the service device: a device that does not exist");
    if !exists(CALL_DEVICE_STATUS) {
        c.skip("not offered");
        return;
    }
    for device in [LIMIT_DEVICES, 1 << 32, !0] {
        c.is(call(CALL_DEVICE_STATUS, &[device]).status, STATUS_NOT_FOUND, "device.status");
    }
}
