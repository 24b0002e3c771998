/* SPDX-License-Identifier: 0BSD
 *
 * Chapter time: the clock, on one vCPU and between two, and deadlines.  What takes seconds is in the image clock.
 */
#include "paravirt/time.h"
#include "support/conformance.h"

#define ROUNDS 200u
#define READS 20000u
#define MILLISECOND 1000000ull
#define THIS_CENTURY 1600000000ull /* seconds since 1970 */

static bool due(uint32_t vcpu)
{
	return CF_LOAD(cf_page(vcpu)->pending[0]) >> PV_CHANNEL_DEADLINE & 1;
}

static void take(uint32_t vcpu)
{
	CF_STORE(cf_page(vcpu)->upcall_pending, 0);
	__atomic_fetch_and(&cf_page(vcpu)->pending[0], ~(1ull << PV_CHANNEL_DEADLINE), __ATOMIC_SEQ_CST);
}

/* Waits for the deadline, looking at memory; the time when it was seen, or 0 after two seconds. */
static uint64_t wait_due(uint32_t vcpu)
{
	uint64_t end_ns = cf_now_ns() + 2 * CF_SECOND;

	while (!due(vcpu))
		if (cf_now_ns() > end_ns)
			return 0;
	return cf_now_ns();
}

static int64_t arm(uint64_t deadline_ns)
{
	return pv_call1(PV_CALL_TIME_DEADLINE, deadline_ns).status;
}

static void page(const struct pv_time_page *time)
{
	uint64_t last = cf_now_ns(), back = 0, still = 0;

	cf_case("TIME-1 time never goes back on a vCPU");
	for (uint32_t i = 0; i < (cf_user() ? READS : READS / 20); i++) {
		uint64_t now = cf_now_ns();

		back += now < last;
		last = now;
	}
	cf_expect((int64_t)back, 0, "readings before the one before");
	uint64_t began = cf_now_ns();
	for (; cf_now_ns() == began && still < 100000; still++)
		cf_relax();
	cf_want(still < 100000, "time goes on");
	cf_case("TIME-5 the time page can be read");
	uint32_t sequence = CF_LOAD(time->sequence);
	for (uint32_t i = 0; i < 100000 && (sequence = CF_LOAD(time->sequence)) & 1; i++)
		cf_relax();
	cf_expect(sequence & 1, 0, "bit 0 of the sequence, when the host does not write");
	cf_want(time->shift <= 63, "a shift of at most 63");
	cf_expect((int64_t)(time->flags & ~(uint32_t)PV_TIME_FLAG_COUNTER), 0, "flags that are not defined");
	cf_want(pv_time_wall(time) > THIS_CENTURY * CF_SECOND, "the wall clock is of this century");
}

static uint64_t readings[2]; /* of two vCPUs that order their reads by turns */
static uint32_t turn, back_between;

static void read_in_turns(uint32_t me, uint32_t round)
{
	while (CF_LOAD(turn) != 2 * round + me)
		cf_relax();
	readings[me] = cf_now_ns();
	back_between += readings[me] < readings[!me];
	CF_STORE(turn, 2 * round + me + 1);
}

static void partner(void *argument)
{
	(void)argument;
	for (uint32_t round = 0; round < ROUNDS; round++)
		read_in_turns(1, round);
}

static void between_vcpus(void)
{
	cf_case("TIME-1 nor between vCPUs that order their reads");
	if (cf_vcpus() < 2 || !cf_offered(PV_SERVICE_VCPU)) {
		cf_skip("one vCPU");
		return;
	}
	if (!cf_expect(cf_start(1, partner, NULL), PV_STATUS_OK, "vcpu.start"))
		return;
	for (uint32_t round = 0; round < ROUNDS; round++)
		read_in_turns(0, round);
	cf_expect(back_between, 0, "readings before that of the other vCPU");
	cf_want(cf_join(1), "the other vCPU stops");
}

