/* SPDX-License-Identifier: 0BSD
 *
 * A segment whose virtual address is not its physical one.
 */
#define RULE "BOOT-17"
#define ENTRY (CODE + code - start)
#define SEGMENTS 1
#define HEADERS .long 1, RW; .quad 0, 0x301000, 0x300000, 64, 64, 4096
#include "bytes/elf.S"
