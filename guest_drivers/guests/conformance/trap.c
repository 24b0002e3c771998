/* SPDX-License-Identifier: 0BSD
 *
 * Chapter trap: what a call leaves as it was: registers, memory that is not its own, everything if it is
 * refused; what is no call; addresses; order in memory.
 */
#include "paravirt/string.h"
#include "support/conformance.h"

#define FLAGS 0xcd5 /* CF PF AF ZF SF DF OF */
#define FLAGS_FIXED 0x202 /* IF stays on */
#define GUARD 0xa5
#define GUARDED 512u /* bytes around an output */
#define ROUNDS 200u
#define PRESENT_WRITABLE_USER 7
#define LARGE 0x80
#define ALIAS_SLOT 200u /* of the highest page table: far above all memory */

struct cf_trap {
	uint64_t general[16], rflags, reserved;
	uint64_t xmm[16][2];
};
void cf_trap_registers(struct cf_trap *trap);

static const char *const names[16] = { "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
				       "R8",  "R9",  "R10", "R11", "R12", "R13", "R14", "R15" };
static uint8_t room[4 * CF_PAGE] __attribute__((aligned(CF_PAGE)));

/* One trap with `rdi` and `rsi` as arguments; whatever it answers, the rest is preserved. */
static void registers_of(uint64_t call, uint64_t rdi, uint64_t rsi, int64_t status)
{
	struct cf_trap trap = { .rflags = FLAGS | FLAGS_FIXED }, before;

	for (uint32_t i = 0; i < 16; i++) {
		trap.general[i] = 0x1111111111111111ull * i;
		trap.xmm[i][0] = 0x0123456789abcdefull + i;
		trap.xmm[i][1] = ~trap.xmm[i][0];
	}
	trap.general[0] = call;
	trap.general[1] = trap.general[8] = trap.general[9] = trap.general[10] = 0; /* arguments not declared */
	trap.general[2] = pv_trap_port;
	trap.general[6] = rsi;
	trap.general[7] = rdi;
	before = trap;
	cf_trap_registers(&trap);
	cf_expect((int64_t)trap.general[0], status, "status in RAX");
	for (uint32_t i = 3; i < 16; i++)
		if (i != CF_RSP && (i < 8 || i > 11))
			cf_expect((int64_t)trap.general[i], (int64_t)before.general[i], names[i]);
	cf_expect(trap.rflags & FLAGS, FLAGS, "flags");
	cf_want(!memcmp(trap.xmm, before.xmm, sizeof(trap.xmm)), "XMM0 to XMM15");
}

static void registers(void)
{
	cf_case("CALL-9 a call that is done preserves registers, flags and vectors");
	registers_of(PV_CALL_BASE_SERVICES, pv_gpa(room), CF_PAGE, PV_STATUS_OK);
	registers_of(PV_CALL_BASE_LIMIT, PV_LIMIT_ID_BATCH_ENTRIES, 0, PV_STATUS_OK);
	cf_case("CALL-9 a call that is refused preserves them, too");
	registers_of(PV_CALL_BASE_VERSION, 1, 0, PV_STATUS_INVALID);
	registers_of(0xdead0000, 0, 0, PV_STATUS_NOT_SUPPORTED);
}

/* What a trap changes, so that a host which takes these for calls breaks this case alone. */
#define CHANGED "rcx", "r8", "r9", "r10", "r11", "memory"

static uint64_t port_access(uint32_t kind, uint64_t rdx)
{
	uint64_t rax = 0x1122334400000000ull | PV_CALL_BASE_VERSION;

	switch (kind) {
	case 0:
		__asm__ volatile("outb %%al, %%dx" : "+a"(rax), "+d"(rdx) : : CHANGED);
		break;
	case 1:
		__asm__ volatile("outw %%ax, %%dx" : "+a"(rax), "+d"(rdx) : : CHANGED);
		break;
	case 2:
		__asm__ volatile("inb %%dx, %%al" : "+a"(rax), "+d"(rdx) : : CHANGED);
		break;
	case 3:
		__asm__ volatile("inw %%dx, %%ax" : "+a"(rax), "+d"(rdx) : : CHANGED);
		break;
	default:
		__asm__ volatile("inl %%dx, %%eax" : "+a"(rax), "+d"(rdx) : : CHANGED);
	}
	return rax;
}

