/* SPDX-License-Identifier: 0BSD
 *
 * Two segments that overlap.
 */
#define ENTRY (CODE + code - start)
#define SEGMENTS 2
#define HEADERS load RW, 0x300000, 64, 0x2000; load RW, 0x301000, 64, 0x1000
#include "bytes/elf.S"
