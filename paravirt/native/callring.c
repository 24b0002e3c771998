// SPDX-License-Identifier: BSD-2-Clause
/*
 * Call rings: calls that arrive through memory which guest and host share (rules RING-1 to RING-15).
 *
 * One thread per machine visits the rings in turn, polls for a while when they are empty, then asks for
 * doorbells and sleeps.  What a call means is dispatch's matter; here is how it comes and goes.
 *
 * The lock of pv_callrings is held while rings are visited, not while the thread sleeps: who holds it has
 * all rings to himself, and each call costs no lock.  A vCPU that needs it counts itself in `wanted`, and the
 * thread lets go after the call that it is at.
 *
 * Everything in guest memory may change at any moment.  Indexes and wishes are read once each; a
 * submission is copied and only the copy is looked at; places in the rings are counted here, not read.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "handlers.h"

#define POLL_NS 100000 /* without work before sleep: the order of what a wake-up costs */
#define POLLS_PER_LOOK 64 /* at the clock, which costs more than a poll */
#define AHEAD 4 /* entries fetched while one is carried out: they come from another CPU's cache */
#define GROUP 16 /* completions that are made known together at most */

static void lock(struct pv_machine *machine)
{
	struct pv_callrings *rings = &machine->callrings;

	__atomic_fetch_add(&rings->wanted, 1, __ATOMIC_SEQ_CST);
	pthread_mutex_lock(&rings->lock);
	__atomic_fetch_sub(&rings->wanted, 1, __ATOMIC_SEQ_CST);
}

static void unlock(struct pv_machine *machine)
{
	pthread_mutex_unlock(&machine->callrings.lock);
}

static bool leaving(const struct pv_machine *machine)
{
	return __atomic_load_n(&machine->callrings.wanted, __ATOMIC_RELAXED) ||
	       __atomic_load_n(&machine->ending, __ATOMIC_RELAXED);
}

/* ---- visiting, with the lock ---- */

static void raise(struct pv_vcpu *vcpu)
{
	pv_event_raise(vcpu->machine, vcpu->index, vcpu->state.callring.setup.channel); /* NO_CHANNEL is none */
}

/* Makes completions known, and tells the guest if it waits for one of them (RING-4, RING-10). */
static void publish(struct pv_vcpu *vcpu)
{
	struct pv_callring *ring = &vcpu->callring;
	struct pv_callring_state *state = &vcpu->state.callring;
	uint32_t count = state->next - state->completed;

	if (!count)
		return;
	ring->calls += count;
	__atomic_fetch_add(&vcpu->page->calls, count, __ATOMIC_RELAXED);
	state->completed = state->next;
	if (state->setup.channel == PV_RING_NO_CHANNEL) { /* no wish to look at, no barrier */
		__atomic_store_n(&ring->control->completion_tail, state->completed, __ATOMIC_RELEASE);
		return;
	}
	/* An exchange: the store is globally visible before the wish is read. */
	__atomic_exchange_n(&ring->control->completion_tail, state->completed, __ATOMIC_SEQ_CST);
	pv_memory_fence(&vcpu->machine->memory);
	uint32_t wish = __atomic_load_n(&ring->control->completion_event, __ATOMIC_SEQ_CST);
	if (wish - state->signalled < state->completed - state->signalled)
		raise(vcpu);
	state->signalled = state->completed;
}

static void switch_off(struct pv_vcpu *vcpu, uint32_t state)
{
	struct pv_callrings *rings = &vcpu->machine->callrings;

	__atomic_store_n(&rings->on, rings->on & ~(1ull << vcpu->index), __ATOMIC_RELAXED);
	__atomic_store_n(&vcpu->callring.control->state, state, __ATOMIC_SEQ_CST); /* the last access (RING-12) */
	__atomic_store_n(&vcpu->state.callring.state, state, __ATOMIC_SEQ_CST);
}

static void fault(struct pv_vcpu *vcpu) /* RING-8 */
{
	vcpu->callring.fault = "RING-7";
	switch_off(vcpu, PV_RING_STATE_FAULT);
	raise(vcpu);
}