static void other_accesses(void)
{
	static const uint64_t expected[] = { 0x1122334400010000, 0x1122334400010000, 0x11223344000100ff,
					     0x112233440001ffff, 0xffffffff };
	static const char *const what[] = { "an 8-bit write", "a 16-bit write", "an 8-bit read", "a 16-bit read",
					    "a 32-bit read" };
	const struct pv_vcpu_page *page = cf_page(0);
	struct pv_answer answer = pv_call0(PV_CALL_BASE_VERSION);

	cf_case("CALL-17 an access to the port of trap or doorbell that is not its instruction does nothing");
	uint64_t calls = CF_LOAD(page->calls);
	for (uint32_t i = 0; i < CF_COUNT(expected); i++)
		cf_expect((int64_t)port_access(i, pv_trap_port), (int64_t)expected[i], what[i]);
	for (uint32_t i = 0; i < CF_COUNT(expected); i++)
		cf_expect((int64_t)port_access(i, cf_boot.abi->doorbell), (int64_t)expected[i], what[i]);
	cf_expect((int64_t)(CF_LOAD(page->calls) - calls), 0, "calls counted");
	cf_expect((int64_t)pv_call0(PV_CALL_BASE_VERSION).value, (int64_t)answer.value, "a call afterwards");
}

static bool guarded(uint64_t from, uint64_t to)
{
	for (; from < to; from++)
		if (room[from] != GUARD)
			return false;
	return true;
}

/* Output of `size` bytes at an odd place: nothing before it, nothing behind it. */
static void output(uint32_t id, uint64_t size, const char *what)
{
	const uint64_t at = 64;
	struct pv_answer answer;

	if (!cf_exists(id))
		return;
	for (uint32_t road = 0; road < 2; road++) {
		const uint64_t args[6] = { pv_gpa(room) + at, size };

		memset(room, GUARD, GUARDED);
		answer = road ? cf_batched(id, args) : cf_trap(id, args);
		cf_want(answer.status >= 0 && answer.value <= size, what);
		cf_want(guarded(0, at) && guarded(at + size, GUARDED), what);
	}
}

static void outputs(void)
{
	cf_case("CALL-11 nothing outside the length offered is written");
	output(PV_CALL_BASE_SERVICES, 100, "base.services");
	output(PV_CALL_BASE_SERVICES, 4, "base.services with no room");
	output(PV_CALL_BASE_BOOT_INFO, 40, "base.boot_info");
	output(PV_CALL_CONSOLE_READ, 7, "console.read");
	output(PV_CALL_ENTROPY_FILL, 33, "entropy.fill");
	output(PV_CALL_DEVICE_LIST, 120, "device.list");
	cf_case("CALL-7 nothing of an empty buffer is written");
	output(PV_CALL_BASE_SERVICES, 0, "base.services");
	output(PV_CALL_BASE_BOOT_INFO, 0, "base.boot_info");
	output(PV_CALL_CONSOLE_READ, 0, "console.read");
	output(PV_CALL_ENTROPY_FILL, 0, "entropy.fill");
	output(PV_CALL_DEVICE_LIST, 0, "device.list");
}

static void refusals(void)
{
	const struct pv_vcpu_page *page = cf_page(0);
	struct pv_service_info before, after;

	cf_case("CALL-10 a refused call has done nothing");
	cf_want(cf_service(PV_SERVICE_BASE, &before), "the service base is listed");
	cf_expect(pv_call2(PV_CALL_BASE_ACCEPT, PV_SERVICE_BASE, 1ull << 63).status, PV_STATUS_INVALID,
		  "base.accept of a feature that is not offered");
	cf_service(PV_SERVICE_BASE, &after);
	cf_expect((int64_t)after.accepted, (int64_t)before.accepted, "features accepted");
	memset(room, GUARD, GUARDED);
	const uint64_t args[6] = { pv_gpa(room), PV_LIMIT_SERVICES_BYTES + 1 };
	cf_expect(cf_trap(PV_CALL_BASE_SERVICES, args).status, PV_STATUS_LIMIT, "base.services above its limit");
	cf_want(guarded(0, GUARDED), "its buffer is untouched");
	if (cf_offered(PV_SERVICE_EVENT)) {
		uint64_t pending = CF_LOAD(page->pending[0]);

		pv_call2(PV_CALL_EVENT_SEND, 0, PV_LIMIT_CHANNELS + CF_CHANNEL);
		pv_call2(PV_CALL_EVENT_SEND, 0, (1ull << 32) + CF_CHANNEL);
		cf_expect(pv_call4(PV_CALL_EVENT_SEND, 0, CF_CHANNEL, 0, 1).status, PV_STATUS_INVALID,
			  "event.send with an argument that it does not have");
		cf_expect((int64_t)CF_LOAD(page->pending[0]), (int64_t)pending, "pending channels");
	}
}

