/* SPDX-License-Identifier: 0BSD
 *
 * Service vcpu: starting, stopping and blocking.  What a vCPU runs on (stack, own block) is the
 * runtime's matter.
 */
#ifndef PARAVIRT_VCPU_H
#define PARAVIRT_VCPU_H

#include "paravirt/call.h"

/* The vCPU begins at entry with RDI = argument and RSP = stack, 16-byte aligned. */
static inline int64_t pv_vcpu_start(uint32_t vcpu, void (*entry)(void), void *stack, void *argument)
{
	return pv_call4(PV_CALL_VCPU_START, vcpu, (uint64_t)(uintptr_t)entry, pv_gpa(stack), pv_gpa(argument)).status;
}

_Noreturn static inline void pv_vcpu_stop(void)
{
	for (;;)
		pv_call0(PV_CALL_VCPU_STOP);
}

/*
 * For a while in which another vCPU has to do something, or PV_YIELD_NOBODY.  The state of that vCPU: if it is not
 * PV_VCPU_STATE_RUNNING this has returned at once, and no spinning helps.
 */
static inline struct pv_answer pv_vcpu_yield(uint64_t vcpu)
{
	return pv_call1(PV_CALL_VCPU_YIELD, vcpu);
}

/* May return early (VCPU-4): prefer pv_event_wait, which also handles what came. */
static inline int64_t pv_vcpu_block(uint64_t deadline_ns)
{
	return pv_call1(PV_CALL_VCPU_BLOCK, deadline_ns).status;
}

/* One of PV_VCPU_STATE_. */
static inline struct pv_answer pv_vcpu_state(uint32_t vcpu)
{
	return pv_call1(PV_CALL_VCPU_STATE, vcpu);
}

/* CR2, which a guest at CPL 3 cannot read. */
static inline struct pv_answer pv_vcpu_fault_address(void)
{
	return pv_call0(PV_CALL_VCPU_FAULT_ADDRESS);
}

/* Leaves the CPU's other thread some air in a loop that looks at memory. */
static inline void pv_relax(void)
{
	__asm__ volatile("pause" : : : "memory");
}

#endif
