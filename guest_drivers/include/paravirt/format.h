/* SPDX-License-Identifier: 0BSD
 *
 * Formatting of text: the useful part of printf, without allocation.
 *
 * Conversions: %d %i %u %x %X %p %c %s %%, with the flags `-` and `0`, a width and (for %s) a
 * precision as digits or `*`, and the sizes `l`, `ll`, `z`.  There is no %f.  From anything else on, the
 * format is copied as it stands, and no argument is taken any more.
 */
#ifndef PARAVIRT_FORMAT_H
#define PARAVIRT_FORMAT_H

#include <stdarg.h>
#include <stddef.h>

/* As snprintf: writes at most room bytes, NUL included, and returns the length the whole text has. */
size_t pv_format(char *to, size_t room, const char *format, ...) __attribute__((format(printf, 3, 4)));
size_t pv_vformat(char *to, size_t room, const char *format, va_list args) __attribute__((format(printf, 3, 0)));

#endif
