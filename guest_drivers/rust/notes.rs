// SPDX-License-Identifier: 0BSD
//! The ELF notes: little is required, so that hosts that offer little are judged, too.

use crate::paravirt_abi::*;

const OWNER_BYTES: usize = NOTE_OWNER.len() + 1;

#[repr(C, packed(4))]
pub struct Note<T> {
    owner_bytes: u32,
    size_bytes: u32,
    kind: u32,
    owner: [u8; (OWNER_BYTES + 3) & !3],
    payload: T,
}

const fn note<T>(kind: u32, payload: T) -> Note<T> {
    let (mut owner, name) = ([0; (OWNER_BYTES + 3) & !3], NOTE_OWNER.as_bytes());
    let mut i = 0;
    while i < name.len() {
        owner[i] = name[i];
        i += 1;
    }
    Note { owner_bytes: OWNER_BYTES as u32, size_bytes: core::mem::size_of::<T>() as u32, kind, owner, payload }
}

const fn want(name: &str, kind: u32, flags: u64) -> NoteDevice {
    let (mut device, name) = (NoteDevice::ZERO, name.as_bytes());
    let mut i = 0;
    while i < name.len() {
        device.name[i] = name[i];
        i += 1;
    }
    device.r#type = kind;
    device.flags = flags as u32;
    device
}

const fn need(service: u32) -> NoteService {
    NoteService { service, flags: 0, features: 0 }
}

#[repr(C, packed(4))]
pub struct Require {
    require: NoteRequire,
    services: [NoteService; 2],
}

#[used]
#[link_section = ".note.Paravirt"]
pub static REQUIRE: Note<Require> = note(
    NOTE_REQUIRE,
    Require {
        require: NoteRequire { major: ABI_MAJOR as u16, minor: ABI_MINOR as u16, services: 2 },
        services: [need(SERVICE_CONSOLE), need(SERVICE_SYSTEM)],
    },
);

/// What a runner of conformance images attaches if it has it; only the chapters in C look at them.
#[used]
#[link_section = ".note.Paravirt"]
pub static MANIFEST: Note<[NoteDevice; 8]> = note(
    NOTE_MANIFEST,
    [
        want("scratch", DEVICE_TYPE_BLOCK, DEVICE_FLAG_OPTIONAL),
        want("fixed", DEVICE_TYPE_BLOCK, DEVICE_FLAG_READ_ONLY | DEVICE_FLAG_OPTIONAL),
        want("mapped", DEVICE_TYPE_PMEM, DEVICE_FLAG_OPTIONAL),
        want("frozen", DEVICE_TYPE_PMEM, DEVICE_FLAG_READ_ONLY | DEVICE_FLAG_OPTIONAL),
        want("wire", DEVICE_TYPE_NET, DEVICE_FLAG_OPTIONAL),
        want("socks", DEVICE_TYPE_VSOCK, DEVICE_FLAG_OPTIONAL),
        want("rubber", DEVICE_TYPE_BALLOON, DEVICE_FLAG_OPTIONAL),
        want("dice", DEVICE_TYPE_ENTROPY, DEVICE_FLAG_OPTIONAL),
    ],
);

#[used]
#[link_section = ".note.Paravirt"]
pub static PRIVILEGE: Note<NotePrivilege> = note(NOTE_PRIVILEGE, NotePrivilege { privilege: PRIVILEGE_ANY, flags: 0 });
