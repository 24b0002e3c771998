// SPDX-License-Identifier: 0BSD
//! The start of vCPU 0 and of the others, the gates of exceptions and upcalls, and what the compiler calls.
//!
//! A crate root brings `notes`, and two functions: `guest_main(info) -> status` and `bail_out(why) -> !`.

use crate::paravirt_abi::*;
use crate::shared::Shared;
use core::arch::global_asm;

/// General registers in the CPU's order (RAX RCX RDX RBX RSP RBP RSI RDI R8 to R15), flags, control words.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Registers {
    pub general: [u64; 16],
    pub rflags: u64,
    pub mxcsr: u32,
    pub fcw: u16,
    pub valid: u16,
}

pub const RDI: usize = 7;
/// The interrupt of upcalls by vector.
pub const VECTOR: u32 = 96;
const EXCEPTIONS: usize = 32;
const TRAP_GATE: u16 = 0xef00; // present, DPL 3, type 15: leaves IF alone; IST 0 (BOOT-5)
const APIC_EOI: u64 = 0xfee0_00b0; // BOOT-11

const NO_REGISTERS: Registers = Registers { general: [0; 16], rflags: 0, mxcsr: 0, fcw: 0, valid: 0 };

/// What the host gave vCPU 0 (BOOT-1).
#[no_mangle]
pub static RUST_AT_ENTRY: Shared<Registers> = Shared::new(NO_REGISTERS);

#[repr(C, align(16))]
pub struct Stack(pub [u8; 16384]);
#[no_mangle]
static RUST_STACK: Shared<Stack> = Shared::new(Stack([0; 16384]));

global_asm!(
    r#"
    .section .text.entry, "ax"
    .globl rust_entry
rust_entry:
    movq %rax, RUST_AT_ENTRY + 0(%rip)
    movq %rcx, RUST_AT_ENTRY + 8(%rip)
    movq %rdx, RUST_AT_ENTRY + 16(%rip)
    movq %rbx, RUST_AT_ENTRY + 24(%rip)
    movq %rsp, RUST_AT_ENTRY + 32(%rip)
    movq %rbp, RUST_AT_ENTRY + 40(%rip)
    movq %rsi, RUST_AT_ENTRY + 48(%rip)
    movq %rdi, RUST_AT_ENTRY + 56(%rip)
    movq %r8, RUST_AT_ENTRY + 64(%rip)
    movq %r9, RUST_AT_ENTRY + 72(%rip)
    movq %r10, RUST_AT_ENTRY + 80(%rip)
    movq %r11, RUST_AT_ENTRY + 88(%rip)
    movq %r12, RUST_AT_ENTRY + 96(%rip)
    movq %r13, RUST_AT_ENTRY + 104(%rip)
    movq %r14, RUST_AT_ENTRY + 112(%rip)
    movq %r15, RUST_AT_ENTRY + 120(%rip)
    leaq RUST_STACK + 16384(%rip), %rsp
    pushfq /* before anything changes them */
    popq RUST_AT_ENTRY + 128(%rip)
    movl %cs, %eax
    testl $3, %eax
    jz 1f /* a KVM that emulates CPL 0 does not know this instruction */
    stmxcsr RUST_AT_ENTRY + 136(%rip)
1:  fnstcw RUST_AT_ENTRY + 140(%rip)
    movw $1, RUST_AT_ENTRY + 142(%rip)
    cld
    xorl %ebp, %ebp
    call rust_start
    ud2

    .globl rust_cpu_entry
rust_cpu_entry: /* RDI = a function without arguments, RSP = top of a stack */
    cld
    xorl %ebp, %ebp
    call rust_start_cpu
    ud2

    .text
    .balign 16
    .globl rust_nmi_entry
rust_nmi_entry:
    pushq $2
    jmp rust_upcall_common
    .balign 16
    .globl rust_vector_entry
rust_vector_entry:
    pushq $96
rust_upcall_common: /* no vector registers: the crate is built without any (BOOT-6) */
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %rbp
    cld
    movq 80(%rsp), %rdi
    movq %rsp, %rbp
    andq $-16, %rsp
    call rust_upcall
    movq %rbp, %rsp
    popq %rbp
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rax
    addq $8, %rsp
    iretq

    .balign 16
    .globl rust_exception_entry
rust_exception_entry:
    cld
    andq $-16, %rsp
    call rust_exception
    ud2

    .globl rust_trap_all
rust_trap_all: /* RDI = 16 registers in the CPU's order: loaded, the trap, stored again (CALL-9) */
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    pushq %rdi
    movq 0(%rdi), %rax
    movq 8(%rdi), %rcx
    movq 16(%rdi), %rdx
    movq 24(%rdi), %rbx
    movq 40(%rdi), %rbp
    movq 48(%rdi), %rsi
    movq 64(%rdi), %r8
    movq 72(%rdi), %r9
    movq 80(%rdi), %r10
    movq 88(%rdi), %r11
    movq 96(%rdi), %r12
    movq 104(%rdi), %r13
    movq 112(%rdi), %r14
    movq 120(%rdi), %r15
    movq 56(%rdi), %rdi
    outl %eax, %dx
    xchgq %rdi, (%rsp)
    movq %rax, 0(%rdi)
    movq %rcx, 8(%rdi)
    movq %rdx, 16(%rdi)
    movq %rbx, 24(%rdi)
    movq %rsp, 32(%rdi)
    movq %rbp, 40(%rdi)
    movq %rsi, 48(%rdi)
    movq %r12, 96(%rdi)
    movq %r13, 104(%rdi)
    movq %r14, 112(%rdi)
    movq %r15, 120(%rdi)
    popq %rax
    movq %rax, 56(%rdi)
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

    .weak memcpy, memmove, memset, memcmp, bcmp /* a C library's own come first */
memmove:
    cmpq %rsi, %rdi
    jbe memcpy
    leaq (%rsi, %rdx), %rax
    cmpq %rax, %rdi
    jae memcpy
    movq %rdi, %rax
    movq %rdx, %rcx
    leaq -1(%rdi, %rdx), %rdi
    leaq -1(%rsi, %rdx), %rsi
    std
    rep movsb
    cld
    ret
memcpy:
    movq %rdi, %rax
    movq %rdx, %rcx
    rep movsb
    ret
memset:
    movq %rdi, %r8
    movl %esi, %eax
    movq %rdx, %rcx
    rep stosb
    movq %r8, %rax
    ret
memcmp:
bcmp:
    xorl %eax, %eax
    movq %rdx, %rcx
    cmpq %rax, %rax
    repe cmpsb
    je 1f
    movzbl -1(%rdi), %eax
    movzbl -1(%rsi), %ecx
    subl %ecx, %eax
1:  ret
"#,
    options(att_syntax)
);