/* Page tables for what runs meanwhile, the first GiB, and for one page more: an alias of `target`. */
static uint64_t make_alias(const void *target)
{
	uint64_t *tables = cf_take(6 * CF_PAGE, CF_PAGE);
	const uint64_t at = pv_gpa(tables) | PRESENT_WRITABLE_USER;

	if (!tables)
		return 0;
	memset(tables, 0, 6 * CF_PAGE);
	tables[0] = at + CF_PAGE;
	tables[512] = at + 2 * CF_PAGE;
	for (uint64_t i = 0; i < 512; i++)
		tables[1024 + i] = i << 21 | LARGE | PRESENT_WRITABLE_USER;
	tables[ALIAS_SLOT] = at + 3 * CF_PAGE;
	tables[1536] = at + 4 * CF_PAGE;
	tables[2048] = at + 5 * CF_PAGE;
	tables[2560] = pv_gpa(target) | PRESENT_WRITABLE_USER;
	return pv_gpa(tables);
}

static void addresses(void)
{
	const uint64_t alias = (uint64_t)ALIAS_SLOT << 39;
	uint64_t cr3;

	cf_case("CALL-13 an address is guest-physical, whatever the guest's page tables say");
	if (cf_user()) {
		cf_skip("at CPL 3 page tables cannot be changed");
		return;
	}
	__asm__ volatile("movq %%cr3, %0" : "=r"(cr3));
	uint64_t tables = make_alias(room);
	if (!cf_want(tables != 0, "there is memory for page tables"))
		return;
	room[0] = GUARD;
	__asm__ volatile("movq %0, %%cr3" : : "r"(tables) : "memory");
	uint8_t seen = *(volatile uint8_t *)pv_at(alias);
	int64_t wrong = pv_call2(PV_CALL_BASE_SERVICES, alias, sizeof(struct pv_service_info)).status;
	int64_t right = pv_call2(PV_CALL_BASE_SERVICES, pv_gpa(room), sizeof(struct pv_service_info)).status;
	__asm__ volatile("movq %0, %%cr3" : : "r"(cr3) : "memory");
	cf_expect(seen, GUARD, "the alias is mapped");
	cf_expect(wrong, PV_STATUS_BAD_ADDRESS, "a call with the virtual address");
	cf_expect(right, PV_STATUS_OK, "a call with the guest-physical address");
}

/* Each vCPU writes its own word, makes a call, and reads the other's: not both may read the old value. */
static struct {
	uint32_t turn[2];
	uint32_t word[2];
	uint32_t read[2];
} barrier;

static void one_side(uint32_t me, uint32_t round)
{
	CF_STORE(barrier.turn[me], round);
	while (CF_LOAD(barrier.turn[!me]) < round)
		cf_relax();
	__atomic_store_n(&barrier.word[me], round, __ATOMIC_RELAXED);
	pv_call0(PV_CALL_BASE_VERSION);
	__atomic_store_n(&barrier.read[me], __atomic_load_n(&barrier.word[!me], __ATOMIC_RELAXED), __ATOMIC_RELAXED);
	CF_STORE(barrier.turn[me], round + 1);
	while (CF_LOAD(barrier.turn[!me]) < round + 1)
		cf_relax();
}

static void other_side(void *argument)
{
	(void)argument;
	for (uint32_t round = 1; round < 2 * ROUNDS; round += 2)
		one_side(1, round);
}

static void barriers(void)
{
	uint32_t passed_by = 0;

	cf_case("CALL-15 a call is a full memory barrier");
	if (cf_vcpus() < 2 || !cf_offered(PV_SERVICE_VCPU)) {
		cf_skip("one vCPU");
		return;
	}
	if (!cf_expect(cf_start(1, other_side, NULL), PV_STATUS_OK, "vcpu.start"))
		return;
	for (uint32_t round = 1; round < 2 * ROUNDS; round += 2) {
		one_side(0, round);
		passed_by += barrier.read[0] < round && barrier.read[1] < round;
	}
	cf_expect(passed_by, 0, "rounds in which neither saw the other's store");
	cf_want(cf_join(1), "the other vCPU stops");
}

static void trap(void)
{
	registers();
	other_accesses();
	outputs();
	refusals();
	addresses();
	barriers();
}

CF_CHAPTER(trap, trap);
