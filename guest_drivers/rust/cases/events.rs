// SPDX-License-Identifier: 0BSD
//! Channels and upcalls of the calling vCPU.

use crate::call::call;
use crate::machine::{boot, now_ns, page, soon, Page, SECOND};
use crate::paravirt_abi::*;
use crate::start::VECTOR;
use crate::tap::{case, Case};
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

const CHANNEL: u32 = CHANNEL_FIRST_FREE;

static BY_NMI: AtomicU32 = AtomicU32::new(0);
static BY_VECTOR: AtomicU32 = AtomicU32::new(0);

/// From the gate of an upcall: counted; what is pending is left for the case to look at.
pub fn upcall(vector: u32) {
    let count = if vector == VECTOR { &BY_VECTOR } else { &BY_NMI };
    count.fetch_add(1, SeqCst);
}

fn raise(channel: u32) -> i64 {
    call(CALL_EVENT_SEND, &[0, channel as u64]).status
}

pub fn run(gates: bool) {
    if !crate::machine::exists(CALL_EVENT_SEND) {
        case("EVT-1 a channel that is raised").skip("not offered");
        return;
    }
    let p = page(0);
    bits(p);
    masks(p);
    blocking(p);
    names();
    upcalls(p, gates);
}

fn bits(p: Page) {
    let mut c = case("EVT-1 a channel that is raised: its bit, then upcall_pending");
    for channel in [CHANNEL, 63, 64, LIMIT_CHANNELS as u32 - 1] {
        p.upcall_pending().store(0, SeqCst);
        c.is(raise(channel), STATUS_OK, "status");
        c.holds(p.is_pending(channel), "its bit");
        c.is(p.upcall_pending().load(SeqCst) as i64, 1, "upcall_pending");
        c.is(raise(channel), STATUS_OK, "raised again");
        c.holds(p.take(channel), "it is taken");
        c.holds(!p.is_pending(channel), "once");
    }
    c.is(p.upcall_pending().load(SeqCst) as i64, 0, "upcall_pending in the end (EVT-3)");
}

fn masks(p: Page) {
    let mut c = case("EVT-5 EVT-1 a masked channel becomes pending, and sends no upcall");
    let bit = 1 << (CHANNEL % 64);
    p.upcall_pending().store(0, SeqCst);
    p.mask(CHANNEL).fetch_or(bit, SeqCst);
    c.is(raise(CHANNEL), STATUS_OK, "status");
    c.holds(p.is_pending(CHANNEL), "its bit");
    c.is(p.upcall_pending().load(SeqCst) as i64, 0, "upcall_pending");
    p.mask(CHANNEL).fetch_and(!bit, SeqCst);
    c.holds(p.take(CHANNEL), "it is found after the mask is cleared (EVT-7)");
}

fn blocking(p: Page) {
    let mut c = case("VCPU-3 EVT-2 vcpu.block returns at once if upcall_pending is set, upcall_mask or not");
    let far = now_ns() + 60 * SECOND;
    for mask in [0, 1] {
        p.upcall_mask().store(mask, SeqCst);
        raise(CHANNEL);
        let answer = call(CALL_VCPU_BLOCK, &[far]);
        c.is(answer.status, STATUS_OK, "status");
        c.holds(now_ns() < far, "before its deadline");
        c.holds(p.take(CHANNEL), "the channel");
    }
    p.upcall_mask().store(0, SeqCst);
    c = case("VCPU-7 VCPU-4 the deadline of vcpu.block raises nothing and arms nothing");
    let armed = p.deadline_ns();
    let until = now_ns() + SECOND / 200;
    while now_ns() < until {
        c.is(call(CALL_VCPU_BLOCK, &[until]).status, STATUS_OK, "status");
    }
    c.holds(!p.is_pending(CHANNEL_DEADLINE), "channel DEADLINE");
    c.is(p.deadline_ns() as i64, armed as i64, "the vCPU's own deadline");
}

fn names() {
    let mut c = case("EVT-6 channels and vCPUs that do not exist");
    for (vcpu, channel) in
        [(0, LIMIT_CHANNELS), (0, 1 << 32), (0, !0), (boot().vcpus as u64, 16), (1 << 32, 16), (!0, 16)]
    {
        c.is(call(CALL_EVENT_SEND, &[vcpu, channel]).status, STATUS_NOT_FOUND, "event.send");
    }
    c = case("CALL-6 event.upcall: vectors that are not defined");
    for vector in [1, 3, 31, 256, 1 << 32 | UPCALL_NMI as u64, !0] {
        c.is(call(CALL_EVENT_UPCALL, &[vector]).status, STATUS_INVALID, "status");
    }
}

/// Upcalls by `vector`: one for a channel, none while upcall_mask is set, one more afterwards.
fn upcalls_by(c: &mut Case, p: Page, vector: u32, count: &AtomicU32) {
    c.is(call(CALL_EVENT_UPCALL, &[vector as u64]).status, STATUS_OK, "event.upcall");
    p.take(CHANNEL);
    for _ in 0..3 {
        let before = count.load(SeqCst);
        raise(CHANNEL);
        c.holds(soon(2 * SECOND, || count.load(SeqCst) > before), "an upcall comes");
        raise(CHANNEL);
        c.is(count.load(SeqCst) as i64, before as i64 + 1, "no second one while upcall_pending is set");
        c.holds(p.take(CHANNEL), "the channel is pending");
        c.is(p.upcall_pending().load(SeqCst) as i64, 0, "upcall_pending");
    }
    let before = count.load(SeqCst);
    p.upcall_mask().store(1, SeqCst);
    raise(CHANNEL);
    call(CALL_VCPU_YIELD, &[YIELD_NOBODY]);
    c.is(count.load(SeqCst) as i64, before as i64, "none while upcall_mask is set");
    p.upcall_mask().store(0, SeqCst);
    c.holds(p.take(CHANNEL), "it is found by looking (EVT-3)");
    c.is(call(CALL_EVENT_UPCALL, &[UPCALL_OFF as u64]).status, STATUS_OK, "off again");
    raise(CHANNEL);
    call(CALL_VCPU_YIELD, &[YIELD_NOBODY]);
    c.is(count.load(SeqCst) as i64, before as i64, "none when off");
    p.take(CHANNEL);
}

fn upcalls(p: Page, gates: bool) {
    let mut c = case("EVT-1 EVT-3 BOOT-5 upcalls by NMI");
    if !gates {
        c.skip("no table for gates");
        return;
    }
    upcalls_by(&mut c, p, UPCALL_NMI, &BY_NMI);
    c = case("EVT-1 EVT-9 BOOT-11 upcalls by an interrupt vector, each ended at the APIC");
    upcalls_by(&mut c, p, VECTOR, &BY_VECTOR);
}
