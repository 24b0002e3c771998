/* SPDX-License-Identifier: BSD-2-Clause
 *
 * String functions and formatting of the guest library beside the C library's, on random arguments.
 * The guest's string functions are compiled under other names, see test_library.py.
 */
#include <string.h>

#include "check.h"
#include "paravirt/format.h"

void *guest_memcpy(void *restrict to, const void *restrict from, size_t size);
void *guest_memmove(void *to, const void *from, size_t size);
void *guest_memset(void *to, int byte, size_t size);
int guest_memcmp(const void *a, const void *b, size_t size);
size_t guest_strlen(const char *text);
size_t guest_strnlen(const char *text, size_t room);
int guest_strcmp(const char *a, const char *b);
int guest_strncmp(const char *a, const char *b, size_t room);
char *guest_strstr(const char *text, const char *part);

#define ROUNDS 50000
#define ROOM 200

static uint64_t seed = 0x1234567;

static int sign(int x)
{
	return (x > 0) - (x < 0);
}

/* Few different bytes, so that comparisons run into equal ones. */
static void scramble(unsigned char *at, size_t size, uint32_t letters)
{
	for (size_t i = 0; i < size; i++)
		at[i] = (unsigned char)random_below(&seed, letters);
}

static void check_memory(void)
{
	unsigned char ours[ROOM], theirs[ROOM], source[ROOM];

	for (int i = 0; i < ROUNDS; i++) {
		size_t size = random_below(&seed, 80), to = random_below(&seed, 100), from = random_below(&seed, 100);

		scramble(ours, ROOM, 256);
		scramble(source, ROOM, 256);
		memcpy(theirs, ours, ROOM);
		CHECK(guest_memcpy(ours + to, source + from, size) == ours + to);
		memcpy(theirs + to, source + from, size);
		CHECK(!memcmp(ours, theirs, ROOM));
		CHECK(guest_memmove(ours + to, ours + from, size) == ours + to); /* may overlap, either way */
		memmove(theirs + to, theirs + from, size);
		CHECK(!memcmp(ours, theirs, ROOM));
		CHECK(guest_memset(ours + to, (int)size + 250, size) == ours + to);
		memset(theirs + to, (int)size + 250, size);
		CHECK(!memcmp(ours, theirs, ROOM));
		scramble(ours, ROOM, 2);
		CHECK(sign(guest_memcmp(ours, ours + to, size)) == sign(memcmp(ours, ours + to, size)));
	}
}

static void check_strings(void)
{
	char a[40], b[4];

	for (int i = 0; i < ROUNDS; i++) {
		size_t room = random_below(&seed, 12);

		scramble((unsigned char *)a, sizeof(a), 3);
		scramble((unsigned char *)b, sizeof(b), 3);
		a[sizeof(a) - 1] = b[sizeof(b) - 1] = 0;
		CHECK(guest_strlen(a) == strlen(a));
		CHECK(guest_strnlen(a, room) == strnlen(a, room));
		CHECK(sign(guest_strcmp(a, b)) == sign(strcmp(a, b)));
		CHECK(sign(guest_strncmp(a, b, room)) == sign(strncmp(a, b, room)));
		CHECK(guest_strstr(a, b) == strstr(a, b));
	}
	CHECK(guest_strcmp("\xff", "a") > 0);
}

/* The same arguments to both; the room may be too small, or nothing. */
#define SAME(room, ...)                                                             \
	do {                                                                        \
		char ours[80], theirs[80];                                          \
		memset(ours, '#', sizeof(ours));                                    \
		memset(theirs, '#', sizeof(theirs));                                \
		size_t length = pv_format((room) ? ours : NULL, room, __VA_ARGS__); \
		CHECK(length == (size_t)snprintf(theirs, room, __VA_ARGS__));       \
		CHECK(!memcmp(ours, theirs, sizeof(ours)));                         \
	} while (0)

static void check_format(void)
{
	static const size_t rooms[] = { 0, 1, 2, 5, 20, 79 };
	static const long numbers[] = { 0, 1, -1, 9, 10, -10, 2147483647, -2147483647 - 1, (long)(1ul << 63), 255 };

	for (size_t r = 0; r < sizeof(rooms) / sizeof(rooms[0]); r++) {
		size_t room = rooms[r];

		SAME(room, "nothing to convert");
		SAME(room, "%%|%c|%s|%10s|%-10s|%.2s|%.*s|%.0s", 'x', "text", "right", "left", "cut", 3, "cutting",
		     "no");
		SAME(room, "%p", (void *)(uintptr_t)0xfeed);
		for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
			long n = numbers[i];

			SAME(room, "%d %i %u %x %X", (int)n, (int)n, (unsigned)n, (unsigned)n, (unsigned)n);
			SAME(room, "%ld %lu %lx %zu %lld", n, (unsigned long)n, (unsigned long)n, (size_t)n,
			     (long long)n);
			SAME(room, "%5d|%-5d|%05d|%016lx|%*d", (int)n, (int)n, (int)n, (unsigned long)n, 7, (int)n);
		}
	}
	char text[16];
	const char *volatile odd = "100% %q %", *volatile none = NULL; /* what the compiler would not let pass */
	CHECK(pv_format(text, sizeof(text), "%s", odd) == 9 && !strcmp(text, odd));
	CHECK(pv_format(text, sizeof(text), "%s", none) == 6 && !strcmp(text, "(null)"));
	static const char *const unknown[] = { "%q", "%f %s", "%", "%5.1f|%s", "%hd %s", "%+d %s" };
	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
		char format[16], expected[16];
		snprintf(format, sizeof(format), "%%d,%s", unknown[i]);
		snprintf(expected, sizeof(expected), "7,%s", unknown[i]);
		const char *volatile hidden = format;
		/* the last argument is no address: it must not be taken for a string */
		CHECK(pv_format(text, sizeof(text), hidden, 7, 1, 2) == strlen(expected) && !strcmp(text, expected));
	}
}

int main(void)
{
	check_memory();
	check_strings();
	check_format();
	return 0;
}
