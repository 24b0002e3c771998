/* SPDX-License-Identifier: 0BSD
 *
 * The entry of Paravirt hosts (64-bit mode, RDI = boot information, no stack) and that of further
 * vCPUs.  PVH hosts come in by pvh.S.
 */
	.cfi_sections .debug_frame
	.section .text.entry, "ax"
	.code64
	.globl pv_entry
	.type pv_entry, @function
pv_entry:
	.cfi_startproc
	.cfi_undefined rip /* nobody called it */
	cld
	leaq pv_boot_stack_end(%rip), %rsp
	xorl %ebp, %ebp
	call pv_start_paravirt
	ud2
	.cfi_endproc
	.size pv_entry, . - pv_entry

	/* RDI = struct pv_cpu, RSP = top of its stack (pv_cpu_start) */
	.globl pv_cpu_entry
	.type pv_cpu_entry, @function
pv_cpu_entry:
	.cfi_startproc
	.cfi_undefined rip
	cld
	xorl %ebp, %ebp
	call pv_start_cpu
	ud2
	.cfi_endproc
	.size pv_cpu_entry, . - pv_cpu_entry

	/* aligned to its size, so that the vCPU's block is found from RSP (guest.h) */
	.section .bss.stack, "aw", @nobits
	.globl pv_boot_stack, pv_boot_stack_end
	.balign 16384
pv_boot_stack:
	.skip 16384
pv_boot_stack_end:

	.section .note.GNU-stack, "", @progbits
