/* SPDX-License-Identifier: 0BSD
 *
 * Chapter range: services beyond the core ones: continuity, which a host may offer, and the numbers of vendors
 * and experiments, where what is not listed does not exist.
 */
#include "support/conformance.h"

#define VENDORS 0x8000u
#define RESERVED_FIRST 16u

static void continuity(void)
{
	uint64_t page_gpa = cf_boot.pages->continuity_gpa;
	uint64_t accepted = cf_accept(PV_SERVICE_CONTINUITY, PV_CONTINUITY_FEATURE_NOTIFY);

	cf_case("CALL-3 continuity answers if NOTIFY is accepted, else it does not exist");
	if (!accepted) {
		cf_expect(pv_call1(PV_CALL_CONTINUITY_SUBSCRIBE, 0).status, PV_STATUS_NOT_SUPPORTED, "subscribe");
		cf_expect(pv_call1(PV_CALL_CONTINUITY_ACKNOWLEDGE, 0).status, PV_STATUS_NOT_SUPPORTED, "acknowledge");
		return;
	}
	const struct pv_continuity_page *page = pv_at(page_gpa);
	cf_want(page_gpa != 0, "there is a page");
	cf_expect(pv_call1(PV_CALL_CONTINUITY_SUBSCRIBE, 0).status, PV_STATUS_OK, "subscribe");
	cf_expect(pv_call1(PV_CALL_CONTINUITY_SUBSCRIBE, cf_vcpus()).status, PV_STATUS_NOT_FOUND, "no such vCPU");
	cf_case("CONT-4 an acknowledgement names the event that the page shows");
	cf_expect(pv_call1(PV_CALL_CONTINUITY_ACKNOWLEDGE, page->counter + 1).status, PV_STATUS_INVALID,
		  "an event that has not been");
}

/* Numbers outside of the core services; what is listed there is judged by the chapter base like every service. */
static void others(void)
{
	static const uint32_t numbers[] = { RESERVED_FIRST, 0x1234, 0x7fff, VENDORS, 0x8001,
					    0xbfff,	    0xc000, 0xcafe, 0xfffe,  0xffff };
	const uint64_t args[6] = { 0 };

	cf_case("VND-1 BASE-5 CALL-1 services of vendors and experiments that are not listed do not exist");
	for (uint32_t i = 0; i < CF_COUNT(numbers); i++) {
		if (cf_offered(numbers[i]))
			continue;
		cf_expect(pv_call2(PV_CALL_BASE_ACCEPT, numbers[i], 0).status, PV_STATUS_NOT_FOUND, "base.accept");
		for (uint32_t function = 0; function < 32; function += 31) {
			cf_expect(cf_trap(numbers[i] << 16 | function, args).status, PV_STATUS_NOT_SUPPORTED, "a call");
			cf_expect(cf_batched(numbers[i] << 16 | function, args).status, PV_STATUS_NOT_SUPPORTED,
				  "a call in a batch");
		}
	}
}

static void range(void)
{
	continuity();
	others();
}

CF_CHAPTER(range, range);
