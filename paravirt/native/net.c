// SPDX-License-Identifier: BSD-2-Clause
/*
 * A network: its pairs of queues, a thread for each, and what its driver sets while it runs.  How frames go is
 * net_receive.c's and net_send.c's, links are net_link.c's.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net_pair.h"

#define RECEIVES 1u /* bits of a thread's queues, in the order in which they were added */
#define SENDS 2u
#define CONTROLS 4u
#define CONTROL 2u /* number of that bit */

static struct pv_net *net_of(struct pv_device *device)
{
	return device->opaque;
}

/* Without MQ, the control queue is behind the first pair, where another pair's would be (virtio 5.1.2). */
static uint32_t control_queue(const struct pv_net *net)
{
	uint64_t features = net->backend.device->state.accepted[0];

	if (net->options.queues_choose || !(features & PV_NET_F_CTRL_VQ))
		return UINT32_MAX;
	return features & PV_NET_F_MQ ? 2 * net->options.pairs : 2;
}

/*
 * What cannot be taken now is not watched, and what is to be taken later has its time.  A queue that is not
 * enabled is waited for by nothing: what is kept of it may be old.
 */
static void choose_sleep(struct pv_backend_thread *thread, const struct pv_net_pair *pair)
{
	bool receives = thread->enabled & RECEIVES, sends = thread->enabled & SENDS;
	uint64_t receive_due = receives ? pair->receive_due_ns : 0, send_due = sends ? pair->send_due_ns : 0;
	bool blocked = sends && pair->blocked;
	/* poll(2) would return at once for what is detached, which has no news; who attaches it wakes us. */
	bool usable = pv_net_link_is_usable(&pair->link);
	short events = 0;

	if (receives && (pair->room.chain_count > 0 || !usable)) {
		thread->unwatched |= RECEIVES; /* there is room: more of it is no news */
		if (!receive_due)
			events = POLLIN;
	}
	if (blocked || send_due)
		thread->unwatched |= SENDS;
	if (blocked)
		events |= POLLOUT;
	thread->due_ns = !send_due || (receive_due && receive_due < send_due) ? receive_due : send_due;
	thread->fds[0].events = usable ? events : 0;
}

static bool turn(struct pv_backend_thread *thread)
{
	struct pv_net_pair *pair = thread->opaque;
	uint32_t control = control_queue(pair->net);
	bool did = false, was_lost = pair->link.lost;

	if (control == pair->receive_queue) {
		/* A driver without MQ has no second pair. */
		thread->unwatched = ~RECEIVES;
		thread->fds[0].events = 0;
		return thread->enabled & RECEIVES && pv_net_control(pair->net, control);
	}
	if (thread->enabled & RECEIVES)
		did |= pv_net_receive(pair);
	if (thread->enabled & SENDS)
		did |= pv_net_send(pair);
	/* A driver may enable the last queue without having agreed that it controls anything. */
	if (thread->enabled & CONTROLS && control == thread->queues[CONTROL])
		did |= pv_net_control(pair->net, control);
	else
		thread->unwatched |= CONTROLS;
	if (pair->link.lost && !was_lost)
		pv_backend_count(&pair->statistics.links_lost, 1);
	choose_sleep(thread, pair);
	return did;
}

/* ---- ops of the device that are not the backend's alone ---- */

static void forget(struct pv_net_pair *pair, uint32_t queue)
{
	if (queue == pair->receive_queue) {
		pair->room.chain_count = pair->room.segment_count = 0;
		pair->room.bytes = 0;
		pair->receive_due_ns = 0;
	}
	if (queue == pair->send_queue) {
		pair->held = pair->blocked = false;
		pair->send_due_ns = 0;
	}
}

