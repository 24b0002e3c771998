/* SPDX-License-Identifier: 0BSD
 *
 * Every call with every class of bad argument, over the trap and in batches: each must answer with the
 * status that the rules give it and harm nothing.  The calls and what their arguments are come from the
 * declaration.  Reports as TAP, one line for each rule and call.
 */
#include "paravirt/base.h"
#include "paravirt/format.h"
#include "paravirt/guest.h"
#include "paravirt/notes.h"
#include "paravirt/string.h"
#include "tap.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_SYSTEM, 0));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

#define ARGUMENTS PV_LIMIT_ARGUMENTS
#define NOWHERE (1ull << 52) /* no x86-64 has memory there, and it has every alignment */
#define LAST 0xffffffffffffffc0ull /* 64 bytes before addresses wrap */

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
static struct pv_submission submission __attribute__((aligned(64)));
static struct pv_completion completion __attribute__((aligned(32)));
static char text[128];

static const char *about(const char *rule, const struct call *call, const char *what)
{
	pv_format(text, sizeof(text), "%s %s: %s", rule, call->name, what);
	return text;
}

/* The trap as it is: all of RAX given, the status as it came. */
static int64_t trap(uint64_t rax, const uint64_t *args)
{
	register uint64_t rcx __asm__("rcx") = args[2];
	register uint64_t r8 __asm__("r8") = args[3];
	register uint64_t r9 __asm__("r9") = args[4];
	register uint64_t r10 __asm__("r10") = args[5];
	uint64_t rdx = pv_trap_port;

	__asm__ volatile("outl %%eax, %%dx"
			 : "+a"(rax), "+d"(rdx), "+r"(rcx), "+r"(r8), "+r"(r9), "+r"(r10)
			 : "D"(args[0]), "S"(args[1])
			 : "r11", "memory");
	return (int64_t)rax;
}

static int64_t batched(uint32_t id, const uint64_t *args)
{
	submission = (struct pv_submission){ .call = id, .cookie = 0x5eed };
	memcpy(submission.args, args, sizeof(submission.args));
	completion.cookie = 0;
	struct pv_answer answer = pv_call4(PV_CALL_BASE_BATCH, pv_gpa(&submission), 1, pv_gpa(&completion), 1);

	if (answer.status < 0 || answer.value != 1 || completion.cookie != 0x5eed)
		return 1000 + answer.status; /* no status of a call */
	return completion.status;
}

