/* SPDX-License-Identifier: 0BSD
 *
 * A guest that breaks one rule, the one its command line names; wrong_devices.c has those of devices and rings.
 *
 * Each entry names the rule.  Where nothing notices, it ends with success: it is for a host that looks.
 */
#include "paravirt/boot.h"
#include "paravirt/entropy.h"
#include "paravirt/event.h"
#include "paravirt/guest.h"
#include "paravirt/memory.h"
#include "paravirt/notes.h"
#include "paravirt/string.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_SYSTEM, 0));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

#define CHANNEL (PV_CHANNEL_FIRST_FREE + 1)
#define OWN_VECTOR 65
#define ENTRIES 4u

struct gate {
	uint16_t offset_low;
	uint16_t selector;
	uint8_t ist;
	uint8_t kind;
	uint16_t offset_middle;
	uint32_t offset_high;
	uint32_t reserved;
};

static struct pv_submission submissions[ENTRIES] __attribute__((aligned(64)));
static struct pv_completion completions[ENTRIES] __attribute__((aligned(32)));
static volatile bool told;

static void tell(uint32_t channel, void *opaque)
{
	(void)channel, (void)opaque;
	told = true;
}

static struct pv_vcpu_page *page(void)
{
	return pv_this_cpu()->page;
}

static volatile struct gate *gate(uint32_t vector)
{
	return (volatile struct gate *)pv_at(pv_guest.boot.tables->idt_gpa) + vector;
}

static int undeclared_argument(void)
{
	return pv_call1(PV_CALL_BASE_VERSION, 1).status == PV_STATUS_OK;
}

static int nothing_there(void)
{
	return pv_call0(PV_SERVICE_BASE << 16 | 31).status == PV_STATUS_OK;
}

static int not_accepted(void)
{
	return pv_call2(PV_CALL_BASE_RING, 0, 0).status == PV_STATUS_OK;
}

static int unaligned(void)
{
	return pv_call2(PV_CALL_BASE_SERVICES, pv_gpa(submissions) + 1, 64).status == PV_STATUS_OK;
}

static int batch(uint32_t call, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		submissions[i] = (struct pv_submission){ .call = call, .cookie = i };
	struct pv_answer answer = pv_call4(PV_CALL_BASE_BATCH, pv_gpa(submissions), count, pv_gpa(completions), count);
	return answer.status < 0;
}

static int wrong_road(void)
{
	return batch(PV_CALL_VCPU_YIELD, 1);
}

static int batch_done_at_once(void) /* BATCH-5: CONTINUE is taken for OK */
{
	return batch(PV_CALL_BASE_VERSION, ENTRIES);
}

static int ranges_done_at_once(void) /* MEM-6 */
{
	uint8_t *memory = pv_take(4 * 4096, 4096);
	struct pv_memory_range ranges[2] = { { pv_gpa(memory), 4096 }, { pv_gpa(memory) + 8192, 4096 } };

	return pv_memory_populate(ranges, 2).status < 0;
}

static int known_statuses_only(void) /* ERR-1: any refusal but FAILED is no refusal */
{
	uint8_t bytes[8];
	int64_t status;

	/* not through the library, which knows better */
	__asm__ volatile("xorl %%r8d, %%r8d; xorl %%r9d, %%r9d; xorl %%r10d, %%r10d; outl %%eax, %%dx"
			 : "=a"(status)
			 : "a"((uint64_t)PV_CALL_ENTROPY_FILL), "d"((uint64_t)pv_trap_port), "D"(bytes), "S"(8ull),
			   "c"(0ull)
			 : "r8", "r9", "r10", "r11", "cc", "memory");
	if (status == PV_STATUS_FAILED)
		return 1;
	return status < 0 ? 3 : 0;
}

