// SPDX-License-Identifier: 0BSD
//! What holds for every call, by the table of calls in the generated module, over the trap and in batches.

use crate::call::{batched, call, known, trap, trap_port, ARGUMENTS};
use crate::machine::{exists, NOWHERE};
use crate::paravirt_abi::*;
use crate::shared::Shared;
use crate::start::trap_all;
use crate::tap::{case, Case};

#[repr(C, align(4096))]
#[derive(Clone, Copy)]
struct Scratch([u8; 65536]);
static SCRATCH: Shared<Scratch> = Shared::new(Scratch([0; 65536]));
/// 64 bytes before addresses wrap.
const LAST: u64 = !63;

pub fn run() {
    if exists(CALL_BASE_RENEGOTIATE) {
        call(CALL_BASE_RENEGOTIATE, &[]);
    }
    existence();
    roads();
    undeclared();
    lengths();
    alignments();
    ranges();
    empty();
    registers();
    widths();
    let mut c = case("CALL-12 CALL-13 after all this the host still answers");
    c.is(call(CALL_BASE_VERSION, &[]).status, STATUS_OK, "status");
}

fn registers_of(what: &Call) -> usize {
    let wide = |a: &Argument| matches!(a, Argument::Buffer { fixed: false, .. });
    what.arguments.iter().map(|a| 1 + wide(a) as usize).sum()
}

/// Over each road of the call, with the one answer that all must give.
fn expect(c: &mut Case, what: &Call, args: &[u64; ARGUMENTS], status: i64, why: &str) {
    c.of_call(what.id, known(trap(what.id as u64, args).status), status, why);
    if what.roads & ROAD_BATCH != 0 {
        c.of_call(what.id, batched(what.id, args).map_or(99, |a| a.status), status, why);
    }
}

/// Calls that this host offers now.
fn offered() -> impl Iterator<Item = &'static Call> {
    CALLS.iter().filter(|what| exists(what.id))
}

/// Arguments whose buffers are right; plain ones are such that no call gets far.
fn good(what: &Call) -> [u64; ARGUMENTS] {
    let (mut args, mut n) = ([0; ARGUMENTS], 0);
    for argument in what.arguments {
        args[n] = SCRATCH.gpa();
        match argument {
            Argument::Value => args[n] = 0xbad,
            Argument::Buffer { fixed: true, .. } => {}
            Argument::Buffer { .. } => {
                n += 1;
                args[n] = 1;
            }
        }
        n += 1;
    }
    args
}

/// Each buffer of each call offered, with the place of its address among the arguments.
fn each_buffer(mut judge: impl FnMut(&'static Call, &'static Argument, usize)) {
    for what in offered() {
        let mut n = 0;
        for argument in what.arguments {
            if let Argument::Buffer { fixed, .. } = argument {
                judge(what, argument, n);
                n += !*fixed as usize;
            }
            n += 1;
        }
    }
}

fn existence() {
    let mut c = case("CALL-1 CALL-10 calls that no version declares");
    for id in [0, 0xffff, 0x1001f, 0x10020, 0x2000f, 0x70040, 0xc0000, 0x7fff_0000, 0xffff_ffff] {
        c.of_call(id, trap(id as u64, &[!0; ARGUMENTS]).status, STATUS_NOT_SUPPORTED, "over the trap");
        c.of_call(id, batched(id, &[!0; ARGUMENTS]).map_or(99, |a| a.status), STATUS_NOT_SUPPORTED, "in a batch");
    }
    c = case("CALL-2 CALL-3 calls that are not offered, or whose feature was not accepted");
    for what in CALLS.iter().filter(|what| !exists(what.id)) {
        c.of_call(what.id, trap(what.id as u64, &[!0; ARGUMENTS]).status, STATUS_NOT_SUPPORTED, "over the trap");
        let answer = batched(what.id, &[!0; ARGUMENTS]);
        c.of_call(what.id, answer.map_or(99, |a| a.status), STATUS_NOT_SUPPORTED, "in a batch");
    }
    c = case("CALL-8 the bits of RAX above the call id are zero");
    for what in offered() {
        for bit in [32, 63] {
            let answer = trap(1 << bit | what.id as u64, &[!0; ARGUMENTS]);
            c.of_call(what.id, answer.status, STATUS_NOT_SUPPORTED, "one is not");
        }
    }
}

