// SPDX-License-Identifier: BSD-2-Clause
/*
 * Service time: the time page, deadlines, the timer thread.
 *
 * The guest's monotonic time follows the host's CLOCK_MONOTONIC from the machine's start: the page
 * is refreshed once a second, where it left off, at a rate bent so that the error is gone a second
 * later.  It never jumps and never goes back (TIME-1).
 */
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "handlers.h"

#define SECOND_NS 1000000000ull
#define COARSE_NS 1000000 /* between two refreshes without a counter */
#define MAXIMUM_BEND_NS 500000 /* ns per second: 500 ppm */

static uint64_t clock_read(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * SECOND_NS + (uint64_t)ts.tv_nsec;
}

uint64_t pv_clock_ns(void)
{
	return clock_read(CLOCK_MONOTONIC);
}

static uint64_t host_counter(void)
{
#ifdef __x86_64__
	return __builtin_ia32_rdtsc();
#else
	return 0;
#endif
}

static uint64_t scaled(const struct pv_time_page *time, uint64_t counter)
{
	uint64_t delta = counter - time->base_counter;

	/* Another CPU's counter may be a little behind the base. */
	if (!(time->flags & PV_TIME_FLAG_COUNTER) || (int64_t)delta < 0)
		return time->base_ns;
	return time->base_ns + (uint64_t)((unsigned __int128)delta * time->multiplier >> time->shift);
}

