/* SPDX-License-Identifier: 0BSD
 *
 * Chapter vcpu: starting, stopping, starting again, blocking, and the state in which a vCPU begins.
 */
#include "paravirt/string.h"
#include "support/conformance.h"

#define MILLISECOND 1000000ull
#define SPARE (CF_CHANNEL + 5)

static int64_t state(uint32_t vcpu)
{
	struct pv_answer answer = pv_call1(PV_CALL_VCPU_STATE, vcpu);

	return answer.status < 0 ? answer.status : (int64_t)answer.value;
}

static void refused(void)
{
	static uint8_t stack[64] __attribute__((aligned(16)));
	const struct pv_boot_memory *last = &cf_boot.memory[cf_boot.memory_count - 1];
	uint64_t entry = pv_gpa(refused), top = pv_gpa(stack) + 64;
	uint32_t other = cf_vcpus() - 1; /* with one vCPU the running one; arguments are judged first */
	const struct {
		const char *what;
		uint64_t args[3];
		int64_t status;
	} bad[] = {
		{ "no such vCPU", { cf_vcpus(), entry, top }, PV_STATUS_NOT_FOUND },
		{ "an index above 32 bits", { 1ull << 32, entry, top }, PV_STATUS_NOT_FOUND },
		{ "a stack that is not aligned", { other, entry, top + 8 }, PV_STATUS_UNALIGNED },
		{ "an entry outside of memory", { other, CF_NOWHERE, top }, PV_STATUS_BAD_ADDRESS },
		{ "a stack outside of memory", { other, entry, CF_NOWHERE }, PV_STATUS_BAD_ADDRESS },
		{ "a stack with nothing below it", { other, entry, 0 }, PV_STATUS_BAD_ADDRESS },
		{ "a stack beyond memory", { other, entry, last->gpa + last->size_bytes + 16 }, PV_STATUS_BAD_ADDRESS },
		{ "no vCPU before a bad stack", { cf_vcpus(), CF_NOWHERE, top + 8 }, PV_STATUS_NOT_FOUND },
		{ "alignment before the entry", { other, CF_NOWHERE, top + 8 }, PV_STATUS_UNALIGNED },
	};

	cf_case("VCPU-2 CALL-6 vcpu.start with arguments that only it can judge");
	for (uint32_t i = 0; i < CF_COUNT(bad); i++)
		cf_expect(pv_call4(PV_CALL_VCPU_START, bad[i].args[0], bad[i].args[1], bad[i].args[2], 0).status,
			  bad[i].status, bad[i].what);
	if (cf_vcpus() > 1)
		cf_expect(state(other), PV_VCPU_STATE_STOPPED, "state of the vCPU that was not started");
	cf_case("VCPU-1 vcpu.start of the vCPU that runs");
	cf_expect(pv_call4(PV_CALL_VCPU_START, 0, entry, top, 0).status, PV_STATUS_BAD_STATE, "status");
	cf_case("VCPU-9 vcpu.yield answers the state of whom it waits for");
	cf_expect((int64_t)pv_call1(PV_CALL_VCPU_YIELD, PV_YIELD_NOBODY).value, 0, "value for nobody");
	cf_expect((int64_t)pv_call1(PV_CALL_VCPU_YIELD, 0).value, PV_VCPU_STATE_RUNNING, "itself");
	if (cf_vcpus() > 1)
		cf_expect((int64_t)pv_call1(PV_CALL_VCPU_YIELD, other).value, PV_VCPU_STATE_STOPPED,
			  "one that is stopped");
	cf_expect(pv_call1(PV_CALL_VCPU_YIELD, cf_vcpus()).status, PV_STATUS_NOT_FOUND, "the first vCPU too many");
	cf_expect(pv_call1(PV_CALL_VCPU_YIELD, 1ull << 32).status, PV_STATUS_NOT_FOUND, "an index above 32 bits");
	cf_case("CALL-6 vcpu.state of a vCPU that does not exist");
	cf_expect(state(cf_vcpus()), PV_STATUS_NOT_FOUND, "the first too many");
	cf_expect(pv_call1(PV_CALL_VCPU_STATE, 1ull << 32).status, PV_STATUS_NOT_FOUND, "an index above 32 bits");
	cf_expect(state(0), PV_VCPU_STATE_RUNNING, "state of the one that asks");
	cf_expect(cf_page(0)->state, PV_VCPU_STATE_RUNNING, "and in its page");
}

