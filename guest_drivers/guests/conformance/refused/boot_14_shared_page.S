/* SPDX-License-Identifier: 0BSD
 *
 * Segments with other flags on one page.
 */
#define ENTRY (CODE + code - start)
#define SEGMENTS 1
#define MEMORY 0x1010
#define HEADERS header 1, RW, 0x180, (CODE + 0x1180), 8, 8
#include "bytes/elf.S"
