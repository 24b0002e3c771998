// SPDX-License-Identifier: BSD-2-Clause
/*
 * Services trace and entropy, and the tracks that a trace is gathered in.
 */
#include <sched.h>
#include <string.h>
#include <sys/random.h>

#include "handlers.h"

void pv_trace_put(struct pv_trace *trace, const struct pv_trace_event *event)
{
	while (__atomic_exchange_n(&trace->busy, 1, __ATOMIC_ACQUIRE))
		sched_yield();
	uint32_t tail = __atomic_load_n(&trace->tail, __ATOMIC_ACQUIRE);

	if (trace->head - tail >= trace->size) {
		__atomic_fetch_add(&trace->lost, 1, __ATOMIC_RELAXED);
	} else {
		trace->events[trace->head % trace->size] = *event;
		__atomic_store_n(&trace->head, trace->head + 1, __ATOMIC_RELEASE);
	}
	__atomic_store_n(&trace->busy, 0, __ATOMIC_RELEASE);
}

uint32_t pv_trace_take(struct pv_trace *trace, struct pv_trace_event *events, uint32_t count)
{
	uint32_t head = __atomic_load_n(&trace->head, __ATOMIC_ACQUIRE), taken = 0;

	while (taken < count && trace->tail + taken != head) {
		events[taken] = trace->events[(trace->tail + taken) % trace->size];
		taken++;
	}
	__atomic_store_n(&trace->tail, trace->tail + taken, __ATOMIC_RELEASE);
	return taken;
}

/* A mark of the guest's; `name` is its own memory: copied once. */
static int64_t mark(struct pv_vcpu *vcpu, uint32_t kind, uint64_t name_gpa, uint64_t name_bytes, uint64_t value)
{
	struct pv_machine *machine = vcpu->machine;
	uint32_t marks = __atomic_fetch_add(&machine->state.trace_marks, 1, __ATOMIC_RELAXED);

	if (marks >= machine->trace_mark_budget) { /* TRC-1; the counter stays where it is full */
		__atomic_fetch_sub(&machine->state.trace_marks, 1, __ATOMIC_RELAXED);
		return PV_STATUS_QUOTA;
	}
	if (!vcpu->trace)
		return PV_STATUS_OK;
	struct pv_trace_event event = { .kind = kind, .id = (uint32_t)name_bytes, .value = value };
	pv_memory_read(&machine->memory, name_gpa, event.text, name_bytes);
	event.begin_ns = event.end_ns = pv_clock_ns();
	pv_trace_put(vcpu->trace, &event);
	return PV_STATUS_OK;
}

PV_HANDLER(trace_mark)
{
	(void)value;
	return mark(vcpu, PV_TRACE_MARK, args[0], args[1], args[2]);
}

PV_HANDLER(trace_begin)
{
	(void)value;
	return mark(vcpu, PV_TRACE_BEGIN, args[0], args[1], 0);
}

PV_HANDLER(trace_end)
{
	(void)args, (void)value;
	return mark(vcpu, PV_TRACE_END, 0, 0, 0);
}

PV_HANDLER(entropy_fill)
{
	uint8_t bytes[PV_LIMIT_ENTROPY_BYTES];

	/* Up to 256 bytes getrandom is neither interrupted nor short, once the pool is ready. */
	if (args[1] && getrandom(bytes, args[1], 0) != (ssize_t)args[1])
		return PV_STATUS_FAILED;
	if (args[1])
		pv_memory_write(&vcpu->machine->memory, args[0], bytes, args[1]);
	*value = args[1];
	return PV_STATUS_OK;
}
