// SPDX-License-Identifier: BSD-2-Clause
/*
 * Service system: how a guest ends, and its watchdog, which the timer thread serves.  What an end means
 * (a report, an exit status, another life) is for the surroundings (ops.end).
 */
#include "handlers.h"

bool pv_machine_finish(struct pv_machine *machine, const struct pv_end *end)
{
	if (__atomic_exchange_n(&machine->ended, 1, __ATOMIC_SEQ_CST)) /* SYS-5 */
		return false;
	if (machine->ops.end)
		machine->ops.end(machine, end);
	pv_machine_end(machine);
	return true;
}

uint64_t pv_watchdog_serve(struct pv_machine *machine, uint64_t now_ns)
{
	uint64_t due_ns = __atomic_load_n(&machine->state.watchdog_ns, __ATOMIC_SEQ_CST);
	const struct pv_end end = { .kind = PV_END_WATCHDOG };

	if (due_ns > now_ns)
		return due_ns;
	pv_machine_finish(machine, &end);
	return PV_DEADLINE_NEVER;
}

PV_HANDLER(system_shutdown)
{
	const struct pv_end end = { .kind = PV_END_SHUTDOWN, .reason = args[0], .status = args[1] };

	(void)value;
	if (args[0] > PV_SHUTDOWN_BOOT_REFUSED) /* SYS-1 */
		return PV_STATUS_INVALID;
	pv_machine_finish(vcpu->machine, &end);
	return PV_STATUS_OK;
}

PV_HANDLER(system_reset)
{
	const struct pv_end end = { .kind = PV_END_RESET };

	(void)args, (void)value;
	pv_machine_finish(vcpu->machine, &end);
	return PV_STATUS_OK;
}

PV_HANDLER(system_crash)
{
	struct pv_crash_report report;
	const struct pv_end end = { .kind = PV_END_CRASH, .report = &report };

	(void)value;
	pv_memory_read(&vcpu->machine->memory, args[0], &report, sizeof(report));
	pv_machine_finish(vcpu->machine, &end);
	return PV_STATUS_OK;
}

PV_HANDLER(system_watchdog) /* SYS-4 */
{
	struct pv_machine *machine = vcpu->machine;
	uint64_t now_ns = pv_time_now(machine);
	uint64_t due_ns = args[0] && args[0] < PV_DEADLINE_NEVER - now_ns ? now_ns + args[0] : PV_DEADLINE_NEVER;

	(void)value;
	__atomic_store_n(&machine->state.watchdog_ns, due_ns, __ATOMIC_SEQ_CST);
	if (due_ns < __atomic_load_n(&machine->timer_due_ns, __ATOMIC_SEQ_CST))
		pv_timer_poke(machine);
	return PV_STATUS_OK;
}

/* Whoever holds the vCPU finds the frame before the guest goes on. */
PV_HANDLER(system_debug) /* SYS-7 */
{
	(void)value;
	if (vcpu->machine->held && !vcpu->machine->accelerator) { /* an engine has seen the exception itself */
		vcpu->debug_frame_gpa = args[0];
		__atomic_store_n(&vcpu->hold, 1, __ATOMIC_SEQ_CST);
	}
	return PV_STATUS_OK;
}