/* Over each road of the call, with the answer that both must give. */
static void expect(const struct call *call, const uint64_t *args, int64_t status, const char *rule, const char *what)
{
	tap_is(trap(call->id, args), status, about(rule, call, what));
	if (call->roads & PV_ROAD_BATCH)
		tap_is(batched(call->id, args), status, about(rule, call, what));
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

static bool exists(const struct call *call)
{
	struct pv_service_info table[32];
	struct pv_answer answer = pv_call2(PV_CALL_BASE_SERVICES, pv_gpa(table), sizeof(table));

	for (uint32_t i = 0; i < answer.value / sizeof(table[0]); i++)
		if (table[i].service == call->id >> 16)
			return table[i].calls >> (call->id & 0xffff) & 1;
	return false;
}

/* One buffer, whose address is argument `at`, in every wrong way, in the order of CALL-6. */
static void bad_buffer(const struct call *call, const struct argument *argument, uint32_t at)
{
	uint64_t args[ARGUMENTS], good[ARGUMENTS];
	uint64_t memory_end = pv_guest.boot.memory[pv_guest.boot.memory_count - 1].gpa +
			      pv_guest.boot.memory[pv_guest.boot.memory_count - 1].size_bytes;

	good_arguments(call, good);
	memcpy(args, good, sizeof(args));
	if (!argument->fixed) {
		args[at + 1] = (uint64_t)argument->limit + 1;
		expect(call, args, PV_STATUS_LIMIT, "CALL-6", "one above the limit");
		args[at + 1] = UINT64_MAX;
		args[at] = LAST + 1;
		expect(call, args, PV_STATUS_LIMIT, "CALL-6", "huge length before address");
		args[at + 1] = 1;
	}
	if (argument->align > 1) {
		args[at] = NOWHERE + argument->align / 2;
		expect(call, args, PV_STATUS_UNALIGNED, "CALL-6", "alignment before range");
	}
	args[at] = NOWHERE;
	expect(call, args, PV_STATUS_BAD_ADDRESS, "CALL-6", "no memory there");
	args[at] = memory_end - 8;
	if (argument->align <= 8 && !argument->fixed && argument->limit > 8) {
		args[at + 1] = 9;
		expect(call, args, PV_STATUS_BAD_ADDRESS, "CALL-6", "runs out of memory");
	}
	args[at] = LAST;
	if (!argument->fixed)
		args[at + 1] = argument->limit;
	expect(call, args, PV_STATUS_BAD_ADDRESS, "CALL-6", "wraps");
}

/* Whatever else a call says of it, an empty buffer is no bad buffer. */
static void empty_buffers(const struct call *call)
{
	uint64_t args[ARGUMENTS];
	uint32_t at = 0;
	bool any = false;

	good_arguments(call, args);
	for (uint32_t i = 0; at < call->registers; i++) {
		bool sized = call->arguments[i].is_buffer && !call->arguments[i].fixed;

		if (sized) {
			args[at] = NOWHERE;
			args[at + 1] = 0;
			any = true;
		}
		at += sized ? 2 : 1;
	}
	if (!any)
		return;
	int64_t status = trap(call->id, args);
	tap_ok(status >= 0 || status == PV_STATUS_NOT_FOUND || status == PV_STATUS_INVALID,
	       about("CALL-7", call, "empty"), status);
}

static void bad_arguments(const struct call *call)
{
	uint64_t args[ARGUMENTS];
	uint32_t at = 0;

	for (uint32_t i = call->registers; i < ARGUMENTS; i++) {
		good_arguments(call, args);
		args[i] = 1ull << (i * 11);
		expect(call, args, PV_STATUS_INVALID, "CALL-5", "argument beyond those declared");
	}
	for (uint32_t i = 0; at < call->registers; i++) {
		const struct argument *argument = &call->arguments[i];

		if (argument->is_buffer)
			bad_buffer(call, argument, at);
		at += argument->is_buffer && !argument->fixed ? 2 : 1;
	}
	empty_buffers(call);
}

static void one_call(const struct call *call)
{
	uint64_t args[ARGUMENTS];

	memset(args, 0xff, sizeof(args));
	if (!exists(call)) {
		expect(call, args, PV_STATUS_NOT_SUPPORTED, call->feature < 0 ? "CALL-2" : "CALL-3", "does not exist");
		return;
	}
	tap_is(trap(1ull << 32 | call->id, args), PV_STATUS_NOT_SUPPORTED, about("CALL-8", call, "RAX bit 32"));
	tap_is(trap(1ull << 63 | call->id, args), PV_STATUS_NOT_SUPPORTED, about("CALL-8", call, "RAX bit 63"));
	if (!(call->roads & PV_ROAD_BATCH)) /* road before arguments */
		tap_is(batched(call->id, args), PV_STATUS_WRONG_ROAD, about("CALL-4", call, "in a batch"));
	bad_arguments(call);
}

static void unknown_calls(void)
{
	static const uint32_t ids[] = {
		0,	    0xffff,	0x10000 | 0xffff, 0x10008,    0x1001f,	  0x10020,    0x2000f,	  0x70040,
		0x0c0000,   0x0f0000,	0x100000,	  0x110000,   0x1f0000,	  0x200001,   0x3f0000,	  0x410001,
		0x7fff0000, 0x80000000, 0x80010001,	  0xbfffffff, 0xc0000000, 0xfffe0000, 0xffff0000, 0xffffffff,
	};
	const struct call batch = { .name = "unknown id", .roads = PV_ROAD_BATCH };
	uint64_t args[ARGUMENTS];

	memset(args, 0xff, sizeof(args));
	for (uint32_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		struct call call = batch;

		call.id = ids[i];
		expect(&call, args, PV_STATUS_NOT_SUPPORTED, "CALL-1", "unknown");
	}
}

/* CALL-9: what must survive a trap is loaded, and stored afterwards, out of the compiler's sight. */
static void preserved_registers(void)
{
	static const uint64_t before[8] = { 11, 12, 13, 14, 15, 16, 17, 18 };
	uint64_t after[8] = { 0 };
	uint64_t rax = PV_CALL_BASE_VERSION, rdx = pv_trap_port;

	__asm__ volatile(
		"pushq %%rbx; pushq %%rbp; pushq %[after]\n\t"
		"movl $11, %%ebx; movl $12, %%ebp; movl $13, %%edi; movl $14, %%esi\n\t"
		"movl $15, %%r12d; movl $16, %%r13d; movl $17, %%r14d; movl $18, %%r15d\n\t"
		"outl %%eax, %%dx\n\t"
		"popq %%rcx\n\t"
		"movq %%rbx, (%%rcx); movq %%rbp, 8(%%rcx); movq %%rdi, 16(%%rcx); movq %%rsi, 24(%%rcx)\n\t"
		"movq %%r12, 32(%%rcx); movq %%r13, 40(%%rcx); movq %%r14, 48(%%rcx); movq %%r15, 56(%%rcx)\n\t"
		"popq %%rbp; popq %%rbx"
		: "+a"(rax), "+d"(rdx)
		: [after] "r"(after)
		: "rcx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "cc", "memory");
	/* RDI and RSI are arguments that base.version does not have: it refuses, which must preserve as well. */
	tap_is((int64_t)rax, PV_STATUS_INVALID, "CALL-5 base_version: RDI and RSI");
	tap_ok(!memcmp(before, after, sizeof(after)), "CALL-9 RBX RBP RSP RDI RSI and R12 to R15 are preserved",
	       (int64_t)after[0]);
}

int pv_main(void)
{
	if (!pv_guest.paravirt)
		return 2;
	for (uint32_t i = 0; i < CALLS; i++)
		one_call(&calls[i]);
	unknown_calls();
	preserved_registers();
	tap_is(pv_version().status, PV_STATUS_OK, "CALL-12 the host still answers");
	return tap_done();
}
