/* SPDX-License-Identifier: 0BSD
 *
 * Chapter trace: marks and spans.  The budget is judged by an image of its own (budgets).
 */
#include "support/conformance.h"

static int64_t named(uint32_t call, const void *name, uint64_t size_bytes)
{
	return pv_call2(call, pv_gpa(name), size_bytes).status;
}

static void trace(void)
{
	static const uint8_t bad_text[] = {
		0xff, 0xfe, 0xc3, 0x28, 0, 0x1b, '[', '2', 'J', 0xed, 0xa0, 0x80, '"', '\n'
	};
	static const char longest[PV_LIMIT_TRACE_NAME_BYTES] =
		"a name that has as many bytes as a name may have, with NULs";

	cf_case("TRC-1 marks and spans are taken, whether anybody traces or not");
	if (!cf_offered(PV_SERVICE_TRACE)) {
		cf_skip("service trace is not offered");
		return;
	}
	cf_expect(named(PV_CALL_TRACE_BEGIN, "span", 4), PV_STATUS_OK, "begin");
	cf_expect(pv_call3(PV_CALL_TRACE_MARK, pv_gpa("mark"), 4, ~0ull).status, PV_STATUS_OK, "mark");
	cf_expect(pv_call0(PV_CALL_TRACE_END).status, PV_STATUS_OK, "end");
	cf_case("TRC-2 names that are no good text, and an end without a span");
	cf_expect(named(PV_CALL_TRACE_BEGIN, bad_text, sizeof(bad_text)), PV_STATUS_OK, "begin");
	cf_expect(pv_call3(PV_CALL_TRACE_MARK, pv_gpa(bad_text), 3, 0).status, PV_STATUS_OK, "mark");
	cf_expect(named(PV_CALL_TRACE_BEGIN, longest, sizeof(longest)), PV_STATUS_OK, "the longest name");
	cf_expect(named(PV_CALL_TRACE_BEGIN, longest, 0), PV_STATUS_OK, "an empty name");
	for (uint32_t i = 0; i < 5; i++)
		cf_expect(pv_call0(PV_CALL_TRACE_END).status, PV_STATUS_OK, "end, at last without a span");
}

CF_CHAPTER(trace, trace);
