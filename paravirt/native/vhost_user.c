// SPDX-License-Identifier: BSD-2-Clause
/*
 * The threads between a driver's queues and the rings that a peer has (shadow.c), one for each queue: what the driver
 * offers is checked and given on, what the peer gives back becomes the driver's.  Who the peer is, and what it is
 * told when, is left to who calls the functions below, one thread at a time.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend.h"
#include "eventfd.h"
#include "nudge.h"
#include "vhost_user.h"
#include "way.h"

#define BATCH 64 /* chains each way, before the other way has its turn */

struct lane {
	struct pv_vhost_user *vhost;
	uint32_t queue;
	int kick_fd;
	int call_fd;
	bool broken; /* atomic: by the peer */
	bool held; /* chain was popped, and waits for room */
	bool owed; /* a kick, for what its predecessor had */
	struct pv_chain chain;
	struct pv_vhost_user_statistics statistics;
	struct pv_shadow shadow;
};

struct pv_vhost_user {
	struct pv_backend backend;
	struct pv_device *device;
	uint32_t queues;
	int news_fd;
	int memory_fd;
	uint8_t *memory;
	struct lane lanes[PV_MAX_QUEUES];
};

static const uint64_t ONE = 1;

static uint64_t memory_bytes(const struct pv_vhost_user *vhost)
{
	return (uint64_t)vhost->queues * PV_SHADOW_BYTES;
}

/* The peer may fill the counter between the question and the write: so only threads that can be nudged are here. */
static void kick(struct lane *lane)
{
	pv_eventfd_signal(lane->kick_fd);
	pv_backend_count(&lane->statistics.kicks, 1);
}

static bool is_broken(const struct lane *lane)
{
	return __atomic_load_n(&lane->broken, __ATOMIC_ACQUIRE);
}

/* What the peer gave back; whether there was anything. */
static bool take_back(struct lane *lane)
{
	struct pv_device *device = lane->vhost->device;
	struct pv_queue *queue = &device->queues[lane->queue];
	uint32_t written_bytes, done = 0;
	uint16_t head;
	int result = 0;

	while (done < BATCH && !is_broken(lane) &&
	       (result = pv_shadow_take(&lane->shadow, &head, &written_bytes)) > 0) {
		pv_way_completed(queue, head);
		pv_queue_stage(queue, head, written_bytes);
		done++;
	}
	if (done && pv_queue_wants_interrupt(queue)) {
		pv_device_interrupt(device, lane->queue);
		pv_backend_count(&lane->statistics.interrupts, 1);
	}
	pv_backend_count(&lane->statistics.chains, done);
	if (result < 0) {
		__atomic_store_n(&lane->broken, true, __ATOMIC_RELEASE);
		(void)!write(lane->vhost->news_fd, &ONE, sizeof(ONE));
	}
	return done > 0;
}

/* What the driver offered goes to the peer. */
static bool give(struct lane *lane)
{
	struct pv_device *device = lane->vhost->device;
	struct pv_queue *queue = &device->queues[lane->queue];
	uint32_t done = 0;

	while (done < BATCH && (lane->held || pv_device_pop(device, lane->queue, &lane->chain) == 1)) {
		lane->held = !pv_shadow_give(&lane->shadow, &lane->chain);
		if (lane->held)
			break;
		pv_way_submitted(queue, lane->chain.head);
		done++;
	}
	if (done && pv_shadow_publish(&lane->shadow))
		kick(lane);
	return done > 0;
}

static bool turn(struct pv_backend_thread *thread)
{
	struct lane *lane = thread->opaque;

	if (lane->owed) {
		lane->owed = false;
		kick(lane);
	}
	bool did = take_back(lane);

	if (!is_broken(lane))
		did |= give(lane);
	if (is_broken(lane) || lane->held)
		thread->unwatched = 1;
	return did;
}

/* Until the driver or the peer has something. */
static void wait_for_either(struct pv_backend_thread *thread, int wake_fd, int64_t timeout_ns)
{
	struct lane *lane = thread->opaque;
	struct pollfd fds[] = {
		{ .fd = wake_fd, .events = POLLIN },
		{ .fd = lane->call_fd, .events = POLLIN },
	};
	uint64_t count;

	(void)timeout_ns; /* there is no bound: nothing here has a due time */
	if (!is_broken(lane) && pv_shadow_arm(&lane->shadow)) {
		pv_shadow_disarm(&lane->shadow);
		return;
	}
	if (ppoll(fds, 2, NULL, NULL) > 0) {
		if (fds[0].revents & POLLIN)
			(void)!read(wake_fd, &count, sizeof(count));
		if (fds[1].revents & POLLIN && pv_eventfd_take(lane->call_fd))
			pv_backend_count(&lane->statistics.calls, 1);
	}
	pv_shadow_disarm(&lane->shadow);
}

/* ---- the peer comes and goes ---- */

int pv_vhost_user_memory(const struct pv_vhost_user *vhost, uint64_t *hva, uint64_t *size_bytes)
{
	*hva = (uintptr_t)vhost->memory;
	*size_bytes = memory_bytes(vhost);
	return vhost->memory_fd;
}

void pv_vhost_user_describe(const struct pv_vhost_user *vhost, uint32_t queue, struct pv_vhost_user_ring *ring)
{
	const struct lane *lane = &vhost->lanes[queue];
	uintptr_t memory = (uintptr_t)lane->shadow.memory;

	*ring = (struct pv_vhost_user_ring){
		.descriptors_hva = memory,
		.available_hva = memory + PV_SHADOW_AVAILABLE,
		.used_hva = memory + PV_SHADOW_USED,
		.kick_fd = lane->kick_fd,
		.call_fd = lane->call_fd,
	};
}

