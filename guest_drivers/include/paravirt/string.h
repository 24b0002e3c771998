/* SPDX-License-Identifier: 0BSD
 *
 * The memory and string functions that a compiler may call by itself, and the few that drivers use,
 * with the meaning the C standard gives them.
 */
#ifndef PARAVIRT_STRING_H
#define PARAVIRT_STRING_H

#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
int memcmp(const void *a, const void *b, size_t size);
size_t strlen(const char *text);
size_t strnlen(const char *text, size_t room);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t room);
char *strstr(const char *text, const char *part);

#endif
