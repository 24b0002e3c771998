// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a virtio-blk request asks for, checked (BLK-1 to BLK-6), and the file operations it becomes.
 * Header and ranges are copied once; data goes between the file and guest memory without a copy.
 */
#include "block_request.h"

#include <string.h>

#define RANGE_UNMAP 1u

_Static_assert(sizeof(((struct pv_block_options *)0)->id) == PV_BLOCK_ID_BYTES, "GET_ID gives this many bytes");

static int done(struct pv_block_outcome *outcome, uint8_t status, uint64_t data_bytes)
{
	/* Segments may overlap, so that a chain can hold more than the field can say. */
	*outcome = (struct pv_block_outcome){ status, data_bytes < UINT32_MAX ? (uint32_t)data_bytes + 1 : UINT32_MAX };
	return PV_BLOCK_DONE;
}

/* BLK-1, by subtraction: the sum may wrap. */
static bool within(const struct pv_block_options *options, uint64_t sector, uint64_t sectors)
{
	uint64_t capacity = __atomic_load_n(&options->capacity_sectors, __ATOMIC_RELAXED); /* it may grow */

	return sectors <= capacity && sector <= capacity - sectors;
}

/* The data of a read: what is writable but for the status byte. */
static void data_to_guest(struct pv_block_request *request)
{
	struct pv_chain *chain = &request->chain;
	struct iovec *segments = &chain->segments[chain->readable];
	struct iovec *last = &segments[chain->writable - 1];

	request->data_bytes = chain->writable_bytes - 1;
	request->io.segments = segments;
	request->io.segment_count = chain->writable;
	if (--last->iov_len == 0)
		request->io.segment_count--;
}

/* The data of a write: what is readable but for the header, wherever that ends. */
static void data_from_guest(struct pv_block_request *request)
{
	struct pv_chain *chain = &request->chain;
	struct iovec *segment = chain->segments;
	uint64_t header = sizeof(struct pv_block_header);

	request->data_bytes = chain->readable_bytes - header;
	while (request->data_bytes > 0 && header >= segment->iov_len) {
		header -= segment->iov_len;
		segment++;
	}
	segment->iov_base = (uint8_t *)segment->iov_base + header;
	segment->iov_len -= header;
	request->io.segments = segment;
	request->io.segment_count = chain->readable - (uint32_t)(segment - chain->segments);
}

/* O_DIRECT wants everything aligned; what the guest did not align goes the other way. */
static int file_for(const struct pv_aio_request *io, const struct pv_block_options *options)
{
	uint64_t bits = io->offset_bytes;

	if (options->unaligned_fd < 0)
		return options->fd;
	for (uint32_t i = 0; i < io->segment_count; i++)
		bits |= (uintptr_t)io->segments[i].iov_base | io->segments[i].iov_len;
	return bits & (options->alignment_bytes - 1) ? options->unaligned_fd : options->fd;
}

static int begin_transfer(struct pv_block_request *request, const struct pv_block_options *options,
			  struct pv_block_outcome *outcome)
{
	struct pv_aio_request *io = &request->io;

	if (request->type == PV_BLOCK_REQUEST_READ)
		data_to_guest(request);
	else
		data_from_guest(request);
	if (request->data_bytes % PV_BLOCK_SECTOR_BYTES || /* BLK-4 */
	    !within(options, request->sector, request->data_bytes / PV_BLOCK_SECTOR_BYTES))
		return done(outcome, PV_BLOCK_STATUS_IO_ERROR, 0);
	if (request->data_bytes == 0)
		return done(outcome, PV_BLOCK_STATUS_OK, 0);
	io->operation = request->type == PV_BLOCK_REQUEST_READ ? PV_AIO_READ : PV_AIO_WRITE;
	io->offset_bytes = request->sector * PV_BLOCK_SECTOR_BYTES;
	io->size_bytes = request->data_bytes;
	io->fd = file_for(io, options);
	return PV_BLOCK_START;
}

/* For what is not a transfer: zeros that have to be written need not be aligned. */
static int plain_file(const struct pv_block_options *options)
{
	return options->unaligned_fd < 0 ? options->fd : options->unaligned_fd;
}

static int begin_sync(struct pv_block_request *request, const struct pv_block_options *options)
{
	request->io.operation = PV_AIO_SYNC;
	request->io.fd = plain_file(options);
	return PV_BLOCK_START;
}

static int get_id(struct pv_block_request *request, const struct pv_block_options *options,
		  struct pv_block_outcome *outcome)
{
	uint64_t room = request->chain.writable_bytes - 1;
	uint64_t size = room < PV_BLOCK_ID_BYTES ? room : PV_BLOCK_ID_BYTES;

	return done(outcome, PV_BLOCK_STATUS_OK, pv_chain_write(&request->chain, 0, options->id, size));
}

/* Starts the next range that is not empty, and after the last one makes it durable if need be. */
static int next_range(struct pv_block_request *request, const struct pv_block_options *options)
{
	struct pv_aio_request *io = &request->io;

	while (request->ranges_left > 0) {
		const struct pv_block_range *range = request->range++;

		request->ranges_left--;
		if (range->sectors == 0)
			continue;
		if (request->type == PV_BLOCK_REQUEST_DISCARD)
			io->operation = PV_AIO_DISCARD;
		else
			io->operation = range->flags & RANGE_UNMAP ? PV_AIO_ZERO_UNMAP : PV_AIO_ZERO;
		io->fd = plain_file(options);
		io->offset_bytes = range->sector * PV_BLOCK_SECTOR_BYTES;
		io->size_bytes = (uint64_t)range->sectors * PV_BLOCK_SECTOR_BYTES;
		return PV_BLOCK_START;
	}
	if (io->durable) {
		io->durable = 0;
		return begin_sync(request, options);
	}
	return PV_BLOCK_DONE;
}