static int register_kept(void) /* CALL-9: RCX is undefined after a call */
{
	uint64_t rax = PV_CALL_BASE_VERSION, rcx = 0, rdx = pv_trap_port;

	__asm__ volatile("xorl %%r8d, %%r8d; xorl %%r9d, %%r9d; xorl %%r10d, %%r10d; outl %%eax, %%dx"
			 : "+a"(rax), "+c"(rcx), "+d"(rdx)
			 : "D"(0ull), "S"(0ull)
			 : "r8", "r9", "r10", "r11", "cc", "memory");
	return rcx != 0;
}

static int value_of_a_refusal(void) /* CALL-10 */
{
	uint64_t rax = PV_CALL_BASE_LIMIT, rcx = 0, rdx = pv_trap_port;

	__asm__ volatile("xorl %%r8d, %%r8d; xorl %%r9d, %%r9d; xorl %%r10d, %%r10d; outl %%eax, %%dx"
			 : "+a"(rax), "+c"(rcx), "+d"(rdx)
			 : "D"(0xffffull), "S"(0ull)
			 : "r8", "r9", "r10", "r11", "cc", "memory");
	return rdx != 0;
}

static int mask_for_ever(void) /* EVT-3: upcall_mask is never cleared again */
{
	page()->upcall_mask = 1;
	pv_event_send(page()->index, CHANNEL);
	while (!told)
		;
	return 0;
}

static int unmask_without_a_look(void) /* EVT-7 */
{
	pv_event_mask(page(), CHANNEL);
	pv_event_send(page()->index, CHANNEL);
	__atomic_fetch_and(&page()->mask[CHANNEL / 64], ~(1ull << CHANNEL % 64), __ATOMIC_SEQ_CST);
	while (!told)
		;
	return 0;
}

/* Handlers without the runtime: one that ends no interrupt, one that wants something to be pending. */
static volatile uint64_t taken;
void wrong_handler(void);
void wrong_expecting(void);
__asm__(".text\n"
	"wrong_handler:\n"
	"	push %rax\n"
	"	incq taken(%rip)\n"
	"	mov taken_page(%rip), %rax\n"
	"	movl $0, (%rax)\n" /* upcall_pending */
	"	pop %rax\n"
	"	iretq\n"
	"wrong_expecting:\n"
	"	push %rax\n"
	"	mov taken_page(%rip), %rax\n"
	"	cmpl $0, (%rax)\n"
	"	jne 1f\n"
	"	ud2\n"
	"1:	movl $0, (%rax)\n"
	"	pop %rax\n"
	"	iretq\n");
static volatile struct pv_vcpu_page *taken_page __attribute__((used));

static void handle_by(uint32_t vector, void (*code)(void))
{
	uint64_t entry = pv_gpa((const void *)code);
	volatile struct gate *to = gate(vector);

	taken_page = page();
	to->offset_low = (uint16_t)entry;
	to->offset_middle = (uint16_t)(entry >> 16);
	to->offset_high = (uint32_t)(entry >> 32);
	to->selector = gate(0)->selector;
	to->ist = 0;
	to->kind = gate(0)->kind;
}

static int no_end_of_interrupt(void) /* EVT-9 */
{
	handle_by(OWN_VECTOR, wrong_handler);
	pv_event_upcall_vector(OWN_VECTOR);
	pv_event_send(page()->index, CHANNEL);
	while (!taken)
		;
	page()->pending[0] = 0;
	pv_event_send(page()->index, CHANNEL);
	while (taken < 2)
		;
	return 0;
}

static void spend_ms(uint64_t ms)
{
	for (uint64_t end = pv_now_ns() + ms * 1000000; pv_now_ns() < end;)
		;
}

static int something_is_pending(void) /* EVT-4 */
{
	handle_by(PV_UPCALL_NMI, wrong_expecting);
	pv_event_upcall_vector(PV_UPCALL_NMI);
	spend_ms(200);
	return 0;
}

