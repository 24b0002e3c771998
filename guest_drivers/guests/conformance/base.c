/* SPDX-License-Identifier: 0BSD
 *
 * Chapter base: version, services, negotiation, limits, boot information, batches.
 */
#include "paravirt/string.h"
#include "support/conformance.h"

#define SERVICES 64
#define BATCH PV_LIMIT_BATCH_ENTRIES
#define NO_SERVICE 0x7ffe

static struct pv_service_info table[SERVICES];
static struct pv_submission submissions[BATCH] __attribute__((aligned(64)));
static struct pv_completion completions[BATCH] __attribute__((aligned(32)));

static void version(void)
{
	struct pv_answer answer = pv_call0(PV_CALL_BASE_VERSION);

	cf_case("BASE-1 base.version");
	cf_expect(answer.status, PV_STATUS_OK, "status");
	cf_expect((int64_t)(answer.value >> 32), PV_ABI_MAJOR, "major version");
	cf_expect((uint32_t)answer.value, cf_boot.abi->minor, "minor version, as the boot information has it");
}

static void services(void)
{
	struct pv_answer all = pv_call2(PV_CALL_BASE_SERVICES, pv_gpa(table), sizeof(table));
	const uint64_t each = sizeof(table[0]);
	uint64_t count = all.value / each;

	cf_case("BASE-4 base.services writes whole records in the order of service numbers");
	cf_expect(all.status, PV_STATUS_OK, "status");
	cf_expect((int64_t)(all.value % each), 0, "bytes beyond whole records");
	cf_expect(table[0].service, PV_SERVICE_BASE, "the first service");
	for (uint64_t i = 1; i < count; i++)
		cf_want(table[i].service > table[i - 1].service, "a number is above the one before");
	for (uint64_t size = 0; size <= 3 * each; size += 8) {
		struct pv_answer part = pv_call2(PV_CALL_BASE_SERVICES, pv_gpa(table), size);
		uint64_t fit = size / each < count ? size / each : count;

		cf_expect((int64_t)part.value, (int64_t)(fit * each), "bytes written where fewer fit");
	}
	cf_case("BASE-5 a service that is not listed does not exist");
	pv_call2(PV_CALL_BASE_SERVICES, pv_gpa(table), sizeof(table));
	for (uint32_t service = 0, at = 0; service < 32; service++) {
		if (at < count && table[at].service == service) {
			at++;
			continue;
		}
		cf_expect(pv_call2(PV_CALL_BASE_ACCEPT, service, 0).status, PV_STATUS_NOT_FOUND, "base.accept");
		cf_expect(pv_call0(service << 16).status, PV_STATUS_NOT_SUPPORTED, "its first call");
	}
	cf_expect(pv_call2(PV_CALL_BASE_ACCEPT, NO_SERVICE, 0).status, PV_STATUS_NOT_FOUND, "a far number");
	cf_expect(pv_call2(PV_CALL_BASE_ACCEPT, 1ull << 32 | PV_SERVICE_BASE, 0).status, PV_STATUS_NOT_FOUND,
		  "a number above 32 bits");
}

/* Of one service, after base.renegotiate. */
static void negotiate(const struct pv_service_info *info)
{
	struct pv_service_info now = { 0 };
	uint64_t not_offered = ~info->offered & -~info->offered;

	cf_case("BASE-2 service %u: a feature that is not offered", info->service);
	cf_expect(pv_call2(PV_CALL_BASE_ACCEPT, info->service, not_offered).status, PV_STATUS_INVALID, "alone");
	cf_expect(pv_call2(PV_CALL_BASE_ACCEPT, info->service, info->offered | not_offered).status, PV_STATUS_INVALID,
		  "beside those offered");
	cf_case("BASE-3 service %u: accepted once", info->service);
	struct pv_answer answer = pv_call2(PV_CALL_BASE_ACCEPT, info->service, info->offered);
	cf_expect(answer.status, PV_STATUS_OK, "all that is offered");
	cf_expect((int64_t)answer.value, (int64_t)info->offered, "value");
	cf_service(info->service, &now);
	cf_expect((int64_t)now.accepted, (int64_t)info->offered, "accepted, as listed");
	cf_expect(pv_call2(PV_CALL_BASE_ACCEPT, info->service, info->offered).status, PV_STATUS_OK, "the same again");
	if (info->offered)
		cf_expect(pv_call2(PV_CALL_BASE_ACCEPT, info->service, 0).status, PV_STATUS_BAD_STATE, "another set");
}