static void deadlines(const struct pv_vcpu_page *own)
{
	uint64_t due_ns, seen_ns;

	cf_case("TIME-2 a deadline is not early, comes once, and is disarmed then");
	cf_expect((int64_t)CF_LOAD(own->deadline_ns), -1, "the page's deadline at first");
	for (uint32_t i = 1; i <= 5; i++) {
		due_ns = cf_now_ns() + i * i * MILLISECOND / 4;
		cf_expect(arm(due_ns), PV_STATUS_OK, "time.deadline");
		seen_ns = wait_due(0);
		cf_want(seen_ns != 0, "it comes");
		cf_want(seen_ns >= due_ns, "it is not early");
		cf_expect((int64_t)CF_LOAD(own->deadline_ns), -1, "the page's deadline afterwards");
		take(0);
	}
	cf_wait_ns(5 * MILLISECOND);
	cf_want(!due(0), "it does not come again");
	due_ns = cf_now_ns() + 3600 * CF_SECOND;
	arm(due_ns);
	cf_expect((int64_t)CF_LOAD(own->deadline_ns), (int64_t)due_ns, "the page's deadline while it is armed");
	cf_want(!due(0), "a far one has not come");
	arm(1);
	cf_want(wait_due(0) != 0, "one that has passed is due at once");
	take(0);
}

/* Arms a deadline and in its place another, before the first came: a busy host may take several tries. When that was. */
static uint64_t replace(uint64_t later_ns, uint64_t *next_ns)
{
	for (uint64_t wait_ns = 30 * MILLISECOND;; wait_ns *= 2) {
		uint64_t first_ns = cf_now_ns() + wait_ns;

		*next_ns = later_ns == PV_DEADLINE_NEVER ? PV_DEADLINE_NEVER : first_ns + later_ns;
		arm(first_ns);
		arm(*next_ns);
		if (cf_now_ns() < first_ns)
			return first_ns;
		arm(PV_DEADLINE_NEVER);
		take(0);
	}
}

static void replaced(const struct pv_vcpu_page *own)
{
	uint64_t first_ns, due_ns;

	cf_case("TIME-3 arming a deadline replaces the one before");
	replace(30 * MILLISECOND, &due_ns);
	cf_want(wait_due(0) >= due_ns, "a later one counts");
	take(0);
	arm(cf_now_ns() + 3600 * CF_SECOND);
	due_ns = cf_now_ns() + 2 * MILLISECOND;
	arm(due_ns);
	cf_want(wait_due(0) >= due_ns, "an earlier one counts");
	take(0);
	first_ns = replace(PV_DEADLINE_NEVER, &due_ns);
	cf_expect((int64_t)CF_LOAD(own->deadline_ns), -1, "the page's deadline after NEVER");
	while (cf_now_ns() < first_ns + 10 * MILLISECOND)
		cf_relax();
	cf_want(!due(0), "NEVER disarms");
}

static void arm_own(void *argument)
{
	*(int64_t *)argument = arm(cf_now_ns() + MILLISECOND);
}

static void of_each_vcpu(void)
{
	int64_t status = 1;

	cf_case("TIME-2 a deadline is that of the vCPU that armed it");
	if (cf_vcpus() < 2 || !cf_offered(PV_SERVICE_VCPU)) {
		cf_skip("one vCPU");
		return;
	}
	uint64_t due_ns = cf_now_ns() + 20 * MILLISECOND;
	arm(due_ns);
	cf_expect(cf_start(1, arm_own, &status), PV_STATUS_OK, "vcpu.start");
	cf_want(wait_due(1) != 0, "that of vCPU 1 comes");
	cf_want(wait_due(0) >= due_ns, "that of vCPU 0 comes in its own time");
	cf_want(cf_join(1), "vCPU 1 stops");
	cf_expect(status, PV_STATUS_OK, "its time.deadline");
	take(0);
	take(1);
}

static void time(void)
{
	const struct pv_vcpu_page *own = cf_page(0);

	page(pv_at(cf_boot.pages->time_gpa));
	between_vcpus();
	if (!cf_exists(PV_CALL_TIME_DEADLINE)) {
		cf_case("TIME-2 TIME-3 deadlines");
		cf_skip("service time is not offered");
		return;
	}
	take(0);
	deadlines(own);
	replaced(own);
	of_each_vcpu();
}

CF_CHAPTER(time, time);
