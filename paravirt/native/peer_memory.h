/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Memory that is another program's, mapped here.  Who has its file may cut it at any time; then there are zeros in its
 * place, nobody else's, and somebody is told.
 */
#ifndef PARAVIRT_PEER_MEMORY_H
#define PARAVIRT_PEER_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Whether a file is in this machine's memory or on its disks.  Pages of others may come from a program or another
 * machine, which need not answer, and whoever touches them waits for good.
 */
bool pv_peer_memory_is_here(int fd);
/* Maps a part of a file, of whole pages; the eventfd is written once some of it is not there.  NULL with errno set. */
void *pv_peer_memory_map(int fd, uint64_t offset, uint64_t size_bytes, int lost_fd);
/* Nobody touches it any more. */
void pv_peer_memory_unmap(void *at, uint64_t size_bytes);
/* For the handler of SIGBUS: whether the fault was in such memory, and is over. */
bool pv_peer_memory_mend(const void *address);

#endif
