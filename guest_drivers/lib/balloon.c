/* SPDX-License-Identifier: 0BSD
 *
 * A balloon, and the host that is reached by the service memory.
 */
#include "paravirt/balloon.h"
#include "paravirt/memory.h"

_Static_assert(sizeof(struct pv_balloon_leaf) == PV_BALLOON_PAGE_BYTES, "a leaf is a page");

/* In as many calls as it takes (MEM-6). */
static int64_t move_by_calls(struct pv_balloon_host *host, bool in, const struct pv_memory_range *ranges,
			     uint32_t count)
{
	(void)host;
	while (count) {
		struct pv_answer answer = in ? pv_memory_inflate(ranges, count) : pv_memory_deflate(ranges, count);

		if (answer.status < 0)
			return answer.status;
		if (!answer.value || answer.value > count) /* it would go on for ever */
			return PV_STATUS_FAILED;
		ranges += answer.value;
		count -= (uint32_t)answer.value;
	}
	return PV_STATUS_OK;
}

struct pv_balloon_host pv_balloon_by_calls = { .move = move_by_calls };

void pv_balloon_init(struct pv_balloon *balloon, struct pv_balloon_host *host, const struct pv_balloon_source *source)
{
	balloon->host = host;
	balloon->source = *source;
	balloon->bytes = 0;
	balloon->leaves = NULL;
	balloon->range_count = 0;
}

/* Puts a page beside the last one where it can. False: there are as many ranges as one call takes. */
static bool add_page(struct pv_balloon *balloon, uint64_t gpa)
{
	struct pv_memory_range *last = balloon->range_count ? &balloon->ranges[balloon->range_count - 1] : NULL;

	if (last && gpa == last->gpa + last->size_bytes) {
		last->size_bytes += PV_BALLOON_PAGE_BYTES;
	} else if (last && gpa + PV_BALLOON_PAGE_BYTES == last->gpa) {
		last->gpa = gpa;
		last->size_bytes += PV_BALLOON_PAGE_BYTES;
	} else {
		if (balloon->range_count == PV_LIMIT_MEMORY_RANGES)
			return false;
		balloon->ranges[balloon->range_count++] = (struct pv_memory_range){ gpa, PV_BALLOON_PAGE_BYTES };
	}
	return true;
}

/* The pages of a leaf from `first` on belong to the guest again. */
static void give_back(struct pv_balloon *balloon, struct pv_balloon_leaf *leaf, uint64_t first)
{
	while (leaf->count > first)
		balloon->source.give(balloon->source.opaque, pv_at(leaf->pages[--leaf->count]));
}

/* One leaf's worth of pages into the balloon, at most `most`. */
static int64_t inflate(struct pv_balloon *balloon, uint64_t most)
{
	struct pv_balloon_leaf *leaf = balloon->source.take(balloon->source.opaque);

	if (!leaf)
		return PV_STATUS_NO_MEMORY;
	leaf->count = 0;
	balloon->range_count = 0;
	while (leaf->count < PV_BALLOON_LEAF_PAGES && leaf->count < most) {
		void *page = balloon->source.take(balloon->source.opaque);

		if (!page)
			break;
		leaf->pages[leaf->count] = pv_gpa(page);
		if (!add_page(balloon, pv_gpa(page))) {
			balloon->source.give(balloon->source.opaque, page);
			break;
		}
		leaf->count++;
	}
	int64_t status = leaf->count ? balloon->host->move(balloon->host, true, balloon->ranges, balloon->range_count)
				     : PV_STATUS_NO_MEMORY;
	if (status != PV_STATUS_OK) {
		/* Of what went in before the host refused nothing is lost but its contents. */
		give_back(balloon, leaf, 0);
		balloon->source.give(balloon->source.opaque, leaf);
		return status;
	}
	leaf->next = balloon->leaves;
	balloon->leaves = leaf;
	balloon->bytes += leaf->count * PV_BALLOON_PAGE_BYTES;
	return PV_STATUS_OK;
}

/* Pages of the newest leaf out of the balloon, at most `most`; the host is told before they are used. */
static int64_t deflate(struct pv_balloon *balloon, uint64_t most)
{
	struct pv_balloon_leaf *leaf = balloon->leaves;
	uint64_t first = leaf->count;

	balloon->range_count = 0;
	while (first && leaf->count - first < most && add_page(balloon, leaf->pages[first - 1]))
		first--;
	int64_t status = balloon->host->move(balloon->host, false, balloon->ranges, balloon->range_count);
	if (status != PV_STATUS_OK)
		return status;
	balloon->bytes -= (leaf->count - first) * PV_BALLOON_PAGE_BYTES;
	give_back(balloon, leaf, first);
	if (!leaf->count) {
		balloon->leaves = leaf->next;
		balloon->source.give(balloon->source.opaque, leaf);
	}
	return PV_STATUS_OK;
}

int64_t pv_balloon_adjust(struct pv_balloon *balloon, uint64_t target_bytes)
{
	uint64_t target = target_bytes / PV_BALLOON_PAGE_BYTES;
	int64_t status = PV_STATUS_OK;

	while (status == PV_STATUS_OK && balloon->bytes / PV_BALLOON_PAGE_BYTES != target) {
		uint64_t pages = balloon->bytes / PV_BALLOON_PAGE_BYTES;

		status = pages < target ? inflate(balloon, target - pages) : deflate(balloon, pages - target);
	}
	return status;
}
