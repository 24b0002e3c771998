// SPDX-License-Identifier: BSD-2-Clause
/*
 * Services event and vcpu: raising channels, upcalls, waiting and waking, starting and stopping.
 *
 * No wake-up is lost: who raises sets the pending bit, then upcall_pending, then looks at
 * upcall_mask; the guest clears upcall_mask, then looks at upcall_pending.  Both sides use
 * sequentially consistent accesses, so at least one of them sees the other's.
 */
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "handlers.h"
#include "record.h"

static void futex_wait(uint32_t *word, uint32_t expected, uint64_t timeout_ns)
{
	struct timespec ts = {
		.tv_sec = (time_t)(timeout_ns / 1000000000),
		.tv_nsec = (long)(timeout_ns % 1000000000),
	};

	/* Errors are wake-ups: every caller looks again. */
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, timeout_ns == UINT64_MAX ? NULL : &ts, NULL, 0);
}

static void futex_wake(uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

static bool stopping(const struct pv_vcpu *vcpu)
{
	return __atomic_load_n(&vcpu->stop, __ATOMIC_SEQ_CST);
}

/* A debugger wants every thread where it can look at it (VCPU-4). */
static bool holding(const struct pv_vcpu *vcpu)
{
	return __atomic_load_n(&vcpu->hold, __ATOMIC_SEQ_CST);
}

static void set_state(struct pv_vcpu *vcpu, uint32_t state)
{
	__atomic_store_n(&vcpu->state.state, state, __ATOMIC_SEQ_CST);
	__atomic_store_n(&vcpu->page->state, state, __ATOMIC_SEQ_CST); /* EVT-11 */
}

void pv_vcpu_wake(struct pv_vcpu *vcpu)
{
	__atomic_fetch_add(&vcpu->wake, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&vcpu->blocked, __ATOMIC_SEQ_CST))
		futex_wake(&vcpu->wake);
}

void pv_event_raise(struct pv_machine *machine, uint32_t index, uint32_t channel)
{
	if (index >= machine->vcpu_count || channel >= PV_LIMIT_CHANNELS)
		return;
	if (machine->ops.defer)
		machine->ops.defer(machine, index, channel);
	else
		pv_event_raise_now(machine, index, channel);
}

void pv_event_raise_now(struct pv_machine *machine, uint32_t index, uint32_t channel)
{
	struct pv_vcpu *vcpu = machine->vcpus[index];
	struct pv_vcpu_page *page = vcpu->page;
	uint64_t bit = 1ull << channel % 64;

	pv_record_moment(machine, PV_RECORDED_EVENT, index, channel);
	__atomic_fetch_or(&page->pending[channel / 64], bit, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&page->mask[channel / 64], __ATOMIC_SEQ_CST) & bit)
		return;
	uint32_t before = __atomic_exchange_n(&page->upcall_pending, 1, __ATOMIC_SEQ_CST);
	pv_vcpu_wake(vcpu); /* EVT-2 */
	if (!before && !__atomic_load_n(&page->upcall_mask, __ATOMIC_SEQ_CST) &&
	    __atomic_load_n(&vcpu->state.upcall_vector, __ATOMIC_SEQ_CST)) {
		__atomic_store_n(&page->upcalls, __atomic_add_fetch(&vcpu->upcalls, 1, __ATOMIC_RELAXED),
				 __ATOMIC_RELAXED);
		machine->ops.upcall(vcpu);
	}
}

int64_t pv_event_doorbell(struct pv_machine *machine, uint32_t index)
{
	if (index >= machine->vcpu_count ||
	    !pv_feature_accepted(machine, PV_SERVICE_EVENT, PV_EVENT_FEATURE_DOORBELL_BIT))
		return PV_STATUS_NOT_FOUND;
	struct pv_vcpu *vcpu = machine->vcpus[index];
	if (!__atomic_load_n(&vcpu->state.upcall_vector, __ATOMIC_SEQ_CST))
		return PV_STATUS_BAD_STATE;
	machine->ops.upcall(vcpu); /* the page's count is the host's; who rang has counted nothing there (EVT-10) */
	return PV_STATUS_OK;
}

