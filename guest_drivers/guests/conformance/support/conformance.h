/* SPDX-License-Identifier: 0BSD
 *
 * What the chapters of host conformance share: reporting (TAP on the console, a line for each case) and a
 * small platform of their own.  A start code needs to do one thing: call cf_main() in 64-bit mode, one to one
 * mapped, on a stack of 16 KiB or more, and end the machine with what it returns.  entry.S has ours.
 *
 * A case judges the host by the specification alone; what it uses is in the generated header and lib/.
 */
#ifndef CONFORMANCE_H
#define CONFORMANCE_H

#include "paravirt/boot.h"
#include "paravirt/call.h"

#define CF_PAGE 4096u
#define CF_SECOND 1000000000ull
#define CF_NOWHERE (1ull << 52) /* no x86-64 has memory there, and it has every alignment */
#define CF_VECTOR 96u /* the interrupt of upcalls by vector */
#define CF_CHANNEL PV_CHANNEL_FIRST_FREE
#define CF_VCPUS 4u /* more are left alone */

#define CF_PAGE_FAULT 14

/* A chapter, found by the linker: each file has one. */
struct cf_chapter {
	const char *name;
	void (*run)(void);
};
#define CF_CHAPTER(name, run) \
	static const struct cf_chapter cf_chapter_##name __attribute__((section("cf_chapters"), used)) = { #name, run }

/* Runs the chapters that are linked; 0 if all cases passed. */
int cf_main(const struct pv_boot_info *info);

/* tap.c: a case begins here, with the ids of the rules that it proves, and lasts until the next one. */
void cf_case(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* What the case is about holds only if these do; a diagnostic line says what was found. */
bool cf_expect(int64_t got, int64_t expected, const char *what);
bool cf_want(bool holds, const char *what);
/* The case cannot be judged here. */
void cf_skip(const char *why);
/* A whole case. */
bool cf_is(int64_t got, int64_t expected, const char *what);
bool cf_true(bool holds, const char *what);
/* A diagnostic line. */
void cf_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void cf_end_case(void); /* now, not when the next begins */
/* Ends the last case, prints the plan; the number of cases that failed. */
uint32_t cf_finish(void);
/* The run cannot go on. */
_Noreturn void cf_bail_out(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* platform.c */
extern struct pv_boot cf_boot;
extern const struct pv_boot_info *cf_info;

static inline bool cf_user(void)
{
	return cf_boot.abi->privilege == PV_PRIVILEGE_USER;
}

static inline uint32_t cf_vcpus(void)
{
	return cf_boot.vcpus;
}

static inline struct pv_vcpu_page *cf_page(uint32_t vcpu)
{
	return pv_at(cf_boot.pages->vcpu_gpa + vcpu * cf_boot.pages->vcpu_stride_bytes);
}

uint64_t cf_now_ns(void);
void cf_wait_ns(uint64_t ns); /* by looking at the clock */
/* Whether *word became at least `value` within `patience_ns`; looks at memory, makes no calls. */
bool cf_soon(const uint32_t *word, uint32_t value, uint64_t patience_ns);
/* RAM that is nobody's, not cleared; NULL if there is not that much. For the rest of the run. */
void *cf_take(uint64_t size_bytes, uint64_t align);
/* The record of a service; false if it is not offered. */
bool cf_service(uint32_t service, struct pv_service_info *info);
bool cf_offered(uint32_t service);
bool cf_exists(uint32_t id);
/* Makes the features `wanted` of a service, as far as they are offered, accepted; what is accepted now. */
uint64_t cf_accept(uint32_t service, uint64_t wanted);
/* The trap as it is: all of RAX as given, the status as it came. */
struct pv_answer cf_trap(uint64_t rax, const uint64_t args[6]);
/* The same call by base.batch; a status above 1000: the batch itself went wrong. */
struct pv_answer cf_batched(uint32_t id, const uint64_t args[6]);
_Noreturn void cf_shutdown(uint32_t reason, uint64_t status);

/* traps.c: whether there is an interrupt table that we may fill. */
extern bool cf_has_gates, cf_no_gates_at_first;
void cf_gates_init(void);
/* Runs run(argument); 0, or the vector of the exception that ended it. On vCPU 0 alone. */
int cf_try(void (*run)(void *argument), void *argument);
/* What upcalls did, by vCPU, and what else an upcall is to do. */
extern uint32_t cf_upcalls[CF_VCPUS];
extern void (*volatile cf_on_upcall)(uint32_t vcpu, uint32_t vector);
extern volatile bool cf_keep_interrupt; /* no end-of-interrupt by the handler */
void cf_end_of_interrupt(void);

/* cpus.c: general registers in the CPU's order (RAX RCX RDX RBX RSP RBP RSI RDI R8 to R15), and RFLAGS. */
struct cf_registers {
	uint64_t general[16], rflags;
	uint32_t mxcsr;
	uint16_t fcw, valid;
};
enum { CF_RSP = 4, CF_RDI = 7 };

struct cf_cpu {
	struct cf_registers at_entry;
	void (*run)(void *argument);
	void *argument;
};
extern struct cf_cpu cf_cpus[CF_VCPUS];
extern struct cf_registers cf_at_entry; /* of vCPU 0; valid if the start code is entry.S */

/* Runs run(argument) on a stopped vCPU, which then stops; the status of vcpu.start. */
int64_t cf_start(uint32_t vcpu, void (*run)(void *argument), void *argument);
/* Waits until the vCPU has stopped; false after a second. */
bool cf_join(uint32_t vcpu);
/* The vCPU that runs this. */
uint32_t cf_this_vcpu(void);

static inline void cf_relax(void)
{
	__asm__ volatile("pause" : : : "memory");
}

#define CF_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define CF_LOAD(word) __atomic_load_n(&(word), __ATOMIC_SEQ_CST)
#define CF_STORE(word, value) __atomic_store_n(&(word), (value), __ATOMIC_SEQ_CST)

#endif
