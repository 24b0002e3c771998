// SPDX-License-Identifier: BSD-2-Clause
/*
 * Merging: a driver that reads or writes on and on in small requests costs one file operation for many.  The
 * segments of all lie behind one another in the chain of the first, in place of what was taken from it before.
 */
#include "block_merge.h"

#include <string.h>

/* More in one operation is no faster, and its first request waits for its last. */
#define MOST_BYTES (256u << 10)

static bool continues(const struct pv_aio_request *first, const struct pv_aio_request *more)
{
	return (more->operation == PV_AIO_READ || more->operation == PV_AIO_WRITE) &&
	       first->operation == more->operation && first->fd == more->fd && first->durable == more->durable &&
	       first->offset_bytes + first->size_bytes == more->offset_bytes;
}

bool pv_block_merge(struct pv_block_request *first, struct pv_block_request *more)
{
	struct pv_aio_request *to = &first->io, *from = &more->io;
	struct iovec *end = to->segments + to->segment_count;

	if (!continues(to, from) || to->size_bytes + from->size_bytes > MOST_BYTES ||
	    from->segment_count > (size_t)(first->chain.segments + PV_MAX_QUEUE_SIZE - end))
		return false;
	memcpy(end, from->segments, from->segment_count * sizeof(*end));
	to->segment_count += from->segment_count;
	to->size_bytes += from->size_bytes;
	if (!first->merged)
		first->merged_bytes = first->data_bytes;
	first->merged_bytes += more->data_bytes;
	*(first->merged ? &first->last->merged : &first->merged) = more;
	first->last = more;
	return true;
}

void pv_block_merged_outcome(const struct pv_block_request *request, uint64_t *done_bytes,
			     struct pv_block_outcome *outcome)
{
	uint64_t part = *done_bytes < request->data_bytes ? *done_bytes : request->data_bytes;
	bool read = request->type == PV_BLOCK_REQUEST_READ;

	*done_bytes -= part;
	outcome->status = part == request->data_bytes ? PV_BLOCK_STATUS_OK : PV_BLOCK_STATUS_IO_ERROR;
	outcome->written_bytes = read ? (uint32_t)part + 1 : 1; /* BLK-5 */
}