extern "C" {
    fn rust_nmi_entry();
    fn rust_vector_entry();
    fn rust_exception_entry();
    fn rust_cpu_entry();
    fn rust_trap_all(registers: *mut [u64; 16]);
}

/// The trap with all registers as given, and as they are afterwards.
pub fn trap_all(registers: &mut [u64; 16]) {
    unsafe { rust_trap_all(registers) }
}

/// Address of the first instruction of another vCPU; its argument is a `fn()`.
pub fn cpu_entry() -> u64 {
    rust_cpu_entry as *const () as u64
}

#[no_mangle]
extern "C" fn rust_start(info: *const BootInfo) -> ! {
    let status = crate::guest_main(info);
    crate::call::shutdown(status)
}

#[no_mangle]
extern "C" fn rust_start_cpu(run: extern "C" fn()) -> ! {
    run();
    loop {
        crate::call::call(CALL_VCPU_STOP, &[]);
    }
}

#[no_mangle]
extern "C" fn rust_upcall(vector: u64) {
    if vector == VECTOR as u64 {
        unsafe { core::ptr::write_volatile(APIC_EOI as *mut u32, 0) }; // EVT-9
    }
    crate::upcall(vector as u32);
}

#[no_mangle]
extern "C" fn rust_exception() -> ! {
    crate::bail_out("an exception that no case wanted")
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    crate::bail_out("a panic of the program")
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Gate {
    offset_low: u16,
    selector: u16,
    flags: u16,
    offset_middle: u16,
    offset_high: u32,
    reserved: u32,
}

fn gate(code: unsafe extern "C" fn(), selector: u16) -> Gate {
    let entry = code as *const () as u64;
    Gate {
        offset_low: entry as u16,
        selector,
        flags: TRAP_GATE,
        offset_middle: (entry >> 16) as u16,
        offset_high: (entry >> 32) as u32,
        reserved: 0,
    }
}

/// Fills the table that the host made; false if it has no room.
pub fn gates_init(tables: &BootTables) -> bool {
    let size = core::mem::size_of::<Gate>();
    if (tables.idt_bytes as usize) < (VECTOR as usize + 1) * size {
        return false;
    }
    let idt = tables.idt_gpa as *mut Gate;
    let put = |vector: usize, code| unsafe { idt.add(vector).write_volatile(gate(code, tables.code_selector)) };
    for vector in 0..EXCEPTIONS {
        put(vector, rust_exception_entry);
    }
    put(UPCALL_NMI as usize, rust_nmi_entry);
    put(VECTOR as usize, rust_vector_entry);
    true
}
