/* SPDX-License-Identifier: 0BSD
 *
 * From either entry to pv_main, and what guest.h promises, carried out by our services or, on other
 * hosts, by plain.c.
 */
#include "paravirt/console.h"
#include "paravirt/format.h"
#include "paravirt/string.h"
#include "paravirt/system.h"
#include "paravirt/time.h"
#include "paravirt/vcpu.h"
#include "runtime.h"

#define LINE_BYTES 512
#define PAGE_BYTES 4096

struct pv_guest pv_guest = { .command_line = "" };

static const struct pv_time_page *time_page;
static struct pv_vcpu_page no_page[1]; /* of the one vCPU of a plain host */

_Noreturn void pv_start_paravirt(const struct pv_boot_info *info);
_Noreturn void pv_start_pvh(const void *start_info);
_Noreturn void pv_start_cpu(struct pv_cpu *cpu);

static struct pv_cpu *cpu_on(void *stack, uint32_t index)
{
	struct pv_cpu *cpu = stack;
	const struct pv_boot_pages *pages = pv_guest.boot.pages;

	*cpu = (struct pv_cpu){
		.index = index,
		.page = pages ? pv_at(pages->vcpu_gpa + index * pages->vcpu_stride_bytes) : no_page,
	};
	return cpu;
}

static uint64_t level(void)
{
	uint64_t cs;

	__asm__("mov %%cs, %0" : "=r"(cs));
	return cs & 3;
}

/* The table that the host made; without one, and with the privilege to load it, our own (BOOT-5). */
static void init_traps(const struct pv_boot_tables *tables)
{
	struct __attribute__((packed)) {
		uint16_t limit;
		uint64_t gpa;
	} pointer = { sizeof(pv_idt) - 1, pv_gpa(pv_idt) };
	uint16_t selector;

	if (tables) {
		pv_trap_init(pv_at(tables->idt_gpa), tables->idt_bytes, tables->code_selector);
		return;
	}
	if (level() == 0) {
		__asm__("mov %%cs, %0" : "=r"(selector));
		__asm__ volatile("lidt %0" : : "m"(pointer));
	} else {
		/* pvh.S loaded the table; CS as read at CPL 3 may be that of the machine below. */
		selector = PV_PVH_CODE_USER;
	}
	pv_trap_init(pv_idt, sizeof(pv_idt), selector);
}

/* What is left of a range without page zero, which is not mapped (BOOT-2), and the image. */
static struct pv_plain_range usable(uint64_t gpa, uint64_t size_bytes)
{
	uint64_t end = gpa + size_bytes, image = pv_gpa(pv_image_start), after = pv_gpa(pv_image_end);

	gpa = gpa < PAGE_BYTES ? PAGE_BYTES : gpa;
	if (gpa < after && end > after)
		gpa = after;
	else if (gpa < after && end > image)
		end = image;
	return (struct pv_plain_range){ gpa, end > gpa ? end - gpa : 0 };
}

static void init_memory(const struct pv_boot *boot)
{
	struct pv_plain_range best = { 0, 0 };

	for (uint32_t i = 0; i < boot->memory_count; i++) {
		struct pv_plain_range range = usable(boot->memory[i].gpa, boot->memory[i].size_bytes);

		if (boot->memory[i].kind == PV_MEMORY_KIND_RAM && range.size_bytes > best.size_bytes)
			best = range;
	}
	pv_take_from(best.gpa, best.size_bytes);
}

_Noreturn static void run_paravirt(void)
{
	struct pv_boot *boot = &pv_guest.boot;

	pv_guest.paravirt = true;
	pv_guest.cpus = boot->vcpus;
	if (boot->command_line)
		pv_guest.command_line = boot->command_line;
	time_page = pv_at(boot->pages->time_gpa);
	cpu_on(pv_boot_stack, boot->abi->vcpu);
	init_memory(boot);
	pv_exit(pv_main());
}

