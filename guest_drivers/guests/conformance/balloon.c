/* SPDX-License-Identifier: 0BSD
 *
 * Chapter balloon: a device `rubber` that wants nothing.  Lists of pages are laid out by hand, of one page that is
 * nobody's.
 */
#include "paravirt/string.h"
#include "support/device.h"

#define NUMBER_BYTES ((uint32_t)sizeof(uint32_t))
#define NO_PAGE UINT32_MAX /* just below 16 TiB */
#define INFLATE 0
#define DEFLATE 1

static struct pv_virtio rubber;
static uint32_t *list, most; /* numbers of pages, twice as many as the guest has */

/* A list that holds the spare page again and again. */
static bool make_list(void)
{
	uint64_t pages = 0;
	uint8_t *spare = cf_take(CF_PAGE, CF_PAGE);

	for (uint32_t i = 0; i < cf_boot.memory_count; i++)
		pages += cf_boot.memory[i].size_bytes / CF_PAGE;
	most = (uint32_t)(2 * pages);
	list = cf_take((uint64_t)most * NUMBER_BYTES, CF_PAGE);
	for (uint32_t i = 0; list && spare && i < most; i++)
		list[i] = (uint32_t)(pv_gpa(spare) / CF_PAGE);
	return list && spare;
}

/* Shows the queue a list of so many bytes. */
static bool show(uint16_t queue, uint32_t size_bytes)
{
	struct pv_queue_setup setup = cf_queue_setup();

	setup.queue = queue;
	if (!cf_want(cf_up(&rubber, 0, &setup), "the device starts"))
		return false;
	cf_ring.descriptors[0] = (struct pv_virtq_desc){ pv_gpa(list), size_bytes, 0, 0 };
	CF_STORE(cf_ring.avail.index, 1);
	rubber.transport->notify(&rubber, queue);
	return true;
}

static void refuses(uint16_t queue, uint32_t size_bytes, const char *what)
{
	cf_want(show(queue, size_bytes) && cf_gives_up(&rubber), what);
}

static void lists(void)
{
	cf_case("BAL-1 lists of pages, and what is none");
	for (uint16_t queue = INFLATE; queue <= DEFLATE; queue++) {
		cf_want(show(queue, 2 * NUMBER_BYTES) && cf_used(1), "a list comes back");
		cf_expect(cf_ring.entries[0].written_bytes, 0, "bytes written");
		refuses(queue, 2 * NUMBER_BYTES - 1, "a part of a number: the device gives up");
		refuses(queue, most * NUMBER_BYTES, "more than there are pages: the device gives up");
		uint32_t spare = list[1];
		list[1] = NO_PAGE;
		refuses(queue, 2 * NUMBER_BYTES, "a page that is not the guest's: the device gives up");
		list[1] = spare;
	}
	cf_down(&rubber);
}

static void balloon(void)
{
	if (cf_device(&rubber, PV_DEVICE_TYPE_BALLOON, "rubber") && make_list()) {
		lists();
		return;
	}
	cf_case("BAL-1 lists of pages");
	cf_skip("no such device, or no memory for a list");
}

CF_CHAPTER(balloon, balloon);
