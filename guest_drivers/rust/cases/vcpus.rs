// SPDX-License-Identifier: 0BSD
//! Another vCPU: started, running beside this one, stopped, started again.

use crate::call::call;
use crate::machine::{boot, exists, is_stopped, now_ns, page, soon, start_arguments, NOWHERE, SECOND};
use crate::paravirt_abi::*;
use crate::tap::case;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

static SEEN: AtomicU32 = AtomicU32::new(0);
static CLOCK: AtomicU64 = AtomicU64::new(0);
static BACK: AtomicU32 = AtomicU32::new(0);
const CHANNEL: u32 = CHANNEL_FIRST_FREE + 1;

pub fn run() {
    arguments();
    if boot().vcpus < 2 || !exists(CALL_VCPU_START) {
        case("VCPU-1 VCPU-5 VCPU-6 EVT-8 a second vCPU").skip("there is none");
        return;
    }
    life();
    running();
    clocks();
}

extern "C" fn look() {
    if page(1).take(CHANNEL) {
        SEEN.fetch_add(1, SeqCst);
    }
    let mut level: u64;
    unsafe { core::arch::asm!("mov {}, cs", out(reg) level) };
    level &= 3;
    SEEN.fetch_add(if level == 3 { 16 } else { 32 }, SeqCst);
}

/// Passes the greatest time seen on to the other vCPU, and notes when its own is behind.
fn pass_time_on() {
    for _ in 0..300 {
        let seen = CLOCK.load(SeqCst);
        let now = now_ns();
        if now < seen {
            BACK.fetch_add(1, SeqCst);
        }
        CLOCK.fetch_max(now, SeqCst);
    }
}

extern "C" fn pass_on() {
    pass_time_on();
}

fn arguments() {
    let mut c = case("VCPU-1 VCPU-2 vcpu.start: what it refuses");
    if !exists(CALL_VCPU_START) {
        c.skip("not offered");
        return;
    }
    let good = start_arguments(look);
    let start = |vcpu, entry, stack| call(CALL_VCPU_START, &[vcpu, entry, stack, 0]).status;
    c.is(start(boot().vcpus as u64, good[1], good[2]), STATUS_NOT_FOUND, "a vCPU that does not exist");
    c.is(start(1 << 32, good[1], good[2]), STATUS_NOT_FOUND, "a number above 32 bits");
    c.is(start(0, good[1], good[2]), STATUS_BAD_STATE, "the calling vCPU");
    if boot().vcpus > 1 {
        c.is(start(1, good[1], good[2] + 8), STATUS_UNALIGNED, "a stack that is not aligned");
        c.is(start(1, NOWHERE, good[2]), STATUS_BAD_ADDRESS, "no memory at the entry");
        c.is(start(1, good[1], NOWHERE), STATUS_BAD_ADDRESS, "no memory at the stack");
    }
}

static GO: AtomicU32 = AtomicU32::new(0);

extern "C" fn wait_for_go() {
    soon(20 * SECOND, || GO.load(SeqCst) != 0);
}

fn running() {
    let mut c = case("VCPU-1 a vCPU that runs cannot be started");
    c.is(call(CALL_VCPU_START, &start_arguments(wait_for_go)).status, STATUS_OK, "it is started");
    c.is(call(CALL_VCPU_START, &start_arguments(wait_for_go)).status, STATUS_BAD_STATE, "and again");
    c.is(call(CALL_VCPU_STATE, &[1]).value as i64, VCPU_STATE_RUNNING as i64, "its state");
    GO.store(1, SeqCst);
    c.holds(soon(5 * SECOND, is_stopped), "it stops");
}

fn life() {
    let arguments = start_arguments(look);
    let level = if crate::machine::is_user() { 16 } else { 32 };
    let mut c = case("EVT-8 VCPU-5 VCPU-6 a stopped vCPU: its channel, its page, its mode, again and again");
    for round in 1..=3 {
        c.is(call(CALL_EVENT_SEND, &[1, CHANNEL as u64]).status, STATUS_OK, "its channel is raised");
        c.is(call(CALL_VCPU_START, &arguments).status, STATUS_OK, "it is started");
        let expected = round * (1 + level);
        c.holds(soon(5 * SECOND, || SEEN.load(SeqCst) == expected), "it found the channel, in this vCPU's mode");
        c.is(SEEN.load(SeqCst) as i64, expected as i64, "what it saw");
        c.holds(soon(5 * SECOND, is_stopped), "it stops");
    }
}

fn clocks() {
    let mut c = case("TIME-1 monotonic time does not go back between two vCPUs");
    c.is(call(CALL_VCPU_START, &start_arguments(pass_on)).status, STATUS_OK, "the other one is started");
    pass_time_on();
    c.holds(soon(20 * SECOND, is_stopped), "it stops");
    c.is(BACK.load(SeqCst) as i64, 0, "times that it went back");
}
