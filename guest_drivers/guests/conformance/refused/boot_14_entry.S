/* SPDX-License-Identifier: 0BSD
 *
 * An entry point in a segment that is not executable.
 */
#define ENTRY (0x300000 + code - start)
#define SEGMENTS 1
#define HEADERS load RW, 0x300000, (end - start), (end - start)
#include "bytes/elf.S"