/* How many pairs get frames; the driver's choice, one at first.  0 or -errno. */
static int use_pairs(struct pv_net *net, uint32_t count)
{
	int error = 0;

	if (net->options.link != PV_NET_LINK_TAP || net->options.pairs == 1)
		return 0;
	for (uint32_t i = 0; i < net->pair_count; i++) {
		struct pv_net_link *link = &net->pairs[i].link;
		bool wanted = i < count;

		if (link->attached == wanted)
			continue;
		/* A queue is used only while it is attached, so that no error of the other time is its end. */
		if (!wanted)
			__atomic_store_n(&link->attached, false, __ATOMIC_RELEASE);
		int failure = pv_net_tap_attach(link->fd, wanted);
		if (failure)
			error = failure;
		__atomic_store_n(&link->attached, failure ? !wanted : wanted, __ATOMIC_RELEASE);
		if (net->backend.device->state.status & PV_VIRTIO_STATUS_DRIVER_OK)
			pv_backend_wake(net->backend.threads[i]);
	}
	return error;
}

/* Of a driver whose control queue is somebody else's: its pairs from the first one on, but for a queue that is to stop. */
static uint32_t enabled_pairs(const struct pv_net *net, uint32_t stops)
{
	const struct pv_queue *queues = net->backend.device->queues;
	uint32_t count = 0;

	while (count < net->pair_count && queues[2 * count].state->enabled && 2 * count != stops)
		count++;
	return count;
}

static void activate(struct pv_device *device)
{
	struct pv_net *net = net_of(device);

	for (uint32_t i = 0; i < net->pair_count; i++) {
		forget(&net->pairs[i], net->pairs[i].receive_queue);
		forget(&net->pairs[i], net->pairs[i].send_queue);
		pv_net_link_start(&net->pairs[i].link, pv_net_frame_most(&net->pairs[i]));
	}
	/* All queues of a TAP device have the same. Where it cannot, it hands over finished frames, which is as good. */
	if (net->options.link == PV_NET_LINK_TAP)
		(void)pv_net_tap_set_features(net->pairs[0].link.fd, device->state.accepted[0]);
	/* That it can was seen when the network was made. */
	(void)use_pairs(net, net->options.queues_choose ? enabled_pairs(net, UINT32_MAX) : 1);
	net->backend_ops.activate(device);
}

/* What was taken from a queue is kept while another one of its thread's is reset, and forgotten with its own. */
static void queue_changed(struct pv_device *device, uint32_t queue, bool enabled)
{
	struct pv_net *net = net_of(device);

	/* Until it is told, the thread leaves a queue that is not enabled alone, and what is ours of it. */
	for (uint32_t i = 0; enabled && i < net->pair_count; i++)
		forget(&net->pairs[i], queue);
	net->backend_ops.queue_changed(device, queue, enabled);
	if (net->options.queues_choose)
		(void)use_pairs(net, enabled_pairs(net, enabled ? UINT32_MAX : queue));
}

/* ---- control ---- */

static uint8_t carry_out(struct pv_net *net, const struct pv_chain *chain)
{
	struct {
		struct pv_net_control_header header;
		uint8_t pairs[2];
	} request;

	if (pv_chain_read(chain, 0, &request, sizeof(request)) != sizeof(request))
		return PV_NET_CONTROL_STATUS_ERROR;
	uint32_t pairs = request.pairs[0] | (uint32_t)request.pairs[1] << 8;
	bool agreed = net->backend.device->state.accepted[0] & PV_NET_F_MQ;
	if (!agreed || request.header.kind != PV_NET_CONTROL_MQ || request.header.command != 0 || pairs == 0 ||
	    pairs > net->options.pairs)
		return PV_NET_CONTROL_STATUS_ERROR;
	return use_pairs(net, pairs) ? PV_NET_CONTROL_STATUS_ERROR : PV_NET_CONTROL_STATUS_OK;
}

