// SPDX-License-Identifier: 0BSD
//! Services base and console: version, services, negotiation, limits, batches, text.

use crate::boot::at;
use crate::call::{batch, call, Completions, BATCH, COMPLETIONS, SUBMISSIONS};
use crate::machine::{exists, service, NOWHERE};
use crate::paravirt_abi::*;
use crate::shared::Shared;
use crate::tap::case;
use core::mem::size_of;

const VERSION: u64 = (ABI_MAJOR as u64) << 32 | ABI_MINOR as u64;

pub fn run() {
    version();
    services();
    negotiation();
    limits();
    batches();
    batch_rules();
    console();
}

fn version() {
    let answer = call(CALL_BASE_VERSION, &[]);
    let mut c = case("BASE-1 base.version answers the version of the record ABI");
    c.is(answer.status, STATUS_OK, "status");
    let abi = crate::machine::boot().abi;
    c.is(answer.value as i64, (abi.major as i64) << 32 | abi.minor as i64, "version");
    c.holds(answer.value >= VERSION, "the version that this image asks for");
}

fn services() {
    static TABLE: Shared<[ServiceInfo; 64]> = Shared::new([ServiceInfo::ZERO; 64]);
    let size = size_of::<ServiceInfo>() as u64;
    let mut c = case("BASE-4 base.services: whole records, in the order of numbers");
    let answer = call(CALL_BASE_SERVICES, &[TABLE.gpa(), 64 * size]);
    c.is((answer.value % size) as i64, 0, "bytes of a record that is not whole");
    let mut before = 0;
    for i in 0..answer.value / size {
        let info: ServiceInfo = at(TABLE.gpa() + i * size);
        c.holds(info.service > before, "in the order of numbers");
        before = info.service;
    }
    c.is(
        call(CALL_BASE_SERVICES, &[TABLE.gpa(), 2 * size + 8]).value as i64,
        2 * size as i64,
        "room for two and a bit",
    );
    c.is(call(CALL_BASE_SERVICES, &[TABLE.gpa(), size - 1]).value as i64, 0, "room for none");
    c = case("BASE-5 a service that is not listed cannot be accepted");
    for number in [0, 77, 0x7fff] {
        c.holds(service(number).is_none(), "not listed");
        c.is(call(CALL_BASE_ACCEPT, &[number as u64, 0]).status, STATUS_NOT_FOUND, "base.accept");
    }
    c.is(
        call(CALL_BASE_ACCEPT, &[1 << 32 | SERVICE_BASE as u64, 0]).status,
        STATUS_NOT_FOUND,
        "a number above 32 bits",
    );
}

fn negotiation() {
    let number = SERVICE_BASE as u64;
    if exists(CALL_BASE_RENEGOTIATE) {
        call(CALL_BASE_RENEGOTIATE, &[]);
    }
    let offered = service(SERVICE_BASE).map_or(0, |info| info.offered);
    let mut c = case("BASE-2 a feature that is not offered cannot be accepted");
    let other = !offered & offered.wrapping_neg().wrapping_sub(1);
    for wanted in [other, !0, 1 << 63] {
        if wanted & !offered != 0 {
            c.is(call(CALL_BASE_ACCEPT, &[number, wanted]).status, STATUS_INVALID, "base.accept");
        }
    }
    c = case("CALL-3 BASE-3 BASE-8 a feature: before it is accepted, accepted once, forgotten");
    if offered & BASE_FEATURE_RING == 0 || !exists(CALL_BASE_RENEGOTIATE) {
        c.skip("base offers no ring");
        return;
    }
    c.is(call(CALL_BASE_RING, &[0, 1, 1, 1, 1, 1]).status, STATUS_NOT_SUPPORTED, "before it is accepted");
    c.holds(!exists(CALL_BASE_RING), "it is in no mask");
    c.is(call(CALL_BASE_ACCEPT, &[number, BASE_FEATURE_RING]).value as i64, BASE_FEATURE_RING as i64, "accepted");
    c.holds(exists(CALL_BASE_RING), "it is in the mask");
    c.is(call(CALL_BASE_RING, &[0, 1, 1, 1, 1, 1]).status, STATUS_INVALID, "it exists");
    c.is(call(CALL_BASE_ACCEPT, &[number, BASE_FEATURE_RING]).status, STATUS_OK, "the same set again");
    c.is(call(CALL_BASE_ACCEPT, &[number, 0]).status, STATUS_BAD_STATE, "another set");
    c.is(call(CALL_BASE_RENEGOTIATE, &[]).status, STATUS_OK, "renegotiate");
    c.holds(!exists(CALL_BASE_RING), "it is forgotten");
}

