/* SPDX-License-Identifier: 0BSD
 *
 * Notes that no version knows: one of Paravirt's below MANDATORY, one of another owner's.
 */
#include "../support/conformance.h"
#include "paravirt/notes.h"

static const struct {
	struct pv_note_head head;
	uint32_t words[3];
} PV_NOTE_SYMBOL(unknown){
	PV_NOTE_HEAD(PV_NOTE_MANDATORY - 1, 3 * sizeof(uint32_t)),
	{ 1, 2, 3 },
};

static const struct {
	uint32_t owner_bytes, payload_bytes, type;
	char owner[8];
	uint32_t word;
} PV_NOTE_SYMBOL(foreign){ 7, 4, PV_NOTE_MANDATORY + 1, "Others", 0 };

static void unknown_note(void)
{
	cf_true(true, "NOTE-2 an image with an unknown note below MANDATORY, and one of another owner, runs");
}

CF_CHAPTER(unknown_note, unknown_note);
