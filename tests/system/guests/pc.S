/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A plain guest, entered by PVH, that does what its serial port is told: 'r' resets the machine, 'o' switches it
 * off, 's' starts the second CPU by IPIs, which says 'A' in real mode; anything else comes back.  It looks for nothing by ACPI: the ports are those of our tables.
 */
#define COM1 0x3f8
#define LINE_STATUS (COM1 + 5)
#define SLEEP_CONTROL 0x5058
#define RESET 0x505a
#define APIC_COMMAND 0xfee00300
#define APIC_TARGET 0xfee00310
#define SECOND_AT 0x8000 /* where the second CPU begins: the start-up IPI names the page */

	.macro SEND /* AL; there is no stack */
	movw $COM1, %dx
	outb %al, %dx
	.endm

	.section .note.Xen, "a", @note
	.long 4, 4, 18 /* sizes of name and value, XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long start

	.text
	.code32
	.global start
start:
	movw $0xcf8, %dx /* how a PC's bus is asked; a byte at 0xcf9 would be a reset */
	movl $0x80000400, %eax
	outl %eax, %dx
	movb $'>', %al
	SEND
next:
	movw $LINE_STATUS, %dx
	inb %dx, %al
	testb $1, %al
	jz next
	movw $COM1, %dx
	inb %dx, %al
	cmpb $'r', %al
	je reset
	cmpb $'o', %al
	je off
	cmpb $'s', %al
	je second
	SEND
	jmp next
second:
	movl $second_begin, %esi
	movl $SECOND_AT, %edi
	movl $(second_end - second_begin), %ecx
	rep movsb
	movl $(1 << 24), APIC_TARGET
	movl $0x4500, APIC_COMMAND /* INIT */
	movl $(0x4600 | SECOND_AT >> 12), APIC_COMMAND /* start-up */
	jmp next
reset:
	movw $RESET, %dx
	movb $1, %al
	outb %al, %dx
	jmp halt
off:
	movw $SLEEP_CONTROL, %dx
	movb $0x34, %al /* type 5, enable */
	outb %al, %dx
halt:
	hlt
	jmp halt

	.code16
second_begin:
	movw $COM1, %dx
	movb $'A', %al
	outb %al, %dx
1:	hlt
	jmp 1b
second_end:
