// SPDX-License-Identifier: 0BSD
//! The cases, a file for each part of the specification.

mod base;
mod boot;
mod callring;
mod calls;
pub mod events;
mod others;
mod time;
mod vcpus;

/// All of them. `gates`: upcalls can be taken.
pub fn run(gates: bool) {
    boot::run();
    base::run();
    calls::run();
    callring::run();
    events::run(gates);
    time::run();
    vcpus::run();
    others::run();
}