static uint8_t check_ranges(const struct pv_block_request *request, const struct pv_block_options *options)
{
	bool discard = request->type == PV_BLOCK_REQUEST_DISCARD;
	uint32_t flags = discard ? 0 : RANGE_UNMAP;
	uint32_t most = discard ? PV_BLOCK_DISCARD_SECTORS : PV_BLOCK_ZEROES_SECTORS;

	/* Flags first: UNSUPPORTED tells the driver not to try again (virtio 5.2.6.2). */
	for (uint32_t i = 0; i < request->ranges_left; i++) {
		if (request->ranges[i].flags & ~flags)
			return PV_BLOCK_STATUS_UNSUPPORTED;
	}
	for (uint32_t i = 0; i < request->ranges_left; i++) {
		if (request->ranges[i].sectors > most ||
		    !within(options, request->ranges[i].sector, request->ranges[i].sectors))
			return PV_BLOCK_STATUS_IO_ERROR;
	}
	return PV_BLOCK_STATUS_OK;
}

/* Of ranges that were checked. */
static uint64_t zeros_of(const struct pv_block_request *request)
{
	uint64_t size_bytes = 0;

	for (uint32_t i = 0; i < request->ranges_left; i++)
		size_bytes += (uint64_t)request->ranges[i].sectors * PV_BLOCK_SECTOR_BYTES;
	return size_bytes;
}

static int begin_ranges(struct pv_block_request *request, const struct pv_block_options *options, uint64_t features,
			struct pv_block_outcome *outcome)
{
	uint64_t feature = request->type == PV_BLOCK_REQUEST_DISCARD ? PV_BLOCK_F_DISCARD : PV_BLOCK_F_WRITE_ZEROES;
	uint64_t size = request->chain.readable_bytes - sizeof(struct pv_block_header);
	uint8_t status;

	if (!(features & feature))
		return done(outcome, PV_BLOCK_STATUS_UNSUPPORTED, 0);
	if (size == 0 || size % sizeof(struct pv_block_range) || size > sizeof(request->ranges))
		return done(outcome, PV_BLOCK_STATUS_IO_ERROR, 0);
	pv_chain_read(&request->chain, sizeof(struct pv_block_header), request->ranges, size);
	request->range = request->ranges;
	request->ranges_left = (uint32_t)(size / sizeof(struct pv_block_range));
	status = check_ranges(request, options);
	if (status != PV_BLOCK_STATUS_OK)
		return done(outcome, status, 0);
	if (request->type == PV_BLOCK_REQUEST_DISCARD)
		request->io.durable = 0;
	else
		request->data_bytes = zeros_of(request); /* a limit counts them: they may have to be written */
	if (next_range(request, options) == PV_BLOCK_START)
		return PV_BLOCK_START;
	return done(outcome, PV_BLOCK_STATUS_OK, 0);
}

int pv_block_request_begin(struct pv_block_request *request, const struct pv_block_options *options, uint64_t features,
			   bool durable, struct pv_block_outcome *outcome)
{
	struct pv_chain *chain = &request->chain;
	struct pv_block_header header;
	const struct iovec *last;

	if (chain->writable == 0 || pv_chain_read(chain, 0, &header, sizeof(header)) != sizeof(header))
		return PV_BLOCK_FAULT;
	last = &chain->segments[chain->readable + chain->writable - 1];
	request->status = (uint8_t *)last->iov_base + last->iov_len - 1;
	request->type = header.type;
	request->sector = header.sector;
	request->data_bytes = 0;
	request->ranges_left = 0;
	request->merged = NULL;
	request->io.durable = durable;
	switch (request->type) {
	case PV_BLOCK_REQUEST_WRITE:
	case PV_BLOCK_REQUEST_DISCARD:
	case PV_BLOCK_REQUEST_WRITE_ZEROES:
		if (options->read_only) /* BLK-2 */
			return done(outcome, PV_BLOCK_STATUS_IO_ERROR, 0);
		if (request->type == PV_BLOCK_REQUEST_WRITE)
			return begin_transfer(request, options, outcome);
		return begin_ranges(request, options, features, outcome);
	case PV_BLOCK_REQUEST_READ:
		return begin_transfer(request, options, outcome);
	case PV_BLOCK_REQUEST_FLUSH:
		return begin_sync(request, options);
	case PV_BLOCK_REQUEST_GET_ID:
		return get_id(request, options, outcome);
	default: /* BLK-6 */
		return done(outcome, PV_BLOCK_STATUS_UNSUPPORTED, 0);
	}
}

int pv_block_request_continue(struct pv_block_request *request, const struct pv_block_options *options,
			      struct pv_block_outcome *outcome)
{
	bool read = request->type == PV_BLOCK_REQUEST_READ;
	bool ranges = request->type == PV_BLOCK_REQUEST_DISCARD || request->type == PV_BLOCK_REQUEST_WRITE_ZEROES;

	if (request->io.error)
		return done(outcome, PV_BLOCK_STATUS_IO_ERROR, read ? request->data_bytes - request->io.size_bytes : 0);
	if (ranges && next_range(request, options) == PV_BLOCK_START)
		return PV_BLOCK_START;
	return done(outcome, PV_BLOCK_STATUS_OK, read ? request->data_bytes : 0);
}
