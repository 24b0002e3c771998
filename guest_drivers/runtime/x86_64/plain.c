/* SPDX-License-Identifier: 0BSD
 *
 * A machine without our services: what there is on a PC-like PVH host.  Console: the 16550 at 0x3f8,
 * polled.  Clock: KVM's page, armed by pvh.S, else the bare counter.  End: isa-debug-exit at 0x501 (QEMU
 * exits with 2 * status + 1), then a reset through a fault that nobody handles.
 */
#include "paravirt/string.h"
#include "paravirt/time.h"
#include "paravirt/vcpu.h"
#include "runtime.h"

#define UART 0x3f8
#define UART_FIFO_BYTES 16
#define DEBUG_EXIT 0x501
#define RAM 1 /* type in the memory map of PVH */
#define COMMAND_LINE_BYTES 4096

/* PVH's hvm_start_info, version 1, and an entry of its memory map. */
struct start_info {
	uint32_t magic;
	uint32_t version;
	uint32_t flags;
	uint32_t modules;
	uint64_t modules_gpa;
	uint64_t command_line_gpa;
	uint64_t rsdp_gpa;
	uint64_t memory_map_gpa;
	uint32_t memory_map_entries;
	uint32_t reserved;
};

struct memory_map_entry {
	uint64_t gpa;
	uint64_t size_bytes;
	uint32_t type;
	uint32_t reserved;
};

/* KVM's clock: the page it keeps current for a vCPU, and the wall clock at the machine's start. */
extern struct {
	uint32_t version;
	uint32_t reserved;
	uint64_t counter;
	uint64_t system_ns;
	uint32_t multiplier; /* a fraction of 2^32 */
	int8_t shift;
	uint8_t flags;
	uint8_t reserved1[2];
} pv_kvm_time;

extern struct {
	uint32_t version;
	uint32_t seconds;
	uint32_t nanoseconds;
} pv_kvm_wall;

static char command_line[COMMAND_LINE_BYTES];

static inline void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t in8(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

struct pv_plain_range pv_plain_init(const void *start_info)
{
	const struct start_info *info = start_info;
	const struct memory_map_entry *map = pv_at(info->memory_map_gpa);
	struct pv_plain_range best = { 0, 0 };

	if (info->command_line_gpa)
		memcpy(command_line, pv_at(info->command_line_gpa),
		       strnlen(pv_at(info->command_line_gpa), COMMAND_LINE_BYTES - 1));
	for (uint32_t i = 0; info->version && i < info->memory_map_entries; i++)
		if (map[i].type == RAM && map[i].gpa + map[i].size_bytes <= 1ull << 32 &&
		    map[i].size_bytes > best.size_bytes)
			best = (struct pv_plain_range){ map[i].gpa, map[i].size_bytes };
	out8(UART + 2, 0x07); /* FIFO on and empty */
	return best;
}

const char *pv_plain_command_line(void)
{
	return command_line;
}

void pv_plain_write(const char *text, uint64_t size_bytes)
{
	for (uint64_t i = 0; i < size_bytes; i++) {
		/* an empty transmitter takes a whole FIFO's worth */
		while (i % UART_FIFO_BYTES == 0 && !(in8(UART + 5) & 0x20))
			pv_relax();
		out8(UART, (uint8_t)text[i]);
	}
}

void pv_plain_exit(int status)
{
	pv_out32(DEBUG_EXIT, (uint32_t)status);
	memset(pv_idt, 0, sizeof(pv_idt));
	for (;;)
		__asm__ volatile("ud2");
}

/* The same seqlock as our time page's, with a version in place of the sequence. */
uint64_t pv_plain_now_ns(void)
{
	uint64_t counter, system_ns, ticks;
	uint32_t before, multiplier;
	int shift;

	if (!__atomic_load_n(&pv_kvm_time.version, __ATOMIC_ACQUIRE))
		return pv_counter(); /* nothing tells its frequency: taken for 1 GHz */
	do {
		before = __atomic_load_n(&pv_kvm_time.version, __ATOMIC_ACQUIRE);
		counter = __atomic_load_n(&pv_kvm_time.counter, __ATOMIC_RELAXED);
		system_ns = __atomic_load_n(&pv_kvm_time.system_ns, __ATOMIC_RELAXED);
		multiplier = __atomic_load_n(&pv_kvm_time.multiplier, __ATOMIC_RELAXED);
		shift = __atomic_load_n(&pv_kvm_time.shift, __ATOMIC_RELAXED);
		ticks = pv_counter();
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
	} while (before & 1 || before != __atomic_load_n(&pv_kvm_time.version, __ATOMIC_RELAXED));
	ticks = ticks > counter ? ticks - counter : 0;
	ticks = shift < 0 ? ticks >> -shift : ticks << shift;
	return system_ns + (uint64_t)((unsigned __int128)ticks * multiplier >> 32);
}

uint64_t pv_plain_wall_ns(void)
{
	if (!pv_kvm_wall.version)
		return 0;
	return pv_kvm_wall.seconds * 1000000000ull + pv_kvm_wall.nanoseconds + pv_plain_now_ns();
}
