/* SPDX-License-Identifier: 0BSD
 *
 * The start of a conformance image on vCPU 0 and on the others, which keeps the registers that the host
 * gave (BOOT-1, VCPU-6), and the entries of exceptions and upcalls.
 */
/* struct cf_registers at symbol(register), without RFLAGS and MXCSR */
#define KEEP(symbol, register) \
	movq %rax, symbol + 0(register); \
	movq %rcx, symbol + 8(register); \
	movq %rdx, symbol + 16(register); \
	movq %rbx, symbol + 24(register); \
	movq %rsp, symbol + 32(register); \
	movq %rbp, symbol + 40(register); \
	movq %rsi, symbol + 48(register); \
	movq %rdi, symbol + 56(register); \
	movq %r8, symbol + 64(register); \
	movq %r9, symbol + 72(register); \
	movq %r10, symbol + 80(register); \
	movq %r11, symbol + 88(register); \
	movq %r12, symbol + 96(register); \
	movq %r13, symbol + 104(register); \
	movq %r14, symbol + 112(register); \
	movq %r15, symbol + 120(register); \
	fnstcw symbol + 140(register); \
	movw $1, symbol + 142(register)

	.code64

	.section .text.entry, "ax"
	.globl cf_entry
cf_entry:
	KEEP(cf_at_entry, %rip)
	leaq stack_end(%rip), %rsp
	pushfq
	popq 128+cf_at_entry(%rip)
	movl %cs, %eax
	testl $3, %eax
	jz 1f /* a KVM that emulates CPL 0 does not know the next instruction */
	stmxcsr 136+cf_at_entry(%rip)
1:	cld
	xorl %ebp, %ebp
	call cf_main
	movslq %eax, %rsi /* the machine's status; system.shutdown, reason FAILURE or POWEROFF */
	xorl %edi, %edi
	testl %esi, %esi
	setnz %dil
	movl $0x80000, %eax
	movzwl pv_trap_port(%rip), %edx
	xorl %ecx, %ecx
	xorl %r8d, %r8d
	xorl %r9d, %r9d
	xorl %r10d, %r10d
	outl %eax, %dx
	ud2

	.globl cf_cpu_entry
cf_cpu_entry: /* RDI = struct cf_cpu, RSP = top of its stack */
	KEEP(0, %rdi)
	pushfq
	popq 128(%rdi)
	cld
	xorl %ebp, %ebp
	call cf_cpu_begin
	ud2

	.text
	.globl cf_exception_entries, cf_upcall_entry, cf_try
	.balign 32
cf_exception_entries: /* 32 bytes each; 2 is an upcall */
	.irp vector, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, \
		28, 29, 30, 31
	.balign 32
	.if \vector == 2
	pushq $2
	jmp upcall
	.else
	/* 8, 10 to 14, 17, 21, 29 and 30 have an error code of the CPU's own */
	.if !((0x60227d00 >> \vector) & 1)
	pushq $0
	.endif
	pushq $\vector
	jmp exception
	.endif
	.endr

exception:
	cld
	cmpq $0, expected_rsp(%rip)
	je 1f
	popq %rax
	movq expected_rsp(%rip), %rsp
	jmp tried
1:	popq %rdi
	movq %rsp, %rsi
	andq $-16, %rsp
	call cf_unexpected
	ud2

	.balign 32
cf_upcall_entry:
	pushq $96 /* CF_VECTOR */
upcall:
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
	call cf_upcall
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

cf_try: /* (run, argument): what the compiler expects to survive is on the stack that an exception comes back to */
	pushq %rbx
	pushq %rbp
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	movq %rsp, expected_rsp(%rip)
	subq $8, %rsp
	movq %rdi, %rax
	movq %rsi, %rdi
	call *%rax
	addq $8, %rsp
	xorl %eax, %eax
tried:	movq $0, expected_rsp(%rip)
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbp
	popq %rbx
	ret

	.bss
	.globl cf_at_entry
	.balign 16
cf_at_entry:
	.skip 144
expected_rsp:
	.skip 16
	.skip 16384
stack_end:

	.section .note.GNU-stack, "", @progbits