static void negotiation(void)
{
	static struct pv_service_info each[SERVICES];
	uint64_t count = pv_call2(PV_CALL_BASE_SERVICES, pv_gpa(each), sizeof(each)).value / sizeof(each[0]);

	pv_call0(PV_CALL_BASE_RENEGOTIATE);
	for (uint64_t i = 0; i < count; i++)
		negotiate(&each[i]);
	cf_case("BASE-8 base.renegotiate forgets what was accepted");
	cf_expect(pv_call0(PV_CALL_BASE_RENEGOTIATE).status, PV_STATUS_OK, "status");
	pv_call2(PV_CALL_BASE_SERVICES, pv_gpa(each), sizeof(each));
	for (uint64_t i = 0; i < count; i++) {
		cf_expect((int64_t)each[i].accepted, 0, "accepted");
		cf_expect(pv_call2(PV_CALL_BASE_ACCEPT, each[i].service, 0).status, PV_STATUS_OK, "accepted anew");
	}
	pv_call0(PV_CALL_BASE_RENEGOTIATE);
}

static void limits(void)
{
	static const struct {
		const char *name;
		uint64_t number;
	} each[] = {
#define PV_LIMIT(limit) { #limit, limit },
#include "paravirt_abi_calls.h"
#undef PV_LIMIT
	};

	cf_case("BASE-6 a host's own limits");
	for (uint32_t id = 0; id < CF_COUNT(each); id++) {
		struct pv_answer answer = pv_call1(PV_CALL_BASE_LIMIT, id);
		bool is_time = !strcmp(each[id].name + strlen(each[id].name) - 3, "_NS");

		cf_expect(answer.status, PV_STATUS_OK, each[id].name);
		cf_want(is_time ? answer.value <= each[id].number : answer.value >= each[id].number, each[id].name);
	}
	cf_case("CALL-6 base.limit of an id that no limit has");
	cf_expect(pv_call1(PV_CALL_BASE_LIMIT, 0xffff).status, PV_STATUS_NOT_FOUND, "a far id");
	cf_expect(pv_call1(PV_CALL_BASE_LIMIT, 1ull << 32).status, PV_STATUS_NOT_FOUND, "an id above 32 bits");
}

static void boot_info(void)
{
	static uint8_t copy[PV_LIMIT_BOOT_INFO_BYTES] __attribute__((aligned(8)));
	struct pv_answer answer = pv_call2(PV_CALL_BASE_BOOT_INFO, pv_gpa(copy), sizeof(copy));

	cf_case("BOOT-9 base.boot_info copies the boot information, or its beginning");
	cf_expect((int64_t)answer.value, cf_info->size_bytes, "bytes written");
	cf_want(!memcmp(copy, cf_info, cf_info->size_bytes), "the copy is like what lies in memory");
	memset(copy, 0, 64);
	answer = pv_call2(PV_CALL_BASE_BOOT_INFO, pv_gpa(copy), 17);
	cf_expect((int64_t)answer.value, 17, "bytes written where 17 fit");
	cf_want(!memcmp(copy, cf_info, 17), "its beginning");
}

/* The host may want the vCPU meanwhile and answer CONTINUE (BATCH-5); the value is all that was completed. */
static struct pv_answer run(uint64_t count)
{
	struct pv_answer answer = { PV_STATUS_CONTINUE, 0 };
	uint64_t done = 0;

	memset(completions, 0xee, sizeof(completions));
	while (answer.status == PV_STATUS_CONTINUE) {
		answer = pv_call4(PV_CALL_BASE_BATCH, pv_gpa(submissions + done), count - done,
				  pv_gpa(completions + done), count - done);
		if (answer.status < 0 || !answer.value || answer.value > count - done)
			break;
		done += answer.value;
	}
	return (struct pv_answer){ answer.status, done };
}

static void fill(uint64_t count, uint32_t call)
{
	for (uint64_t i = 0; i < count; i++)
		submissions[i] = (struct pv_submission){ .call = call, .cookie = ~i };
}

static void batches(void)
{
	struct pv_answer answer;
	uint64_t value = pv_call0(PV_CALL_BASE_VERSION).value;

	cf_case("BATCH-1 counts that differ");
	cf_expect(pv_call4(PV_CALL_BASE_BATCH, pv_gpa(submissions), 2, pv_gpa(completions), 3).status,
		  PV_STATUS_INVALID, "2 and 3");
	cf_expect(pv_call4(PV_CALL_BASE_BATCH, pv_gpa(submissions), 0, pv_gpa(completions), 1).status,
		  PV_STATUS_INVALID, "0 and 1");
	cf_expect(pv_call4(PV_CALL_BASE_BATCH, pv_gpa(submissions), 0, pv_gpa(completions), 0).status, PV_STATUS_OK,
		  "0 and 0");
	fill(BATCH, PV_CALL_BASE_VERSION);
	submissions[7].call = 0xdead0000;
	submissions[9].args[0] = 1;
	submissions[11].flags = 1;
	submissions[12].flags = 1u << 31;
	answer = run(BATCH);
	cf_case("BATCH-2 as many entries as the limit, in order, each with its completion");
	cf_expect(answer.status, PV_STATUS_OK, "status of the batch");
	cf_expect((int64_t)answer.value, BATCH, "entries completed");
	for (uint64_t i = 0; i < answer.value; i++) {
		bool refused = i == 7 || i == 9 || i == 11 || i == 12;

		cf_expect((int64_t)completions[i].cookie, (int64_t)~i, "cookie");
		if (!refused)
			cf_expect((int64_t)completions[i].value, (int64_t)value, "value");
	}
	cf_expect(completions[7].status, PV_STATUS_NOT_SUPPORTED, "status of an unknown call");
	cf_expect(completions[8].status, PV_STATUS_OK, "status of the entry behind it");
	cf_expect(completions[9].status, PV_STATUS_INVALID, "status where an argument is too many");
	cf_case("DATA-2 padding of completions");
	for (uint64_t i = 0; i < answer.value; i++)
		for (uint32_t at = 0; at < sizeof(completions[i].reserved0); at++)
			cf_expect(completions[i].reserved0[at], 0, "a byte of it");
	cf_case("BATCH-3 CALL-14 flags of a submission");
	cf_expect(completions[11].status, PV_STATUS_INVALID, "status with bit 0");
	cf_expect(completions[12].status, PV_STATUS_INVALID, "status with bit 31");
}

