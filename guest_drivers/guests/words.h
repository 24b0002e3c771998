/* SPDX-License-Identifier: 0BSD
 *
 * Words `name=value` of the command line, for guests that take some.
 */
#ifndef WORDS_H
#define WORDS_H

#include "paravirt/guest.h"
#include "paravirt/string.h"

/* The value behind `name=`, or NULL. */
static inline const char *word(const char *name)
{
	const char *at = pv_guest.command_line;
	size_t length = strlen(name);

	for (; (at = strstr(at, name)); at += length)
		if ((at == pv_guest.command_line || at[-1] == ' ') && at[length] == '=')
			return at + length + 1;
	return NULL;
}

static inline bool word_is(const char *name, const char *value, bool otherwise)
{
	const char *at = word(name);

	return at ? !strncmp(at, value, strlen(value)) : otherwise;
}

/* Ends the machine with `status` if the value is no number from 1 to most. */
static inline uint64_t word_number(const char *name, uint64_t otherwise, uint64_t most, int status)
{
	const char *at = word(name);
	uint64_t value = 0;

	if (!at)
		return otherwise;
	for (; *at >= '0' && *at <= '9' && value <= most; at++)
		value = value * 10 + (uint64_t)(*at - '0');
	if (!value || value > most || (*at && *at != ' ')) {
		pv_print("%s must be a number from 1 to %lu\n", name, most);
		pv_exit(status);
	}
	return value;
}

#endif