/* Whether others than this library decide how long a call takes. */
static bool may_take_long(uint32_t id)
{
	switch (id >> 16) {
	case PV_SERVICE_CONSOLE:
	case PV_SERVICE_MEMORY:
	case PV_SERVICE_DEVICE:
		return true;
	default:
		return id >> 16 >= PV_SERVICES;
	}
}

static void serve_next(struct pv_vcpu *vcpu)
{
	struct pv_callring *ring = &vcpu->callring;
	uint32_t mask = vcpu->state.callring.setup.entries - 1, at = vcpu->state.callring.next & mask;
	struct pv_submission copy;

	__builtin_prefetch(&ring->submissions[(at + AHEAD) & mask]);
	__builtin_prefetch(&ring->completions[(at + AHEAD) & mask], 1);
	copy = pv_submission_copy(&ring->submissions[at]);
	bool slow = may_take_long(copy.call);
	if (slow)
		publish(vcpu); /* what is done does not wait for it */
	pv_submission_serve(vcpu, PV_ROAD_RING, &copy, &ring->completions[at]);
	vcpu->state.callring.next++;
	if (slow || vcpu->state.callring.next - vcpu->state.callring.completed == GROUP)
		publish(vcpu);
}

/* Carries out what is submitted now, or the beginning of it; how many calls. */
static uint32_t visit(struct pv_vcpu *vcpu, bool others)
{
	const struct pv_callring_state *state = &vcpu->state.callring;
	uint32_t tail = __atomic_load_n(&vcpu->callring.control->submission_tail, __ATOMIC_ACQUIRE);
	uint32_t waiting = tail - state->next, done = 0;

	if (!waiting) {
		/* The first submission comes from the other CPU together with the tail that counts it, not after it. */
		__builtin_prefetch(&vcpu->callring.submissions[state->next & (state->setup.entries - 1)]);
		return 0;
	}
	if (waiting > state->setup.entries) {
		fault(vcpu);
		return 0;
	}
	uint64_t end_ns = others ? pv_clock_ns() + PV_LIMIT_RING_NS : 0;
	do {
		serve_next(vcpu);
		done++;
	} while (done < waiting && !leaving(vcpu->machine) && !(others && pv_clock_ns() >= end_ns)); /* RING-13 */
	publish(vcpu);
	return done;
}

static uint32_t visit_all(struct pv_machine *machine)
{
	struct pv_callrings *rings = &machine->callrings;
	uint64_t left = __atomic_load_n(&rings->on, __ATOMIC_RELAXED);
	bool others = left & (left - 1);
	uint32_t done = 0;

	/* On from where the last round ended, perhaps too early, so that each ring has its turn (RING-13). */
	while (left && !leaving(machine)) {
		uint64_t ahead = left & ~0ull << rings->turn;
		uint32_t next = (uint32_t)__builtin_ctzll(ahead ? ahead : left);

		left &= ~(1ull << next);
		rings->turn = (next + 1) % PV_MAX_VCPUS;
		done += visit(machine->vcpus[next], others);
	}
	return done;
}

uint32_t pv_callring_poll(struct pv_machine *machine)
{
	pthread_mutex_lock(&machine->callrings.lock);
	uint32_t done = visit_all(machine);
	unlock(machine);
	return done;
}

/* ---- the thread ---- */

static void want_doorbells(struct pv_machine *machine, uint32_t wanted)
{
	for (uint64_t on = machine->callrings.on; on; on &= on - 1) {
		struct pv_callring *ring = &machine->vcpus[__builtin_ctzll(on)]->callring;

		__atomic_store_n(&ring->control->doorbell_wanted, wanted, __ATOMIC_SEQ_CST);
	}
}

/* Asks for doorbells; false if something was submitted meanwhile (RING-9). */
static bool arm(struct pv_machine *machine)
{
	want_doorbells(machine, 1);
	pv_memory_fence(&machine->memory);
	for (uint64_t on = machine->callrings.on; on; on &= on - 1) {
		const struct pv_vcpu *vcpu = machine->vcpus[__builtin_ctzll(on)];

		if (__atomic_load_n(&vcpu->callring.control->submission_tail, __ATOMIC_SEQ_CST) !=
		    vcpu->state.callring.next) {
			want_doorbells(machine, 0);
			return false;
		}
	}
	return true;
}

