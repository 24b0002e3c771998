/* SPDX-License-Identifier: 0BSD
 *
 * Reporting as TAP: a case is a line, written when the next begins; what it found wrong stands above it.
 */
#include "conformance.h"
#include "paravirt/format.h"

#define LINE_BYTES 400
#define NAME_BYTES 240
#define DIAGNOSTICS 4 /* of a case; the rest would say the same */

static struct {
	char name[NAME_BYTES];
	const char *skipped;
	uint32_t wrong;
	bool open;
} current;
static uint32_t cases, failures;

static void print(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void print_list(const char *format, va_list args)
{
	char line[LINE_BYTES];
	size_t length = pv_vformat(line, sizeof(line) - 1, format, args);

	if (length > sizeof(line) - 2)
		length = sizeof(line) - 2;
	line[length++] = '\n';
	pv_call2(PV_CALL_CONSOLE_WRITE, pv_gpa(line), length);
}

static void print(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	print_list(format, args);
	va_end(args);
}

void cf_end_case(void)
{
	if (!current.open)
		return;
	current.open = false;
	cases++;
	failures += current.wrong != 0;
	if (current.wrong)
		print("not ok %u - %s", cases, current.name);
	else if (current.skipped)
		print("ok %u - %s # SKIP %s", cases, current.name, current.skipped);
	else
		print("ok %u - %s", cases, current.name);
}

void cf_case(const char *format, ...)
{
	va_list args;

	cf_end_case();
	current.wrong = 0;
	current.skipped = NULL;
	current.open = true;
	va_start(args, format);
	pv_vformat(current.name, sizeof(current.name), format, args);
	va_end(args);
}

bool cf_expect(int64_t got, int64_t expected, const char *what)
{
	if (got != expected && current.wrong++ < DIAGNOSTICS)
		print("# %s: expected %ld, got %ld", what, expected, got);
	return got == expected;
}

bool cf_want(bool holds, const char *what)
{
	if (!holds && current.wrong++ < DIAGNOSTICS)
		print("# %s: does not hold", what);
	return holds;
}

void cf_skip(const char *why)
{
	current.skipped = why;
}

bool cf_is(int64_t got, int64_t expected, const char *what)
{
	cf_case("%s", what);
	return cf_expect(got, expected, "value");
}

bool cf_true(bool holds, const char *what)
{
	cf_case("%s", what);
	return cf_want(holds, "what the case says");
}

void cf_note(const char *format, ...)
{
	char line[LINE_BYTES];
	va_list args;

	va_start(args, format);
	pv_vformat(line, sizeof(line), format, args);
	va_end(args);
	print("# %s", line);
}

uint32_t cf_finish(void)
{
	cf_end_case();
	print("1..%u", cases);
	return failures;
}

void cf_bail_out(const char *format, ...)
{
	char line[LINE_BYTES];
	va_list args;

	va_start(args, format);
	pv_vformat(line, sizeof(line), format, args);
	va_end(args);
	print("Bail out! %s, in the case: %s", line, current.open ? current.name : "none");
	cf_shutdown(PV_SHUTDOWN_FAILURE, 1);
}
