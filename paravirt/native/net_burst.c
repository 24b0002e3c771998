// SPDX-License-Identifier: BSD-2-Clause
/*
 * Bursts of frames.  The device never blocks (RWF_NOWAIT), so the kernel carries a burst out where it is
 * submitted: when the call returns, all of it is done, and nothing is in flight between turns.
 */
#define _GNU_SOURCE
#include "net_burst.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net_pair.h"

#define SLOTS PV_NET_BATCH
#define PAGE_BYTES 4096u /* a frame that lay in two would be two pieces to the kernel */
#define LEAD_BYTES 64u
#define SLOT_BYTES (PAGE_BYTES / 2 - LEAD_BYTES)

/* A frame that begins with a page, or in its middle, takes the kernel a fifth longer to copy (docs/benchmarks.md). */
struct slot {
	uint8_t lead[LEAD_BYTES];
	uint8_t bytes[SLOT_BYTES];
};

/* Frames with their headers; sizes of what is to be written, or what came of reading. */
struct slots {
	uint32_t first; /* those before it are done with */
	uint32_t count;
	int32_t sizes[SLOTS];
	struct slot at[SLOTS] __attribute__((aligned(PAGE_BYTES)));
};

struct pv_net_burst {
	struct io_uring ring;
	int fd;
	bool broken; /* the kernel does no more of it: one by one then */
	uint32_t ahead; /* frames to read at once */
	int32_t results[SLOTS]; /* of the last burst: bytes, or -errno */
	struct slots out;
	struct slots in;
};

/* Kernels before 6.4 know no RWF_NOWAIT here.  A frame without a whole header is refused, and changes nothing. */
static bool never_blocks(int fd)
{
	uint8_t byte = 0;
	const struct iovec frame = { &byte, sizeof(byte) };

	return pwritev2(fd, &frame, 1, -1, RWF_NOWAIT) < 0 && errno == EINVAL;
}

struct pv_net_burst *pv_net_burst_create(int fd)
{
	struct pv_net_burst *burst;

	if (!never_blocks(fd))
		return NULL;
	burst = aligned_alloc(PAGE_BYTES, sizeof(*burst));
	if (!burst)
		return NULL;
	memset(burst, 0, sizeof(*burst));
	if (io_uring_queue_init(SLOTS, &burst->ring, 0) != 0) {
		free(burst);
		return NULL;
	}
	const struct iovec areas[] = {
		{ burst->out.at, sizeof(burst->out.at) },
		{ burst->in.at, sizeof(burst->in.at) },
	};
	burst->fd = fd;
	burst->ahead = 1;
	if (io_uring_register_files(&burst->ring, &fd, 1) == 0 &&
	    io_uring_register_buffers(&burst->ring, areas, 2) == 0)
		return burst;
	pv_net_burst_destroy(burst);
	return NULL;
}

void pv_net_burst_destroy(struct pv_net_burst *burst)
{
	if (!burst)
		return;
	/* The kernel ends a ring by and by, and would keep the device until then. */
	io_uring_unregister_files(&burst->ring);
	io_uring_unregister_buffers(&burst->ring);
	io_uring_queue_exit(&burst->ring);
	free(burst);
}

bool pv_net_burst_fits(uint64_t frame_bytes)
{
	return PV_NET_HEADER_BYTES + frame_bytes < SLOT_BYTES;
}

/* ---- slots and the kernel ---- */

static void one_by_one(struct pv_net_burst *burst, struct slots *slots, bool write_them)
{
	for (uint32_t i = 0; i < slots->count; i++) {
		ssize_t result = write_them ? write(burst->fd, slots->at[i].bytes, (size_t)slots->sizes[i])
					    : read(burst->fd, slots->at[i].bytes, SLOT_BYTES);

		burst->results[i] = result < 0 ? -errno : (int32_t)result;
	}
}

static void enqueue(struct pv_net_burst *burst, struct slots *slots, bool write_them)
{
	for (uint32_t i = 0; i < slots->count; i++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&burst->ring); /* as many as slots */

		if (write_them)
			io_uring_prep_write_fixed(sqe, 0, slots->at[i].bytes, (unsigned int)slots->sizes[i], 0, 0);
		else
			io_uring_prep_read_fixed(sqe, 0, slots->at[i].bytes, SLOT_BYTES, 0, 1);
		sqe->flags |= IOSQE_FIXED_FILE;
		sqe->rw_flags = RWF_NOWAIT;
		sqe->user_data = i;
		burst->results[i] = -EAGAIN;
	}
}

