/* SPDX-License-Identifier: 0BSD
 *
 * A guest that gives its memory to the host and takes it back: touches all it has but a reserve, then follows the
 * host's wish until that is nothing, and finds its memory usable.  By the device `balloon` if it is there, else by
 * service memory.  Reports as TAP.
 */
#include "paravirt/balloon.h"
#include "paravirt/base.h"
#include "paravirt/guest.h"
#include "paravirt/memory.h"
#include "paravirt/notes.h"
#include "paravirt/virtio_balloon.h"
#include "tap.h"

#define FEATURES (PV_MEMORY_FEATURE_BALLOON | PV_MEMORY_FEATURE_FREE_PAGE_REPORTING)

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_SYSTEM, 0), PV_NEED(PV_SERVICE_MEMORY, FEATURES));
PV_MANIFEST(PV_WANT("balloon", PV_DEVICE_TYPE_BALLOON, PV_DEVICE_FLAG_OPTIONAL));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

#define PAGE PV_BALLOON_PAGE_BYTES
#define POLL_NS 1000000
#define RESERVE_BYTES (1u << 20)

/* An allocator: free pages, each of which begins with the next one's address. */
static uint64_t *free_pages;
static uint64_t free_count;

static void *take(void *opaque)
{
	uint64_t *page = free_pages;

	(void)opaque;
	if (page) {
		free_pages = pv_at(*page);
		free_count--;
	}
	return page;
}

static void give(void *opaque, void *page)
{
	(void)opaque;
	*(uint64_t *)page = pv_gpa(free_pages);
	free_pages = page;
	free_count++;
}

static const struct pv_balloon_source source = { .take = take, .give = give };
static struct pv_balloon balloon;
static struct pv_virtio_balloon by_device;
static bool has_device;
static uint64_t pages_bytes;

/* Upwards, so that pages that lie side by side are taken one after the other. */
static void take_memory(void)
{
	pages_bytes = (pv_left_bytes() - RESERVE_BYTES) & ~(uint64_t)(PAGE - 1);
	char *memory = pv_take(pages_bytes, PAGE);

	if (!memory)
		pv_panic("no memory");
	for (uint64_t at = pages_bytes; at; at -= PAGE)
		give(NULL, memory + at - PAGE);
}

static void report_free(void)
{
	struct pv_memory_range range = { pv_gpa(take(NULL)), PAGE };
	uint64_t *page = pv_at(range.gpa);

	*page = 1;
	tap_is(pv_memory_report(&range, 1).status, PV_STATUS_OK, "report of a free page");
	tap_ok(*page <= 1, "reads as it was, or as zero", (int64_t)*page);
	give(NULL, page);
}

/* Each of them can be written and keeps what was written. */
static bool usable(void)
{
	uint64_t written = 0, found = 0;

	for (uint64_t *page = free_pages; page; page = pv_at(*page))
		page[1] = ++written;
	for (uint64_t *page = free_pages; page && page[1] == found + 1; page = pv_at(*page))
		found++;
	return found == free_count && written == free_count;
}

static uint64_t target(void)
{
	return has_device ? pv_virtio_balloon_target(&by_device) : pv_memory_target().value;
}

/* Over virtio-mmio nothing tells of another wish, so it is asked for. */
static void wait_for_another(uint64_t target_bytes)
{
	bool told = !has_device || by_device.device->channel != PV_NO_CHANNEL;

	pv_hold();
	if (target() == target_bytes)
		pv_idle(told ? PV_DEADLINE_NEVER : pv_now_ns() + POLL_NS);
	pv_release();
}

static void follow(void)
{
	int64_t status = PV_STATUS_OK;
	bool given = false;

	for (;;) {
		uint64_t target_bytes = target();

		if (given && !target_bytes)
			break;
		status = pv_balloon_adjust(&balloon, target_bytes);
		if (status != PV_STATUS_OK && status != PV_STATUS_NO_MEMORY)
			break;
		if (target_bytes && !given)
			pv_print("# holds %lu bytes\n", balloon.bytes);
		given = given || target_bytes;
		wait_for_another(target_bytes);
	}
	tap_ok(status == PV_STATUS_OK || status == PV_STATUS_NO_MEMORY, "the host takes what it wants", status);
}

int pv_main(void)
{
	static struct pv_virtio device;
	struct pv_wish wish = { .service = PV_SERVICE_MEMORY, .needed = FEATURES };

	tap_is(pv_negotiate(&wish, 1), PV_STATUS_OK, "features of service memory");
	take_memory();
	report_free();
	has_device = pv_device(&device, PV_DEVICE_TYPE_BALLOON, NULL) == PV_STATUS_OK;
	if (has_device)
		tap_is(pv_virtio_balloon_init(&by_device, &device), PV_STATUS_OK, "the device");
	pv_balloon_init(&balloon, has_device ? &by_device.host : &pv_balloon_by_calls, &source);
	pv_print("# touched %lu bytes\n", pages_bytes);
	follow();
	tap_is(pv_balloon_deinit(&balloon), PV_STATUS_OK, "everything out of the balloon");
	tap_is((int64_t)(free_count * PAGE), (int64_t)pages_bytes, "every page is the guest's again");
	tap_ok(usable(), "every page can be used", 0);
	return tap_done();
}
