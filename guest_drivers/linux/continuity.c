// SPDX-License-Identifier: 0BSD
/*
 * Service continuity: the machine was or will be stopped, copied or moved.  Fresh entropy is mixed in, programs are
 * told, and the host learns that this was done.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/printk.h>
#include <linux/random.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "paravirt.h"
#include "paravirt_user.h"

DECLARE_WAIT_QUEUE_HEAD(paravirt_continuity_wait);

static DEFINE_SPINLOCK(last_lock);
static struct paravirt_continuity_event last;
static u32 vcpu; /* whose channel it is */
static bool bound;

void paravirt_continuity_last(struct paravirt_continuity_event *event)
{
	spin_lock(&last_lock);
	*event = last;
	spin_unlock(&last_lock);
}

/* One consistent reading of the page (CONT-2). */
static void take(struct pv_continuity_page *copy)
{
	const struct pv_continuity_page *page = paravirt.continuity;
	u32 before;

	do {
		while ((before = smp_load_acquire(&page->sequence)) & 1)
			cpu_relax();
		*copy = *page;
		smp_rmb(); /* the copy before the second look */
	} while (READ_ONCE(page->sequence) != before);
}

/* Whether there was news, which is dealt with then. */
static bool handle(struct paravirt_continuity_event *news)
{
	struct paravirt_continuity_event event = {};
	struct pv_continuity_page copy;

	take(&copy);
	if (copy.counter == last.counter)
		return false;
	event.counter = copy.counter;
	event.event = copy.event;
	event.clock_jump_ns = copy.clock_jump_ns;
	memcpy(event.generation, copy.generation, sizeof(event.generation));
	add_device_randomness(copy.seed, sizeof(copy.seed));
	memzero_explicit(&copy, sizeof(copy));
	spin_lock(&last_lock);
	last = event;
	spin_unlock(&last_lock);
	pr_info("continuity event %u, the %llu. of this machine, generation %16phN\n", event.event, event.counter,
		event.generation);
	wake_up_interruptible_all(&paravirt_continuity_wait);
	paravirt_user_tell(&event);
	*news = event;
	return true;
}

/* What is refused is old: there was another event meanwhile (CONT-4). */
static void look(struct work_struct *work)
{
	struct paravirt_continuity_event event;

	while (handle(&event))
		if (pv_call1(PV_CALL_CONTINUITY_ACKNOWLEDGE, event.counter).status != PV_STATUS_INVALID)
			return;
}

static DECLARE_WORK(look_work, look);

static void changed(void *data)
{
	schedule_work(&look_work);
}

int paravirt_continuity_init(void)
{
	struct pv_answer answer;
	int channel;

	memset(&last, 0, sizeof(last));
	if (!paravirt.continuity || !paravirt_accept(PV_SERVICE_CONTINUITY, PV_CONTINUITY_FEATURE_NOTIFY))
		return 0; /* a host that tells of nothing */
	vcpu = paravirt_event_vcpu(0);
	channel = paravirt_event_bind(vcpu, PV_CHANNEL_CONTINUITY, changed, NULL);
	if (channel < 0)
		return channel;
	bound = true;
	answer = pv_call1(PV_CALL_CONTINUITY_SUBSCRIBE, vcpu);
	if (answer.status < 0) {
		paravirt_continuity_exit();
		return paravirt_error(answer.status);
	}
	schedule_work(&look_work); /* what came before */
	return 0;
}

void paravirt_continuity_exit(void)
{
	if (bound) {
		paravirt_event_unbind(vcpu, PV_CHANNEL_CONTINUITY);
		cancel_work_sync(&look_work);
	}
	bound = false;
}