/* Reads into slots, or writes them: afterwards each has its result. */
static void carry_out(struct pv_net_burst *burst, struct slots *slots, bool write_them)
{
	uint32_t done = 0;

	if (slots->count <= 1 || burst->broken) {
		one_by_one(burst, slots, write_them);
		return;
	}
	enqueue(burst, slots, write_them);
	while (done < slots->count && !burst->broken) {
		int result = io_uring_submit_and_wait(&burst->ring, slots->count - done);
		struct io_uring_cqe *cqe;
		unsigned int head, seen = 0;

		/* What it did not take is never looked at again: it has not been done. */
		burst->broken = result < 0 && result != -EINTR;
		io_uring_for_each_cqe(&burst->ring, head, cqe)
		{
			burst->results[cqe->user_data] = cqe->res;
			seen++;
		}
		io_uring_cq_advance(&burst->ring, seen);
		done += seen;
	}
}

/* ---- sending ---- */

bool pv_net_burst_flush(struct pv_net_link *link)
{
	struct pv_net_burst *burst = link->burst;
	struct slots *out = &burst->out;
	uint32_t kept = 0;

	if (!out->count)
		return true;
	carry_out(burst, out, true);
	pv_backend_count(&link->statistics->bursts, out->count > 1);
	for (uint32_t i = 0; i < out->count; i++) {
		int32_t size = out->sizes[i];

		if (pv_net_link_sent(link, burst->results[i], (uint64_t)size - PV_NET_HEADER_BYTES) != PV_NET_BLOCKED)
			continue;
		if (kept != i)
			memcpy(out->at[kept].bytes, out->at[i].bytes, (size_t)size);
		out->sizes[kept++] = size;
	}
	out->count = kept;
	return kept == 0;
}

int pv_net_burst_send(struct pv_net_link *link, const struct iovec *segments, uint32_t count, uint64_t frame_bytes)
{
	struct slots *out = &link->burst->out;

	if (out->count == SLOTS && !pv_net_burst_flush(link) && out->count == SLOTS)
		return PV_NET_BLOCKED;
	pv_net_gather(out->at[out->count].bytes, segments, count);
	out->sizes[out->count++] = (int32_t)(PV_NET_HEADER_BYTES + frame_bytes);
	return PV_NET_SENT;
}

/* ---- receiving ---- */

/* A slot that holds no frame: the device had none, or none for us. */
static bool is_empty(const struct slots *in)
{
	return in->sizes[in->first] <= (int32_t)PV_NET_HEADER_BYTES;
}

static void skip_empty(struct slots *in)
{
	while (in->first < in->count && is_empty(in))
		in->first++;
}

/* Twice as many as last time while there is more, and no more than there were: a look in vain costs, too. */
static void read_ahead(struct pv_net_link *link)
{
	struct pv_net_burst *burst = link->burst;
	struct slots *in = &burst->in;
	uint32_t got = 0;

	in->first = 0;
	in->count = burst->ahead;
	carry_out(burst, in, false);
	for (uint32_t i = 0; i < in->count; i++) {
		in->sizes[i] = burst->results[i];
		if (in->sizes[i] > (int32_t)PV_NET_HEADER_BYTES)
			got++;
		else if (in->sizes[i] < 0)
			pv_net_link_failed(link, -in->sizes[i]);
	}
	pv_backend_count(&link->statistics->bursts, got > 1);
	burst->ahead = got < in->count ? got + !got : 2 * got < SLOTS ? 2 * got : SLOTS;
	skip_empty(in);
}

uint64_t pv_net_burst_receive(struct pv_net_link *link, const struct iovec *room, uint32_t count)
{
	struct slots *in = &link->burst->in;

	if (in->first == in->count)
		read_ahead(link);
	if (in->first == in->count)
		return 0;
	uint64_t size_bytes = (uint64_t)in->sizes[in->first];
	pv_net_scatter(room, count - 1, 0, in->at[in->first].bytes, size_bytes);
	in->first++;
	skip_empty(in);
	return size_bytes < SLOT_BYTES ? size_bytes - PV_NET_HEADER_BYTES : PV_NET_TOO_LARGE;
}

uint32_t pv_net_burst_forget(struct pv_net_burst *burst)
{
	struct slots *in = &burst->in;
	uint32_t frames = 0;

	for (; in->first < in->count; in->first++)
		frames += !is_empty(in);
	return frames;
}
