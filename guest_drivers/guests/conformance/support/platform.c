/* SPDX-License-Identifier: 0BSD
 *
 * From the boot information to the chapters, and what chapters ask of the machine.
 */
#include "conformance.h"
#include "paravirt/notes.h"
#include "paravirt/string.h"
#include "paravirt/time.h"

#define SERVICES 64

struct pv_boot cf_boot;
const struct pv_boot_info *cf_info;

static uint64_t next_gpa, end_gpa;

/* The largest range of RAM, which may hold neither image nor tables (BOOT-12). */
static void memory_init(void)
{
	for (uint32_t i = 0; i < cf_boot.memory_count; i++) {
		const struct pv_boot_memory *range = &cf_boot.memory[i];

		if (range->kind == PV_MEMORY_KIND_RAM && range->size_bytes > end_gpa - next_gpa) {
			next_gpa = range->gpa;
			end_gpa = range->gpa + range->size_bytes;
		}
	}
}

void *cf_take(uint64_t size_bytes, uint64_t align)
{
	uint64_t at = (next_gpa + align - 1) & ~(align - 1);

	if (at > end_gpa || size_bytes > end_gpa - at)
		return NULL;
	next_gpa = at + size_bytes;
	return pv_at(at);
}

/* BOOT-9: a sum of all the boot information. */
static uint64_t sum_of_info(void)
{
	const uint64_t *words = (const uint64_t *)cf_info;
	uint64_t sum = 0;

	for (uint32_t i = 0; i < cf_info->size_bytes / 8; i++)
		sum = (sum << 1 | sum >> 63) ^ words[i];
	return sum;
}

extern const struct cf_chapter __start_cf_chapters[], __stop_cf_chapters[];

int cf_main(const struct pv_boot_info *info)
{
	int64_t status = pv_boot_parse(&cf_boot, info, PV_LIMIT_BOOT_INFO_BYTES);

	/* Without a trap that is known here nothing can be said. */
	if (!cf_boot.abi || cf_boot.abi->trap_kind != PV_TRAP_KIND_PORT)
		__builtin_trap();
	pv_trap_port = (uint16_t)cf_boot.abi->trap;
	cf_info = info;
	if (status < 0)
		cf_bail_out("the boot information is not good: status %ld, record %u", status, cf_boot.refused_type);
	memory_init();
	cf_gates_init();
	uint64_t sum = sum_of_info();
	for (const struct cf_chapter *chapter = __start_cf_chapters; chapter < __stop_cf_chapters; chapter++) {
		cf_note("chapter %s, %s, vCPUs: %u", chapter->name, cf_user() ? "CPL 3" : "CPL 0", cf_vcpus());
		uint64_t began_ns = cf_now_ns();
		chapter->run();
		cf_end_case();
		cf_note("chapter %s took %lu ms", chapter->name, (cf_now_ns() - began_ns) / 1000000);
	}
	cf_true(sum_of_info() == sum, "BOOT-9 the boot information is at the end as it was");
	return cf_finish() ? 1 : 0;
}

uint64_t cf_now_ns(void)
{
	return pv_time_monotonic(pv_at(cf_boot.pages->time_gpa));
}

void cf_wait_ns(uint64_t ns)
{
	uint64_t end_ns = cf_now_ns() + ns;

	while (cf_now_ns() < end_ns)
		cf_relax();
}

bool cf_soon(const uint32_t *word, uint32_t value, uint64_t patience_ns)
{
	uint64_t end_ns = cf_now_ns() + patience_ns;

	while (CF_LOAD(*word) < value)
		if (cf_now_ns() > end_ns)
			return CF_LOAD(*word) >= value;
	return true;
}

bool cf_service(uint32_t service, struct pv_service_info *info)
{
	static struct pv_service_info table[SERVICES];
	struct pv_answer answer = pv_call2(PV_CALL_BASE_SERVICES, pv_gpa(table), sizeof(table));

	for (uint32_t i = 0; answer.status >= 0 && i < answer.value / sizeof(table[0]); i++)
		if (table[i].service == service) {
			*info = table[i];
			return true;
		}
	return false;
}

bool cf_offered(uint32_t service)
{
	struct pv_service_info info;

	return cf_service(service, &info);
}

bool cf_exists(uint32_t id)
{
	struct pv_service_info info;

	return cf_service(id >> 16, &info) && info.calls >> (id & 31) & 1;
}

uint64_t cf_accept(uint32_t service, uint64_t wanted)
{
	struct pv_service_info info;

	if (!cf_service(service, &info))
		return 0;
	if ((info.accepted & wanted) != (info.offered & wanted)) {
		pv_call0(PV_CALL_BASE_RENEGOTIATE);
		pv_call2(PV_CALL_BASE_ACCEPT, service, info.offered & wanted);
		cf_service(service, &info);
	}
	return info.accepted;
}

struct pv_answer cf_trap(uint64_t rax, const uint64_t args[6])
{
	register uint64_t rcx __asm__("rcx") = args[2];
	register uint64_t r8 __asm__("r8") = args[3];
	register uint64_t r9 __asm__("r9") = args[4];
	register uint64_t r10 __asm__("r10") = args[5];
	uint64_t rdx = pv_trap_port;

	__asm__ volatile("outl %%eax, %%dx"
			 : "+a"(rax), "+d"(rdx), "+r"(rcx), "+r"(r8), "+r"(r9), "+r"(r10)
			 : "D"(args[0]), "S"(args[1])
			 : "r11", "cc", "memory");
	return (struct pv_answer){ (int64_t)rax, rdx };
}

struct pv_answer cf_batched(uint32_t id, const uint64_t args[6])
{
	static struct pv_submission submission __attribute__((aligned(64)));
	static struct pv_completion completion __attribute__((aligned(32)));

	submission = (struct pv_submission){ .call = id, .cookie = 0x5eed };
	memcpy(submission.args, args, sizeof(submission.args));
	completion = (struct pv_completion){ 0 };
	struct pv_answer answer = pv_call4(PV_CALL_BASE_BATCH, pv_gpa(&submission), 1, pv_gpa(&completion), 1);
	if (answer.status != PV_STATUS_OK || answer.value != 1 || completion.cookie != 0x5eed)
		return (struct pv_answer){ 2000 + answer.status, answer.value };
	return (struct pv_answer){ completion.status, completion.value };
}

void cf_shutdown(uint32_t reason, uint64_t status)
{
	for (;;)
		pv_call2(PV_CALL_SYSTEM_SHUTDOWN, reason, status);
}
