/* SPDX-License-Identifier: 0BSD
 *
 * An image that a host must refuse: its notes are in the file that includes this, and if it runs all the same
 * it says so, in a case that fails.
 */
#ifndef CONFORMANCE_REFUSED_H
#define CONFORMANCE_REFUSED_H

#include "conformance.h"
#include "paravirt/notes.h"

#define CF_REFUSED(what)                         \
	static void refused(void)                \
	{                                        \
		cf_true(false, what " was run"); \
	}                                        \
	CF_CHAPTER(refused, refused)

/* A note of any type, whose payload are these words. */
#define CF_NOTE(name, type, count, ...)                                          \
	static const struct {                                                    \
		struct pv_note_head head;                                        \
		uint32_t words[count];                                           \
	} PV_NOTE_SYMBOL(name)                                                   \
	{                                                                        \
		PV_NOTE_HEAD(type, (count) * sizeof(uint32_t)), { __VA_ARGS__ }, \
	}

#endif
