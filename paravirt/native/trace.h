/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Tracks that a trace is gathered in, and the ways of chains through a queue: what host.h's records point to.
 * Plain declarations below the includes, as there: cffi reads this file too.
 */
#ifndef PARAVIRT_TRACE_H
#define PARAVIRT_TRACE_H

#include "paravirt_host.h"

/* ---- trace.c ---- */

/* When a chain got where, after the host saw it (begin_ns) and until all was done (end_ns); 0: it never got there. */
struct pv_trace_way {
	uint64_t taken_ns; /* from the ring */
	uint64_t submitted_ns; /* to what does the work, if that is not the back end itself */
	uint64_t completed_ns; /* by that */
	uint64_t used_ns; /* the driver could see it in the ring */
	uint64_t told_ns; /* it was decided whether the driver is interrupted */
	uint64_t bytes; /* of data */
	uint32_t chains; /* that had this way together */
	uint32_t interrupted;
};

/* One event of a trace; times in ns of CLOCK_MONOTONIC. */
struct pv_trace_event {
	uint64_t begin_ns;
	uint64_t end_ns;
	uint32_t kind; /* PV_TRACE_ */
	uint32_t id; /* call id, exit reason, request, vCPU, or length of text */
	int64_t status;
	uint64_t value;
	uint64_t args[6];
	union {
		char text[64];
		struct pv_trace_way way;
	};
};

#define PV_TRACE_CALL 1
#define PV_TRACE_EXIT 2
#define PV_TRACE_MARK 3
#define PV_TRACE_BEGIN 4
#define PV_TRACE_END 5
#define PV_TRACE_WAY 6 /* id: what is asked for, value: of what, as the device has it */
#define PV_TRACE_INTERRUPT 7 /* id: the vCPU, value: the channel, args[0]: its number, which no other has */
#define PV_TRACE_SUPPRESSED 8 /* an interrupt that the driver did not ask for; value: chains that it would be for */
#define PV_TRACE_SLEEP 9 /* of the thread that serves the queue */

/* A track: one consumer, events lost are counted. */
struct pv_trace {
	struct pv_trace_event *events;
	uint32_t busy; /* somebody puts an event in */
	uint32_t size; /* a power of two */
	uint32_t head; /* next to write */
	uint32_t tail; /* next to read */
	uint64_t lost;
};

/* Any thread: a vCPU's marks come over its ring, too. */
void pv_trace_put(struct pv_trace *trace, const struct pv_trace_event *event);
/* Takes up to count events; how many. */
uint32_t pv_trace_take(struct pv_trace *trace, struct pv_trace_event *events, uint32_t count);

/* ---- way.c: the ways of a queue's chains, for a trace; whoever has the queue has this too ---- */

/* What ring.c and notify.c tell, so that a ring can do without. */
struct pv_way_ops {
	/* `waiting`: chains behind this one that the driver has made available. */
	void (*taken)(struct pv_queue *queue, const struct pv_chain *chain, uint16_t waiting);
	void (*given)(struct pv_queue *queue, uint16_t head, uint32_t written_bytes);
	void (*published)(struct pv_queue *queue);
	void (*decided)(struct pv_queue *queue, bool interrupts);
	void (*interrupted)(struct pv_queue *queue, uint32_t vcpu, uint32_t channel);
	void (*forgotten)(struct pv_queue *queue); /* before the queue forgets what it has taken */
	void (*slept)(const struct pv_queue *queue, uint64_t begin_ns, uint64_t end_ns); /* its thread */
};

struct pv_way {
	const struct pv_way_ops *ops;
	struct pv_trace *track;
	uint32_t together; /* chains that are given back in one batch are one event */
	uint16_t seen; /* and not taken yet */
	uint16_t given_count;
	uint16_t published_count; /* of those given */
	uint64_t seen_ns;
	uint64_t decided_ns;
	struct pv_trace_event taken[PV_MAX_QUEUE_SIZE]; /* by head */
	struct pv_trace_event given[PV_MAX_QUEUE_SIZE]; /* and whether to interrupt is not decided */
};

/* Before the queue is in use; it stays for as long as the queue does. */
void pv_way_init(struct pv_way *way, struct pv_trace *track, bool together);

#endif
