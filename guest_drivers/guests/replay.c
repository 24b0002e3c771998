/* SPDX-License-Identifier: 0BSD
 *
 * Makes recorded calls again and compares the answers; TAP on the console, one case a call, up to the first
 * difference.  What is to be made was put into this image, behind its own segments, by `paravirt replay`:
 * a replay_head and entries (docs/abi/recording.md).  That is trusted; the host is what is judged.
 */
#include "paravirt/console.h"
#include "paravirt/guest.h"
#include "paravirt/notes.h"
#include "paravirt/string.h"
#include "paravirt/system.h"
#include "paravirt/vcpu.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_BASE, 0), PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_SYSTEM, 0));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

#define PAGE_BYTES 4096
#define FIRST_INTERRUPT 32
#define VECTORS 256
#define GATE_BYTES 16
#define SHOWN_BYTES 16
#define STOP_NS 5000000000ull /* that a vCPU may take from vcpu.stop to STOPPED */

static volatile struct pv_replay_place place = { PV_RECORDING_MAGIC, ~0ull, 0, 0 };

/* Which entry is next. One vCPU at a time has the turn: the one that its entry names. */
static struct {
	const struct pv_replay_entry *entry;
	uint32_t left;
	uint32_t done;
} turn;
static uint8_t *arena;

static const struct pv_replay_chunk *chunks_of(const struct pv_replay_entry *entry)
{
	return (const void *)(entry + 1);
}

static const uint8_t *bytes_of(const struct pv_replay_chunk *chunk)
{
	return (const uint8_t *)(chunk + 1);
}

static const void *after(const struct pv_replay_chunk *chunk)
{
	return bytes_of(chunk) + ((chunk->bytes + 7ull) & ~7ull);
}

static void prepare(const struct pv_replay_entry *entry)
{
	const struct pv_replay_chunk *chunk = chunks_of(entry);

	for (uint32_t i = 0; i < entry->chunks; i++, chunk = after(chunk)) {
		uint8_t *at = arena + chunk->offset;
		uint64_t word;

		switch (chunk->kind) {
		case PV_REPLAY_CHUNK_KIND_INPUT:
			memcpy(at, bytes_of(chunk), chunk->bytes);
			break;
		case PV_REPLAY_CHUNK_KIND_RELOCATE:
			memcpy(&word, at, sizeof(word));
			word += pv_gpa(arena);
			memcpy(at, &word, sizeof(word));
			break;
		default: /* output: what is there afterwards is the host's doing */
			for (uint32_t b = 0; b < chunk->bytes; b++)
				at[b] = (uint8_t)~bytes_of(chunk)[b];
		}
	}
}

static struct pv_answer call(const uint64_t *args, uint32_t id)
{
	return pv_call(id, args[0], args[1], args[2], args[3], args[4], args[5]);
}

/* A call that stops on its way is made again with the rest (BATCH-5, MEM-6). */
static struct pv_answer make(const struct pv_replay_entry *entry)
{
	uint64_t args[PV_LIMIT_ARGUMENTS], done = 0;
	struct pv_answer answer;

	for (uint32_t i = 0; i < PV_LIMIT_ARGUMENTS; i++)
		args[i] = entry->args[i] + (entry->relocate >> i & 1 ? pv_gpa(arena) : 0);
	for (;;) {
		answer = call(args, entry->call);
		if (answer.status != PV_STATUS_CONTINUE || !answer.value)
			break;
		done += answer.value;
		for (uint32_t i = 0; i < PV_LIMIT_ARGUMENTS; i++)
			args[i] += entry->steps[i] * answer.value;
	}
	answer.value += done;
	return answer;
}

static void show(const uint8_t *bytes, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		pv_print("%02x", bytes[i]);
}

/* The first bytes that differ, from the last multiple of SHOWN_BYTES on. */
static bool same_output(const struct pv_replay_chunk *chunk)
{
	const uint8_t *expected = bytes_of(chunk), *got = arena + chunk->offset;
	uint32_t at = 0;

	while (at < chunk->bytes && expected[at] == got[at])
		at++;
	if (at == chunk->bytes)
		return true;
	uint32_t from = at - at % SHOWN_BYTES, left = chunk->bytes - from;
	uint32_t count = left < SHOWN_BYTES ? left : SHOWN_BYTES;
	pv_print("# output %lx expected ", chunk->offset + from);
	show(expected + from, count);
	pv_print(" got ");
	show(got + from, count);
	pv_print("\n");
	return false;
}

static bool compare(const struct pv_replay_entry *entry, struct pv_answer answer)
{
	const struct pv_replay_chunk *chunk = chunks_of(entry);
	bool same = true;

	if (entry->compare & PV_REPLAY_COMPARE_STATUS && answer.status != entry->status) {
		pv_print("# status expected %ld got %ld\n", entry->status, answer.status);
		return false; /* value and output of another status are no news */
	}
	if (entry->compare & PV_REPLAY_COMPARE_VALUE && answer.value != entry->value) {
		pv_print("# value expected %lx got %lx\n", entry->value, answer.value);
		same = false;
	}
	for (uint32_t i = 0; i < entry->chunks; i++, chunk = after(chunk))
		if (chunk->kind == PV_REPLAY_CHUNK_KIND_OUTPUT && !same_output(chunk))
			return false;
	return same;
}

