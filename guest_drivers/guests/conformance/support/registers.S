/* SPDX-License-Identifier: 0BSD
 *
 * A trap with every register as asked, and every register as it came back (CALL-9): out of the compiler's sight.
 *
 *	void cf_trap_registers(struct cf_trap *trap)
 *
 * struct cf_trap: general[16] in the order of struct cf_registers, RFLAGS, 8 bytes, xmm[16] of 16 bytes.
 */
	.text
	.code64
	.globl cf_trap_registers
cf_trap_registers:
	pushq %rbx
	pushq %rbp
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	pushq %rdi
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	movups 144 + 16 * \n(%rdi), %xmm\n
	.endr
	pushq 128(%rdi)
	movq (%rdi), %rax
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
	popfq
	outl %eax, %dx
	pushfq
	cld
	pushq %rax
	movq 16(%rsp), %rax
	movq %rcx, 8(%rax)
	popq %rcx
	movq %rcx, (%rax)
	popq %rcx
	movq %rcx, 128(%rax)
	movq %rdx, 16(%rax)
	movq %rbx, 24(%rax)
	movq %rsp, 32(%rax)
	movq %rbp, 40(%rax)
	movq %rsi, 48(%rax)
	movq %rdi, 56(%rax)
	movq %r8, 64(%rax)
	movq %r9, 72(%rax)
	movq %r10, 80(%rax)
	movq %r11, 88(%rax)
	movq %r12, 96(%rax)
	movq %r13, 104(%rax)
	movq %r14, 112(%rax)
	movq %r15, 120(%rax)
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	movups %xmm\n, 144 + 16 * \n(%rax)
	.endr
	popq %rdi
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbp
	popq %rbx
	ret

	.section .note.GNU-stack, "", @progbits
