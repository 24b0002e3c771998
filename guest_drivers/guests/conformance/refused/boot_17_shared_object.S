/* SPDX-License-Identifier: 0BSD
 *
 * A file of the type of shared objects, which wants to be relocated.
 */
#define RULE "BOOT-17"
#define TYPE 3 /* ET_DYN */
#define ENTRY (CODE + code - start)
#define SEGMENTS 0
#define HEADERS
#include "bytes/elf.S"
