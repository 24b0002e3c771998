// SPDX-License-Identifier: 0BSD
//! Host conformance in Rust alone: start code, calls and cases, from the generated module and nothing else.
//!
//! A restatement of the core of the specification by other hands than the chapters in C, so that a
//! mistake in the C header or its drivers does not hide itself.
#![no_std]
#![no_main]

mod boot;
mod call;
mod cases;
mod machine;
mod notes;
#[path = "../../hypercall_abi/rust/paravirt_abi.rs"]
mod paravirt_abi;
mod shared;
mod start;
mod tap;

use paravirt_abi::*;

fn guest_main(info: *const BootInfo) -> u64 {
    // Without a trap that is known here nothing can be said: None.
    let boot = match boot::parse(info as u64) {
        Some(boot) => boot,
        None => panic!(),
    };
    call::set_trap(boot.abi.trap as u16);
    if boot.refused != 0 {
        call::call(CALL_SYSTEM_SHUTDOWN, &[SHUTDOWN_BOOT_REFUSED as u64, boot.refused as u64]);
        // BOOT-3
    }
    machine::init(boot);
    let gates = boot.tables.map_or(false, |tables| start::gates_init(&tables));
    cases::run(gates);
    tap::finish()
}

fn upcall(vector: u32) {
    cases::events::upcall(vector);
}

fn bail_out(why: &str) -> ! {
    if call::trap_port() != 0 {
        tap::Line::new("Bail out! ").text(why).print();
        call::shutdown(2);
    }
    loop {
        unsafe { core::arch::asm!("ud2") }
    }
}
