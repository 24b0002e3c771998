/* SPDX-License-Identifier: 0BSD
 *
 * Negotiation and batches.
 */
#include "paravirt/base.h"
#include "paravirt/string.h"

#define MAX_SERVICES 32 /* numbers below the vendors' range in use */

#ifndef PV_CALL_EXTERN
uint16_t pv_trap_port;
#endif

/* What the host offers now, in the caller's table; the number of records, or a negative status. */
static int64_t offered(struct pv_service_info *table, uint32_t room)
{
	struct pv_answer answer = pv_call2(PV_CALL_BASE_SERVICES, pv_gpa(table), room * sizeof(*table));

	if (answer.status < 0)
		return answer.status;
	if (answer.value > room * sizeof(*table))
		return PV_STATUS_FAILED;
	return (int64_t)(answer.value / sizeof(*table));
}

static const struct pv_service_info *find(const struct pv_service_info *table, int64_t count, uint32_t service)
{
	for (int64_t i = 0; i < count; i++)
		if (table[i].service == service)
			return &table[i];
	return NULL;
}

int64_t pv_negotiate(struct pv_wish *wishes, uint32_t count)
{
	struct pv_service_info table[MAX_SERVICES] __attribute__((aligned(8)));
	struct pv_answer version = pv_version();
	int64_t services = offered(table, MAX_SERVICES);

	if (version.status < 0 || version.value >> 32 != PV_ABI_MAJOR)
		return PV_STATUS_NOT_SUPPORTED;
	if (services < 0)
		return services;
	for (uint32_t i = 0; i < count; i++) {
		struct pv_wish *wish = &wishes[i];
		const struct pv_service_info *info = find(table, services, wish->service);

		wish->accepted = 0;
		wish->calls = 0;
		if (!info && wish->optional)
			continue;
		if (!info || wish->needed & ~info->offered)
			return PV_STATUS_NOT_SUPPORTED;
		uint64_t features = wish->needed | (wish->wanted & info->offered);
		/* A service is accepted once (BASE-3), and a breakpoint that comes later needs this one (SYS-7). */
		if (wish->service == PV_SERVICE_SYSTEM)
			features |= info->offered & PV_SYSTEM_FEATURE_DEBUG;
		int64_t status = pv_call2(PV_CALL_BASE_ACCEPT, wish->service, features).status;
		if (status < 0)
			return status;
		wish->accepted = features;
	}

	services = offered(table, MAX_SERVICES); /* again: features bring functions */
	if (services < 0)
		return services;
	for (uint32_t i = 0; i < count; i++) {
		const struct pv_service_info *info = find(table, services, wishes[i].service);

		if (info)
			wishes[i].calls = info->calls;
	}
	return PV_STATUS_OK;
}

void pv_batch_init(struct pv_batch *batch, struct pv_submission *submissions, struct pv_completion *completions,
		   uint32_t size)
{
	*batch = (struct pv_batch){
		.submissions = submissions,
		.completions = completions,
		.size = size < PV_LIMIT_BATCH_ENTRIES ? size : PV_LIMIT_BATCH_ENTRIES,
	};
}

bool pv_batch_add(struct pv_batch *batch, uint32_t id, uint64_t cookie, const uint64_t args[6])
{
	if (batch->count == batch->size)
		return false;
	struct pv_submission *submission = &batch->submissions[batch->count++];

	submission->call = id;
	submission->flags = 0; /* BATCH-3 */
	memcpy(submission->args, args, sizeof(submission->args));
	submission->cookie = cookie;
	return true;
}

int64_t pv_batch_run(struct pv_batch *batch)
{
	uint64_t done = 0, count = batch->count;

	batch->count = 0;
	while (done < count) {
		struct pv_answer answer = pv_call4(PV_CALL_BASE_BATCH, pv_gpa(batch->submissions + done), count - done,
						   pv_gpa(batch->completions + done), count - done);

		if (answer.status < 0)
			return answer.status;
		if (answer.value > count - done || answer.value == 0)
			return PV_STATUS_FAILED; /* a host that makes no progress would hold us here for ever */
		done += answer.value;
	}
	return PV_STATUS_OK;
}
