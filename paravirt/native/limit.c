// SPDX-License-Identifier: BSD-2-Clause
/*
 * Token buckets, kept as the time up to which each rate is used up: nothing has to be refilled.  That time may lead
 * the clock by the burst, and by one operation more.
 */
#include "limit.h"

#define SECOND_NS 1000000000u
/* No debt is longer, however little the rate and large the operation: time cannot wrap. */
#define MOST_NS (3600ull * SECOND_NS)

void pv_limit_init(struct pv_limit *limit, const struct pv_limit_rates *rates)
{
	*limit = (struct pv_limit){ .rates = *rates };
}

static uint64_t due(const uint64_t *paid_ns, uint64_t burst_ns, uint64_t now_ns)
{
	uint64_t paid = __atomic_load_n(paid_ns, __ATOMIC_RELAXED);

	return paid > now_ns + burst_ns ? paid - burst_ns : 0;
}

uint64_t pv_limit_due(const struct pv_limit *limit, uint64_t now_ns)
{
	uint64_t operations = due(&limit->operations_paid_ns, limit->rates.burst_ns, now_ns);
	uint64_t bytes = due(&limit->bytes_paid_ns, limit->rates.burst_ns, now_ns);

	return operations > bytes ? operations : bytes;
}

static void charge(uint64_t *paid_ns, uint64_t per_second, uint64_t number, uint64_t now_ns)
{
	uint64_t paid = __atomic_load_n(paid_ns, __ATOMIC_RELAXED), next;
	unsigned __int128 cost_ns;

	if (!per_second)
		return;
	cost_ns = (unsigned __int128)number * SECOND_NS / per_second;
	do {
		next = (paid > now_ns ? paid : now_ns) + (cost_ns < MOST_NS ? (uint64_t)cost_ns : MOST_NS);
		if (next > now_ns + 2 * MOST_NS)
			next = now_ns + 2 * MOST_NS;
	} while (!__atomic_compare_exchange_n(paid_ns, &paid, next, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

void pv_limit_charge(struct pv_limit *limit, uint64_t now_ns, uint64_t size_bytes)
{
	charge(&limit->operations_paid_ns, limit->rates.operations_per_second, 1, now_ns);
	charge(&limit->bytes_paid_ns, limit->rates.bytes_per_second, size_bytes, now_ns);
}
