/* SPDX-License-Identifier: 0BSD
 *
 * Entries of exceptions and of the upcall (vector 2).  They come by trap gates to the level that was
 * running and push on the running stack (BOOT-5, BOOT-6); everything is saved, the C side decides.
 */
	.cfi_sections .debug_frame
	.text
	.code64

	.globl pv_trap_entries
	.balign 16
pv_trap_entries: /* 16 bytes each */
	.irp vector, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, \
		28, 29, 30, 31
	.balign 16
	/* 8, 10 to 14, 17, 21, 29 and 30 have an error code of the CPU's own */
	.if !((0x60227d00 >> \vector) & 1)
	pushq $0
	.endif
	pushq $\vector
	jmp common
	.endr

	.globl pv_upcall_entry
	.balign 16
pv_upcall_entry: /* an upcall as an ordinary interrupt */
	pushq $0
	pushq $64 /* PV_UPCALL_VECTOR */

	/* What was interrupted is found by debuggers from RBP, which pv_trap leaves alone: 22 words of the frame. */
	.cfi_startproc simple
	.cfi_signal_frame
common: /* struct pv_frame, from its end */
	pushq %r15
	pushq %r14
	pushq %r13
	pushq %r12
	pushq %r11
	pushq %r10
	pushq %r9
	pushq %r8
	pushq %rbp
	pushq %rdi
	pushq %rsi
	pushq %rdx
	pushq %rcx
	pushq %rbx
	pushq %rax
	cld
	movq %rsp, %rdi
	movq %rsp, %rbp
	.cfi_def_cfa rbp, 0
	.cfi_offset rax, 0
	.cfi_offset rbx, 8
	.cfi_offset rcx, 16
	.cfi_offset rdx, 24
	.cfi_offset rsi, 32
	.cfi_offset rdi, 40
	.cfi_offset rbp, 48
	.cfi_offset r8, 56
	.cfi_offset r9, 64
	.cfi_offset r10, 72
	.cfi_offset r11, 80
	.cfi_offset r12, 88
	.cfi_offset r13, 96
	.cfi_offset r14, 104
	.cfi_offset r15, 112
	.cfi_offset rip, 136
	.cfi_offset rsp, 160
	andq $-16, %rsp
	call pv_trap
	movq %rbp, %rsp
	popq %rax
	popq %rbx
	popq %rcx
	popq %rdx
	popq %rsi
	popq %rdi
	popq %rbp
	popq %r8
	popq %r9
	popq %r10
	popq %r11
	popq %r12
	popq %r13
	popq %r14
	popq %r15
	addq $16, %rsp
	iretq
	.cfi_endproc

	.section .note.GNU-stack, "", @progbits
