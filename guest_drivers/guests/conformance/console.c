/* SPDX-License-Identifier: 0BSD
 *
 * Chapter console: all bytes or none, and no waiting.  The budget is judged by an image of its own (budgets).
 */
#include "paravirt/string.h"
#include "support/conformance.h"

#define LINE "# console.write takes as many bytes as its limit allows, in one piece, of which this is a part\n"

static void console(void)
{
	static char text[PV_LIMIT_CONSOLE_BYTES];
	static uint8_t room[PV_LIMIT_CONSOLE_BYTES];
	static const uint64_t sizes[] = { 0, 1, 63, PV_LIMIT_CONSOLE_BYTES };
	uint64_t began_ns = cf_now_ns();

	cf_case("CON-1 console.write takes all bytes");
	cf_expect((int64_t)pv_call2(PV_CALL_CONSOLE_WRITE, pv_gpa(LINE), sizeof(LINE) - 1).value, sizeof(LINE) - 1,
		  "bytes of a line");
	memset(text, '.', sizeof(text)); /* lines of a comment */
	for (uint32_t i = 0; i < sizeof(text); i += 128) {
		text[i] = '#';
		text[i + 127] = '\n';
	}
	struct pv_answer answer = pv_call2(PV_CALL_CONSOLE_WRITE, pv_gpa(text), sizeof(text));
	cf_expect(answer.status, PV_STATUS_OK, "status of as many as the limit");
	cf_expect((int64_t)answer.value, sizeof(text), "bytes of as many as the limit");
	cf_expect((int64_t)pv_call2(PV_CALL_CONSOLE_WRITE, pv_gpa(text), 0).value, 0, "bytes of none");
	cf_case("CON-3 console.read never waits");
	for (uint32_t i = 0; i < CF_COUNT(sizes); i++) {
		answer = pv_call2(PV_CALL_CONSOLE_READ, pv_gpa(room), sizes[i]);
		cf_expect(answer.status, PV_STATUS_OK, "status");
		cf_want(answer.value <= sizes[i], "no more bytes than there is room for");
	}
	cf_want(cf_now_ns() - began_ns < CF_SECOND, "answered within a second");
}

CF_CHAPTER(console, console);