static void blocking(void)
{
	struct pv_vcpu_page *page = cf_page(0);
	uint64_t began_ns;

	cf_case("VCPU-3 vcpu.block returns at once if upcall_pending is set");
	for (uint32_t mask = 0; mask < 2; mask++) {
		CF_STORE(page->upcall_mask, mask);
		CF_STORE(page->upcall_pending, 1);
		began_ns = cf_now_ns();
		cf_expect(pv_call1(PV_CALL_VCPU_BLOCK, began_ns + 2 * CF_SECOND).status, PV_STATUS_OK, "status");
		cf_want(cf_now_ns() - began_ns < CF_SECOND, mask ? "within a second, masked" : "within a second");
		CF_STORE(page->upcall_pending, 0);
	}
	CF_STORE(page->upcall_mask, 0);
	cf_case("VCPU-7 the deadline of vcpu.block raises no channel and leaves the vCPU's own alone");
	uint64_t own_ns = cf_now_ns() + 3600 * CF_SECOND, deadline_ns = cf_now_ns() + 3 * MILLISECOND;
	if (cf_exists(PV_CALL_TIME_DEADLINE))
		pv_call1(PV_CALL_TIME_DEADLINE, own_ns);
	for (uint32_t i = 0; i < 1000 && cf_now_ns() < deadline_ns; i++) /* it may return early: VCPU-4 */
		pv_call1(PV_CALL_VCPU_BLOCK, deadline_ns);
	cf_want(cf_now_ns() >= deadline_ns, "it waited for the deadline");
	cf_expect(pv_call1(PV_CALL_VCPU_BLOCK, 0).status, PV_STATUS_OK, "a deadline that has passed");
	cf_expect(page->upcall_pending, 0, "upcall_pending");
	cf_expect((int64_t)page->pending[0] & 1, 0, "channel DEADLINE");
	if (cf_exists(PV_CALL_TIME_DEADLINE)) {
		cf_expect((int64_t)page->deadline_ns, (int64_t)own_ns, "the vCPU's own deadline");
		pv_call1(PV_CALL_TIME_DEADLINE, PV_DEADLINE_NEVER);
	}
	cf_case("CALL-12 vcpu.yield and vcpu.fault_address are answered");
	cf_expect(pv_call1(PV_CALL_VCPU_YIELD, PV_YIELD_NOBODY).status, PV_STATUS_OK, "yield");
	cf_expect(pv_call0(PV_CALL_VCPU_FAULT_ADDRESS).status, PV_STATUS_OK, "fault_address");
}

/* Words of the page that are the host's are a copy of what it keeps for itself. */
static void words_of_the_host(void)
{
	struct pv_vcpu_page *page = cf_page(0);
	uint64_t end_ns = cf_now_ns() + CF_SECOND;

	cf_case("DATA-3 what the guest writes to the host's words changes nothing");
	CF_STORE(page->state, PV_VCPU_STATE_STOPPED);
	CF_STORE(page->index, PV_LIMIT_VCPUS);
	cf_expect(state(0), PV_VCPU_STATE_RUNNING, "vcpu.state");
	cf_expect(pv_call4(PV_CALL_VCPU_START, 0, pv_gpa(words_of_the_host), pv_gpa(page), 0).status,
		  PV_STATUS_BAD_STATE, "vcpu.start of the vCPU that runs");
	if (cf_exists(PV_CALL_TIME_DEADLINE)) {
		pv_call1(PV_CALL_TIME_DEADLINE, cf_now_ns() + 3 * MILLISECOND);
		CF_STORE(page->deadline_ns, PV_DEADLINE_NEVER);
		while (!(CF_LOAD(page->pending[0]) >> PV_CHANNEL_DEADLINE & 1) && cf_now_ns() < end_ns)
			cf_relax();
		cf_expect((int64_t)(page->pending[0] >> PV_CHANNEL_DEADLINE & 1), 1, "a deadline that was overwritten");
		CF_STORE(page->pending[0], 0);
		CF_STORE(page->upcall_pending, 0);
	}
	CF_STORE(page->state, PV_VCPU_STATE_RUNNING);
	CF_STORE(page->index, 0);
}

static void touch(void *argument)
{
	*(volatile uint8_t *)argument = 0;
}

