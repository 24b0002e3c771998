// SPDX-License-Identifier: 0BSD
//! The ring road: a ring of four entries, three times around, with calls of every outcome.

use crate::call::call;
use crate::machine::{boot, exists, page, soon, word, SECOND};
use crate::paravirt_abi::*;
use crate::shared::Shared;
use crate::tap::{case, Case};
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

const ENTRIES: u32 = 4;

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Ring {
    submissions: [Submission; ENTRIES as usize],
    completions: [Completion; ENTRIES as usize],
    control: RingControl,
}

static RING: Shared<Ring> = Shared::new(Ring {
    submissions: [Submission::ZERO; ENTRIES as usize],
    completions: [Completion::ZERO; ENTRIES as usize],
    control: RingControl::ZERO,
});
static SETUP: Shared<RingSetup> = Shared::new(RingSetup::ZERO);

macro_rules! control {
    ($field:ident) => {
        word!(AtomicU32, &(*RING.get()).control as *const RingControl, RingControl.$field)
    };
}

pub fn run() {
    let offered = crate::machine::service(SERVICE_BASE).map_or(0, |info| info.offered);
    let mut c = case("RING-1 RING-3 base.ring: set up, found in use, taken out");
    if offered & BASE_FEATURE_RING == 0 || !exists(CALL_BASE_RENEGOTIATE) {
        c.skip("not offered");
        return;
    }
    call(CALL_BASE_RENEGOTIATE, &[]);
    call(CALL_BASE_ACCEPT, &[SERVICE_BASE as u64, BASE_FEATURE_RING]);
    let gpa = RING.gpa();
    let completions_gpa = gpa + core::mem::size_of::<[Submission; ENTRIES as usize]>() as u64;
    let control_gpa = completions_gpa + core::mem::size_of::<[Completion; ENTRIES as usize]>() as u64;
    let good = RingSetup { submissions_gpa: gpa, completions_gpa, control_gpa, entries: ENTRIES, ..RingSetup::ZERO };
    let good = RingSetup { channel: RING_NO_CHANNEL, ..good };
    c.is(set_up(good), STATUS_OK, "set up");
    c.is(control!(completion_tail).load(SeqCst) as i64, 0, "completion_tail");
    c.is(control!(state).load(SeqCst) as i64, RING_STATE_ON as i64, "state");
    c.is(set_up(good), STATUS_BAD_STATE, "a second one");
    around();
    c.is(call(CALL_BASE_RING, &[SETUP.gpa(), 0]).status, STATUS_OK, "taken out of use");
    c.is(control!(state).load(SeqCst) as i64, RING_STATE_OFF as i64, "state");
    c.is(call(CALL_BASE_RING, &[SETUP.gpa(), 0]).status, STATUS_OK, "there is none");
    c = case("RING-2 CALL-14 base.ring: what it refuses");
    c.is(set_up(RingSetup { entries: 3, ..good }), STATUS_INVALID, "no power of two");
    c.is(set_up(RingSetup { flags: 1, ..good }), STATUS_INVALID, "flags");
    c.is(set_up(RingSetup { channel: LIMIT_CHANNELS as u32, ..good }), STATUS_NOT_FOUND, "no such channel");
    c.is(set_up(RingSetup { entries: 1 << 31, ..good }), STATUS_LIMIT, "too many entries");
    c.is(set_up(RingSetup { control_gpa: control_gpa + 32, ..good }), STATUS_UNALIGNED, "alignment");
    c.is(set_up(RingSetup { control_gpa: crate::machine::NOWHERE, ..good }), STATUS_BAD_ADDRESS, "no memory there");
}

fn set_up(setup: RingSetup) -> i64 {
    SETUP.write(setup);
    call(CALL_BASE_RING, &[SETUP.gpa(), 1]).status
}

/// The calls of a round with the statuses that every road gives (RING-15).
const CALLS: [(u32, [u64; 6], i64); ENTRIES as usize] = [
    (CALL_BASE_VERSION, [0; 6], STATUS_OK),
    (0xdead_0000, [0; 6], STATUS_NOT_SUPPORTED),
    (CALL_BASE_BATCH, [0; 6], STATUS_WRONG_ROAD),
    (CALL_BASE_LIMIT, [LIMIT_ID_VCPUS, 1, 0, 0, 0, 0], STATUS_INVALID),
];

fn around() {
    let mut c =
        case("RING-4 RING-5 RING-9 RING-11 RING-15 CALL-4 calls over a ring, in order, each with its completion");
    for round in 0..3 {
        for (i, (id, args, _)) in CALLS.iter().enumerate() {
            let cookie = (round * ENTRIES) as u64 + i as u64;
            let entry = Submission { call: *id, flags: 0, args: *args, cookie: !cookie };
            unsafe { core::ptr::addr_of_mut!((*RING.get()).submissions[i]).write_volatile(entry) };
        }
        submit((round + 1) * ENTRIES);
        let done = || control!(completion_tail).load(SeqCst) == (round + 1) * ENTRIES;
        c.holds(soon(5 * SECOND, done), "the completions come");
        completions(&mut c, round);
    }
    c.is(control!(state).load(SeqCst) as i64, RING_STATE_ON as i64, "state");
    c.holds(!page(0).is_pending(CHANNEL_FIRST_FREE), "no event without a channel");
}

/// RING-9: the tail, a full barrier, then whether the host sleeps.
fn submit(tail: u32) {
    control!(submission_tail).swap(tail, SeqCst);
    if control!(doorbell_wanted).load(SeqCst) != 0 {
        let bell = RING_DOORBELL << 16; // of vCPU 0
        unsafe { core::arch::asm!("out dx, eax", in("dx") boot().abi.doorbell as u16, in("eax") bell) };
    }
}

fn completions(c: &mut Case, round: u32) {
    for (i, (.., status)) in CALLS.iter().enumerate() {
        let done = unsafe { core::ptr::addr_of!((*RING.get()).completions[i]).read_volatile() };
        c.is(done.cookie as i64, !((round * ENTRIES) as i64 + i as i64), "cookie");
        c.is(done.status, *status, "status");
        c.holds(done.reserved0 == [0; 8], "padding is zero");
        if i == 0 {
            c.is(done.value as i64, call(CALL_BASE_VERSION, &[]).value as i64, "the value over the trap");
        }
    }
}