static int red_zone(void) /* BOOT-6 */
{
	uint64_t broken = 0;

	pv_upcalls_on();
	for (uint64_t end = pv_now_ns() + 200000000; pv_now_ns() < end && !broken;)
		__asm__ volatile("mov $20000, %%ecx\n"
				 "movq $0x1234567, -64(%%rsp)\n"
				 "1: dec %%ecx\n"
				 "jnz 1b\n"
				 "cmpq $0x1234567, -64(%%rsp)\n"
				 "setne %b0\n"
				 : "+q"(broken)
				 :
				 : "ecx", "cc", "memory");
	return (int)broken;
}

static int interrupt_gate(void) /* BOOT-5 */
{
	gate(OWN_VECTOR)->selector = gate(0)->selector;
	gate(OWN_VECTOR)->kind = 0x8e | 3 << 5;
	return 0;
}

static int torn_time(void) /* TIME-6 */
{
	const volatile struct pv_time_page *time = pv_at(pv_guest.boot.pages->time_gpa);

	for (int i = 0; i < 2000; i++) {
		uint64_t now = time->base_ns;

		pv_call1(PV_CALL_TIME_DEADLINE, now + 1000000000);
	}
	return 0;
}

static int block_is_sleep(void) /* VCPU-4 */
{
	uint64_t end = pv_now_ns() + 20000000;

	pv_call1(PV_CALL_VCPU_BLOCK, end);
	return pv_now_ns() < end;
}

static int records_of_known_size(void) /* BOOT-7: goes on behind the structures that it knows */
{
	static uint8_t copy[65536] __attribute__((aligned(8)));
	struct pv_answer answer = pv_call2(PV_CALL_BASE_BOOT_INFO, pv_gpa(copy), sizeof(copy));
	uint64_t at = sizeof(struct pv_boot_info);

	while (at + sizeof(struct pv_boot_header) <= answer.value) {
		const struct pv_boot_header *head = (const void *)(copy + at);
		uint64_t size = head->type == PV_BOOT_RECORD_ABI       ? sizeof(struct pv_boot_abi)
				: head->type == PV_BOOT_RECORD_VCPUS   ? sizeof(struct pv_boot_vcpus)
				: head->type == PV_BOOT_RECORD_PAGES   ? sizeof(struct pv_boot_pages)
				: head->type == PV_BOOT_RECORD_MACHINE ? sizeof(struct pv_boot_machine)
				: head->type == PV_BOOT_RECORD_TABLES  ? sizeof(struct pv_boot_tables)
								       : head->size_bytes;

		if (head->type == PV_BOOT_RECORD_END)
			return 0;
		at += sizeof(*head) + (size + 7) / 8 * 8;
	}
	return 1;
}

static const struct {
	const char *name;
	int (*run)(void);
} wrongs[] = {
	{ "CALL-5", undeclared_argument },
	{ "CALL-1", nothing_there },
	{ "CALL-3", not_accepted },
	{ "CALL-4", wrong_road },
	{ "CALL-6", unaligned },
	{ "CALL-9", register_kept },
	{ "CALL-10", value_of_a_refusal },
	{ "ERR-1", known_statuses_only },
	{ "BATCH-5", batch_done_at_once },
	{ "MEM-6", ranges_done_at_once },
	{ "EVT-3", mask_for_ever },
	{ "EVT-4", something_is_pending },
	{ "EVT-7", unmask_without_a_look },
	{ "EVT-9", no_end_of_interrupt },
	{ "TIME-6", torn_time },
	{ "VCPU-4", block_is_sleep },
	{ "BOOT-5", interrupt_gate },
	{ "BOOT-6", red_zone },
	{ "BOOT-7", records_of_known_size },
};

int pv_main(void)
{
	const char *wanted = pv_guest.boot.command_line ? pv_guest.boot.command_line : "";

	pv_event_handle(CHANNEL, tell, NULL);
	for (uint64_t i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++)
		if (!strcmp(wrongs[i].name, wanted))
			return wrongs[i].run();
	for (uint64_t i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++)
		pv_print("%s\n", wrongs[i].name);
	return 2;
}