static void relax(void)
{
#ifdef __x86_64__
	__builtin_ia32_pause();
#endif
}

/* Visits until there was nothing for a while (true: doorbells are asked for) or somebody wants the lock. */
static bool serve_for_a_while(struct pv_machine *machine)
{
	uint64_t idle_since_ns = pv_clock_ns();

	if (!machine->callrings.on)
		return true; /* who sets one up rings */
	for (uint32_t polls = 0; !leaving(machine); polls++) {
		if (visit_all(machine)) {
			idle_since_ns = 0;
			continue;
		}
		relax();
		if (polls % POLLS_PER_LOOK)
			continue;
		uint64_t now_ns = pv_clock_ns();
		if (!idle_since_ns)
			idle_since_ns = now_ns;
		if (now_ns - idle_since_ns >= POLL_NS && arm(machine))
			return true;
	}
	return false;
}

void pv_callring_serve(struct pv_machine *machine)
{
	struct pv_callrings *rings = &machine->callrings;
	uint64_t rung;

	while (!__atomic_load_n(&machine->ending, __ATOMIC_SEQ_CST)) {
		while (__atomic_load_n(&rings->wanted, __ATOMIC_SEQ_CST))
			sched_yield();
		pthread_mutex_lock(&rings->lock);
		want_doorbells(machine, 0);
		bool idle = serve_for_a_while(machine);
		unlock(machine);
		/* Whoever sets up a ring, submits, or ends the machine from now on, rings: nothing is missed. */
		if (idle && read(rings->doorbell_fd, &rung, sizeof(rung)) < 0 && errno != EINTR)
			sched_yield(); /* a descriptor that cannot be slept on: poll */
	}
}

void pv_callring_sleep_on(struct pv_machine *machine, int eventfd)
{
	machine->callrings.doorbell_fd = eventfd;
}

void pv_callring_wake(struct pv_machine *machine)
{
	static const uint64_t one = 1;
	int fd = machine->callrings.doorbell_fd;

	if (fd >= 0 && write(fd, &one, sizeof(one)) < 0)
		return; /* the counter is at its maximum: it is awake as it is */
}

int64_t pv_callring_doorbell(struct pv_machine *machine, uint32_t vcpu)
{
	if (vcpu >= machine->vcpu_count || !(__atomic_load_n(&machine->callrings.on, __ATOMIC_RELAXED) >> vcpu & 1))
		return PV_STATUS_NOT_FOUND; /* RING-14 */
	__atomic_fetch_add(&machine->callrings.doorbells, 1, __ATOMIC_RELAXED);
	pv_callring_wake(machine);
	return PV_STATUS_OK;
}

/* ---- into use and out of it ---- */

static int64_t check_area(const struct pv_memory *memory, uint64_t gpa, uint64_t align, uint64_t size_bytes)
{
	if (gpa & (align - 1))
		return PV_STATUS_UNALIGNED;
	return pv_memory_at(memory, gpa, size_bytes) ? PV_STATUS_OK : PV_STATUS_BAD_ADDRESS;
}

/* In the order of CALL-6. */
static int64_t check(const struct pv_memory *memory, const struct pv_ring_setup *setup)
{
	uint32_t entries = setup->entries, reserved;
	int64_t status[3];

	memcpy(&reserved, setup->reserved0, sizeof(reserved));
	if (setup->channel >= PV_LIMIT_CHANNELS && setup->channel != PV_RING_NO_CHANNEL)
		return PV_STATUS_NOT_FOUND;
	if (!entries || entries & (entries - 1) || setup->flags || reserved)
		return PV_STATUS_INVALID;
	if (entries > PV_LIMIT_RING_ENTRIES)
		return PV_STATUS_LIMIT;
	status[0] = check_area(memory, setup->submissions_gpa, 64, entries * sizeof(struct pv_submission));
	status[1] = check_area(memory, setup->completions_gpa, 32, entries * sizeof(struct pv_completion));
	status[2] = check_area(memory, setup->control_gpa, 64, sizeof(struct pv_ring_control));
	for (uint32_t i = 0; i < 3; i++)
		if (status[i] == PV_STATUS_UNALIGNED)
			return PV_STATUS_UNALIGNED;
	return status[0] < 0 || status[1] < 0 || status[2] < 0 ? PV_STATUS_BAD_ADDRESS : PV_STATUS_OK;
}

