/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What back ends add to their chains' ways in a trace.  Taking, giving back and interrupts are seen without
 * their help, by the queue; here they say what a chain asks for, and when they gave it to somebody else to do.
 */
#ifndef PARAVIRT_WAY_H
#define PARAVIRT_WAY_H

#include "host.h"

/* What a chain that was taken asks for, of what, and how many bytes of data go with it. */
static inline void pv_way_describe(struct pv_queue *queue, uint16_t head, uint32_t what, uint64_t subject,
				   uint64_t bytes)
{
	if (!queue->way)
		return;
	struct pv_trace_event *event = &queue->way->taken[head % PV_MAX_QUEUE_SIZE];
	event->id = what;
	event->value = subject;
	event->way.bytes = bytes;
}

/* Somebody else does the work from now on; what is done in several steps is submitted with the first. */
static inline void pv_way_submitted(struct pv_queue *queue, uint16_t head)
{
	if (!queue->way)
		return;
	struct pv_trace_way *way = &queue->way->taken[head % PV_MAX_QUEUE_SIZE].way;
	if (!way->submitted_ns)
		way->submitted_ns = pv_clock_ns();
}

static inline void pv_way_completed(struct pv_queue *queue, uint16_t head)
{
	if (queue->way)
		queue->way->taken[head % PV_MAX_QUEUE_SIZE].way.completed_ns = pv_clock_ns();
}

/* What the driver is answered, in the device's terms. */
static inline void pv_way_answer(struct pv_queue *queue, uint16_t head, int64_t status)
{
	if (queue->way)
		queue->way->taken[head % PV_MAX_QUEUE_SIZE].status = status;
}

/* The thread that serves the queue slept. */
static inline void pv_way_slept(const struct pv_queue *queue, uint64_t begin_ns, uint64_t end_ns)
{
	if (queue->way)
		queue->way->ops->slept(queue, begin_ns, end_ns);
}

#endif