uint64_t pv_event_eoi_gpa(const struct pv_vcpu *vcpu, uint32_t vector)
{
	const struct pv_memory *memory = &vcpu->machine->memory;
	const uint8_t *word = (const uint8_t *)&vcpu->page->eoi;

	if (vector < PV_INTERRUPT_FIRST ||
	    !pv_feature_accepted(vcpu->machine, PV_SERVICE_EVENT, PV_EVENT_FEATURE_EOI_BIT))
		return 0;
	for (uint32_t i = 0; i < memory->count; i++) {
		const struct pv_region *r = &memory->regions[i];

		if (word >= r->hva && word < r->hva + r->size_bytes)
			return r->gpa + (uint64_t)(word - r->hva);
	}
	return 0;
}

void pv_vcpu_block(struct pv_vcpu *vcpu, uint64_t deadline_ns)
{
	__atomic_store_n(&vcpu->blocked, 1, __ATOMIC_SEQ_CST);
	set_state(vcpu, PV_VCPU_STATE_BLOCKED);
	pv_memory_fence(&vcpu->machine->memory); /* EVT-11: who raises a channel by itself has no other barrier */
	for (;;) {
		uint32_t seen = __atomic_load_n(&vcpu->wake, __ATOMIC_SEQ_CST);
		uint64_t left = UINT64_MAX;

		if (__atomic_load_n(&vcpu->page->upcall_pending, __ATOMIC_SEQ_CST) || stopping(vcpu) || holding(vcpu))
			break;
		if (deadline_ns != PV_DEADLINE_NEVER) {
			uint64_t now = pv_time_now(vcpu->machine);

			if (now >= deadline_ns)
				break;
			left = deadline_ns - now;
		}
		futex_wait(&vcpu->wake, seen, left);
	}
	set_state(vcpu, PV_VCPU_STATE_RUNNING);
	__atomic_store_n(&vcpu->blocked, 0, __ATOMIC_SEQ_CST);
}

bool pv_vcpu_awaited(const struct pv_vcpu *vcpu)
{
	return stopping(vcpu) || __atomic_load_n(&vcpu->state.state, __ATOMIC_SEQ_CST) != PV_VCPU_STATE_STOPPED;
}

bool pv_vcpu_wait_start(struct pv_vcpu *vcpu)
{
	pv_record_stop(vcpu); /* the life before this one */
	__atomic_store_n(&vcpu->blocked, 1, __ATOMIC_SEQ_CST);
	for (;;) {
		uint32_t seen = __atomic_load_n(&vcpu->wake, __ATOMIC_SEQ_CST);

		if (pv_vcpu_awaited(vcpu))
			break;
		futex_wait(&vcpu->wake, seen, UINT64_MAX);
	}
	__atomic_store_n(&vcpu->blocked, 0, __ATOMIC_SEQ_CST);
	vcpu->life = __atomic_load_n(&vcpu->starts, __ATOMIC_SEQ_CST);
	if (stopping(vcpu)) {
		while (__atomic_load_n(&vcpu->kicking, __ATOMIC_SEQ_CST))
			sched_yield();
		return false;
	}
	pv_record_start(vcpu, vcpu->start.entry_gpa);
	return true;
}

/* The state alone would not do: between vcpu.stop and this question another vCPU may have started it again. */
bool pv_vcpu_lives(const struct pv_vcpu *vcpu)
{
	return !stopping(vcpu) && __atomic_load_n(&vcpu->state.state, __ATOMIC_SEQ_CST) != PV_VCPU_STATE_STOPPED &&
	       __atomic_load_n(&vcpu->starts, __ATOMIC_SEQ_CST) == vcpu->life;
}

PV_HANDLER(event_send)
{
	(void)value;
	if (args[0] >= vcpu->machine->vcpu_count || args[1] >= PV_LIMIT_CHANNELS) /* EVT-6 */
		return PV_STATUS_NOT_FOUND;
	pv_event_raise(vcpu->machine, (uint32_t)args[0], (uint32_t)args[1]);
	return PV_STATUS_OK;
}

PV_HANDLER(event_upcall)
{
	uint64_t vector = args[0];

	(void)value;
	if (vector != PV_UPCALL_OFF && vector != PV_UPCALL_NMI && (vector < PV_INTERRUPT_FIRST || vector > 255))
		return PV_STATUS_INVALID;
	int64_t status = vcpu->machine->ops.upcall_vector(vcpu, (uint32_t)vector);
	if (status == PV_STATUS_OK)
		__atomic_store_n(&vcpu->state.upcall_vector, (uint32_t)vector, __ATOMIC_SEQ_CST);
	return status;
}

