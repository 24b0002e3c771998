// SPDX-License-Identifier: 0BSD
//! The clock and deadlines.

use crate::boot::at;
use crate::call::call;
use crate::machine::{boot, exists, now_ns, page, soon, SECOND};
use crate::paravirt_abi::*;
use crate::tap::case;

pub fn run() {
    clock();
    if exists(CALL_TIME_DEADLINE) {
        deadlines();
        replaced();
    } else {
        case("TIME-2 TIME-3 deadlines").skip("not offered");
    }
}

fn clock() {
    let mut c = case("TIME-1 TIME-4 monotonic time does not go back");
    let (mut last, mut back) = (now_ns(), 0);
    let first = last;
    for _ in 0..500 {
        let now = now_ns();
        back += (now < last) as i64;
        last = now;
    }
    c.is(back, 0, "times that it went back");
    c.holds(last > first, "it goes on");
    c = case("TIME-5 the time page is as the standard says");
    let page: TimePage = at(boot().pages.time_gpa);
    c.holds(page.shift <= 63, "shift");
    c.is(page.reserved0.iter().map(|b| *b as i64).sum(), 0, "padding");
    c.holds(page.wall_offset_ns > 1_600_000_000 * SECOND, "the wall clock is of this century");
}

fn deadlines() {
    let p = page(0);
    let mut c = case("TIME-2 a deadline is never early, raises DEADLINE once and is then disarmed");
    for delay in [0, SECOND / 1000, SECOND / 100] {
        p.take(CHANNEL_DEADLINE);
        let due = now_ns() + delay;
        c.is(call(CALL_TIME_DEADLINE, &[due]).status, STATUS_OK, "status");
        c.holds(soon(2 * SECOND, || p.is_pending(CHANNEL_DEADLINE)), "it comes");
        c.holds(now_ns() >= due, "not early");
        c.is(p.deadline_ns() as i64, DEADLINE_NEVER as i64, "disarmed");
        c.holds(p.take(CHANNEL_DEADLINE), "it is taken");
    }
    let until = now_ns() + SECOND / 50;
    soon(SECOND / 50, || now_ns() > until);
    c.holds(!p.is_pending(CHANNEL_DEADLINE), "once");
    c = case("TIME-2 CALL-15 a deadline that has passed is due at once");
    c.is(call(CALL_TIME_DEADLINE, &[1]).status, STATUS_OK, "status");
    c.holds(soon(2 * SECOND, || p.is_pending(CHANNEL_DEADLINE)), "it comes");
    p.take(CHANNEL_DEADLINE);
}

fn replaced() {
    let p = page(0);
    let mut c = case("TIME-3 arming a deadline replaces the one before");
    let due = now_ns() + SECOND / 4; // far enough for a slow machine to be in time
    call(CALL_TIME_DEADLINE, &[due]);
    call(CALL_TIME_DEADLINE, &[DEADLINE_NEVER]);
    c.is(p.deadline_ns() as i64, DEADLINE_NEVER as i64, "disarmed");
    soon(SECOND / 3, || p.is_pending(CHANNEL_DEADLINE));
    c.holds(!p.is_pending(CHANNEL_DEADLINE), "the first does not come");
    call(CALL_TIME_DEADLINE, &[now_ns() + 60 * SECOND]);
    call(CALL_TIME_DEADLINE, &[now_ns() + SECOND / 100]);
    c.holds(soon(2 * SECOND, || p.is_pending(CHANNEL_DEADLINE)), "an earlier one comes in its place");
    p.take(CHANNEL_DEADLINE);
}
