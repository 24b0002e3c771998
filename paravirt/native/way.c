// SPDX-License-Identifier: BSD-2-Clause
/*
 * The way of a queue's chains through the host, as a trace shows it: an event for each chain, put on the queue's
 * track once it is decided whether the driver is interrupted for it.  What a chain asks for, and who works on it
 * meanwhile, is the back ends' to say (way.h); files are left to whoever takes the events.
 *
 * A queue has one thread at a time, and so has this.
 */
#include <string.h>

#include "host.h"

#define UNKNOWN UINT64_MAX

static void put(struct pv_way *way, const struct pv_trace_event *event)
{
	pv_trace_put(way->track, event);
}

/* Chains that were seen waiting with an earlier one were seen at that time. */
static void taken(struct pv_queue *queue, const struct pv_chain *chain, uint16_t waiting)
{
	struct pv_way *way = queue->way;
	uint64_t now_ns = pv_clock_ns();

	if (!way->seen) {
		way->seen_ns = now_ns;
		way->seen = (uint16_t)(waiting + 1);
	}
	way->seen--;
	way->taken[chain->head % PV_MAX_QUEUE_SIZE] = (struct pv_trace_event){
		.begin_ns = way->seen_ns,
		.kind = PV_TRACE_WAY,
		.args = { chain->readable_bytes },
		.way = { .taken_ns = now_ns, .bytes = UNKNOWN, .chains = 1 },
	};
}

/* Where the back end has not said which bytes are data, all are. */
static void know_bytes(struct pv_trace_event *event, uint32_t written_bytes)
{
	if (event->way.bytes == UNKNOWN)
		event->way.bytes = event->args[0] + written_bytes;
}

/* The one way of a batch began with its first chain. */
static void join(struct pv_trace_event *batch, const struct pv_trace_event *event)
{
	batch->way.chains++;
	batch->way.bytes += event->way.bytes;
}

/* The driver may offer the head again before anything is decided: its event lies elsewhere until then. */
static void given(struct pv_queue *queue, uint16_t head, uint32_t written_bytes)
{
	struct pv_way *way = queue->way;
	struct pv_trace_event *event = &way->taken[head % PV_MAX_QUEUE_SIZE];

	know_bytes(event, written_bytes);
	if (way->together && way->given_count)
		join(&way->given[0], event);
	else if (way->given_count < PV_MAX_QUEUE_SIZE)
		way->given[way->given_count++] = *event;
	else
		__atomic_fetch_add(&way->track->lost, 1, __ATOMIC_RELAXED);
}

static void published(struct pv_queue *queue)
{
	struct pv_way *way = queue->way;
	uint64_t now_ns;

	if (!way->together && way->published_count == way->given_count)
		return;
	now_ns = pv_clock_ns();
	/* A batch is used when the last of it is. */
	for (uint32_t i = way->together ? 0 : way->published_count; i < way->given_count; i++)
		way->given[i].way.used_ns = now_ns;
	way->published_count = way->given_count;
}

static void decided(struct pv_queue *queue, bool interrupts)
{
	struct pv_way *way = queue->way;
	struct pv_trace_event suppressed = { .kind = PV_TRACE_SUPPRESSED };

	way->decided_ns = suppressed.begin_ns = suppressed.end_ns = pv_clock_ns();
	for (uint32_t i = 0; i < way->given_count; i++) {
		struct pv_trace_event *event = &way->given[i];

		event->end_ns = event->way.told_ns = way->decided_ns;
		event->way.interrupted = interrupts;
		suppressed.value += event->way.chains;
		put(way, event);
	}
	if (!interrupts)
		put(way, &suppressed);
	way->given_count = way->published_count = 0;
}

/*
 * It is on the track of the vCPU that was told, too, with the same number.  Nothing else tells it from all others: two
 * queues that wait for one limit decide at one tick of the clock, each for the same channel of a vCPU of its own.
 */
static void interrupted(struct pv_queue *queue, uint32_t vcpu, uint32_t channel)
{
	static uint64_t numbers; /* in all traces of this process */
	const struct pv_machine *machine = queue->device->machine;
	struct pv_way *way = queue->way;
	struct pv_trace_event event = {
		.begin_ns = way->decided_ns,
		.end_ns = pv_clock_ns(),
		.kind = PV_TRACE_INTERRUPT,
		.id = vcpu,
		.value = channel,
		.args = { __atomic_add_fetch(&numbers, 1, __ATOMIC_RELAXED) },
	};

	if (!event.begin_ns) /* it was somebody else's decision */
		event.begin_ns = event.end_ns;
	way->decided_ns = 0;
	put(way, &event);
	if (channel != PV_NO_CHANNEL && vcpu < machine->vcpu_count && machine->vcpus[vcpu]->trace)
		pv_trace_put(machine->vcpus[vcpu]->trace, &event);
}

/* What was never given back, or not told of, is the more interesting for it. */
static void forgotten(struct pv_queue *queue)
{
	struct pv_way *way = queue->way;
	uint64_t now_ns = pv_clock_ns();

	for (uint32_t i = 0; i < way->given_count; i++) {
		way->given[i].end_ns = now_ns;
		put(way, &way->given[i]);
	}
	for (uint32_t head = 0; head < PV_MAX_QUEUE_SIZE; head++) {
		if (!queue->taken[head].places)
			continue;
		way->taken[head].end_ns = now_ns;
		know_bytes(&way->taken[head], 0);
		put(way, &way->taken[head]);
	}
	way->seen = way->given_count = way->published_count = 0;
}

static void slept(const struct pv_queue *queue, uint64_t begin_ns, uint64_t end_ns)
{
	put(queue->way, &(struct pv_trace_event){ .kind = PV_TRACE_SLEEP, .begin_ns = begin_ns, .end_ns = end_ns });
}

void pv_way_init(struct pv_way *way, struct pv_trace *track, bool together)
{
	static const struct pv_way_ops ops = {
		.taken = taken,
		.given = given,
		.published = published,
		.decided = decided,
		.interrupted = interrupted,
		.forgotten = forgotten,
		.slept = slept,
	};

	memset(way, 0, sizeof(*way));
	way->ops = &ops;
	way->track = track;
	way->together = together;
}
