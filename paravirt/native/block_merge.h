/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Requests of one batch that follow one another on the disk, carried out as one.  Each keeps its own answer.
 */
#ifndef PARAVIRT_BLOCK_MERGE_H
#define PARAVIRT_BLOCK_MERGE_H

#include "block_request.h"

/* Has `more`, which is to start, go with `first`, which was not started yet, if it continues it; whether it does. */
bool pv_block_merge(struct pv_block_request *first, struct pv_block_request *more);
/*
 * The outcome of one that was carried out with others, in the order of the disk: `done_bytes` of what is left to
 * share out are its own as far as they go.  A file that failed on the way has failed those behind alone.
 */
void pv_block_merged_outcome(const struct pv_block_request *request, uint64_t *done_bytes,
			     struct pv_block_outcome *outcome);

#endif