fn limits() {
    let mut c = case("BASE-6 this host's limits are no tighter than the standard's");
    let sizes = [
        (LIMIT_ID_BATCH_ENTRIES, LIMIT_BATCH_ENTRIES),
        (LIMIT_ID_CONSOLE_BYTES, LIMIT_CONSOLE_BYTES),
        (LIMIT_ID_ENTROPY_BYTES, LIMIT_ENTROPY_BYTES),
        (LIMIT_ID_MEMORY_RANGES, LIMIT_MEMORY_RANGES),
        (LIMIT_ID_CHANNELS, LIMIT_CHANNELS),
    ];
    for (id, least) in sizes {
        let answer = call(CALL_BASE_LIMIT, &[id]);
        c.is(answer.status, STATUS_OK, "status");
        c.holds(answer.value >= least, "at least the standard's");
    }
    c.holds(call(CALL_BASE_LIMIT, &[LIMIT_ID_BATCH_NS]).value <= LIMIT_BATCH_NS, "a time: at most the standard's");
    for unknown in [4000, 1 << 32, !0] {
        c.is(call(CALL_BASE_LIMIT, &[unknown]).status, STATUS_NOT_FOUND, "an unknown limit");
    }
}

/// A batch of BASE-1s, with one of each kind of entry that is refused alone.
fn batches() {
    let mut c = case("BATCH-2 BATCH-3 entries in order, each with a completion");
    let mut all = SUBMISSIONS.read();
    for (i, entry) in all.0.iter_mut().enumerate() {
        *entry = Submission { call: CALL_BASE_VERSION, flags: 0, args: [0; 6], cookie: !(i as u64) };
    }
    all.0[0].call = 0xdead_0000;
    all.0[1].flags = 1;
    all.0[2].args[5] = 1;
    SUBMISSIONS.write(all);
    COMPLETIONS.write(Completions([Completion { cookie: 0, status: 99, value: 99, reserved0: [0xee; 8] }; BATCH]));
    let answer = batch(BATCH as u64);
    c.is(answer.status, STATUS_OK, "status");
    c.is(answer.value as i64, BATCH as i64, "calls completed");
    let expected = [STATUS_NOT_SUPPORTED, STATUS_INVALID, STATUS_INVALID, STATUS_OK];
    for (i, done) in COMPLETIONS.read().0.iter().enumerate() {
        c.is(done.cookie as i64, !(i as i64), "cookie");
        c.is(done.status, expected[i], "status of an entry");
        c.holds(done.reserved0 == [0; 8], "padding is zero");
    }
    c.is(COMPLETIONS.read().0[3].value as i64, VERSION as i64, "value");
}

fn batch_rules() {
    let (from, to) = (SUBMISSIONS.gpa(), COMPLETIONS.gpa());
    let mut c = case("BATCH-1 both counts are equal");
    c.is(call(CALL_BASE_BATCH, &[from, 2, to, 3]).status, STATUS_INVALID, "two and three");
    c.is(call(CALL_BASE_BATCH, &[from, 0, to, 1]).status, STATUS_INVALID, "none and one");
    c = case("CALL-7 an empty batch touches nothing, wherever it is");
    c.is(call(CALL_BASE_BATCH, &[NOWHERE, 0, NOWHERE, 0]).status, STATUS_OK, "status");
    c = case("CALL-4 a batch in a batch");
    let answer = crate::call::batched(CALL_BASE_BATCH, &[from, 0, to, 0, 0, 0]);
    c.is(answer.map_or(99, |a| a.status), STATUS_WRONG_ROAD, "status");
}

fn console() {
    static LINE: &[u8] = b"# written by console.write\n";
    let mut c = case("CON-1 console.write takes all bytes");
    c.is(crate::call::write(LINE).value as i64, LINE.len() as i64, "bytes taken");
    c.is(crate::call::write(&[]).value as i64, 0, "bytes of none");
    c = case("CON-3 console.read does not wait");
    if !exists(CALL_CONSOLE_READ) {
        c.skip("not offered");
        return;
    }
    static ROOM: Shared<[u8; 64]> = Shared::new([0; 64]);
    let answer = call(CALL_CONSOLE_READ, &[ROOM.gpa(), 64]);
    c.is(answer.status, STATUS_OK, "status");
    c.holds(answer.value <= 64, "no more than there is room for");
}