void pv_start_paravirt(const struct pv_boot_info *info)
{
	struct pv_boot *boot = &pv_guest.boot;
	int64_t status = pv_boot_parse(boot, info, PV_LIMIT_BOOT_INFO_BYTES);

	/* Without a trap that we know there is no way to say anything. */
	if (boot->abi && boot->abi->trap_kind == PV_TRAP_KIND_PORT)
		pv_trap_port = (uint16_t)boot->abi->trap;
	else
		__asm__ volatile("ud2");
	if (status != PV_STATUS_OK)
		for (;;) /* BOOT-3 */
			pv_system_shutdown(PV_SHUTDOWN_BOOT_REFUSED, boot->refused_type);
	init_traps(boot->tables);
	run_paravirt();
}

/* A Paravirt host reached by PVH's entry: the tables are our own, the rest is the same. */
static void try_paravirt(void)
{
	if (!pv_discovered.trap_port || !pv_discovered.boot_info_gpa)
		return;
	pv_trap_port = pv_discovered.trap_port;
	if (pv_boot_parse(&pv_guest.boot, pv_at(pv_discovered.boot_info_gpa), PV_LIMIT_BOOT_INFO_BYTES) == PV_STATUS_OK)
		run_paravirt();
	pv_guest.boot = (struct pv_boot){ 0 };
}

void pv_start_pvh(const void *start_info)
{
	struct pv_plain_range memory = pv_plain_init(start_info);

	init_traps(NULL);
	try_paravirt();
	pv_guest.cpus = 1;
	pv_guest.command_line = pv_plain_command_line();
	cpu_on(pv_boot_stack, 0);
	memory = usable(memory.gpa, memory.size_bytes);
	pv_take_from(memory.gpa, memory.size_bytes);
	pv_exit(pv_main());
}

int64_t pv_cpu_start(uint32_t index, void (*run)(void *argument), void *argument)
{
	if (!pv_guest.paravirt)
		return PV_STATUS_NOT_SUPPORTED;
	char *stack = pv_take(PV_STACK_BYTES, PV_STACK_BYTES);

	if (!stack)
		return PV_STATUS_NO_MEMORY;
	struct pv_cpu *cpu = cpu_on(stack, index);
	cpu->run = run;
	cpu->argument = argument;
	return pv_vcpu_start(index, pv_cpu_entry, stack + PV_STACK_BYTES, cpu);
}

void pv_start_cpu(struct pv_cpu *cpu)
{
	if (!pv_guest.boot.tables)
		init_traps(NULL);
	cpu->run(cpu->argument);
	pv_vcpu_stop();
}

void pv_write(const char *text, uint64_t size_bytes)
{
	if (pv_guest.paravirt)
		pv_console_write(text, size_bytes);
	else
		pv_plain_write(text, size_bytes);
}

void pv_print(const char *format, ...)
{
	char line[LINE_BYTES];
	va_list args;

	va_start(args, format);
	size_t length = pv_vformat(line, sizeof(line), format, args);
	va_end(args);
	pv_write(line, length < sizeof(line) ? length : sizeof(line) - 1);
}

void pv_exit(int status)
{
	while (pv_guest.paravirt)
		pv_system_shutdown(status ? PV_SHUTDOWN_FAILURE : PV_SHUTDOWN_POWEROFF, (uint64_t)status);
	pv_plain_exit(status);
}

uint64_t pv_now_ns(void)
{
	return pv_guest.paravirt ? pv_time_monotonic(time_page) : pv_plain_now_ns();
}

uint64_t pv_wall_ns(void)
{
	return pv_guest.paravirt ? pv_time_wall(time_page) : pv_plain_wall_ns();
}

int64_t pv_upcalls_by(uint32_t vector)
{
	int64_t status = pv_guest.paravirt ? pv_event_upcall_vector(vector) : PV_STATUS_NOT_SUPPORTED;

	if (status >= 0)
		pv_event_upcall(pv_this_cpu()->page); /* what was pending before sends no upcall (EVT-7) */
	return status;
}

void pv_hold(void)
{
	pv_event_hold(pv_this_cpu()->page);
}

void pv_idle(uint64_t deadline_ns)
{
	if (pv_guest.paravirt)
		pv_event_wait(pv_this_cpu()->page, deadline_ns);
	else
		pv_relax();
}

void pv_release(void)
{
	pv_event_release(pv_this_cpu()->page);
}
