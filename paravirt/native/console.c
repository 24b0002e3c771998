// SPDX-License-Identifier: BSD-2-Clause
/*
 * Service console: the machine's budget for output, and copies between guest memory and the surroundings,
 * which have the text (ops.console_write, ops.console_read).
 */
#include "handlers.h"

bool pv_console_spend(struct pv_machine *machine, uint64_t size_bytes)
{
	uint64_t *used = &machine->state.console_bytes;
	uint64_t before = __atomic_load_n(used, __ATOMIC_RELAXED);

	do {
		if (before > machine->console_budget || size_bytes > machine->console_budget - before)
			return false;
	} while (!__atomic_compare_exchange_n(used, &before, before + size_bytes, false, __ATOMIC_RELAXED,
					      __ATOMIC_RELAXED));
	return true;
}

PV_HANDLER(console_write) /* CON-1 */
{
	struct pv_machine *machine = vcpu->machine;
	uint8_t text[PV_LIMIT_CONSOLE_BYTES];

	if (!args[1])
		return PV_STATUS_OK;
	pv_memory_read(&machine->memory, args[0], text, args[1]);
	if (!pv_console_spend(machine, args[1])) /* CON-2 */
		return PV_STATUS_QUOTA;
	int64_t status = machine->ops.console_write ? machine->ops.console_write(machine, text, args[1]) : PV_STATUS_OK;
	if (status < 0)
		__atomic_fetch_sub(&machine->state.console_bytes, args[1], __ATOMIC_RELAXED); /* CALL-10 */
	else
		*value = args[1];
	return status;
}

PV_HANDLER(console_read)
{
	struct pv_machine *machine = vcpu->machine;
	uint8_t text[PV_LIMIT_CONSOLE_BYTES];

	if (!args[1] || !machine->ops.console_read)
		return PV_STATUS_OK;
	uint64_t taken = machine->ops.console_read(machine, text, args[1]);
	*value = taken < args[1] ? taken : args[1];
	if (*value)
		pv_memory_write(&machine->memory, args[0], text, *value);
	return PV_STATUS_OK;
}
