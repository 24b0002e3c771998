/* SPDX-License-Identifier: 0BSD
 *
 * A segment in page zero.
 */
#define ENTRY (CODE + code - start)
#define SEGMENTS 1
#define HEADERS load RW, 0, 16, 16
#include "bytes/elf.S"
