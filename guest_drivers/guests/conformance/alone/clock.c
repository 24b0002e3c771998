/* SPDX-License-Identifier: 0BSD
 *
 * The clock over some seconds, in which a host may write the time page again and again: every reading is
 * whole and none goes back, on one vCPU or two.
 */
#include "../support/conformance.h"
#include "paravirt/string.h"
#include "paravirt/time.h"

#define LASTS_NS (5 * CF_SECOND / 2)

struct reading {
	struct pv_time_page page;
	uint64_t writes, torn, back;
};

static struct reading readings[2];
static uint64_t latest_ns; /* that any vCPU has read */

/* The page twice under the same even sequence is the same page. */
static void watch_page(struct reading *own)
{
	const struct pv_time_page *page = pv_at(cf_boot.pages->time_gpa);
	struct pv_time_page copy;
	uint32_t sequence = __atomic_load_n(&page->sequence, __ATOMIC_ACQUIRE);

	memcpy(&copy, (const void *)page, sizeof(copy));
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	if (sequence & 1 || sequence != __atomic_load_n(&page->sequence, __ATOMIC_RELAXED))
		return;
	if (sequence == own->page.sequence)
		own->torn += memcmp(&copy, &own->page, sizeof(copy)) != 0;
	else
		own->writes++;
	own->page = copy;
}

static void watch(void *argument)
{
	struct reading *own = argument;
	uint64_t end_ns = cf_now_ns() + LASTS_NS, now_ns = 0;

	own->page = *(const struct pv_time_page *)pv_at(cf_boot.pages->time_gpa);
	while (now_ns < end_ns) {
		uint64_t before_ns = CF_LOAD(latest_ns);

		now_ns = cf_now_ns();
		own->back += now_ns < before_ns;
		if (now_ns > before_ns)
			CF_STORE(latest_ns, now_ns);
		watch_page(own);
	}
}

static void clock(void)
{
	bool two = cf_vcpus() > 1 && cf_offered(PV_SERVICE_VCPU) && cf_start(1, watch, &readings[1]) == PV_STATUS_OK;

	watch(&readings[0]);
	cf_case("TIME-1 time never goes back while the host writes its page, on %u vCPUs", two ? 2 : 1);
	if (two)
		cf_want(cf_join(1), "the other vCPU stops");
	cf_expect((int64_t)(readings[0].back + readings[1].back), 0, "readings before one that was made earlier");
	cf_case("TIME-5 what is read under one even sequence is one state");
	cf_expect((int64_t)(readings[0].torn + readings[1].torn), 0, "pages that differ under the same sequence");
	cf_note("the page was written %lu times", readings[0].writes);
}

CF_CHAPTER(clock, clock);