bool pv_net_control(struct pv_net *net, uint32_t index)
{
	struct pv_device *device = net->backend.device;
	struct pv_queue *queue = &device->queues[index];
	struct pv_chain chain;
	uint32_t done = 0;

	while (done < PV_NET_BATCH && pv_device_pop(device, index, &chain) == 1) {
		uint8_t status = carry_out(net, &chain);

		pv_queue_push(queue, chain.head, (uint32_t)pv_chain_write(&chain, 0, &status, sizeof(status)));
		done++;
	}
	if (done && pv_queue_wants_interrupt(queue))
		pv_device_interrupt(device, index);
	return done > 0;
}

/* ---- life ---- */

static int add_pair(struct pv_net *net, uint32_t index)
{
	const struct pv_net_options *options = &net->options;
	struct pv_net_pair *pair = &net->pairs[index];
	const uint32_t queues[] = { 2 * index, 2 * index + 1, 2 * options->pairs };
	bool controls = !options->queues_choose && options->pairs > 1 && index + 1 == options->pairs;
	const struct pollfd link = { .fd = options->fds[index] };

	pair->net = net;
	pair->receive_queue = (uint16_t)queues[0];
	pair->send_queue = (uint16_t)queues[1];
	/* What is limited or captured is so frame by frame. */
	int error = -pv_net_link_init(&pair->link, options->link, options->fds[index], net->limited || options->capture,
				      &pair->statistics);
	if (!error)
		error = pv_backend_add_watching(&net->backend, pair, queues, controls ? 3 : 2, &link, 1);
	return error;
}

static void release(struct pv_net *net)
{
	pv_backend_deinit(&net->backend);
	for (uint32_t i = 0; i < net->options.pairs; i++)
		pv_net_link_deinit(&net->pairs[i].link);
	free(net);
}

struct pv_net *pv_net_create(struct pv_device *device, const struct pv_net_options *options, char *error,
			     size_t error_bytes)
{
	static const struct pv_backend_ops ops = { .turn = turn };
	struct pv_net *net = calloc(1, sizeof(*net));

	if (!net) {
		snprintf(error, error_bytes, "there is no memory for it");
		return NULL;
	}
	net->options = *options;
	net->limited = options->limit.operations_per_second || options->limit.bytes_per_second;
	pv_limit_init(&net->receive_limit, &options->limit);
	pv_limit_init(&net->send_limit, &options->limit);
	pv_backend_init(&net->backend, device, &ops, "net", options->poll_ns);
	net->backend_ops = device->ops;
	device->ops.activate = activate;
	device->ops.queue_changed = queue_changed;
	for (uint32_t i = 0; i < options->pairs; i++) {
		int failure = add_pair(net, i);

		if (failure) {
			snprintf(error, error_bytes, "cannot start its I/O: %s", strerror(failure));
			release(net);
			return NULL;
		}
		net->pair_count++;
	}
	int failure = use_pairs(net, 1);
	if (failure) {
		snprintf(error, error_bytes, "its queues cannot be detached: %s; make the TAP device with multi_queue",
			 strerror(-failure));
		release(net);
		return NULL;
	}
	return net;
}

void pv_net_destroy(struct pv_net *net)
{
	if (net)
		release(net);
}

void pv_net_set_up(struct pv_net *net, bool up)
{
	__atomic_store_n(&net->down, !up, __ATOMIC_RELAXED);
}

void pv_net_get_statistics(const struct pv_net *net, struct pv_net_statistics *statistics)
{
	struct pv_backend_statistics threads;

	memset(statistics, 0, sizeof(*statistics));
	for (uint32_t i = 0; i < net->pair_count; i++)
		pv_backend_sum(statistics, &net->pairs[i].statistics, sizeof(*statistics));
	if (net->options.capture)
		statistics->capture_lost = pv_net_capture_lost(net->options.capture);
	pv_backend_get_statistics(&net->backend, &threads);
	statistics->polls = threads.polls;
	statistics->poll_ns = threads.poll_ns;
	statistics->sleeps = threads.sleeps;
}