_Noreturn static void end(int status)
{
	pv_print("1..%u\n", turn.done);
	pv_exit(status);
}

/* The turn goes to whom the next entry names. */
static void pass(const struct pv_replay_entry *entry)
{
	const struct pv_replay_chunk *chunk = chunks_of(entry);

	for (uint32_t i = 0; i < entry->chunks; i++)
		chunk = after(chunk);
	if (!--turn.left)
		end(0);
	__atomic_store_n(&turn.entry, (const struct pv_replay_entry *)(const void *)chunk, __ATOMIC_SEQ_CST);
}

static void report(const struct pv_replay_entry *entry, bool same)
{
	/* The line that the recorded guest wrote may be without its end. */
	pv_print("%s%sok %u - replay: call %u\n", entry->call == PV_CALL_CONSOLE_WRITE ? "\n" : "", same ? "" : "not ",
		 ++turn.done, entry->number);
	if (!same)
		end(1);
}

static void play(void *argument);

/* A start that succeeded starts us, not the recorded guest; its vCPU may still be on its way to STOPPED. */
static struct pv_answer start(const struct pv_replay_entry *entry)
{
	uint64_t until_ns = pv_now_ns() + STOP_NS;
	uint32_t vcpu = (uint32_t)entry->args[0];

	while (pv_call1(PV_CALL_VCPU_STATE, vcpu).value != PV_VCPU_STATE_STOPPED && pv_now_ns() < until_ns)
		pv_relax();
	return (struct pv_answer){ pv_cpu_start(vcpu, play, NULL), 0 };
}

/* One that came too soon then may be in time now; carried out, it would run what is not there. */
static struct pv_answer fail_to_start(const struct pv_replay_entry *entry)
{
	struct pv_answer state = pv_call1(PV_CALL_VCPU_STATE, entry->args[0]);

	if (entry->status == PV_STATUS_BAD_STATE && state.status >= 0 && state.value == PV_VCPU_STATE_STOPPED)
		return (struct pv_answer){ PV_STATUS_BAD_STATE, 0 };
	return make(entry);
}

static void replay(const struct pv_replay_entry *entry)
{
	bool succeeds = entry->status == PV_STATUS_OK;

	prepare(entry);
	if (entry->call == PV_CALL_VCPU_STOP && succeeds) {
		report(entry, true);
		pass(entry);
		pv_vcpu_stop();
	}
	struct pv_answer answer;
	if (entry->call != PV_CALL_VCPU_START)
		answer = make(entry);
	else if (succeeds)
		answer = start(entry);
	else
		answer = fail_to_start(entry);
	bool same = compare(entry, answer);

	report(entry, same);
	pass(entry);
}

static void play(void *argument)
{
	uint32_t me = pv_this_cpu()->index;

	(void)argument;
	for (;;) {
		const struct pv_replay_entry *entry = __atomic_load_n(&turn.entry, __ATOMIC_SEQ_CST);

		if (entry->vcpu == me)
			replay(entry);
		else
			pv_relax();
	}
}

/* Any vector may be asked for by the recorded guest: all have the gate of the one that the runtime takes. */
static void take_every_vector(void)
{
	const struct pv_boot_tables *tables = pv_guest.boot.tables;
	struct __attribute__((packed)) {
		uint16_t limit;
		uint64_t gpa;
	} idt = { 0, tables ? tables->idt_gpa : 0 };

	if (!tables) /* the runtime loaded one of its own */
		__asm__ volatile("sidt %0" : "=m"(idt));
	uint8_t *gates = pv_at(idt.gpa);
	for (uint32_t vector = FIRST_INTERRUPT; vector < VECTORS; vector++)
		if (vector != PV_UPCALL_VECTOR)
			memcpy(gates + GATE_BYTES * vector, gates + GATE_BYTES * PV_UPCALL_VECTOR, GATE_BYTES);
}

static int refuse(const char *why)
{
	pv_print("Bail out! %s\n", why);
	return 2;
}

int pv_main(void)
{
	const struct pv_replay_head *head = pv_at(place.gpa);

	if (!pv_guest.paravirt)
		return refuse("this host does not speak the hypercall ABI");
	if (!place.gpa || head->magic != PV_RECORDING_MAGIC)
		return refuse("there is no recording in this image; paravirt replay puts one in");
	if (pv_guest.cpus < head->vcpus) {
		pv_print("Bail out! this recording needs %u vCPUs, the machine has %u\n", head->vcpus, pv_guest.cpus);
		return 2;
	}
	arena = pv_take(head->arena_bytes + PAGE_BYTES, PAGE_BYTES);
	if (!arena) {
		pv_print("Bail out! this recording needs %lu bytes of memory, %lu are left\n", head->arena_bytes,
			 pv_left_bytes());
		return 2;
	}
	take_every_vector();
	turn.left = head->entries;
	turn.entry = (const void *)(head + 1);
	if (!turn.left)
		end(0);
	play(NULL);
	return 0;
}