fn roads() {
    let mut c = case("CALL-4 CALL-6 a call that does not declare the road, before its arguments");
    for what in offered().filter(|what| what.roads & ROAD_BATCH == 0) {
        let answer = batched(what.id, &[!0; ARGUMENTS]);
        c.of_call(what.id, answer.map_or(99, |a| a.status), STATUS_WRONG_ROAD, "in a batch");
    }
}

fn undeclared() {
    let mut c = case("CALL-5 CALL-6 an argument beyond those declared, before the declared ones");
    for what in offered() {
        for n in registers_of(what)..ARGUMENTS {
            let mut args = good(what);
            args[n] = 1 << (n * 11);
            expect(&mut c, what, &args, STATUS_INVALID, "one that is not zero");
            expect(&mut c, what, &[!0; ARGUMENTS], STATUS_INVALID, "with nothing right");
        }
    }
}

fn lengths() {
    let mut c = case("CALL-6 a length above its limit, before the address");
    each_buffer(|what, argument, n| {
        if let Argument::Buffer { fixed: false, limit, .. } = argument {
            for length in [*limit + 1, 1 << 32 | 1, !0] {
                let mut args = good(what);
                args[n] = NOWHERE + 1;
                args[n + 1] = length;
                expect(&mut c, what, &args, STATUS_LIMIT, "too long");
            }
        }
    });
}

fn alignments() {
    let mut c = case("CALL-6 an address that is not aligned, before its range");
    each_buffer(|what, argument, n| {
        if let Argument::Buffer { align, .. } = argument {
            if *align > 1 {
                let mut args = good(what);
                args[n] = NOWHERE + align / 2;
                expect(&mut c, what, &args, STATUS_UNALIGNED, "half the alignment");
            }
        }
    });
}

fn ranges() {
    let mut c = case("CALL-6 a range that is not wholly in memory");
    each_buffer(|what, argument, n| {
        if let Argument::Buffer { limit, fixed, .. } = argument {
            let mut args = good(what);
            args[n] = NOWHERE;
            expect(&mut c, what, &args, STATUS_BAD_ADDRESS, "no memory there");
            args[n] = LAST;
            if !fixed {
                args[n + 1] = *limit;
            }
            expect(&mut c, what, &args, STATUS_BAD_ADDRESS, "it wraps");
        }
    });
}

fn empty() {
    let mut c = case("CALL-7 a buffer of length zero, wherever it is");
    each_buffer(|what, argument, n| {
        if let Argument::Buffer { fixed: false, .. } = argument {
            let mut args = good(what);
            args[n] = NOWHERE;
            args[n + 1] = 0;
            let status = known(trap(what.id as u64, &args).status);
            let refused = [STATUS_LIMIT, STATUS_UNALIGNED, STATUS_BAD_ADDRESS].contains(&status);
            c.of_call(what.id, refused as i64, 0, "the buffer is refused");
        }
    });
}

fn registers() {
    let mut c = case("CALL-9 registers after a trap");
    for id in [CALL_BASE_VERSION, 0xdead_0000] {
        let mut before = [0; 16];
        for (i, value) in before.iter_mut().enumerate() {
            *value = 0x0101_0101_0101_0101 * (i as u64 + 1);
        }
        before[0] = id as u64;
        before[2] = trap_port() as u64;
        let arguments = [1, 6, 7, 8, 9, 10];
        for n in arguments {
            before[n] = 0;
        }
        let mut after = before;
        trap_all(&mut after);
        let status = if id == CALL_BASE_VERSION { STATUS_OK } else { STATUS_NOT_SUPPORTED };
        c.is(after[0] as i64, status, "RAX");
        for n in [3, 5, 6, 7, 12, 13, 14, 15] {
            c.is(after[n] as i64, before[n] as i64, "a register that is preserved");
        }
    }
}

fn widths() {
    let mut c = case("CALL-17 accesses of another width, and reads, are no calls");
    let (byte, word, long): (u8, u16, u32);
    let status: u64;
    unsafe {
        core::arch::asm!("out dx, al", in("dx") trap_port(), inlateout("rax") CALL_BASE_VERSION as u64 => status);
        core::arch::asm!("in al, dx", in("dx") trap_port(), lateout("al") byte);
        core::arch::asm!("in ax, dx", in("dx") trap_port(), lateout("ax") word);
        core::arch::asm!("in eax, dx", in("dx") trap_port(), lateout("eax") long);
    }
    c.is(status as i64, CALL_BASE_VERSION as i64, "RAX after a write of a byte");
    c.is(byte as i64, 0xff, "a byte read");
    c.is(word as i64, 0xffff, "a word read");
    c.is(long as i64, 0xffff_ffff, "four bytes read");
}
