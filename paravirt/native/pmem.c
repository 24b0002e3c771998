// SPDX-License-Identifier: BSD-2-Clause
/*
 * virtio-pmem: a file's pages in guest-physical space, and its one request.  The thread is backend.c's.
 *
 * A sync is waited for in the thread: flushes that come meanwhile are answered by the next one together.  It
 * begins after the last of them was taken, so whatever the guest stored before it asked is in it (PMEM-4).
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend.h"
#include "device.h"
#include "pmem.h"
#include "way.h"

#define BATCH 16u /* flushes that one sync answers */

struct request {
	struct pv_pmem_request asked; /* a copy */
	struct pv_chain chain;
};

struct pv_pmem {
	struct pv_backend backend; /* first: the device's opaque */
	struct pv_pmem_options options;
	bool lost; /* a sync failed: nobody knows any more what is durable */
	struct request requests[BATCH]; /* taken, and not answered yet */
	struct pv_pmem_statistics statistics;
};

/* ---- regions ---- */

void *pv_region_map(int fd, uint64_t size_bytes, bool read_only)
{
	int rights = read_only ? PROT_READ : PROT_READ | PROT_WRITE;
	uint64_t room_bytes = size_bytes + PV_REGION_ALIGNMENT;
	/* A place that is large enough first; what is over on either side is given back. */
	uint8_t *room = mmap(NULL, room_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (room == MAP_FAILED)
		return NULL;
	uint64_t before = -(uint64_t)(uintptr_t)room % PV_REGION_ALIGNMENT;
	uint8_t *hva = room + before;
	if (before)
		munmap(room, before);
	munmap(hva + size_bytes, PV_REGION_ALIGNMENT - before);
	if (mmap(hva, size_bytes, rights, MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED)
		return hva;
	int error = errno;
	munmap(hva, size_bytes);
	errno = error;
	return NULL;
}

void pv_region_unmap(void *hva, uint64_t size_bytes)
{
	munmap(hva, size_bytes);
}

bool pv_region_access(const struct pv_machine *machine, uint64_t gpa, bool write, struct pv_exit *out)
{
	for (uint32_t i = 0; i < machine->device_count; i++) {
		struct pv_device *device = machine->devices[i];

		if (!device || gpa < device->region_gpa || gpa - device->region_gpa >= device->region_bytes)
			continue;
		if (write && device->read_only) {
			pv_device_fault(device, "PMEM-3");
			return true;
		}
		out->kind = PV_EXIT_REGION;
		out->reason = i;
		return false;
	}
	return true;
}

/* ---- requests ---- */

static bool cut(const struct pv_pmem *pmem)
{
	struct stat now;

	if (fstat(pmem->options.fd, &now) < 0)
		return true;
	return S_ISREG(now.st_mode) && (uint64_t)now.st_size < pmem->options.size_bytes;
}

static uint32_t make_durable(struct pv_pmem *pmem)
{
	uint64_t begin_ns = pv_clock_ns();

	if (pmem->lost || cut(pmem)) {
		pmem->lost = true;
	} else if (!pmem->backend.device->read_only) {
		pmem->lost = pmem->options.sync(pmem->options.fd) < 0;
		pv_backend_count(&pmem->statistics.syncs, 1);
		pv_backend_count(&pmem->statistics.sync_ns, pv_clock_ns() - begin_ns);
	}
	return pmem->lost ? PV_PMEM_RESULT_FAILED : PV_PMEM_RESULT_OK;
}

static void answer(struct pv_pmem *pmem, const struct request *request, uint32_t result)
{
	struct pv_pmem_response response = { .result = result };
	struct pv_queue *queue = &pmem->backend.device->queues[0];

	pv_chain_write(&request->chain, 0, &response, sizeof(response));
	pv_way_answer(queue, request->chain.head, result);
	pv_queue_push(queue, request->chain.head, sizeof(response));
	pv_backend_count(&pmem->statistics.requests, 1);
	if (result != PV_PMEM_RESULT_OK)
		pv_backend_count(&pmem->statistics.errors, 1);
}

/* Takes requests that wait, up to a batch; how many. */
static uint32_t take(struct pv_pmem *pmem, bool *flush)
{
	struct pv_device *device = pmem->backend.device;
	uint32_t taken = 0;

	for (; taken < BATCH; taken++) {
		struct request *request = &pmem->requests[taken];

		if (pv_device_pop(device, 0, &request->chain) != 1)
			break;
		if (pv_chain_read(&request->chain, 0, &request->asked, sizeof(request->asked)) !=
			    sizeof(request->asked) ||
		    request->chain.writable_bytes < sizeof(struct pv_pmem_response)) {
			pv_device_fault(device, "PMEM-5");
			break;
		}
		pv_way_describe(&device->queues[0], request->chain.head, request->asked.type, 0, 0);
		*flush |= request->asked.type == PV_PMEM_TYPE_FLUSH;
	}
	return taken;
}

/* Requests are answered in the order in which they were taken, so that IN_ORDER holds. */
static bool turn(struct pv_backend_thread *thread)
{
	struct pv_pmem *pmem = thread->opaque;
	struct pv_queue *queue = &pmem->backend.device->queues[0];
	bool flush = false;
	uint32_t taken = take(pmem, &flush);

	if (!taken)
		return false;
	for (uint32_t i = 0; flush && i < taken; i++)
		pv_way_submitted(queue, pmem->requests[i].chain.head);
	uint32_t result = flush ? make_durable(pmem) : PV_PMEM_RESULT_OK;
	for (uint32_t i = 0; i < taken; i++) {
		const struct request *request = &pmem->requests[i];
		bool known = request->asked.type == PV_PMEM_TYPE_FLUSH;

		if (flush)
			pv_way_completed(queue, request->chain.head);
		answer(pmem, request, known ? result : PV_PMEM_RESULT_FAILED);
	}
	if (pv_queue_wants_interrupt(queue)) {
		pv_backend_count(&pmem->statistics.interrupts, 1);
		pv_device_interrupt(pmem->backend.device, 0);
	}
	return true;
}

static const struct pv_backend_ops ops = { .turn = turn };

struct pv_pmem *pv_pmem_create(struct pv_device *device, const struct pv_pmem_options *options)
{
	static const uint32_t queue = 0;
	struct pv_pmem *pmem = calloc(1, sizeof(*pmem));

	if (!pmem)
		return NULL;
	pmem->options = *options;
	if (!pmem->options.sync)
		pmem->options.sync = fdatasync;
	/* It does not look for work before it sleeps: a flush takes longer than a wake-up. */
	pv_backend_init(&pmem->backend, device, &ops, "pmem", 0);
	int error = pv_backend_add(&pmem->backend, pmem, &queue, 1);
	if (!error)
		return pmem;
	pv_backend_deinit(&pmem->backend);
	free(pmem);
	errno = error;
	return NULL;
}

void pv_pmem_destroy(struct pv_pmem *pmem)
{
	if (!pmem)
		return;
	pv_backend_deinit(&pmem->backend);
	free(pmem);
}

void pv_pmem_get_statistics(const struct pv_pmem *pmem, struct pv_pmem_statistics *statistics)
{
	struct pv_backend_statistics thread;

	*statistics = (struct pv_pmem_statistics){ .requests = 0 };
	pv_backend_sum(statistics, &pmem->statistics, sizeof(*statistics));
	pv_backend_get_statistics(&pmem->backend, &thread);
	statistics->sleeps = thread.sleeps;
}
