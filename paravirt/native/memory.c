// SPDX-License-Identifier: BSD-2-Clause
/*
 * The service memory: pages that the guest wants or gives back, and the balloon.  Where its addresses lie in
 * the host is guest_memory.c's.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "handlers.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14; older C libraries do not name it */
#endif

int pv_memory_populate(const struct pv_memory *memory, uint64_t gpa, uint64_t size_bytes)
{
	void *hva = pv_memory_at(memory, gpa, size_bytes);

	if (!hva)
		return -EFAULT;
	return madvise(hva, size_bytes, MADV_POPULATE_WRITE) < 0 ? -errno : 0;
}

int pv_memory_discard_at(const struct pv_memory *memory, void *hva, uint64_t size_bytes)
{
	if (memory->kept) {
		memset(hva, 0, size_bytes);
		return 0;
	}
	if (madvise(hva, size_bytes, MADV_REMOVE) == 0)
		return 0;
	/* Memory that is not shared has no file to punch a hole into; there this gives zeros. */
	return errno != EINVAL || madvise(hva, size_bytes, MADV_DONTNEED) < 0 ? -errno : 0;
}

int pv_memory_discard(const struct pv_memory *memory, uint64_t gpa, uint64_t size_bytes)
{
	void *hva = pv_memory_at(memory, gpa, size_bytes);

	return hva ? pv_memory_discard_at(memory, hva, size_bytes) : -EFAULT;
}

/* MEM-1, MEM-2, MEM-5: all ranges, before the first is touched. */
static int64_t check_ranges(const struct pv_memory *memory, const struct pv_memory_range *ranges, uint64_t count)
{
	uint64_t left = PV_LIMIT_MEMORY_BYTES;

	for (uint64_t i = 0; i < count; i++) {
		if (ranges[i].size_bytes > left) /* a sum would wrap */
			return PV_STATUS_LIMIT;
		left -= ranges[i].size_bytes;
	}
	for (uint64_t i = 0; i < count; i++) {
		if (ranges[i].gpa % PV_PAGE_BYTES || ranges[i].size_bytes % PV_PAGE_BYTES)
			return PV_STATUS_UNALIGNED;
		if (!pv_memory_at(memory, ranges[i].gpa, ranges[i].size_bytes))
			return PV_STATUS_BAD_ADDRESS;
	}
	return PV_STATUS_OK;
}

typedef int (*ranges_fn)(const struct pv_memory *memory, uint64_t gpa, uint64_t size_bytes);

/*
 * Each range in turn.  What it costs is the time of the calling vCPU, and it stops between two ranges like a batch:
 * other vCPUs wait for nothing but the kernel's own work on the same pages.  `act` may be NULL: nothing is to be done;
 * `refused` is the answer if the host cannot do the first (MEM-6, CALL-10); *bytes says to how much it was done.
 */
static int64_t each_range(struct pv_vcpu *vcpu, const uint64_t *args, uint64_t *value, ranges_fn act, int64_t refused,
			  uint64_t *bytes)
{
	const struct pv_memory *memory = &vcpu->machine->memory;
	struct pv_memory_range ranges[PV_LIMIT_MEMORY_RANGES];

	if (!args[1])
		return PV_STATUS_OK;
	pv_memory_read(memory, args[0], ranges, args[1] * sizeof(ranges[0]));
	int64_t status = check_ranges(memory, ranges, args[1]);
	if (status != PV_STATUS_OK)
		return status;
	uint64_t end_ns = pv_clock_ns() + PV_LIMIT_BATCH_NS;
	while (*value < args[1]) {
		const struct pv_memory_range *r = &ranges[*value];

		if (act && r->size_bytes && act(memory, r->gpa, r->size_bytes) < 0)
			return *value ? PV_STATUS_CONTINUE : refused;
		*bytes += r->size_bytes;
		++*value;
		if (*value < args[1] && (pv_clock_ns() >= end_ns || __atomic_load_n(&vcpu->stop, __ATOMIC_RELAXED)))
			return PV_STATUS_CONTINUE;
	}
	return PV_STATUS_OK;
}

PV_HANDLER(memory_populate)
{
	uint64_t bytes = 0;

	return each_range(vcpu, args, value, pv_memory_populate, PV_STATUS_NO_MEMORY, &bytes);
}

PV_HANDLER(memory_discard)
{
	uint64_t bytes = 0;

	return each_range(vcpu, args, value, pv_memory_discard, PV_STATUS_FAILED, &bytes);
}

PV_HANDLER(memory_target)
{
	(void)args;
	*value = __atomic_load_n(&vcpu->machine->state.balloon_target_bytes, __ATOMIC_SEQ_CST);
	return PV_STATUS_OK;
}

/* A guest that names pages twice, or takes out what it never put in, has a wrong figure and hurts nobody. */
void pv_memory_moved(struct pv_machine *machine, uint64_t in_bytes, uint64_t out_bytes)
{
	uint64_t *held = &machine->state.balloon_bytes, most = pv_memory_bytes(&machine->memory);
	uint64_t before = __atomic_load_n(held, __ATOMIC_RELAXED), after;

	do {
		after = before + in_bytes < most ? before + in_bytes : most;
		after = after > out_bytes ? after - out_bytes : 0;
	} while (!__atomic_compare_exchange_n(held, &before, after, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

PV_HANDLER(memory_inflate)
{
	uint64_t bytes = 0;
	int64_t status = each_range(vcpu, args, value, pv_memory_discard, PV_STATUS_FAILED, &bytes);

	pv_memory_moved(vcpu->machine, bytes, 0);
	return status;
}

/* Nothing is to be done: who touches a page that is not there gets one. */
PV_HANDLER(memory_deflate)
{
	uint64_t bytes = 0;
	int64_t status = each_range(vcpu, args, value, NULL, PV_STATUS_FAILED, &bytes);

	pv_memory_moved(vcpu->machine, 0, bytes);
	return status;
}

PV_HANDLER(memory_report)
{
	uint64_t bytes = 0;
	int64_t status = each_range(vcpu, args, value, pv_memory_discard, PV_STATUS_FAILED, &bytes);

	__atomic_fetch_add(&vcpu->machine->reported_bytes, bytes, __ATOMIC_RELAXED);
	return status;
}

bool pv_machine_balloon(struct pv_machine *machine, uint64_t target_bytes)
{
	if (target_bytes % PV_PAGE_BYTES || target_bytes > pv_memory_bytes(&machine->memory)) /* MEM-7 */
		return false;
	uint64_t before = __atomic_exchange_n(&machine->state.balloon_target_bytes, target_bytes, __ATOMIC_SEQ_CST);
	if (before != target_bytes &&
	    __atomic_load_n(&machine->state.accepted[PV_SERVICE_MEMORY], __ATOMIC_SEQ_CST) & PV_MEMORY_FEATURE_BALLOON)
		pv_event_raise(machine, 0, PV_CHANNEL_BALLOON);
	return true;
}

uint64_t pv_machine_balloon_bytes(const struct pv_machine *machine)
{
	return __atomic_load_n(&machine->state.balloon_bytes, __ATOMIC_RELAXED);
}
