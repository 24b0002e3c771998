// SPDX-License-Identifier: 0BSD
//! The boot information: records of type, length and value, which stay where the host put them (BOOT-9).

use crate::paravirt_abi::*;
use core::mem::size_of;
use core::slice;

/// What the records said.
#[derive(Clone, Copy)]
pub struct Boot {
    pub info: BootInfo,
    pub gpa: u64,
    pub abi: BootAbi,
    pub vcpus: u32,
    pub pages: BootPages,
    pub memory: &'static [BootMemory],
    pub tables: Option<BootTables>,
    /// The first mandatory record that is not known here, or zero (BOOT-3).
    pub refused: u16,
}

/// One record: its head, and where its payload is.
#[derive(Clone, Copy)]
pub struct Entry {
    pub head: BootHeader,
    pub payload: u64,
}

/// The records in order; ends behind END, or where one does not fit.
pub struct Entries {
    at: u64,
    end: u64,
}

/// What lies at `gpa`, mapped one to one (BOOT-2).
pub fn at<T: Copy>(gpa: u64) -> T {
    unsafe { (gpa as *const T).read_volatile() }
}

pub fn entries(info: u64) -> Entries {
    let head: BootInfo = at(info);
    Entries { at: info + size_of::<BootInfo>() as u64, end: info + head.size_bytes as u64 }
}

impl Iterator for Entries {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let payload = self.at + size_of::<BootHeader>() as u64;
        if payload > self.end {
            return None;
        }
        let head: BootHeader = at(self.at);
        let size = (head.size_bytes as u64 + 7) & !7;
        if size > self.end - payload {
            return None;
        }
        self.at = if head.r#type as u32 == BOOT_RECORD_END { self.end + 1 } else { payload + size };
        Some(Entry { head, payload })
    }
}

impl Entry {
    /// The payload as a record; None if it is too short. A longer one is a later version's (BOOT-7).
    fn payload<T: Copy>(&self) -> Option<T> {
        (self.head.size_bytes as usize >= size_of::<T>()).then(|| at(self.payload))
    }
}

/// None if a record that every guest needs is missing or short, or another major version speaks.
pub fn parse(info: u64) -> Option<Boot> {
    let head: BootInfo = at(info);
    if head.magic != BOOT_MAGIC {
        return None;
    }
    let (mut abi, mut vcpus, mut pages, mut tables) = (None, None, None, None);
    let (mut memory, mut refused) = (&[][..], 0);
    for entry in entries(info) {
        match entry.head.r#type as u32 {
            BOOT_RECORD_ABI => abi = entry.payload::<BootAbi>(),
            BOOT_RECORD_VCPUS => vcpus = entry.payload::<BootVcpus>(),
            BOOT_RECORD_PAGES => pages = entry.payload::<BootPages>(),
            BOOT_RECORD_TABLES => tables = entry.payload::<BootTables>(),
            BOOT_RECORD_MEMORY_MAP => {
                let count = entry.head.size_bytes as usize / size_of::<BootMemory>();
                memory = unsafe { slice::from_raw_parts(entry.payload as *const BootMemory, count) };
            }
            BOOT_RECORD_END | BOOT_RECORD_COMMAND_LINE | BOOT_RECORD_MACHINE | BOOT_RECORD_SEED => {}
            _ if entry.head.flags as u64 & BOOT_FLAG_MANDATORY != 0 && refused == 0 => refused = entry.head.r#type,
            _ => {}
        }
    }
    let (abi, vcpus, pages) = (abi?, vcpus?.count, pages?);
    if abi.major as u32 != ABI_MAJOR || memory.is_empty() || abi.trap_kind != TRAP_KIND_PORT {
        return None;
    }
    Some(Boot { info: head, gpa: info, abi, vcpus, pages, memory, tables, refused })
}
