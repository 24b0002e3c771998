/* SPDX-License-Identifier: 0BSD
 *
 * A balloon: takes free pages from a guest's allocator and gives them to the host, as many as that wants, and takes
 * them back.  It knows neither the allocator nor how the host is reached: by the service memory
 * (pv_balloon_by_calls) or by a virtio device (virtio_balloon.h).
 *
 * Of every 511 pages that it takes it keeps one, in which it writes down the others.
 *
 * Locking: none.  A balloon is used by one context at a time; give and take are called from there.
 */
#ifndef PARAVIRT_BALLOON_H
#define PARAVIRT_BALLOON_H

#include "paravirt/call.h"

#define PV_BALLOON_PAGE_BYTES 4096u
#define PV_BALLOON_LEAF_PAGES 510u

/* The allocator: whole pages, 4 KiB aligned. */
struct pv_balloon_source {
	void *(*take)(void *opaque); /* NULL: there is none left to give away */
	void (*give)(void *opaque, void *page); /* with any contents */
	void *opaque;
};

/* Tells the host of ranges that are put in, or are about to be taken out. A status; OK: all of them. */
struct pv_balloon_host {
	int64_t (*move)(struct pv_balloon_host *host, bool in, const struct pv_memory_range *ranges, uint32_t count);
};

/* A page in which others are written down. */
struct pv_balloon_leaf {
	struct pv_balloon_leaf *next;
	uint64_t count;
	uint64_t pages[PV_BALLOON_LEAF_PAGES]; /* GPAs */
};

struct pv_balloon {
	struct pv_balloon_host *host;
	struct pv_balloon_source source;
	uint64_t bytes; /* in the balloon */
	struct pv_balloon_leaf *leaves;
	struct pv_memory_range ranges[PV_LIMIT_MEMORY_RANGES]; /* of the step under way */
	uint32_t range_count;
};

/* The service memory, whose feature BALLOON was accepted. */
extern struct pv_balloon_host pv_balloon_by_calls;

void pv_balloon_init(struct pv_balloon *balloon, struct pv_balloon_host *host, const struct pv_balloon_source *source);
/*
 * Inflates or deflates until so many bytes are in it: OK, NO_MEMORY (the allocator has no more), or what the host
 * answered. What was done until then stays.
 */
int64_t pv_balloon_adjust(struct pv_balloon *balloon, uint64_t target_bytes);
/* Takes everything out. A guest that forgets its balloon has its host believe that it still holds the pages. */
static inline int64_t pv_balloon_deinit(struct pv_balloon *balloon)
{
	return pv_balloon_adjust(balloon, 0);
}

#endif
