/* SPDX-License-Identifier: 0BSD
 *
 * A segment where no memory is.
 */
#define ENTRY (CODE + code - start)
#define SEGMENTS 1
#define HEADERS load RW, (1 << 40), 64, 64
#include "bytes/elf.S"
