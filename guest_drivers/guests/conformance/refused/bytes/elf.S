/* SPDX-License-Identifier: 0BSD
 *
 * An ELF file written byte by byte, for images that no linker makes.  Its code is good: a host that takes the
 * image runs it, and it says so.  The includer brings SEGMENTS program headers in the macro HEADERS.
 */
#ifndef TYPE
#define TYPE 2 /* ET_EXEC */
#endif
#ifndef RULE
#define RULE "BOOT-14"
#endif
#ifndef MEMORY
#define MEMORY (end - start) /* of the code's segment */
#endif
#define CODE 0x200000
#define R 4
#define RW 6
#define RX 5

	.macro header type, flags, offset, gpa, bytes, memory
	.long \type, \flags
	.quad \offset, \gpa, \gpa, \bytes, \memory, 4096
	.endm
	/* a PT_LOAD of the first bytes of the file */
	.macro load flags, gpa, bytes, memory
	header 1, \flags, 0, \gpa, \bytes, \memory
	.endm

	.text
	.code64
start:	.byte 0x7f, 'E', 'L', 'F', 2, 1, 1, 0
	.quad 0
	.short TYPE, 62
	.long 1
	.quad ENTRY
	.quad 64, 0
	.long 0
	.short 64, 56, SEGMENTS + 2, 64, 0, 0
	load RX, CODE, (end - start), MEMORY
	header 4, R, (notes - start), (CODE + notes - start), (notes_end - notes), (notes_end - notes)
	HEADERS

	.balign 4
notes:	.long 9, 8, 1 /* REQUIRE, version 1.0, no services */
	.asciz "Paravirt"
	.balign 4
	.short 1, 0
	.long 0
notes_end:

code:	leaq 16(%rdi), %rbx /* the record ABI of the boot information, which has the trap */
1:	cmpw $1, (%rbx)
	je 2f
	movl 4(%rbx), %eax
	leaq 15(%rbx, %rax), %rbx
	andq $-8, %rbx
	jmp 1b
2:	movzwl 16(%rbx), %ebx
	movl $0x20000, %eax /* console.write */
	movl $CODE + text - start, %edi
	movl $text_end - text, %esi
	xorl %ecx, %ecx
	xorl %r8d, %r8d
	xorl %r9d, %r9d
	xorl %r10d, %r10d
	movl %ebx, %edx
	outl %eax, %dx
	movl $0x80000, %eax /* system.shutdown, FAILURE, 1 */
	movl $1, %edi
	movl $1, %esi
	xorl %ecx, %ecx
	xorl %r8d, %r8d
	xorl %r9d, %r9d
	xorl %r10d, %r10d
	movl %ebx, %edx
	outl %eax, %dx
	ud2
text:	.ascii "not ok 1 - ", RULE, " an image that must be refused was run\n1..1\n"
text_end:
end:
