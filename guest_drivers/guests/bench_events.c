/* SPDX-License-Identifier: 0BSD
 *
 * The guest's half of the benchmark of events.  It says where its control block lies and what a turn cost that it
 * measures itself; the host chooses by `mode` what is done, and times what it raises by `answered`.  Lines of JSON:
 *	{"bench": "events", "control_gpa": G}
 *	{"bench": "events", "figure": "ipi", "count": N, "median_ticks": T, "p99_ticks": T, "hz": F}
 * The figure "ipi by call" is the same by event.send, "ipi looking" to a vCPU that holds upcalls back and looks,
 * "ipi floor" by a message from APIC to APIC, which the kernel carries.
 */
#include "paravirt/base.h"
#include "paravirt/guest.h"
#include "paravirt/notes.h"
#include "paravirt/time.h"
#include "paravirt/vcpu.h"
#include "sort.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_EVENT, 0), PV_NEED(PV_SERVICE_TIME, 0),
	   PV_NEED(PV_SERVICE_VCPU, 0), PV_NEED(PV_SERVICE_SYSTEM, 0));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

#define CHANNEL PV_CHANNEL_FIRST_FREE
#define TURNS 5000u
#define ICR_LOW 0xfee00300u
#define ICR_HIGH 0xfee00310u
#define ICR_NMI 0x4400u /* delivery mode NMI, assert */

enum { MODE_SPIN, MODE_BARE, MODE_BLOCK, MODE_IPI, MODE_END };

/* A gate of the CPU's. */
struct gate {
	uint16_t offset_low, selector, flags, offset_middle;
	uint32_t offset_high, reserved;
};

struct control {
	uint64_t mode; /* the host's */
	uint64_t ready; /* the guest's: mode + 1 once it is in that mode */
	uint64_t answered; /* upcalls handled */
} control __attribute__((aligned(64)));

static uint64_t ticks[TURNS];
static uint32_t receiving, looking, sent;
static struct pv_vcpu_page *other; /* the second vCPU's page */
static struct gate own_gate;

/* What an upcall costs at the least: one word, and back. */
extern const char bare_entry[];
__asm__(".pushsection .text\n"
	"bare_entry:\n"
	"	incq control+16(%rip)\n"
	"	iretq\n"
	".popsection\n");

static void answer(uint32_t channel, void *opaque)
{
	(void)channel, (void)opaque;
	__atomic_store_n(&control.answered, control.answered + 1, __ATOMIC_RELEASE);
}

static uint64_t mode(void)
{
	return __atomic_load_n(&control.mode, __ATOMIC_ACQUIRE);
}

static struct gate *nmi_gate(void)
{
	return (struct gate *)pv_at(pv_guest.boot.tables->idt_gpa) + PV_UPCALL_NMI;
}

static void set_bare(bool bare)
{
	uint64_t entry = (uint64_t)(uintptr_t)bare_entry;
	struct gate gate = own_gate;

	if (bare) {
		gate.offset_low = (uint16_t)entry;
		gate.offset_middle = (uint16_t)(entry >> 16);
		gate.offset_high = (uint32_t)(entry >> 32);
	}
	*nmi_gate() = gate;
}

static void spin_while(uint64_t while_mode)
{
	while (mode() == while_mode)
		pv_relax();
}

/* An upcall in the moment before a block is nothing new: block does not wait then (VCPU-3). */
static void block_while(void)
{
	struct pv_vcpu_page *page = pv_this_cpu()->page;

	pv_event_hold(page);
	while (mode() == MODE_BLOCK)
		pv_event_wait(page, PV_DEADLINE_NEVER);
	pv_event_release(page);
}

static uint64_t counter_hz(void)
{
	uint64_t ns = pv_now_ns(), counter = pv_counter(), passed_ns;

	do
		passed_ns = pv_now_ns() - ns;
	while (passed_ns < 20000000);
	return (pv_counter() - counter) * 1000000000u / passed_ns;
}

static void send_by_call(void)
{
	pv_event_send(1, CHANNEL);
}

static void send_by_ring(void)
{
	pv_event_ring(other, CHANNEL, (uint16_t)pv_guest.boot.abi->doorbell);
}

static void send_by_apic(void)
{
	*(volatile uint32_t *)(uintptr_t)ICR_LOW = ICR_NMI;
}

static void send_turns(const char *figure, void (*send)(void))
{
	for (uint32_t i = 0; i < TURNS; i++) {
		uint64_t seen = __atomic_load_n(&control.answered, __ATOMIC_ACQUIRE), before = pv_counter();

		send();
		while (__atomic_load_n(&control.answered, __ATOMIC_ACQUIRE) == seen)
			pv_relax();
		ticks[i] = pv_counter() - before;
	}
	sort(ticks, TURNS);
	pv_print("{\"bench\": \"events\", \"figure\": \"%s\", \"count\": %u, \"median_ticks\": %lu, "
		 "\"p99_ticks\": %lu, \"hz\": %lu}\n",
		 figure, TURNS, ticks[TURNS / 2], ticks[TURNS - TURNS / 100 - 1], counter_hz());
}

static void receive(void *argument)
{
	(void)argument;
	other = pv_this_cpu()->page;
	pv_upcalls_on();
	__atomic_store_n(&receiving, 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&looking, __ATOMIC_ACQUIRE))
		pv_relax();
	pv_hold();
	__atomic_store_n(&receiving, 2, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&sent, __ATOMIC_ACQUIRE))
		if (!__atomic_load_n(&other->upcall_pending, __ATOMIC_ACQUIRE) || !pv_event_poll(other))
			pv_relax();
	pv_release();
}

static void wait_for_receiver(uint32_t phase)
{
	while (__atomic_load_n(&receiving, __ATOMIC_ACQUIRE) != phase)
		pv_relax();
}

static void ipis(void)
{
	struct pv_wish wish = { .service = PV_SERVICE_EVENT, .needed = PV_EVENT_FEATURE_DOORBELL };

	if (pv_negotiate(&wish, 1) < 0)
		pv_panic("there is no doorbell for events");
	if (pv_cpu_start(1, receive, NULL) < 0)
		pv_panic("there is no second vCPU");
	wait_for_receiver(1);
	send_turns("ipi", send_by_ring);
	send_turns("ipi by call", send_by_call);
	*(volatile uint32_t *)(uintptr_t)ICR_HIGH = 1u << 24; /* vCPU 1, from here on */
	set_bare(true);
	send_turns("ipi floor", send_by_apic);
	set_bare(false);
	__atomic_store_n(&looking, 1, __ATOMIC_RELEASE);
	wait_for_receiver(2);
	send_turns("ipi looking", send_by_ring);
	__atomic_store_n(&sent, 1, __ATOMIC_RELEASE);
}

int pv_main(void)
{
	if (!pv_guest.paravirt)
		return 1;
	own_gate = *nmi_gate();
	pv_event_handle(CHANNEL, answer, NULL);
	pv_upcalls_on();
	pv_print("{\"bench\": \"events\", \"control_gpa\": %lu}\n", pv_gpa(&control));
	for (uint64_t now; (now = mode()) != MODE_END;) {
		set_bare(now == MODE_BARE);
		if (now == MODE_IPI)
			ipis();
		__atomic_store_n(&control.ready, now + 1, __ATOMIC_RELEASE);
		if (now == MODE_BLOCK)
			block_while();
		else
			spin_while(now);
	}
	return 0;
}
