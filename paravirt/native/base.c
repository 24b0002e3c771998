// SPDX-License-Identifier: BSD-2-Clause
/*
 * Service base: version, discovery, negotiation, limits, boot information, batches; and the machine's
 * own start and end.
 */
#include <string.h>

#include "handlers.h"

static const uint64_t limits[] = {
#define PV_LIMIT(number) number,
#include "paravirt_abi_calls.h"
#undef PV_LIMIT
};

/* Two vCPUs may negotiate at once; rare enough for one lock for all machines. */
static pthread_mutex_t negotiation = PTHREAD_MUTEX_INITIALIZER;

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

void pv_machine_init(struct pv_machine *machine)
{
	memset(machine, 0, sizeof(*machine));
	machine->state.watchdog_ns = PV_DEADLINE_NEVER;
	machine->console_budget = UINT64_MAX;
	machine->trace_mark_budget = UINT64_MAX;
	machine->poison_seed = 0x9e3779b97f4a7c15ull;
	machine->callrings.doorbell_fd = -1;
	machine->state.continuity.vcpu = UINT32_MAX;
	pthread_mutex_init(&machine->callrings.lock, NULL);
	pthread_mutex_init(&machine->clock, NULL);
}

void pv_machine_end(struct pv_machine *machine)
{
	__atomic_store_n(&machine->ending, 1, __ATOMIC_SEQ_CST);
	for (uint32_t i = 0; i < machine->vcpu_count; i++) {
		struct pv_vcpu *vcpu = machine->vcpus[i];

		__atomic_fetch_add(&vcpu->kicking, 1, __ATOMIC_SEQ_CST); /* its thread stays: it may be signalled */
		if (!__atomic_exchange_n(&vcpu->stop, 1, __ATOMIC_SEQ_CST)) {
			pv_vcpu_wake(vcpu);
			machine->ops.kick(vcpu);
		}
		__atomic_fetch_sub(&vcpu->kicking, 1, __ATOMIC_SEQ_CST);
	}
	pv_timer_poke(machine);
	pv_continuity_end(machine);
	pv_callring_wake(machine);
}

PV_HANDLER(base_version)
{
	(void)vcpu, (void)args;
	*value = (uint64_t)PV_ABI_MAJOR << 32 | PV_ABI_MINOR;
	return PV_STATUS_OK;
}

/* One record, if there is room for all of it (BASE-4). */
static bool list_service(const struct pv_machine *machine, uint32_t slot, const uint64_t *args, uint64_t *value)
{
	bool standard = slot < PV_SERVICES;
	uint32_t number = standard ? slot : machine->extensions[slot - PV_SERVICES]->service;
	struct pv_service_info info = {
		.service = number,
		.calls = pv_call_mask(machine, number),
		.offered = pv_service_offers(machine, slot),
		.accepted = __atomic_load_n(&machine->state.accepted[slot], __ATOMIC_RELAXED),
	};

	if (args[1] - *value < sizeof(info))
		return false;
	pv_memory_write(&machine->memory, args[0] + *value, &info, sizeof(info));
	*value += sizeof(info);
	return true;
}

PV_HANDLER(base_services)
{
	const struct pv_machine *machine = vcpu->machine;

	for (uint32_t slot = 0; slot < PV_SERVICES + machine->extension_count; slot++) {
		if (slot < PV_SERVICES && !(machine->services >> slot & 1))
			continue;
		if (!list_service(machine, slot, args, value))
			break;
	}
	return PV_STATUS_OK;
}

PV_HANDLER(base_accept)
{
	struct pv_machine *machine = vcpu->machine;
	int slot = pv_service_slot(machine, args[0]);
	uint64_t features = args[1];

	if (slot < 0)
		return PV_STATUS_NOT_FOUND;
	if (features & ~pv_service_offers(machine, (uint32_t)slot)) /* BASE-2 */
		return PV_STATUS_INVALID;
	pthread_mutex_lock(&negotiation);
	bool first = !(machine->state.confirmed >> slot & 1);
	if (first)
		__atomic_store_n(&machine->state.accepted[slot], features, __ATOMIC_RELAXED);
	machine->state.confirmed |= 1u << slot;
	bool agreed = machine->state.accepted[slot] == features; /* BASE-3 */
	pthread_mutex_unlock(&negotiation);
	*value = features;
	return agreed ? PV_STATUS_OK : PV_STATUS_BAD_STATE;
}

PV_HANDLER(base_renegotiate) /* BASE-8 */
{
	struct pv_machine_state *state = &vcpu->machine->state;

	(void)args, (void)value;
	pthread_mutex_lock(&negotiation);
	state->confirmed = 0;
	__atomic_store_n(&state->continuity.vcpu, UINT32_MAX, __ATOMIC_SEQ_CST);
	for (uint32_t s = 0; s < COUNT(state->accepted); s++)
		__atomic_store_n(&state->accepted[s], 0, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&negotiation);
	pv_callring_remove_all(vcpu->machine); /* RING-12; a ring set up from now on finds no feature */
	return PV_STATUS_OK;
}

PV_HANDLER(base_limit)
{
	(void)vcpu;
	if (args[0] >= COUNT(limits))
		return PV_STATUS_NOT_FOUND;
	*value = limits[args[0]];
	return PV_STATUS_OK;
}

PV_HANDLER(base_boot_info)
{
	const struct pv_machine *machine = vcpu->machine;
	uint64_t size = args[1] < machine->boot_info_bytes ? args[1] : machine->boot_info_bytes;

	if (size)
		pv_memory_write(&machine->memory, args[0], machine->boot_info, size);
	*value = size;
	return PV_STATUS_OK;
}

/* One entry; the submission is copied once and only the copy is looked at (BATCH-4). */
static void batch_entry(struct pv_vcpu *vcpu, const uint8_t *submission, uint8_t *completion)
{
	struct pv_submission copy = pv_submission_copy((const struct pv_submission *)submission);

	pv_submission_serve(vcpu, PV_ROAD_BATCH, &copy, (struct pv_completion *)completion);
}

PV_HANDLER(base_batch)
{
	const struct pv_memory *memory = &vcpu->machine->memory;
	uint64_t count = args[1];

	if (count != args[3]) /* BATCH-1 */
		return PV_STATUS_INVALID;
	if (!count)
		return PV_STATUS_OK;
	const uint8_t *from = pv_memory_at(memory, args[0], count * sizeof(struct pv_submission));
	uint8_t *to = pv_memory_at(memory, args[2], count * sizeof(struct pv_completion));
	uint64_t end_ns = pv_clock_ns() + PV_LIMIT_BATCH_NS;

	while (*value < count) {
		batch_entry(vcpu, from + *value * sizeof(struct pv_submission),
			    to + *value * sizeof(struct pv_completion));
		++*value;
		if (*value < count && (pv_clock_ns() >= end_ns || __atomic_load_n(&vcpu->stop, __ATOMIC_RELAXED)))
			return PV_STATUS_CONTINUE;
	}
	return PV_STATUS_OK;
}
