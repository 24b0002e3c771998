// SPDX-License-Identifier: 0BSD
//! What the cases ask of the machine: services, memory, the clock, pages of vCPUs, other vCPUs.

use crate::boot::{at, Boot};
use crate::call::call;
use crate::paravirt_abi::*;
use crate::shared::Shared;
use crate::start;
use core::arch::asm;
use core::mem::size_of;
use core::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering::SeqCst};

pub const PAGE: u64 = 4096;
pub const SECOND: u64 = 1_000_000_000;
/// No x86-64 has memory there, and it has every alignment.
pub const NOWHERE: u64 = 1 << 52;
const SERVICES: usize = 64;

/// Written before the first case, by vCPU 0.
static BOOT: Shared<Option<Boot>> = Shared::new(None);
static NEXT: AtomicU64 = AtomicU64::new(0);
static END: AtomicU64 = AtomicU64::new(0);

/// Keeps `boot`, and takes the largest range of RAM, which may hold neither image nor tables (BOOT-12).
pub fn init(boot: Boot) {
    for range in boot.memory {
        if range.kind == MEMORY_KIND_RAM && range.size_bytes > END.load(SeqCst) - NEXT.load(SeqCst) {
            NEXT.store(range.gpa, SeqCst);
            END.store(range.gpa + range.size_bytes, SeqCst);
        }
    }
    BOOT.write(Some(boot));
}

pub fn boot() -> Boot {
    match BOOT.read() {
        Some(boot) => boot,
        None => crate::bail_out("no boot information yet"),
    }
}

pub fn is_user() -> bool {
    boot().abi.privilege == PRIVILEGE_USER
}

/// Whole pages of RAM that are nobody's, for good; not cleared.
pub fn take(pages: u64) -> u64 {
    let gpa = (NEXT.load(SeqCst) + PAGE - 1) & !(PAGE - 1);
    NEXT.store(gpa + pages * PAGE, SeqCst);
    if gpa + pages * PAGE > END.load(SeqCst) {
        crate::bail_out("out of memory");
    }
    gpa
}

/// The record of a service that is offered.
pub fn service(number: u32) -> Option<ServiceInfo> {
    static TABLE: Shared<[ServiceInfo; SERVICES]> = Shared::new([ServiceInfo::ZERO; SERVICES]);
    let size = size_of::<ServiceInfo>();
    let answer = call(CALL_BASE_SERVICES, &[TABLE.gpa(), (SERVICES * size) as u64]);
    let count = if answer.ok() { answer.value / size as u64 } else { 0 };
    (0..count).map(|i| at::<ServiceInfo>(TABLE.gpa() + i * size as u64)).find(|info| info.service == number)
}

pub fn exists(id: u32) -> bool {
    service(id >> 16).map_or(false, |info| info.calls >> (id & 31) & 1 != 0)
}

// ---- pages that are shared with the host ----

/// A field of a record in memory as an atomic word.
macro_rules! word {
    ($kind:ty, $gpa:expr, $record:ident . $field:ident) => {
        unsafe { &*(core::ptr::addr_of!((*($gpa as *const $record)).$field) as *const $kind) as &'static $kind }
    };
}
pub(crate) use word;

/// The page of a vCPU, by its words.
#[derive(Clone, Copy)]
pub struct Page(u64);

pub fn page(vcpu: u32) -> Page {
    let pages = boot().pages;
    Page(pages.vcpu_gpa + vcpu as u64 * pages.vcpu_stride_bytes)
}

impl Page {
    pub fn upcall_pending(&self) -> &'static AtomicU32 {
        word!(AtomicU32, self.0, VcpuPage.upcall_pending)
    }

    pub fn upcall_mask(&self) -> &'static AtomicU32 {
        word!(AtomicU32, self.0, VcpuPage.upcall_mask)
    }

    pub fn pending(&self, channel: u32) -> &'static AtomicU64 {
        &word!([AtomicU64; 4], self.0, VcpuPage.pending)[channel as usize / 64]
    }

    pub fn mask(&self, channel: u32) -> &'static AtomicU64 {
        &word!([AtomicU64; 4], self.0, VcpuPage.mask)[channel as usize / 64]
    }

    pub fn deadline_ns(&self) -> u64 {
        word!(AtomicU64, self.0, VcpuPage.deadline_ns).load(SeqCst)
    }

    pub fn index(&self) -> u32 {
        word!(AtomicU32, self.0, VcpuPage.index).load(SeqCst)
    }

    /// Clears upcall_pending first (EVT-3), then the channel's bit; whether it was set.
    pub fn take(&self, channel: u32) -> bool {
        self.upcall_pending().swap(0, SeqCst);
        let bit = 1 << (channel % 64);
        self.pending(channel).fetch_and(!bit, SeqCst) & bit != 0
    }

    pub fn is_pending(&self, channel: u32) -> bool {
        self.pending(channel).load(SeqCst) >> (channel % 64) & 1 != 0
    }
}

// ---- time ----

/// The counter, ordered after earlier loads and before later ones (TIME-1 between vCPUs).
fn counter() -> u64 {
    let (low, high): (u32, u32);
    unsafe { asm!("lfence", "rdtsc", "lfence", out("eax") low, out("edx") high) };
    (high as u64) << 32 | low as u64
}

/// Monotonic time from the time page alone.
pub fn now_ns() -> u64 {
    let gpa = boot().pages.time_gpa;
    let sequence: &AtomicU32 = word!(AtomicU32, gpa, TimePage.sequence);
    loop {
        let before = sequence.load(SeqCst);
        fence(SeqCst);
        let page: TimePage = at(gpa);
        let usable = page.flags as u64 & TIME_FLAG_COUNTER != 0;
        let count = if usable { counter().saturating_sub(page.base_counter) } else { 0 }; // TIME-4
        fence(SeqCst);
        if before & 1 == 0 && sequence.load(SeqCst) == before {
            let ns = (count as u128 * page.multiplier as u128) >> (page.shift & 63);
            return page.base_ns + ns as u64;
        }
        relax();
    }
}

pub fn relax() {
    unsafe { asm!("pause", options(nomem, nostack)) }
}

/// Whether `holds` became true within `patience_ns`; makes no calls itself.
pub fn soon(patience_ns: u64, mut holds: impl FnMut() -> bool) -> bool {
    let end = now_ns() + patience_ns;
    while !holds() {
        if now_ns() > end {
            return holds();
        }
        relax();
    }
    true
}

// ---- vCPU 1 ----

static SECOND_STACK: Shared<start::Stack> = Shared::new(start::Stack([0; 16384]));

/// The arguments of vcpu.start for a function on vCPU 1, which stops when it returns.
pub fn start_arguments(run: extern "C" fn()) -> [u64; 4] {
    let top = SECOND_STACK.gpa() + size_of::<start::Stack>() as u64;
    [1, start::cpu_entry(), top, run as *const () as u64]
}

pub fn is_stopped() -> bool {
    call(CALL_VCPU_STATE, &[1]).value == VCPU_STATE_STOPPED as u64
}
