/* SPDX-License-Identifier: 0BSD
 *
 * A random generator that no two copies of a machine share: ChaCha20 (RFC 8439) whose key is replaced by its own
 * output at each draw, and that looks at the continuity page after drawing and before it gives anything out.
 *
 * One vCPU at a time.  What was drawn before a machine was copied is in both copies: a key that is to be secret from
 * the other copy is drawn after the event.
 */
#ifndef PARAVIRT_RANDOM_H
#define PARAVIRT_RANDOM_H

#include "paravirt/continuity.h"

#define PV_RANDOM_KEY_BYTES 32

struct pv_random {
	const struct pv_continuity_page *page; /* NULL: the host tells of nothing */
	uint64_t counter; /* of the event whose seed was mixed in */
	uint8_t key[PV_RANDOM_KEY_BYTES];
	uint8_t generation[16];
};

/* The seed is secret and 32 bytes or more: that of the boot information, or from entropy.h. */
void pv_random_init(struct pv_random *random, const struct pv_continuity_page *page, const void *seed,
		    uint64_t size_bytes);
/* Adds to what is not known of the key; it never makes less of it. */
void pv_random_mix(struct pv_random *random, const void *seed, uint64_t size_bytes);
void pv_random_draw(struct pv_random *random, void *to, uint64_t size_bytes);

#endif