static void fault_address(void)
{
	cf_case("CALL-13 vcpu.fault_address is the address that faulted");
	if (!cf_has_gates) {
		cf_skip("no table for gates");
		return;
	}
	cf_expect(cf_try(touch, pv_at(0x123)), CF_PAGE_FAULT, "exception");
	cf_expect((int64_t)pv_call0(PV_CALL_VCPU_FAULT_ADDRESS).value, 0x123, "value");
}

/* What can be told of a mode from inside; what CPL 3 may not read stays zero. */
struct mode {
	uint64_t cs, ss, ds, es, cr0, cr3, cr4, gdt[2], idt[2];
};

static void read_mode(void *argument)
{
	struct mode *mode = argument;

	memset(mode, 0, sizeof(*mode));
	__asm__ volatile("movq %%cs, %0" : "=r"(mode->cs));
	__asm__ volatile("movq %%ss, %0" : "=r"(mode->ss));
	__asm__ volatile("movq %%ds, %0" : "=r"(mode->ds));
	__asm__ volatile("movq %%es, %0" : "=r"(mode->es));
	if (cf_user())
		return;
	__asm__ volatile("movq %%cr0, %0" : "=r"(mode->cr0));
	__asm__ volatile("movq %%cr3, %0" : "=r"(mode->cr3));
	__asm__ volatile("movq %%cr4, %0" : "=r"(mode->cr4));
	__asm__ volatile("sgdt %0" : "=m"(mode->gdt));
	__asm__ volatile("sidt %0" : "=m"(mode->idt));
}

static void mode(void)
{
	static struct mode mine, others;
	const struct cf_registers *r = &cf_cpus[1].at_entry;

	cf_case("VCPU-6 a vCPU begins in the mode of the one that starts it");
	if (cf_vcpus() < 2) {
		cf_skip("one vCPU");
		return;
	}
	read_mode(&mine);
	cf_expect(cf_start(1, read_mode, &others), PV_STATUS_OK, "vcpu.start");
	cf_want(cf_join(1), "it stops");
	cf_want(!memcmp(&mine, &others, sizeof(mine)), "segments, and at CPL 0 control registers and tables");
	cf_case("VCPU-6 a vCPU begins with the registers that it was given");
	cf_expect((int64_t)r->general[CF_RDI], (int64_t)pv_gpa(&cf_cpus[1]), "RDI");
	cf_expect((int64_t)r->general[CF_RSP] & 15, 0, "RSP, bits 3:0");
	for (uint32_t i = 0; i < 16; i++)
		if (i != CF_RDI && i != CF_RSP)
			cf_expect((int64_t)r->general[i], 0, "another general register");
	if (cf_at_entry.valid)
		cf_expect((int64_t)r->rflags, (int64_t)cf_at_entry.rflags, "flags, as those of vCPU 0 at entry");
}

/* Of the register that is mapped for the end-of-interrupt (BOOT-11). */
static void read_apic_id(void *argument)
{
	const volatile uint32_t *id = pv_at(0xfee00020); /* bits 31:24 */

	*(uint32_t *)argument = *id >> 24;
}

static void identity(void)
{
	static uint32_t id;

	cf_case("VCPU-10 a vCPU's index is the id of its local APIC");
	read_apic_id(&id);
	cf_expect((int64_t)id, 0, "vCPU 0");
	if (cf_vcpus() < 2)
		return;
	cf_expect(cf_start(1, read_apic_id, &id), PV_STATUS_OK, "vcpu.start");
	cf_want(cf_join(1), "it stops");
	cf_expect((int64_t)id, 1, "vCPU 1");
}

static struct {
	uint32_t life; /* written by vCPU 1 */
	uint32_t let_go;
	uint64_t deadline_ns, mask;
	uint32_t upcalled;
} lives;

static void first_life(void *argument)
{
	(void)argument;
	CF_STORE(cf_page(1)->mask[0], 1ull << SPARE);
	pv_call1(PV_CALL_EVENT_UPCALL, PV_UPCALL_NMI);
	pv_call1(PV_CALL_TIME_DEADLINE, lives.deadline_ns);
	CF_STORE(lives.life, 1);
	while (!CF_LOAD(lives.let_go))
		cf_relax();
}

