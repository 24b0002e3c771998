/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Memory that is another program's, mapped here.  Who has its file may cut it at any time; then there are zeros in its
 * place, nobody else's, and somebody is told.
 */
#ifndef PARAVIRT_PEER_MEMORY_H
#define PARAVIRT_PEER_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

/* Maps a part of a file, of whole pages; the eventfd is written once some of it is not there.  NULL with errno set. */
void *pv_peer_memory_map(int fd, uint64_t offset, uint64_t size_bytes, int lost_fd);
/* Nobody touches it any more. */
void pv_peer_memory_unmap(void *at, uint64_t size_bytes);
/* For the handler of SIGBUS: whether the fault was in such memory, and is over. */
bool pv_peer_memory_mend(const void *address);

#endif