uint64_t pv_time_now(const struct pv_machine *machine)
{
	const struct pv_time_page *from = &machine->time;
	struct pv_time_page copy;
	uint32_t before;

	do { /* pairs with publish() */
		before = __atomic_load_n(&from->sequence, __ATOMIC_ACQUIRE);
		copy.flags = __atomic_load_n(&from->flags, __ATOMIC_RELAXED);
		copy.base_counter = __atomic_load_n(&from->base_counter, __ATOMIC_RELAXED);
		copy.base_ns = __atomic_load_n(&from->base_ns, __ATOMIC_RELAXED);
		copy.multiplier = __atomic_load_n(&from->multiplier, __ATOMIC_RELAXED);
		copy.shift = __atomic_load_n(&from->shift, __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
	} while (before % 2 || before != __atomic_load_n(&from->sequence, __ATOMIC_RELAXED));
	return scaled(&copy, host_counter() + machine->counter_offset);
}

/* Writes `from` under the sequence lock of `to`; its reader is pv_time_now() or the guest. */
static void publish(struct pv_time_page *to, const struct pv_time_page *from, uint32_t sequence)
{
	__atomic_store_n(&to->sequence, sequence + 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	__atomic_store_n(&to->flags, from->flags, __ATOMIC_RELAXED);
	__atomic_store_n(&to->base_counter, from->base_counter, __ATOMIC_RELAXED);
	__atomic_store_n(&to->base_ns, from->base_ns, __ATOMIC_RELAXED);
	__atomic_store_n(&to->multiplier, from->multiplier, __ATOMIC_RELAXED);
	__atomic_store_n(&to->shift, from->shift, __ATOMIC_RELAXED);
	__atomic_store_n(&to->wall_offset_ns, from->wall_offset_ns, __ATOMIC_RELAXED);
	__atomic_store_n(&to->generation, from->generation, __ATOMIC_RELAXED);
	__atomic_store_n(&to->sequence, sequence + 2, __ATOMIC_RELEASE);
}

static void set_rate(struct pv_time_page *time, uint64_t counter_hz, int64_t bend_ns)
{
	uint64_t rate_ns = SECOND_NS + (uint64_t)bend_ns;

	for (time->shift = 32;; time->shift--) {
		unsigned __int128 multiplier = ((unsigned __int128)rate_ns << time->shift) / counter_hz;

		if (multiplier <= UINT32_MAX) {
			time->multiplier = (uint32_t)multiplier;
			return;
		}
	}
}

static void show(struct pv_machine *machine, const struct pv_time_page *next)
{
	publish(&machine->time, next, machine->time.sequence);
	publish(machine->time_page, next, machine->time.sequence - 2);
}

static void refresh(struct pv_machine *machine)
{
	struct pv_time_page next = machine->time;
	uint64_t counter = host_counter() + machine->counter_offset;
	uint64_t real_ns = pv_clock_ns() - machine->zero_ns;

	next.base_ns = scaled(&machine->time, counter);
	next.base_counter = counter;
	if (machine->counter_hz) {
		int64_t bend = (int64_t)(real_ns - next.base_ns);

		bend = bend > MAXIMUM_BEND_NS ? MAXIMUM_BEND_NS : bend < -MAXIMUM_BEND_NS ? -MAXIMUM_BEND_NS : bend;
		set_rate(&next, machine->counter_hz, bend);
	} else if (real_ns > next.base_ns) {
		next.base_ns = real_ns;
	}
	next.wall_offset_ns = clock_read(CLOCK_REALTIME) - next.base_ns;
	show(machine, &next);
}

/* The timer thread, at its turn. */
static void keep(struct pv_machine *machine)
{
	pthread_mutex_lock(&machine->clock);
	if (!machine->clock_stands)
		refresh(machine);
	pthread_mutex_unlock(&machine->clock);
}

void pv_time_start(struct pv_machine *machine, uint64_t counter_hz, uint64_t counter_offset)
{
	machine->counter_hz = counter_hz;
	machine->counter_offset = counter_offset;
	machine->started_ns = machine->zero_ns = pv_clock_ns();
	machine->time.flags = counter_hz ? (uint32_t)PV_TIME_FLAG_COUNTER : 0;
	machine->time.base_counter = host_counter() + counter_offset;
	refresh(machine);
}

void pv_time_stop(struct pv_machine *machine)
{
	pthread_mutex_lock(&machine->clock);
	if (!machine->clock_stands) {
		struct pv_time_page next = machine->time;

		next.base_counter = host_counter() + machine->counter_offset;
		next.base_ns = scaled(&machine->time, next.base_counter);
		next.multiplier = 0; /* whatever the counter says */
		machine->stood_wall_ns = clock_read(CLOCK_REALTIME);
		machine->clock_stands = 1;
		show(machine, &next);
	}
	pthread_mutex_unlock(&machine->clock);
}

uint64_t pv_time_go(struct pv_machine *machine)
{
	uint64_t missed_ns = 0;

	pthread_mutex_lock(&machine->clock);
	if (machine->clock_stands) {
		uint64_t wall_ns = clock_read(CLOCK_REALTIME);

		missed_ns = wall_ns > machine->stood_wall_ns ? wall_ns - machine->stood_wall_ns : 0;
		machine->clock_stands = 0;
		machine->zero_ns = pv_clock_ns() - machine->time.base_ns;
		machine->time.generation++; /* TIME-7; refresh() shows it */
		refresh(machine);
	}
	pthread_mutex_unlock(&machine->clock);
	pv_timer_poke(machine); /* deadlines have moved */
	return missed_ns;
}

void pv_time_jumped(struct pv_machine *machine)
{
	pthread_mutex_lock(&machine->clock);
	machine->time.generation++;
	show(machine, &machine->time);
	pthread_mutex_unlock(&machine->clock);
}

void pv_timer_poke(struct pv_machine *machine)
{
	__atomic_fetch_add(&machine->timer, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &machine->timer, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/*
 * The page shows the deadline.  The vCPU, its ring and the timer change it at the same time: who has stored
 * one looks afterwards whether it still holds, so that the last to leave shows the last one stored.
 */
static void show_deadline(struct pv_vcpu *vcpu)
{
	uint64_t shown;

	do {
		shown = __atomic_load_n(&vcpu->state.deadline_ns, __ATOMIC_SEQ_CST);
		__atomic_store_n(&vcpu->page->deadline_ns, shown, __ATOMIC_SEQ_CST);
	} while (__atomic_load_n(&vcpu->state.deadline_ns, __ATOMIC_SEQ_CST) != shown);
}

/* Raises what is due (once each, TIME-2) and answers with the next deadline. */
static uint64_t serve_deadlines(struct pv_machine *machine, uint64_t now)
{
	uint64_t next = pv_watchdog_serve(machine, now);

	for (uint32_t i = 0; i < machine->vcpu_count; i++) {
		struct pv_vcpu *vcpu = machine->vcpus[i];
		uint64_t due = __atomic_load_n(&vcpu->state.deadline_ns, __ATOMIC_SEQ_CST);

		if (due > now) {
			next = due < next ? due : next;
		} else if (__atomic_compare_exchange_n(&vcpu->state.deadline_ns, &due, PV_DEADLINE_NEVER, false,
						       __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
			show_deadline(vcpu);
			pv_event_raise(machine, i, PV_CHANNEL_DEADLINE);
		} else {
			next = now; /* armed anew meanwhile: look again */
		}
	}
	return next;
}

void pv_timer_run(struct pv_machine *machine)
{
	/* Without a counter the page is all the time there is, for the guest and for us. */
	const uint64_t period_ns = machine->counter_hz ? SECOND_NS : COARSE_NS;
	uint64_t refresh_ns = pv_time_now(machine) + period_ns;

	while (!__atomic_load_n(&machine->ending, __ATOMIC_SEQ_CST)) {
		uint32_t seen = __atomic_load_n(&machine->timer, __ATOMIC_SEQ_CST);

		/* While it looks, any new deadline must poke; see time_deadline. */
		__atomic_store_n(&machine->timer_due_ns, UINT64_MAX, __ATOMIC_SEQ_CST);
		uint64_t now = pv_time_now(machine);
		if (now >= refresh_ns || !machine->counter_hz) {
			keep(machine);
			now = pv_time_now(machine);
			refresh_ns = now + period_ns;
		}
		uint64_t next = serve_deadlines(machine, now);
		next = next < refresh_ns ? next : refresh_ns;
		__atomic_store_n(&machine->timer_due_ns, next, __ATOMIC_SEQ_CST);
		now = pv_time_now(machine);
		if (next > now && __atomic_load_n(&machine->timer, __ATOMIC_SEQ_CST) == seen) {
			uint64_t left = next - now;
			struct timespec ts = { (time_t)(left / SECOND_NS), (long)(left % SECOND_NS) };

			syscall(SYS_futex, &machine->timer, FUTEX_WAIT_PRIVATE, seen, &ts, NULL, 0);
		}
	}
}

PV_HANDLER(time_deadline)
{
	struct pv_machine *machine = vcpu->machine;

	(void)value;
	__atomic_store_n(&vcpu->state.deadline_ns, args[0], __ATOMIC_SEQ_CST);
	show_deadline(vcpu);
	if (args[0] < __atomic_load_n(&machine->timer_due_ns, __ATOMIC_SEQ_CST))
		pv_timer_poke(machine);
	return PV_STATUS_OK;
}