static int64_t switch_on(struct pv_vcpu *vcpu, const struct pv_ring_setup *setup)
{
	struct pv_machine *machine = vcpu->machine;
	struct pv_callring *ring = &vcpu->callring;

	if (vcpu->state.callring.state != PV_RING_STATE_OFF) /* RING-1 */
		return PV_STATUS_BAD_STATE;
	if (!pv_feature_accepted(machine, PV_SERVICE_BASE, PV_BASE_FEATURE_RING_BIT)) /* renegotiated meanwhile */
		return PV_STATUS_NOT_SUPPORTED;
	vcpu->state.callring = (struct pv_callring_state){ .setup = *setup };
	ring->submissions =
		pv_memory_at(&machine->memory, setup->submissions_gpa, setup->entries * sizeof(struct pv_submission));
	ring->completions =
		pv_memory_at(&machine->memory, setup->completions_gpa, setup->entries * sizeof(struct pv_completion));
	ring->control = pv_memory_at(&machine->memory, setup->control_gpa, sizeof(*ring->control));
	__atomic_store_n(&ring->control->completion_tail, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&ring->control->doorbell_wanted, 0, __ATOMIC_RELAXED); /* the thread is woken below */
	__atomic_store_n(&ring->control->state, PV_RING_STATE_ON, __ATOMIC_RELEASE);
	__atomic_store_n(&vcpu->state.callring.state, PV_RING_STATE_ON, __ATOMIC_SEQ_CST);
	__atomic_store_n(&machine->callrings.on, machine->callrings.on | 1ull << vcpu->index, __ATOMIC_RELAXED);
	return PV_STATUS_OK;
}

int64_t pv_callring_set_up(struct pv_vcpu *vcpu, const struct pv_ring_setup *setup)
{
	int64_t (*serve)(struct pv_vcpu *) = vcpu->machine->ops.serve_callrings;
	int64_t status = check(&vcpu->machine->memory, setup);

	if (status == PV_STATUS_OK && serve)
		status = serve(vcpu);
	if (status < 0)
		return status;
	lock(vcpu->machine);
	status = switch_on(vcpu, setup);
	unlock(vcpu->machine);
	if (status == PV_STATUS_OK)
		pv_callring_wake(vcpu->machine);
	return status;
}

static void remove_locked(struct pv_vcpu *vcpu)
{
	if (vcpu->state.callring.state == PV_RING_STATE_ON)
		switch_off(vcpu, PV_RING_STATE_OFF);
	__atomic_store_n(&vcpu->state.callring.state, PV_RING_STATE_OFF, __ATOMIC_SEQ_CST);
}

void pv_callring_remove(struct pv_vcpu *vcpu)
{
	/* Only the vCPU itself sets its ring up, and OFF is stored after the last access to the ring. */
	if (__atomic_load_n(&vcpu->state.callring.state, __ATOMIC_SEQ_CST) == PV_RING_STATE_OFF)
		return;
	lock(vcpu->machine);
	remove_locked(vcpu);
	unlock(vcpu->machine);
}

void pv_callring_remove_all(struct pv_machine *machine)
{
	lock(machine);
	for (uint32_t i = 0; i < machine->vcpu_count; i++)
		remove_locked(machine->vcpus[i]);
	unlock(machine);
}

PV_HANDLER(base_ring)
{
	struct pv_ring_setup setup;

	(void)value;
	if (!args[1]) {
		pv_callring_remove(vcpu);
		return PV_STATUS_OK;
	}
	if (!pv_memory_read(&vcpu->machine->memory, args[0], &setup, sizeof(setup)))
		return PV_STATUS_BAD_ADDRESS;
	return pv_callring_set_up(vcpu, &setup);
}
