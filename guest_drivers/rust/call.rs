// SPDX-License-Identifier: 0BSD
//! Calls over the trap (port) and in batches.

use crate::paravirt_abi::*;
use crate::shared::Shared;
use core::arch::asm;
use core::sync::atomic::{AtomicU16, Ordering};

static TRAP_PORT: AtomicU16 = AtomicU16::new(0);

pub const ARGUMENTS: usize = LIMIT_ARGUMENTS as usize;

#[derive(Clone, Copy)]
pub struct Answer {
    /// One of STATUS_; an unknown negative one is FAILED (ERR-1).
    pub status: i64,
    /// Undefined when the status is negative (CALL-10).
    pub value: u64,
}

impl Answer {
    pub fn ok(&self) -> bool {
        self.status >= 0
    }
}

pub fn set_trap(port: u16) {
    TRAP_PORT.store(port, Ordering::SeqCst);
}

pub fn trap_port() -> u16 {
    TRAP_PORT.load(Ordering::SeqCst)
}

/// The trap as it is, with all of RAX as given.
pub fn trap(rax: u64, args: &[u64; ARGUMENTS]) -> Answer {
    let (status, value): (u64, u64);
    // CALL-9: of the general registers RCX and R8 to R11 are lost. The host reads and writes memory (CALL-15).
    unsafe {
        asm!(
            "out dx, eax",
            inlateout("rax") rax => status,
            inlateout("rdx") trap_port() as u64 => value,
            in("rdi") args[0],
            in("rsi") args[1],
            inlateout("rcx") args[2] => _,
            inlateout("r8") args[3] => _,
            inlateout("r9") args[4] => _,
            inlateout("r10") args[5] => _,
            lateout("r11") _,
        );
    }
    Answer { status: status as i64, value }
}

/// `args`, and zeros for those that the call does not have (CALL-5).
pub fn padded(args: &[u64]) -> [u64; ARGUMENTS] {
    let mut all = [0; ARGUMENTS];
    for (place, value) in all.iter_mut().zip(args) {
        *place = *value;
    }
    all
}

pub fn known(status: i64) -> i64 {
    if status < STATUS_NO_MEMORY {
        STATUS_FAILED // ERR-1
    } else {
        status
    }
}

pub fn call(id: u32, args: &[u64]) -> Answer {
    let answer = trap(id as u64, &padded(args));
    Answer { status: known(answer.status), value: answer.value }
}

pub const BATCH: usize = 4;

#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub struct Submissions(pub [Submission; BATCH]);
#[repr(C, align(32))]
#[derive(Clone, Copy)]
pub struct Completions(pub [Completion; BATCH]);

/// vCPU 0's.
pub static SUBMISSIONS: Shared<Submissions> = Shared::new(Submissions([Submission::ZERO; BATCH]));
pub static COMPLETIONS: Shared<Completions> = Shared::new(Completions([Completion::ZERO; BATCH]));

/// Hands over the first `count` submissions.
pub fn batch(count: u64) -> Answer {
    call(CALL_BASE_BATCH, &[SUBMISSIONS.gpa(), count, COMPLETIONS.gpa(), count])
}

/// One call by a batch of one. None: the batch itself did not work.
pub fn batched(id: u32, args: &[u64; ARGUMENTS]) -> Option<Answer> {
    const COOKIE: u64 = 0x7275_7374;
    let mut all = SUBMISSIONS.read();
    all.0[0] = Submission { call: id, flags: 0, args: *args, cookie: COOKIE };
    SUBMISSIONS.write(all);
    COMPLETIONS.write(Completions([Completion::ZERO; BATCH]));
    let answer = batch(1);
    let done = COMPLETIONS.read().0[0];
    if answer.status != STATUS_OK || answer.value != 1 || done.cookie != COOKIE {
        return None;
    }
    Some(Answer { status: known(done.status), value: done.value })
}

/// Ends the machine.
pub fn shutdown(status: u64) -> ! {
    let reason = if status == 0 { SHUTDOWN_POWEROFF } else { SHUTDOWN_FAILURE };
    loop {
        call(CALL_SYSTEM_SHUTDOWN, &[reason as u64, status]);
    }
}

/// console.write of at most CONSOLE_BYTES.
pub fn write(text: &[u8]) -> Answer {
    call(CALL_CONSOLE_WRITE, &[text.as_ptr() as u64, text.len() as u64])
}
