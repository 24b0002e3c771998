// SPDX-License-Identifier: 0BSD
//! The chapters of host conformance, which are C, behind the start code, the notes and the end of Rust's.
#![no_std]
#![no_main]

#[allow(dead_code)] // here and below: what the cases in Rust use
mod boot;
#[allow(dead_code)]
mod call;
mod notes;
#[path = "../../hypercall_abi/rust/paravirt_abi.rs"]
mod paravirt_abi;
#[allow(dead_code)]
mod shared;
#[allow(dead_code)]
mod start;

use paravirt_abi::*;

extern "C" {
    /// Runs the chapters that are linked; 0 if all cases passed (conformance.h).
    fn cf_main(info: *const BootInfo) -> i32;
    /// What the chapters are told of the registers at entry.
    static mut cf_at_entry: start::Registers;
}

fn guest_main(info: *const BootInfo) -> u64 {
    // Without a trap that is known here nothing can be said.
    let boot = match boot::parse(info as u64) {
        Some(boot) => boot,
        None => panic!(),
    };
    call::set_trap(boot.abi.trap as u16);
    unsafe {
        cf_at_entry = start::RUST_AT_ENTRY.read();
        cf_main(info) as u64
    }
}

/// The chapters have gates of their own.
fn upcall(_vector: u32) {}

fn bail_out(_why: &str) -> ! {
    if call::trap_port() != 0 {
        call::write(b"Bail out! the start code cannot go on\n");
        call::shutdown(2);
    }
    loop {
        unsafe { core::arch::asm!("ud2") }
    }
}
