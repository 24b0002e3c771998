/* SPDX-License-Identifier: 0BSD
 *
 * Chapter calls: every declared call with every class of argument that the declaration alone refuses,
 * over the trap, in batches, and over a ring (CALL-6, RING-15).  The table of calls is the declaration's.
 */
#include "paravirt/string.h"
#include "support/callring.h"

#define ARGUMENTS PV_LIMIT_ARGUMENTS
#define LAST 0xffffffffffffffc0ull /* 64 bytes before addresses wrap */
#define FUNCTIONS 32u

struct argument {
	uint32_t is_buffer;
	uint32_t limit; /* of the length, in units */
	uint32_t align;
	uint32_t unit_bytes;
	uint32_t fixed; /* no length: one unit */
};

struct call {
	uint32_t id;
	const char *name;
	uint32_t roads;
	uint32_t registers;
	int32_t feature;
	struct argument arguments[ARGUMENTS];
};

#define PV_NONE
#define PV_ARG { 0, 0, 0, 0, 0 },
#define PV_BUFFER(access, limit, align, unit, fixed) { 1, limit, align, unit, fixed },
#define PV_CALL(service, function, name, roads, registers, feature, arguments) \
	{ (service) << 16 | (function), #name, roads, registers, feature, { arguments } },
static const struct call calls[] = {
#include "paravirt_abi_calls.h"
};
#define CALLS (sizeof(calls) / sizeof(calls[0]))

static uint8_t scratch[65536] __attribute__((aligned(4096)));

static bool by_ring; /* the second time, over a ring, with one case for each call */
#define BEGIN(...)                            \
	do {                                  \
		if (!by_ring)                 \
			cf_case(__VA_ARGS__); \
	} while (0)

static uint32_t outside; /* answers that are no status of this version */

static int64_t one_of_the_list(int64_t status)
{
	outside += status > PV_STATUS_CONTINUE || status < PV_STATUS_NO_MEMORY;
	return status;
}

/* Over each road of the call, with the one answer that all must give. */
static void expect(const struct call *call, const uint64_t *args, int64_t status, const char *what)
{
	if (by_ring) {
		cf_expect(one_of_the_list(cf_ringed(call->id, args).status), status, what);
		return;
	}
	cf_expect(one_of_the_list(cf_trap(call->id, args).status), status, what);
	if (call->roads & PV_ROAD_BATCH)
		cf_expect(one_of_the_list(cf_batched(call->id, args).status), status, what);
}

/* Arguments whose buffers are right. Plain arguments are such that no call gets far with them. */
static void good_arguments(const struct call *call, uint64_t *args)
{
	uint32_t at = 0;

	memset(args, 0, ARGUMENTS * sizeof(*args));
	for (uint32_t i = 0; at < call->registers; i++) {
		const struct argument *argument = &call->arguments[i];

		args[at++] = argument->is_buffer ? pv_gpa(scratch) : 0xbad;
		if (argument->is_buffer && !argument->fixed)
			args[at++] = 1;
	}
}

/* One buffer, whose address is argument `at`, in every wrong way, in the order of CALL-6. */
static void bad_buffer(const struct call *call, const struct argument *argument, uint32_t at)
{
	const struct pv_boot_memory *top = &cf_boot.memory[cf_boot.memory_count - 1];
	uint64_t args[ARGUMENTS];

	good_arguments(call, args);
	if (!argument->fixed) {
		args[at + 1] = (uint64_t)argument->limit + 1;
		expect(call, args, PV_STATUS_LIMIT, "one above the limit");
		args[at + 1] = UINT64_MAX;
		args[at] = LAST + 1;
		expect(call, args, PV_STATUS_LIMIT, "a huge length, before the address");
		args[at + 1] = 1ull << 32 | 1;
		expect(call, args, PV_STATUS_LIMIT, "a length above 32 bits");
		args[at + 1] = 1;
	}
	if (argument->align > 1) {
		args[at] = CF_NOWHERE + argument->align / 2;
		expect(call, args, PV_STATUS_UNALIGNED, "half the alignment, before the range");
	}
	args[at] = CF_NOWHERE;
	expect(call, args, PV_STATUS_BAD_ADDRESS, "no memory there");
	args[at] = top->gpa + top->size_bytes - 8;
	if (argument->align <= 8 && !argument->fixed && argument->limit > 8) {
		args[at + 1] = 9;
		expect(call, args, PV_STATUS_BAD_ADDRESS, "a range that runs out of memory");
	}
	args[at] = LAST;
	if (!argument->fixed)
		args[at + 1] = argument->limit;
	expect(call, args, PV_STATUS_BAD_ADDRESS, "a range that wraps");
}

static void undeclared_arguments(const struct call *call)
{
	uint64_t args[ARGUMENTS];

	if (call->registers == ARGUMENTS)
		return;
	BEGIN("CALL-5 %s: an argument beyond those declared", call->name);
	for (uint32_t i = call->registers; i < ARGUMENTS; i++) {
		good_arguments(call, args);
		args[i] = 1ull << (i * 11);
		expect(call, args, PV_STATUS_INVALID, "not zero");
	}
	/* before the declared ones: everything is wrong here */
	memset(args, 0xff, sizeof(args));
	expect(call, args, PV_STATUS_INVALID, "before the declared arguments");
}

static void bad_buffers(const struct call *call)
{
	bool any = false;

	for (uint32_t i = 0, at = 0; at < call->registers; i++) {
		const struct argument *argument = &call->arguments[i];

		if (argument->is_buffer && !any) {
			BEGIN("CALL-6 %s: length, alignment, range, in this order", call->name);
			any = true;
		}
		if (argument->is_buffer)
			bad_buffer(call, argument, at);
		at += argument->is_buffer && !argument->fixed ? 2 : 1;
	}
}

/* Whatever else a call says of it, an empty buffer is no bad buffer. */
static void empty_buffers(const struct call *call)
{
	uint64_t args[ARGUMENTS];
	bool any = false;

	good_arguments(call, args);
	for (uint32_t i = 0, at = 0; at < call->registers; i++) {
		bool sized = call->arguments[i].is_buffer && !call->arguments[i].fixed;

		if (sized) {
			args[at] = CF_NOWHERE;
			args[at + 1] = 0;
			any = true;
		}
		at += sized ? 2 : 1;
	}
	if (!any)
		return;
	BEGIN("CALL-7 %s: an empty buffer, wherever it is", call->name);
	int64_t status = by_ring ? cf_ringed(call->id, args).status : cf_trap(call->id, args).status;
	cf_want(status >= 0 || status == PV_STATUS_NOT_FOUND || status == PV_STATUS_INVALID,
		"the buffer is not refused");
	if (!by_ring && call->roads & PV_ROAD_BATCH)
		cf_expect(cf_batched(call->id, args).status, status, "the same in a batch");
}

static void one_call(const struct call *call)
{
	uint64_t args[ARGUMENTS];

	memset(args, 0xff, sizeof(args));
	if (!cf_exists(call->id)) {
		cf_case("%s %s: answers as if it did not exist", call->feature < 0 ? "CALL-2" : "CALL-3", call->name);
		expect(call, args, PV_STATUS_NOT_SUPPORTED, "before its arguments");
		if (!(call->roads & PV_ROAD_BATCH))
			cf_expect(cf_batched(call->id, args).status, PV_STATUS_NOT_SUPPORTED, "before its road");
		memset(args, 0, sizeof(args));
		expect(call, args, PV_STATUS_NOT_SUPPORTED, "with zeros");
		return;
	}
	cf_case("CALL-8 %s: RAX bits 63:32 are not zero", call->name);
	cf_expect(cf_trap(1ull << 32 | call->id, args).status, PV_STATUS_NOT_SUPPORTED, "bit 32");
	cf_expect(cf_trap(1ull << 63 | call->id, args).status, PV_STATUS_NOT_SUPPORTED, "bit 63");
	if (!(call->roads & PV_ROAD_BATCH)) {
		cf_case("CALL-4 %s: in a batch", call->name);
		cf_expect(cf_batched(call->id, args).status, PV_STATUS_WRONG_ROAD, "before its arguments");
	}
	undeclared_arguments(call);
	bad_buffers(call);
	empty_buffers(call);
}

/* Ids that name no call: of services that do not exist, and behind the last function of each that does. */
static void unknown_calls(void)
{
	static const uint32_t ids[] = {
		0,	  0xffff,   0x10000 | 0xffff, 0x1001f,	0x10020,  0x2000f,  0x70040,	0x0c0000,   0x0f0000,
		0x100000, 0x110000, 0x1f0000,	      0x200001, 0x3f0000, 0x410001, 0x7fff0000, 0xffff0000, 0xffffffff,
	};
	uint64_t args[ARGUMENTS];
	struct call unknown = { .roads = PV_ROAD_BATCH };

	memset(args, 0xff, sizeof(args));
	cf_case("CALL-1 ids that no version declares");
	for (uint32_t i = 0; i < CF_COUNT(ids); i++) {
		unknown.id = ids[i];
		expect(&unknown, args, PV_STATUS_NOT_SUPPORTED, "unknown");
	}
	cf_case("CALL-1 functions that the mask of a service does not have");
	for (uint32_t service = 0; service < 16; service++)
		for (uint32_t function = 0; function < FUNCTIONS; function++)
			if (!cf_exists(service << 16 | function))
				cf_expect(cf_batched(service << 16 | function, args).status, PV_STATUS_NOT_SUPPORTED,
					  "not in the mask");
}

static void over_ring(const struct call *call)
{
	uint64_t args[ARGUMENTS];

	memset(args, 0xff, sizeof(args));
	if (!cf_exists(call->id)) {
		cf_case("RING-15 CALL-1 %s: does not exist over a ring either", call->name);
		expect(call, args, PV_STATUS_NOT_SUPPORTED, "before its arguments");
	} else if (!(call->roads & PV_ROAD_RING)) {
		cf_case("CALL-4 %s: over a ring", call->name);
		expect(call, args, PV_STATUS_WRONG_ROAD, "before its arguments");
	} else {
		cf_case("RING-15 CALL-5 CALL-6 %s: over a ring as over the other roads", call->name);
		undeclared_arguments(call);
		bad_buffers(call);
		empty_buffers(call);
	}
}

static void values_over_each_road(void)
{
	static uint8_t lists[3][1024];
	const struct {
		uint32_t id;
		uint64_t args[ARGUMENTS];
	} made[] = {
		{ PV_CALL_BASE_VERSION, { 0 } },
		{ PV_CALL_BASE_LIMIT, { PV_LIMIT_ID_BATCH_ENTRIES } },
		{ PV_CALL_VCPU_STATE, { 0 } },
		{ PV_CALL_TIME_DEADLINE, { PV_DEADLINE_NEVER } },
	};

	cf_case("RING-15 status, value and effect are the same over each road");
	for (uint32_t i = 0; i < CF_COUNT(made); i++) {
		struct pv_answer answer = cf_trap(made[i].id, made[i].args);
		struct pv_answer batched = cf_batched(made[i].id, made[i].args);
		struct pv_answer ringed = cf_ringed(made[i].id, made[i].args);

		cf_expect(batched.status, answer.status, "status in a batch");
		cf_expect(ringed.status, answer.status, "status over a ring");
		if (answer.status >= 0) {
			cf_expect((int64_t)batched.value, (int64_t)answer.value, "value in a batch");
			cf_expect((int64_t)ringed.value, (int64_t)answer.value, "value over a ring");
		}
	}
	uint64_t length = cf_trap(PV_CALL_BASE_SERVICES, (uint64_t[6]){ pv_gpa(lists[0]), 1024 }).value;
	cf_batched(PV_CALL_BASE_SERVICES, (uint64_t[6]){ pv_gpa(lists[1]), 1024 });
	cf_ringed(PV_CALL_BASE_SERVICES, (uint64_t[6]){ pv_gpa(lists[2]), 1024 });
	for (uint32_t road = 1; road < 3; road++)
		cf_want(length <= 1024 && !memcmp(lists[road], lists[0], length), "what base.services writes");
}

static void every_call_over_ring(void)
{
	struct pv_ring_setup setup = cf_ring_setup(0);

	if (!cf_callring_offered()) {
		cf_case("RING-15 calls over a ring");
		cf_skip("the feature RING is not offered");
		return;
	}
	cf_case("RING-1 the ring over which every call is made");
	if (!cf_expect(cf_ring_on(0, &setup), PV_STATUS_OK, "base.ring"))
		return;
	by_ring = true;
	for (uint32_t i = 0; i < CALLS; i++)
		over_ring(&calls[i]);
	by_ring = false;
	values_over_each_road();
	pv_call0(PV_CALL_BASE_RENEGOTIATE);
}

static void every_call(void)
{
	if (cf_exists(PV_CALL_BASE_RENEGOTIATE)) /* so that no feature has been accepted: CALL-3 */
		pv_call0(PV_CALL_BASE_RENEGOTIATE);
	for (uint32_t i = 0; i < CALLS; i++)
		one_call(&calls[i]);
	unknown_calls();
	every_call_over_ring();
	cf_case("ERR-3 every status was one of the list");
	cf_expect(outside, 0, "answers that were not");
	cf_is(pv_call0(PV_CALL_BASE_VERSION).status, PV_STATUS_OK, "CALL-12 the host still answers");
}

CF_CHAPTER(calls, every_call);
