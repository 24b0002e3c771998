/* SPDX-License-Identifier: 0BSD
 *
 * Service event: channels of a vCPU, their handlers, and waiting without losing a wake-up.
 *
 * A handler runs in the upcall, on the stack of whatever it interrupted, with further upcalls held
 * back; without upcalls it runs in pv_event_wait.  It must touch nothing that the code which it
 * interrupts has half changed: set a word and let the waiting code do the work.
 *
 * The way to wait for a condition that a handler brings about:
 *
 *	pv_event_hold(page);
 *	while (!condition)
 *		pv_event_wait(page, deadline_ns);
 *	pv_event_release(page);
 */
#ifndef PARAVIRT_EVENT_H
#define PARAVIRT_EVENT_H

#include "paravirt/call.h"

typedef void pv_event_fn(uint32_t channel, void *opaque);

/* One table for all vCPUs: a channel means the same on each. Set before the channel can be raised. */
void pv_event_handle(uint32_t channel, pv_event_fn *handler, void *opaque);

/* A masked channel stays pending and causes neither upcall nor wake-up (EVT-5). */
void pv_event_mask(struct pv_vcpu_page *page, uint32_t channel);
/* Handles what became pending meanwhile. */
void pv_event_unmask(struct pv_vcpu_page *page, uint32_t channel);

/* Holds upcalls back, and lets them through again after handling what came meanwhile (EVT-3). Not nested. */
void pv_event_hold(struct pv_vcpu_page *page);
void pv_event_release(struct pv_vcpu_page *page);
/* With upcalls held: handles what is pending, or waits for something first. May return without an event. */
void pv_event_wait(struct pv_vcpu_page *page, uint64_t deadline_ns);
/* With upcalls held: handles what is pending now; true if there was anything. */
bool pv_event_poll(struct pv_vcpu_page *page);
/* What the upcall's entry calls. */
void pv_event_upcall(struct pv_vcpu_page *page);
/*
 * Before that, if the upcall is an interrupt: ends it (EVT-9), in the vCPU's page where the host lets it, which it may
 * once the feature EOI of the service was accepted before pv_event_upcall_vector; otherwise by the local APIC, which is
 * on and mapped one to one (BOOT-11).
 */
void pv_event_end(struct pv_vcpu_page *page);

static inline int64_t pv_event_send(uint32_t vcpu, uint32_t channel)
{
	return pv_call2(PV_CALL_EVENT_SEND, vcpu, channel).status;
}

/*
 * The same through the page of the vCPU, without a call unless it waits or is stopped (EVT-12): what runs costs an
 * exit that ends in the host's kernel, and one that holds upcalls back, or has one coming, costs nothing.  The feature
 * DOORBELL of the service was accepted (base.h); the port is discovery's.  What the call answers, otherwise OK.
 */
int64_t pv_event_ring(struct pv_vcpu_page *page, uint32_t channel, uint16_t doorbell_port);

/* Chooses the calling vCPU's upcall vector: PV_UPCALL_OFF, PV_UPCALL_NMI or an interrupt. */
static inline int64_t pv_event_upcall_vector(uint32_t vector)
{
	return pv_call1(PV_CALL_EVENT_UPCALL, vector).status;
}

#endif
