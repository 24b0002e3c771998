/* SPDX-License-Identifier: 0BSD
 *
 * Memory and string functions.  Bulk work is done by the string instructions, in words first: fast on
 * every CPU of the last ten years, and the fewest steps where a host emulates them one by one.
 */
#include "paravirt/string.h"

void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
	void *at = to;
	size_t words = size / 8, bytes = size % 8;

	__asm__ volatile("rep movsq" : "+D"(at), "+S"(from), "+c"(words) : : "memory");
	__asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(bytes) : : "memory");
	return to;
}

void *memmove(void *to, const void *from, size_t size)
{
	unsigned char *t = to;
	const unsigned char *f = from;

	if (t <= f || t >= f + size)
		return memcpy(to, from, size);
	while (size--) {
		t[size] = f[size];
		__asm__ volatile("" : : : "memory"); /* or the compiler makes it a call of memmove */
	}
	return to;
}

void *memset(void *to, int byte, size_t size)
{
	void *at = to;
	size_t words = size / 8, bytes = size % 8;
	unsigned long pattern = (unsigned char)byte * 0x0101010101010101ul;

	__asm__ volatile("rep stosq" : "+D"(at), "+c"(words) : "a"(pattern) : "memory");
	__asm__ volatile("rep stosb" : "+D"(at), "+c"(bytes) : "a"(pattern) : "memory");
	return to;
}

int memcmp(const void *a, const void *b, size_t size)
{
	const unsigned char *x = a, *y = b;

	for (size_t i = 0; i < size; i++)
		if (x[i] != y[i])
			return x[i] - y[i];
	return 0;
}

size_t strnlen(const char *text, size_t room)
{
	size_t length = 0;

	while (length < room && text[length])
		length++;
	return length;
}

size_t strlen(const char *text)
{
	return strnlen(text, (size_t)-1);
}

int strncmp(const char *a, const char *b, size_t room)
{
	for (size_t i = 0; i < room; i++) {
		unsigned char x = (unsigned char)a[i], y = (unsigned char)b[i];

		if (x != y || !x)
			return x - y;
	}
	return 0;
}

int strcmp(const char *a, const char *b)
{
	return strncmp(a, b, (size_t)-1);
}

char *strstr(const char *text, const char *part)
{
	size_t length = strlen(part);

	for (; *text; text++)
		if (!strncmp(text, part, length))
			return (char *)(size_t)text;
	return length ? NULL : (char *)(size_t)text;
}
