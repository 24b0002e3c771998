/* SPDX-License-Identifier: 0BSD
 *
 * The entry of PVH hosts: 32-bit protected mode without paging, EBX = hvm_start_info.  Makes what a
 * Paravirt host would have made (page tables, GDT, TSS with all ports open, an IDT), arms KVM's clock
 * while it still may, and goes down to CPL 3 by iretq: where KVM emulates CPL 0, that is the only level
 * at which a guest is fast.
 */
#define CODE_KERNEL 0x08
#define TSS 0x10
#define CODE_USER 0x23 /* PV_PVH_CODE_USER */
#define DATA_USER 0x2b
#define TSS_BYTES 104
#define PORT_BYTES 8192

#define MSR_EFER 0xc0000080
#define MSR_KVM_WALL_CLOCK 0x4b564d00
#define MSR_KVM_SYSTEM_TIME 0x4b564d01

	.section .note.Xen, "a", @note
	.balign 4
	.long 4, 8, 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.quad pv_pvh_entry

	.text
	.code32
	.globl pv_pvh_entry
pv_pvh_entry:
	cld
	movl $pv_boot_stack_end, %esp
	movl %ebx, %edi
	call arm_kvm_clock

	/* what a linker cannot write: the pieces of the TSS's address, and the map's last byte */
	movl $pv_tss, %eax
	movw %ax, gdt + TSS + 2
	shrl $16, %eax
	movb %al, gdt + TSS + 4
	movb %ah, gdt + TSS + 7
	movw $TSS_BYTES, pv_tss + 102
	movb $0xff, pv_tss + TSS_BYTES + PORT_BYTES
	lgdt gdt_pointer

	movl %cr4, %eax
	orl $0x20, %eax /* PAE */
	movl %eax, %cr4
	movl $pml4, %eax
	movl %eax, %cr3
	movl $MSR_EFER, %ecx
	rdmsr
	orl $0x100, %eax /* LME */
	wrmsr
	movl %cr0, %eax
	orl $0x80000001, %eax /* PG, PE */
	movl %eax, %cr0
	ljmp $CODE_KERNEL, $1f

	/* KVM's signature and its feature 3: the clock by the newer MSRs. Changes all but EDI. */
arm_kvm_clock:
	movl $0x40000000, %eax
	cpuid
	cmpl $0x4b4d564b, %ebx
	jne 2f
	movl $0x40000001, %eax
	cpuid
	testl $8, %eax
	jz 2f
	xorl %edx, %edx
	movl $MSR_KVM_SYSTEM_TIME, %ecx
	movl $pv_kvm_time + 1, %eax
	wrmsr
	movl $MSR_KVM_WALL_CLOCK, %ecx
	movl $pv_kvm_wall, %eax
	wrmsr
2:	ret

	.code64
1:	lidt idt_pointer
	movl $TSS, %eax
	ltr %ax
	xorl %eax, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %fs
	movl %eax, %gs
	movl %edi, %ebx
	call pv_discover
	/* IOPL 3 and the map: which of the two a hypervisor honours differs */
	pushq $DATA_USER
	pushq $pv_boot_stack_end
	pushq $0x3002
	pushq $CODE_USER
	pushq $3f
	iretq
3:	xorl %ebp, %ebp
	movl %ebx, %edi
	call pv_start_pvh
	ud2

	.data
	.balign 8
gdt:	.quad 0
	.quad 0x00af9b000000ffff
	.quad 0x0000890000000000 + TSS_BYTES + PORT_BYTES, 0
	.quad 0x00affb000000ffff
	.quad 0x00cff3000000ffff
gdt_pointer:
	.word . - gdt - 1
	.quad gdt
idt_pointer:
	.word 4095
	.quad pv_idt

	/*
	 * 5 GiB one to one, user and writable, in 2 MiB pages but for the first: page zero is not mapped, as
	 * on Paravirt hosts (BOOT-2).  In the fifth are mapped disks; what does not fit there goes on in pages of 1 GiB
	 * up to 64 GiB: on a CPU that has none, an access is a page fault.  Built here, where it costs no instructions.
	 */
	.balign 4096
pml4:	.quad pdpt + 7
	.fill 511, 8, 0
pdpt:	.quad pd + 7, pd + 0x1007, pd + 0x2007, pd + 0x3007, pd + 0x4007
	.set page, 0x140000087
	.rept 59
	.quad page
	.set page, page + 0x40000000
	.endr
	.fill 448, 8, 0
pd:	.quad pt + 7
	.set page, 0x200087
	.rept 2559
	.quad page
	.set page, page + 0x200000
	.endr
pt:	.quad 0
	.set page, 0x1007
	.rept 511
	.quad page
	.set page, page + 0x1000
	.endr

	.bss
	.globl pv_idt, pv_kvm_time, pv_kvm_wall
	.balign 4096
pv_idt:	.skip 4096
	.balign 64
pv_kvm_time:
	.skip 32
pv_kvm_wall:
	.skip 16
	.balign 64
pv_tss:	.skip TSS_BYTES + PORT_BYTES + 8

	.section .note.GNU-stack, "", @progbits
