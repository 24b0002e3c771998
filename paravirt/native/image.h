/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What image.c and notes.c know of an image together.
 */
#ifndef PARAVIRT_IMAGE_H
#define PARAVIRT_IMAGE_H

#include "host.h"

/* Which notes were there so far, in all note segments. */
struct pv_notes {
	uint32_t seen; /* bit 0: any of ours; bit n: type n */
	uint64_t bytes;
	bool entered; /* by PVH, at pvh_entry_gpa */
	uint64_t pvh_entry_gpa;
	bool moved; /* a segment's virtual and physical addresses differ */
};

/* Takes over what the notes of one segment say; NULL, or what is wrong (NOTE-1, NOTE-2, NOTE-6). */
const char *pv_notes_parse(struct pv_notes *notes, struct pv_image *image, const uint8_t *area, uint64_t size_bytes,
			   uint32_t align);

#endif