static void second_life(void *argument)
{
	uint32_t before = CF_LOAD(cf_upcalls[1]);

	(void)argument;
	lives.deadline_ns = CF_LOAD(cf_page(1)->deadline_ns);
	lives.mask = CF_LOAD(cf_page(1)->mask[0]);
	CF_STORE(cf_page(1)->upcall_pending, 0);
	pv_call2(PV_CALL_EVENT_SEND, 1, CF_CHANNEL);
	lives.upcalled = cf_soon(&cf_upcalls[1], before + 1, CF_SECOND);
	pv_call1(PV_CALL_EVENT_UPCALL, PV_UPCALL_OFF);
	pv_call1(PV_CALL_TIME_DEADLINE, PV_DEADLINE_NEVER);
	CF_STORE(cf_page(1)->mask[0], 0);
	CF_STORE(cf_page(1)->pending[0], 0);
	CF_STORE(cf_page(1)->upcall_pending, 0);
	CF_STORE(lives.life, 2);
}

static void again(void)
{
	uint64_t deadline_ns = cf_now_ns() + 3600 * CF_SECOND;

	lives.deadline_ns = deadline_ns;
	cf_case("VCPU-1 vcpu.start of another vCPU that runs");
	cf_expect(cf_start(1, first_life, NULL), PV_STATUS_OK, "vcpu.start");
	cf_want(cf_soon(&lives.life, 1, CF_SECOND), "it runs");
	cf_expect(state(1), PV_VCPU_STATE_RUNNING, "its state");
	cf_expect(pv_call4(PV_CALL_VCPU_START, 1, pv_gpa(again), pv_gpa(&lives) & ~15ull, 0).status,
		  PV_STATUS_BAD_STATE, "vcpu.start again");
	CF_STORE(lives.let_go, 1);
	cf_want(cf_join(1), "it stops");
	cf_case("VCPU-5 a vCPU that is started again keeps its page, its upcall vector and its deadline");
	cf_expect(cf_start(1, second_life, NULL), PV_STATUS_OK, "vcpu.start");
	cf_want(cf_soon(&lives.life, 2, 2 * CF_SECOND), "it runs");
	cf_want(cf_join(1), "it stops");
	cf_expect((int64_t)lives.deadline_ns, (int64_t)deadline_ns, "the deadline");
	cf_expect((int64_t)lives.mask, (int64_t)(1ull << SPARE), "the mask in its page");
	if (cf_has_gates)
		cf_expect(lives.upcalled, 1, "upcalls");
}

static void sleep(void *argument)
{
	const uint64_t *end_ns = argument;

	while (!CF_LOAD(cf_page(1)->upcall_pending) && cf_now_ns() < *end_ns)
		pv_call1(PV_CALL_VCPU_BLOCK, *end_ns);
	CF_STORE(cf_page(1)->upcall_pending, 0);
	CF_STORE(cf_page(1)->pending[0], 0);
}

static void blocked(void)
{
	uint64_t end_ns = cf_now_ns() + 2 * CF_SECOND, limit_ns = cf_now_ns() + CF_SECOND;

	cf_case("VCPU-1 vcpu.start of a vCPU that is blocked");
	cf_expect(cf_start(1, sleep, &end_ns), PV_STATUS_OK, "vcpu.start");
	while (state(1) != PV_VCPU_STATE_BLOCKED && cf_now_ns() < limit_ns)
		cf_relax();
	cf_expect(state(1), PV_VCPU_STATE_BLOCKED, "its state");
	cf_expect(cf_page(1)->state, PV_VCPU_STATE_BLOCKED, "and in its page");
	cf_expect(pv_call4(PV_CALL_VCPU_START, 1, pv_gpa(again), pv_gpa(&lives) & ~15ull, 0).status,
		  PV_STATUS_BAD_STATE, "vcpu.start");
	cf_expect(pv_call2(PV_CALL_EVENT_SEND, 1, CF_CHANNEL).status, PV_STATUS_OK, "event.send");
	cf_want(cf_join(1), "it is woken and stops");
	cf_want(cf_now_ns() < end_ns, "before its deadline");
}

static void vcpu(void)
{
	if (!cf_offered(PV_SERVICE_VCPU)) {
		cf_case("VCPU-1 VCPU-2 VCPU-3 VCPU-5 VCPU-6 VCPU-7 vCPUs");
		cf_skip("service vcpu is not offered");
		return;
	}
	refused();
	blocking();
	words_of_the_host();
	fault_address();
	mode();
	identity();
	if (cf_vcpus() < 2 || !cf_offered(PV_SERVICE_EVENT) || !cf_offered(PV_SERVICE_TIME)) {
		cf_case("VCPU-5 a vCPU that is started again");
		cf_skip("one vCPU, or no events or time");
		return;
	}
	again();
	blocked();
}

CF_CHAPTER(vcpu, vcpu);
