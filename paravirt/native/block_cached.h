/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Reads of what the page cache has: the file is mapped, and such a read is a copy, without a way through the kernel.
 * All others are the engine's.
 */
#ifndef PARAVIRT_BLOCK_CACHED_H
#define PARAVIRT_BLOCK_CACHED_H

#include <stdbool.h>
#include <stdint.h>

#include "aio.h"

struct pv_block_cached;

/* Of the first size_bytes of a file.  NULL: it cannot be mapped, or nobody would tell what the page cache has of it. */
struct pv_block_cached *pv_block_cached_create(int fd, uint64_t size_bytes);
void pv_block_cached_destroy(struct pv_block_cached *cached);
/* Carries a read out if it can do so without waiting for the disk.  Any thread that does not block SIGBUS. */
bool pv_block_cached_read(struct pv_block_cached *cached, const struct pv_aio_request *io);
/* A transfer of these bytes went through the page cache, so it has them now.  Any thread. */
void pv_block_cached_passed(struct pv_block_cached *cached, uint64_t offset_bytes, uint64_t size_bytes);

#endif
