/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Guest RAM in our address space (ram.c).
 */
#ifndef PARAVIRT_RAM_H
#define PARAVIRT_RAM_H

#include <stdint.h>

#define PV_RAM_HUGE_BYTES 0x200000

/* All of a file, shared, at an address that is a multiple of PV_RAM_HUGE_BYTES; NULL: errno says why not. */
void *pv_ram_map(int fd, uint64_t size_bytes);
void pv_ram_unmap(void *hva, uint64_t size_bytes);
/* Asks for huge pages where the host allows them: 0 or -errno. */
int pv_ram_huge(void *hva, uint64_t size_bytes);

#endif