bool pv_vcpu_begun(struct pv_vcpu *vcpu)
{
	uint32_t free = 0;

	/* As vcpu.start claims it. */
	if (!__atomic_compare_exchange_n(&vcpu->starting, &free, 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		return false;
	bool mine = __atomic_load_n(&vcpu->state.state, __ATOMIC_SEQ_CST) == PV_VCPU_STATE_STOPPED;
	if (mine) {
		__atomic_fetch_add(&vcpu->machine->running, 1, __ATOMIC_SEQ_CST);
		__atomic_fetch_add(&vcpu->starts, 1, __ATOMIC_SEQ_CST);
		set_state(vcpu, PV_VCPU_STATE_RUNNING);
	}
	__atomic_store_n(&vcpu->starting, 0, __ATOMIC_SEQ_CST);
	return mine;
}

PV_HANDLER(vcpu_start)
{
	struct pv_machine *machine = vcpu->machine;
	uint64_t entry_gpa = args[1], stack_gpa = args[2];

	(void)value;
	if (args[0] >= machine->vcpu_count)
		return PV_STATUS_NOT_FOUND;
	struct pv_vcpu *target = machine->vcpus[args[0]];
	if (stack_gpa % 16) /* VCPU-2 */
		return PV_STATUS_UNALIGNED;
	if (stack_gpa < 16 || !pv_memory_at(&machine->memory, entry_gpa, 1) ||
	    !pv_memory_at(&machine->memory, stack_gpa - 16, 16))
		return PV_STATUS_BAD_ADDRESS;
	/* claimed: who wins the race writes the registers before the thread may see RUNNING */
	uint32_t free = 0;
	if (!__atomic_compare_exchange_n(&target->starting, &free, 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		return PV_STATUS_BAD_STATE;
	if (__atomic_load_n(&target->state.state, __ATOMIC_SEQ_CST) != PV_VCPU_STATE_STOPPED) { /* VCPU-1 */
		__atomic_store_n(&target->starting, 0, __ATOMIC_SEQ_CST);
		return PV_STATUS_BAD_STATE;
	}
	target->start = (struct pv_start){ entry_gpa, stack_gpa, args[3] };
	int64_t status = machine->ops.start(vcpu, target);
	if (status == PV_STATUS_OK) {
		__atomic_fetch_add(&machine->running, 1, __ATOMIC_SEQ_CST);
		__atomic_fetch_add(&target->starts, 1, __ATOMIC_SEQ_CST); /* before RUNNING: pv_vcpu_lives */
		set_state(target, PV_VCPU_STATE_RUNNING);
	}
	__atomic_store_n(&target->starting, 0, __ATOMIC_SEQ_CST);
	pv_vcpu_wake(target);
	return status;
}

PV_HANDLER(vcpu_stop)
{
	static const struct pv_end success = { .kind = PV_END_SHUTDOWN, .reason = PV_SHUTDOWN_POWEROFF };

	(void)args, (void)value;
	pv_callring_remove(vcpu); /* RING-12, before another vCPU may start this one again */
	set_state(vcpu, PV_VCPU_STATE_STOPPED);
	if (__atomic_sub_fetch(&vcpu->machine->running, 1, __ATOMIC_SEQ_CST) == 0)
		pv_machine_finish(vcpu->machine, &success);
	return PV_STATUS_OK;
}

static int64_t state_of(const struct pv_machine *machine, uint64_t index, uint64_t *state)
{
	if (index >= machine->vcpu_count)
		return PV_STATUS_NOT_FOUND;
	*state = __atomic_load_n(&machine->vcpus[index]->state.state, __ATOMIC_SEQ_CST);
	return PV_STATUS_OK;
}

PV_HANDLER(vcpu_yield)
{
	int64_t status = PV_STATUS_OK;

	if (args[0] != PV_YIELD_NOBODY) {
		status = state_of(vcpu->machine, args[0], value);
		if (status || *value != PV_VCPU_STATE_RUNNING)
			return status; /* VCPU-9: it is not a CPU that it lacks */
	}
	sched_yield();
	return status;
}

PV_HANDLER(vcpu_block)
{
	(void)value;
	pv_vcpu_block(vcpu, args[0]);
	return PV_STATUS_OK;
}

PV_HANDLER(vcpu_state)
{
	return state_of(vcpu->machine, args[0], value);
}

PV_HANDLER(vcpu_fault_address)
{
	(void)args;
	*value = vcpu->machine->ops.fault_address(vcpu);
	return PV_STATUS_OK;
}