/* Submissions that earlier entries of the same batch overwrite, with the beginning of the boot information. */
static void copies(void)
{
	const uint64_t size = sizeof(submissions[0]);

	cf_case("BATCH-4 a submission is copied once, when its turn comes");
	fill(4, PV_CALL_BASE_VERSION);
	submissions[0].call = submissions[2].call = PV_CALL_BASE_BOOT_INFO;
	submissions[0].args[0] = pv_gpa(&submissions[1]);
	submissions[2].args[0] = pv_gpa(&submissions[2]);
	submissions[0].args[1] = submissions[2].args[1] = size;
	struct pv_answer answer = run(4);
	cf_expect((int64_t)answer.value, 4, "entries completed");
	cf_expect(completions[1].status, PV_STATUS_INVALID, "what the entry before made of the next: flags");
	cf_expect((int64_t)completions[1].cookie, (int64_t)submissions[1].cookie, "and its cookie");
	cf_expect(completions[2].status, PV_STATUS_OK, "an entry that overwrites itself");
	cf_expect((int64_t)completions[2].cookie, ~2ll, "has the cookie of the copy");
	cf_expect(completions[3].status, PV_STATUS_OK, "the entry behind it");
}

/* Entries that cost the host enough: memory given away and taken back. False: a broken batch. */
static bool long_batch(void *memory, uint64_t bytes, bool *continued)
{
	static struct pv_memory_range range;
	uint64_t done = 0;

	range = (struct pv_memory_range){ pv_gpa(memory), bytes };
	for (uint32_t i = 0; i < BATCH; i++)
		submissions[i] = (struct pv_submission){
			.call = i & 1 ? PV_CALL_MEMORY_DISCARD : PV_CALL_MEMORY_POPULATE,
			.args = { pv_gpa(&range), 1 },
		};
	while (done < BATCH) {
		uint64_t left = BATCH - done;
		struct pv_answer answer = pv_call4(PV_CALL_BASE_BATCH, pv_gpa(submissions + done), left,
						   pv_gpa(completions + done), left);

		if (!cf_want(answer.status >= 0 && answer.value >= 1 && answer.value <= left, "progress") ||
		    !cf_expect(answer.status == PV_STATUS_OK, answer.value == left, "OK if all is done, else CONTINUE"))
			return false;
		*continued |= answer.status == PV_STATUS_CONTINUE;
		for (; answer.value; answer.value--)
			cf_expect(completions[done++].status, PV_STATUS_OK, "status of an entry");
	}
	return true;
}

static void time_bound(void)
{
	uint64_t bound_ns = pv_call1(PV_CALL_BASE_LIMIT, PV_LIMIT_ID_BATCH_NS).value, began_ns = cf_now_ns();
	const uint64_t bytes = 2 << 20;
	void *memory = cf_take(bytes, CF_PAGE);
	bool continued = false;

	cf_case("BATCH-5 a batch that takes long stops between two entries");
	if (!cf_exists(PV_CALL_MEMORY_DISCARD) || !cf_exists(PV_CALL_MEMORY_POPULATE)) {
		cf_skip("service memory is not offered");
		return;
	}
	if (!memory) {
		cf_skip("too little memory");
		return;
	}
	if (!long_batch(memory, bytes, &continued) || continued)
		return;
	if (cf_now_ns() - began_ns > 10 * bound_ns)
		cf_want(false, "CONTINUE, of a batch that took more than ten times its bound");
	else
		cf_skip("this host carries the longest batch out in time");
}

static void base(void)
{
	version();
	services();
	negotiation();
	limits();
	boot_info();
	batches();
	copies();
	time_bound();
}

CF_CHAPTER(base, base);
