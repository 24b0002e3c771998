/* SPDX-License-Identifier: 0BSD
 *
 * The same work on every vCPU at once: `calls=N` trivial calls each (20000), from a common start.  One line:
 *	bench: vcpus=N calls=N ns=N
 * where calls are those of all vCPUs together, and ns is from the start until the last has finished.
 */
#include "paravirt/base.h"
#include "paravirt/guest.h"
#include "paravirt/notes.h"
#include "paravirt/vcpu.h"
#include "words.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_TIME, 0), PV_NEED(PV_SERVICE_VCPU, 0),
	   PV_NEED(PV_SERVICE_SYSTEM, 0));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

#define CALLS 20000u

static uint32_t calls, here, go, finished;

static void work(void *argument)
{
	(void)argument;
	__atomic_fetch_add(&here, 1, __ATOMIC_SEQ_CST);
	while (!__atomic_load_n(&go, __ATOMIC_ACQUIRE))
		pv_relax();
	for (uint32_t i = 0; i < calls; i++)
		pv_version();
	__atomic_fetch_add(&finished, 1, __ATOMIC_SEQ_CST);
}

int pv_main(void)
{
	if (!pv_guest.paravirt)
		return 1;
	calls = (uint32_t)word_number("calls", CALLS, 100000000, 1);
	for (uint32_t i = 1; i < pv_guest.cpus; i++)
		if (pv_cpu_start(i, work, NULL) < 0)
			pv_panic("vCPU %u does not start", i);
	while (__atomic_load_n(&here, __ATOMIC_ACQUIRE) != pv_guest.cpus - 1)
		pv_vcpu_yield(PV_YIELD_NOBODY);
	uint64_t begin_ns = pv_now_ns();
	__atomic_store_n(&go, 1, __ATOMIC_RELEASE);
	work(NULL);
	/* another may want the host's CPU that this one would spin on */
	while (__atomic_load_n(&finished, __ATOMIC_ACQUIRE) != pv_guest.cpus)
		pv_vcpu_yield(PV_YIELD_NOBODY);
	pv_print("bench: vcpus=%u calls=%lu ns=%lu\n", pv_guest.cpus, (uint64_t)calls * pv_guest.cpus,
		 pv_now_ns() - begin_ns);
	return 0;
}
