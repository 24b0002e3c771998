/* SPDX-License-Identifier: 0BSD
 *
 * Making one call by the port trap of x86-64 (`out %eax, %dx`).  What the calls mean is in
 * paravirt_abi.h; the wrappers with names and types are in the headers called like the services.
 */
#ifndef PARAVIRT_CALL_H
#define PARAVIRT_CALL_H

#include <stdbool.h>

#include "paravirt_abi.h"

struct pv_answer {
	int64_t status; /* PV_STATUS_; unknown negative ones are already FAILED (ERR-1) */
	uint64_t value; /* undefined when the status is negative (CALL-10) */
};

/* Guest memory is mapped one to one, so an object's address is its GPA. */
static inline uint64_t pv_gpa(const volatile void *object)
{
	return (uint64_t)(uintptr_t)object;
}

static inline void *pv_at(uint64_t gpa)
{
	return (void *)(uintptr_t)gpa;
}

/* Raw access to ports: the trap, the doorbell, and the legacy devices of other hosts. */
#ifdef PV_PORTS_EXTERN
void pv_out32(uint16_t port, uint32_t value);
#else
static inline void pv_out32(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}
#endif

#ifdef PV_CALL_EXTERN
/* Tests of the library without a guest bring their own. */
struct pv_answer pv_call(uint32_t id, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5);
#else
extern uint16_t pv_trap_port; /* from boot_abi or CPUID, set before the first call */

/* Arguments that a call does not have must be zero (CALL-5). */
static inline struct pv_answer pv_call(uint32_t id, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
				       uint64_t a5)
{
	register uint64_t rax __asm__("rax") = id; /* bits 63:32 zero (CALL-8) */
	register uint64_t rdx __asm__("rdx") = pv_trap_port;
	register uint64_t rcx __asm__("rcx") = a2;
	register uint64_t r8 __asm__("r8") = a3;
	register uint64_t r9 __asm__("r9") = a4;
	register uint64_t r10 __asm__("r10") = a5;
	int64_t status;

	/* CALL-9: all but RBX RBP RSP RSI RDI R12-R15 may come back as anything. */
	__asm__ volatile("outl %%eax, %%dx"
			 : "+r"(rax), "+r"(rdx), "+r"(rcx), "+r"(r8), "+r"(r9), "+r"(r10)
			 : "D"(a0), "S"(a1)
			 : "r11", "cc", "memory");
	status = (int64_t)rax;
	if (status < PV_STATUS_NO_MEMORY)
		status = PV_STATUS_FAILED;
	return (struct pv_answer){ status, rdx };
}
#endif

static inline struct pv_answer pv_call0(uint32_t id)
{
	return pv_call(id, 0, 0, 0, 0, 0, 0);
}

static inline struct pv_answer pv_call1(uint32_t id, uint64_t a0)
{
	return pv_call(id, a0, 0, 0, 0, 0, 0);
}

static inline struct pv_answer pv_call2(uint32_t id, uint64_t a0, uint64_t a1)
{
	return pv_call(id, a0, a1, 0, 0, 0, 0);
}

static inline struct pv_answer pv_call3(uint32_t id, uint64_t a0, uint64_t a1, uint64_t a2)
{
	return pv_call(id, a0, a1, a2, 0, 0, 0);
}

static inline struct pv_answer pv_call4(uint32_t id, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)
{
	return pv_call(id, a0, a1, a2, a3, 0, 0);
}

#endif
