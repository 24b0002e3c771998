/* SPDX-License-Identifier: 0BSD
 *
 * Budgets of the machine: what is bounded is refused with QUOTA, and the machine runs on.  An image of its own,
 * for it uses them up; a host whose bounds are not met in a few seconds is not judged.
 */
#include "../support/device.h"
#include "paravirt/string.h"

#define BATCH PV_LIMIT_BATCH_ENTRIES
#define PATIENCE_NS (4 * CF_SECOND)
#define CONSOLE_MOST (48u << 20) /* bytes of comments that a reader of the console can be asked to bear */

static struct pv_submission submissions[BATCH] __attribute__((aligned(64)));
static struct pv_completion completions[BATCH] __attribute__((aligned(32)));

/* Makes the same call again and again; whether it was refused with QUOTA at last, and with nothing else. */
static bool until_quota(uint32_t call, uint64_t first, uint64_t second)
{
	uint64_t end_ns = cf_now_ns() + PATIENCE_NS;

	for (uint32_t i = 0; i < BATCH; i++)
		submissions[i] = (struct pv_submission){ .call = call, .args = { first, second } };
	while (cf_now_ns() < end_ns) {
		uint64_t done =
			pv_call4(PV_CALL_BASE_BATCH, pv_gpa(submissions), BATCH, pv_gpa(completions), BATCH).value;

		for (uint64_t i = 0; i < done && i < BATCH; i++)
			if (completions[i].status != PV_STATUS_OK)
				return cf_expect(completions[i].status, PV_STATUS_QUOTA, "status");
	}
	cf_skip("no bound was met");
	return false;
}

static void marks(void)
{
	cf_case("TRC-1 marks beyond the budget");
	if (!cf_offered(PV_SERVICE_TRACE)) {
		cf_skip("service trace is not offered");
		return;
	}
	if (until_quota(PV_CALL_TRACE_MARK, pv_gpa("mark"), 4)) {
		cf_expect(pv_call2(PV_CALL_TRACE_BEGIN, pv_gpa("span"), 4).status, PV_STATUS_QUOTA, "a span's begin");
		cf_expect(pv_call0(PV_CALL_TRACE_END).status, PV_STATUS_QUOTA, "a span's end");
	}
	cf_is(pv_call0(PV_CALL_BASE_VERSION).status, PV_STATUS_OK, "TRC-1 the machine runs on");
}

static void doorbells(void)
{
	struct pv_queue_setup setup = cf_queue_setup();
	struct pv_device_info info;
	struct pv_virtio device;

	cf_case("DEV-12 doorbells beyond the budget");
	if (!cf_called_device(&device, &info)) {
		cf_skip("no device by calls");
		return;
	}
	cf_want(cf_up(&device, 0, &setup), "the device starts");
	until_quota(PV_CALL_DEVICE_NOTIFY, device.index, 0);
	cf_case("DEV-12 the device and the machine run on");
	cf_wait_ns(CF_SECOND + CF_SECOND / 4); /* so that a rate leaves room again */
	cf_want(cf_works(&device, 0), "the device works");
	cf_down(&device);
}

/* The case is written with what is left: less than a large piece, more than the last lines need. */
static void console(void)
{
	static char text[PV_LIMIT_CONSOLE_BYTES];
	struct pv_answer answer = { 0, 0 };
	uint32_t total = 0;

	cf_case("CON-2 CON-1 output beyond the budget is refused whole, and the machine runs on");
	memset(text, '.', sizeof(text));
	text[0] = '#';
	text[sizeof(text) - 1] = '\n';
	while (answer.status == PV_STATUS_OK && total < CONSOLE_MOST) {
		answer = pv_call2(PV_CALL_CONSOLE_WRITE, pv_gpa(text), sizeof(text));
		total += sizeof(text);
	}
	if (answer.status == PV_STATUS_OK) {
		cf_skip("no bound was met");
		return;
	}
	cf_expect(answer.status, PV_STATUS_QUOTA, "status");
	cf_expect(pv_call2(PV_CALL_CONSOLE_WRITE, pv_gpa(text), sizeof(text)).status, PV_STATUS_QUOTA, "once more");
	cf_expect(pv_call0(PV_CALL_BASE_VERSION).status, PV_STATUS_OK, "another call");
}

static void budgets(void)
{
	marks();
	doorbells();
	console();
}

CF_CHAPTER(budgets, budgets);