void pv_vhost_user_forget(struct pv_vhost_user *vhost)
{
	for (uint32_t i = 0; i < vhost->queues; i++) {
		pv_shadow_init(&vhost->lanes[i].shadow, vhost->memory + (size_t)i * PV_SHADOW_BYTES);
		vhost->lanes[i].held = false;
	}
}

void pv_vhost_user_restart(struct pv_vhost_user *vhost)
{
	for (uint32_t i = 0; i < vhost->queues; i++) {
		__atomic_store_n(&vhost->lanes[i].broken, false, __ATOMIC_RELEASE);
		pv_shadow_restart(&vhost->lanes[i].shadow);
	}
}

void pv_vhost_user_serve(struct pv_vhost_user *vhost)
{
	for (uint32_t i = 0; i < vhost->queues; i++)
		vhost->lanes[i].owed = true;
	pv_backend_activate(&vhost->backend);
}

void pv_vhost_user_park(struct pv_vhost_user *vhost)
{
	pv_backend_reset(&vhost->backend);
	for (uint32_t i = 0; i < vhost->queues; i++) {
		while (take_back(&vhost->lanes[i]))
			;
	}
}

bool pv_vhost_user_broken(const struct pv_vhost_user *vhost)
{
	for (uint32_t i = 0; i < vhost->queues; i++) {
		if (is_broken(&vhost->lanes[i]))
			return true;
	}
	return false;
}

/* ---- life ---- */

static void release(struct pv_vhost_user *vhost)
{
	pv_backend_deinit(&vhost->backend);
	for (uint32_t i = 0; i < vhost->queues; i++) {
		if (vhost->lanes[i].kick_fd >= 0)
			close(vhost->lanes[i].kick_fd);
		if (vhost->lanes[i].call_fd >= 0)
			close(vhost->lanes[i].call_fd);
	}
	if (vhost->memory)
		munmap(vhost->memory, memory_bytes(vhost));
	if (vhost->memory_fd >= 0)
		close(vhost->memory_fd);
	free(vhost);
}

static int map_rings(struct pv_vhost_user *vhost)
{
	vhost->memory_fd = memfd_create("paravirt-rings", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	/* A peer that shortened the file would have us die of SIGBUS. */
	if (vhost->memory_fd < 0 || ftruncate(vhost->memory_fd, (off_t)memory_bytes(vhost)) < 0 ||
	    fcntl(vhost->memory_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return errno;
	void *memory = mmap(NULL, memory_bytes(vhost), PROT_READ | PROT_WRITE, MAP_SHARED, vhost->memory_fd, 0);
	if (memory == MAP_FAILED)
		return errno;
	vhost->memory = memory;
	return 0;
}

static int add_lane(struct pv_vhost_user *vhost, uint32_t queue)
{
	struct lane *lane = &vhost->lanes[queue];

	lane->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	lane->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (lane->kick_fd < 0 || lane->call_fd < 0)
		return errno;
	return pv_backend_add(&vhost->backend, lane, &queue, 1);
}

struct pv_vhost_user *pv_vhost_user_create(struct pv_device *device, uint32_t queues, uint64_t poll_ns, int news_fd,
					   char *error, size_t error_bytes)
{
	static const struct pv_backend_ops ops = { .turn = turn, .wait = wait_for_either };
	struct pv_vhost_user *vhost = calloc(1, sizeof(*vhost));

	if (!vhost) {
		snprintf(error, error_bytes, "there is no memory for it");
		return NULL;
	}
	vhost->device = device;
	vhost->queues = queues;
	vhost->news_fd = news_fd;
	vhost->memory_fd = -1;
	for (uint32_t i = 0; i < queues; i++) {
		struct lane *lane = &vhost->lanes[i];

		lane->vhost = vhost;
		lane->queue = i;
		lane->kick_fd = lane->call_fd = -1;
	}
	const struct pv_device_ops before = device->ops;
	void *opaque = device->opaque;
	pv_backend_init(&vhost->backend, device, &ops, "vhost", poll_ns);
	vhost->backend.nudged = true;
	pv_nudge_init();
	device->ops = before;
	device->opaque = opaque;
	int failure = map_rings(vhost);
	for (uint32_t i = 0; i < queues && !failure; i++)
		failure = add_lane(vhost, i);
	if (failure) {
		snprintf(error, error_bytes, "cannot start its threads: %s", strerror(failure));
		release(vhost);
		return NULL;
	}
	pv_vhost_user_forget(vhost);
	return vhost;
}

void pv_vhost_user_destroy(struct pv_vhost_user *vhost)
{
	if (vhost)
		release(vhost);
}

void pv_vhost_user_get_statistics(const struct pv_vhost_user *vhost, struct pv_vhost_user_statistics *statistics)
{
	struct pv_backend_statistics threads;

	memset(statistics, 0, sizeof(*statistics));
	for (uint32_t i = 0; i < vhost->queues; i++) {
		pv_backend_sum(statistics, &vhost->lanes[i].statistics, sizeof(*statistics));
		statistics->in_flight += __atomic_load_n(&vhost->lanes[i].shadow.in_flight, __ATOMIC_RELAXED);
	}
	pv_backend_get_statistics(&vhost->backend, &threads);
	statistics->polls = threads.polls;
	statistics->poll_ns = threads.poll_ns;
	statistics->sleeps = threads.sleeps;
}
