/* SPDX-License-Identifier: 0BSD
 *
 * Channels: handlers, masks, upcalls and waiting.
 *
 * Every access to the shared words is sequentially consistent: the host raises (pending bit,
 * upcall_pending, then reads upcall_mask) while the guest releases (upcall_mask, then reads
 * upcall_pending), and at least one of the two must see the other's store.
 */
#include "paravirt/event.h"
#include "paravirt/vcpu.h"

#define WORDS (PV_LIMIT_CHANNELS / 64)
#define APIC_EOI 0xfee000b0ull

static struct {
	pv_event_fn *handler;
	void *opaque;
} table[PV_LIMIT_CHANNELS];

void pv_event_handle(uint32_t channel, pv_event_fn *handler, void *opaque)
{
	table[channel].handler = NULL;
	__atomic_store_n(&table[channel].opaque, opaque, __ATOMIC_SEQ_CST);
	__atomic_store_n(&table[channel].handler, handler, __ATOMIC_SEQ_CST);
}

static bool handle_pending(struct pv_vcpu_page *page)
{
	bool any = false;

	__atomic_exchange_n(&page->upcall_pending, 0, __ATOMIC_SEQ_CST); /* EVT-3: before the words are read */
	for (uint32_t word = 0; word < WORDS; word++) {
		uint64_t open = ~__atomic_load_n(&page->mask[word], __ATOMIC_SEQ_CST);
		uint64_t bits = __atomic_load_n(&page->pending[word], __ATOMIC_SEQ_CST) & open;

		if (!bits)
			continue;
		__atomic_fetch_and(&page->pending[word], ~bits, __ATOMIC_SEQ_CST);
		any = true;
		for (; bits; bits &= bits - 1) {
			uint32_t channel = word * 64 + (uint32_t)__builtin_ctzll(bits);

			if (table[channel].handler)
				table[channel].handler(channel, table[channel].opaque);
		}
	}
	return any;
}

void pv_event_hold(struct pv_vcpu_page *page)
{
	__atomic_store_n(&page->upcall_mask, 1, __ATOMIC_SEQ_CST);
}

void pv_event_release(struct pv_vcpu_page *page)
{
	/* What came while upcalls were held has sent none: look after every release (EVT-3). */
	for (;;) {
		__atomic_store_n(&page->upcall_mask, 0, __ATOMIC_SEQ_CST);
		if (!__atomic_load_n(&page->upcall_pending, __ATOMIC_SEQ_CST))
			return;
		pv_event_hold(page);
		handle_pending(page);
	}
}

void pv_event_upcall(struct pv_vcpu_page *page)
{
	/* Sent before the code that we interrupted held upcalls back: it will look when it releases. */
	if (__atomic_load_n(&page->upcall_mask, __ATOMIC_SEQ_CST))
		return;
	pv_event_hold(page);
	handle_pending(page); /* may find nothing (EVT-4) */
	pv_event_release(page);
}

void pv_event_end(struct pv_vcpu_page *page)
{
	/* One instruction: between two the host may take the bit back (EVT-14). */
	if (!(__atomic_fetch_and(&page->eoi, ~1u, __ATOMIC_SEQ_CST) & 1))
		*(volatile uint32_t *)pv_at(APIC_EOI) = 0;
}

bool pv_event_poll(struct pv_vcpu_page *page)
{
	return handle_pending(page);
}

void pv_event_wait(struct pv_vcpu_page *page, uint64_t deadline_ns)
{
	/* An event after this check sets upcall_pending, and then block returns at once (VCPU-3). */
	if (!handle_pending(page)) {
		pv_vcpu_block(deadline_ns);
		handle_pending(page);
	}
}

int64_t pv_event_ring(struct pv_vcpu_page *page, uint32_t channel, uint16_t doorbell_port)
{
	uint64_t bit = 1ull << channel % 64;

	if (channel >= PV_LIMIT_CHANNELS) /* EVT-6 */
		return PV_STATUS_NOT_FOUND;
	__atomic_fetch_or(&page->pending[channel / 64], bit, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&page->mask[channel / 64], __ATOMIC_SEQ_CST) & bit)
		return PV_STATUS_OK;
	if (__atomic_load_n(&page->state, __ATOMIC_SEQ_CST) != PV_VCPU_STATE_RUNNING)
		return pv_event_send(page->index, channel);
	if (__atomic_exchange_n(&page->upcall_pending, 1, __ATOMIC_SEQ_CST))
		return PV_STATUS_OK; /* who set it has seen to the rest */
	if (!__atomic_load_n(&page->upcall_mask, __ATOMIC_SEQ_CST))
		pv_out32(doorbell_port, (uint32_t)PV_EVENT_DOORBELL << 16 | page->index);
	/* It may have gone to sleep without having seen upcall_pending: then this sees BLOCKED (EVT-11). */
	if (__atomic_load_n(&page->state, __ATOMIC_SEQ_CST) != PV_VCPU_STATE_RUNNING)
		return pv_event_send(page->index, channel);
	return PV_STATUS_OK;
}

void pv_event_mask(struct pv_vcpu_page *page, uint32_t channel)
{
	__atomic_fetch_or(&page->mask[channel / 64], 1ull << channel % 64, __ATOMIC_SEQ_CST);
}

void pv_event_unmask(struct pv_vcpu_page *page, uint32_t channel)
{
	__atomic_fetch_and(&page->mask[channel / 64], ~(1ull << channel % 64), __ATOMIC_SEQ_CST);
	/* What came while the channel was masked has raised nothing: handle it here. */
	if (!__atomic_load_n(&page->upcall_mask, __ATOMIC_SEQ_CST)) {
		pv_event_hold(page);
		handle_pending(page);
		pv_event_release(page);
	} else {
		__atomic_store_n(&page->upcall_pending, 1, __ATOMIC_SEQ_CST); /* for the release, or the next wait */
	}
}
