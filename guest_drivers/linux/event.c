// SPDX-License-Identifier: 0BSD
/*
 * Service event: each CPU's upcall is an interrupt of its own, and its channels have handlers.
 *
 * The upcall's vector is one that Linux gives us: an interrupt domain below that of the CPUs' vectors, with one
 * interrupt for each CPU that stays where it is.  The host is told the vector, not the other way round.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitmap.h>
#include <linux/cpuhotplug.h>
#include <linux/interrupt.h>
#include <linux/irq.h>
#include <linux/irqdomain.h>
#include <linux/module.h>
#include <linux/slab.h>

#include <asm/hw_irq.h>
#include <asm/irqdomain.h>
#include <asm/processor.h>

#include "paravirt.h"

#define WORDS (PV_LIMIT_CHANNELS / 64)

struct channel {
	paravirt_event_fn *handler;
	void *data;
};

/* One for each vCPU, by its index, which is the number of its local APIC. */
struct listener {
	struct pv_vcpu_page *page;
	unsigned int irq; /* 0: nobody hears its events */
	DECLARE_BITMAP(taken, PV_LIMIT_CHANNELS);
	struct channel channels[PV_LIMIT_CHANNELS];
};

static struct listener *listeners;
static struct irq_domain *domain;
static struct fwnode_handle *domain_name;
static int hotplug_state;
/* Of who takes channels and gives them back, and of whether there is an interrupt that may run handlers. */
static DEFINE_MUTEX(bind_lock);

static void handle_pending(struct listener *listener)
{
	struct pv_vcpu_page *page = listener->page;
	u32 word;

	xchg(&page->upcall_pending, 0); /* EVT-3: before the words are read */
	for (word = 0; word < WORDS; word++) {
		u64 bits = READ_ONCE(page->pending[word]) & ~READ_ONCE(page->mask[word]);

		if (!bits)
			continue;
		arch_atomic64_andnot(bits, (atomic64_t *)&page->pending[word]);
		for (; bits; bits &= bits - 1) {
			struct channel *channel = &listener->channels[word * 64 + __ffs64(bits)];
			paravirt_event_fn *handler = smp_load_acquire(&channel->handler);

			if (handler)
				handler(channel->data);
		}
	}
}

static irqreturn_t upcall(int irq, void *data)
{
	struct listener *listener = data;

	/* What comes while upcalls are held sends none: looked at after every release (EVT-3). It may be nothing (EVT-4). */
	do {
		xchg(&listener->page->upcall_mask, 1);
		handle_pending(listener);
		xchg(&listener->page->upcall_mask, 0);
	} while (READ_ONCE(listener->page->upcall_pending));
	return IRQ_HANDLED;
}

/* ---- the interrupt of each CPU ---- */

static struct irq_chip upcall_chip = {
	.name = "paravirt",
	.irq_ack = irq_chip_ack_parent, /* EVT-9 */
	.flags = IRQCHIP_SKIP_SET_WAKE,
};

static int allocate(struct irq_domain *own, unsigned int irq, unsigned int count, void *info)
{
	int error = irq_domain_alloc_irqs_parent(own, irq, count, info);

	if (!error)
		irq_domain_set_info(own, irq, ((struct irq_alloc_info *)info)->hwirq, &upcall_chip, NULL,
				    handle_edge_irq, NULL, "upcall");
	return error;
}

static const struct irq_domain_ops domain_ops = { .alloc = allocate, .free = irq_domain_free_irqs_common };

static void release_irq(struct listener *listener)
{
	unsigned int irq = listener->irq;

	mutex_lock(&bind_lock); /* whoever gives a channel back now waits for the handlers that still run */
	WRITE_ONCE(listener->irq, 0);
	free_irq(irq, listener);
	mutex_unlock(&bind_lock);
	irq_dispose_mapping(irq);
}

