// SPDX-License-Identifier: 0BSD
//! Memory that others write, too: the host, another vCPU, the machine's start.

use core::cell::UnsafeCell;

/// A static that is reached by its address alone; who writes it when is said where it stands.
#[repr(transparent)]
pub struct Shared<T>(UnsafeCell<T>);

unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub const fn new(value: T) -> Self {
        Shared(UnsafeCell::new(value))
    }

    pub fn get(&self) -> *mut T {
        self.0.get()
    }

    /// Memory is mapped one to one (BOOT-2).
    pub fn gpa(&self) -> u64 {
        self.get() as u64
    }

    pub fn read(&self) -> T
    where
        T: Copy,
    {
        unsafe { self.get().read_volatile() }
    }

    pub fn write(&self, value: T) {
        unsafe { self.get().write_volatile(value) }
    }
}