/* On the CPU itself, whose upcall it is. */
static int begin(unsigned int cpu)
{
	struct irq_affinity_desc affinity = { .is_managed = 0 };
	struct irq_alloc_info info = { .mask = cpumask_of(cpu), .hwirq = cpu };
	u32 vcpu = cpu_data(cpu).apicid;
	struct listener *listener = &listeners[vcpu];
	struct pv_answer answer;
	int irq, error;

	if (vcpu >= paravirt.vcpus)
		return -ENODEV;
	cpumask_copy(&affinity.mask, cpumask_of(cpu));
	irq = __irq_domain_alloc_irqs(domain, -1, 1, cpu_to_node(cpu), &info, false, &affinity);
	if (irq < 0)
		return irq;
	error = request_irq(irq, upcall, IRQF_NOBALANCING | IRQF_NO_SUSPEND, "paravirt", listener);
	if (error) {
		irq_dispose_mapping(irq);
		return error;
	}
	WRITE_ONCE(listener->irq, irq);
	answer = pv_call1(PV_CALL_EVENT_UPCALL, irqd_cfg(irq_get_irq_data(irq))->vector);
	if (answer.status < 0) {
		release_irq(listener);
		return paravirt_error(answer.status);
	}
	mutex_lock(&bind_lock); /* this is no interrupt that synchronize_irq() knows of */
	local_irq_disable();
	upcall(irq, listener); /* what was raised before sends nothing any more (EVT-7) */
	local_irq_enable();
	mutex_unlock(&bind_lock);
	return 0;
}

static int end(unsigned int cpu)
{
	u32 vcpu = cpu_data(cpu).apicid;

	pv_call1(PV_CALL_EVENT_UPCALL, PV_UPCALL_OFF);
	if (listeners[vcpu].irq)
		release_irq(&listeners[vcpu]);
	return 0;
}

/* ---- channels ---- */

int paravirt_event_bind(u32 vcpu, int channel, paravirt_event_fn *handler, void *data)
{
	struct listener *listener = &listeners[vcpu];

	if (vcpu >= paravirt.vcpus || channel >= PV_LIMIT_CHANNELS)
		return -EINVAL;
	mutex_lock(&bind_lock);
	if (channel < 0)
		channel = find_next_zero_bit(listener->taken, PV_LIMIT_CHANNELS, PV_CHANNEL_FIRST_FREE);
	if (channel >= PV_LIMIT_CHANNELS || test_bit(channel, listener->taken)) {
		mutex_unlock(&bind_lock);
		return -EBUSY;
	}
	set_bit(channel, listener->taken);
	listener->channels[channel].data = data;
	smp_store_release(&listener->channels[channel].handler, handler); /* after its data */
	mutex_unlock(&bind_lock);
	return channel;
}
EXPORT_SYMBOL_GPL(paravirt_event_bind);

void paravirt_event_synchronize(u32 vcpu)
{
	mutex_lock(&bind_lock);
	if (listeners[vcpu].irq)
		synchronize_irq(listeners[vcpu].irq);
	mutex_unlock(&bind_lock);
}
EXPORT_SYMBOL_GPL(paravirt_event_synchronize);

void paravirt_event_unbind(u32 vcpu, int channel)
{
	struct listener *listener = &listeners[vcpu];

	WRITE_ONCE(listener->channels[channel].handler, NULL);
	paravirt_event_synchronize(vcpu);
	clear_bit(channel, listener->taken);
}
EXPORT_SYMBOL_GPL(paravirt_event_unbind);

u32 paravirt_event_vcpu(u32 n)
{
	u32 i, heard = 0;

	for (i = 0; i < paravirt.vcpus; i++)
		heard += !!READ_ONCE(listeners[i].irq);
	n = heard ? n % heard : 0;
	for (i = 0; heard && i < paravirt.vcpus; i++)
		if (READ_ONCE(listeners[i].irq) && !n--)
			return i;
	return 0;
}
EXPORT_SYMBOL_GPL(paravirt_event_vcpu);

int paravirt_event_init(void)
{
	u32 i;

	listeners = kvcalloc(paravirt.vcpus, sizeof(*listeners), GFP_KERNEL);
	domain_name = irq_domain_alloc_named_fwnode("paravirt");
	if (listeners && domain_name)
		domain = irq_domain_create_hierarchy(x86_vector_domain, 0, 0, domain_name, &domain_ops, NULL);
	if (!domain) {
		paravirt_event_exit();
		return -ENOMEM;
	}
	for (i = 0; i < paravirt.vcpus; i++)
		listeners[i].page = paravirt.vcpu[i];
	hotplug_state = cpuhp_setup_state(CPUHP_AP_ONLINE_DYN, "paravirt:online", begin, end);
	if (hotplug_state < 0) {
		i = -hotplug_state;
		hotplug_state = 0;
		paravirt_event_exit();
		return -(int)i;
	}
	return 0;
}

void paravirt_event_exit(void)
{
	if (hotplug_state)
		cpuhp_remove_state(hotplug_state);
	if (domain)
		irq_domain_remove(domain);
	if (domain_name)
		irq_domain_free_fwnode(domain_name);
	kvfree(listeners);
	hotplug_state = 0;
	domain = NULL;
	domain_name = NULL;
	listeners = NULL;
}
