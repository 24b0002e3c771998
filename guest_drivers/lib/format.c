/* SPDX-License-Identifier: 0BSD
 *
 * Formatting of text.
 */
#include <stdbool.h>
#include <stdint.h>

#include "paravirt/format.h"
#include "paravirt/string.h"

struct output {
	char *to;
	size_t room;
	size_t length; /* of the whole text, written or not */
};

struct spec {
	bool left;
	bool zero;
	int width;
	int precision; /* -1: none */
	int longs;
	char conversion;
};

static void put(struct output *out, char c)
{
	if (out->length + 1 < out->room)
		out->to[out->length] = c;
	out->length++;
}

static void put_padded(struct output *out, const struct spec *spec, const char *prefix, const char *text, size_t length)
{
	size_t before = strlen(prefix), total = before + length;
	size_t padding = spec->width > 0 && (size_t)spec->width > total ? (size_t)spec->width - total : 0;
	bool zeros = spec->zero && !spec->left;

	for (size_t i = 0; !zeros && !spec->left && i < padding; i++)
		put(out, ' ');
	for (size_t i = 0; i < before; i++)
		put(out, prefix[i]);
	for (size_t i = 0; zeros && i < padding; i++)
		put(out, '0');
	for (size_t i = 0; i < length; i++)
		put(out, text[i]);
	for (size_t i = 0; spec->left && i < padding; i++)
		put(out, ' ');
}

static void put_number(struct output *out, const struct spec *spec, uint64_t value, unsigned base, const char *prefix)
{
	const char *digits = spec->conversion == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
	char text[20];
	size_t at = sizeof(text);

	do {
		text[--at] = digits[value % base];
		value /= base;
	} while (value);
	put_padded(out, spec, prefix, text + at, sizeof(text) - at);
}

static int digits(const char **format)
{
	int value = 0;

	for (; **format >= '0' && **format <= '9'; (*format)++)
		value = value < 100000 ? value * 10 + (**format - '0') : value;
	return value;
}

static const char *parse(const char *format, struct spec *spec, va_list *args)
{
	*spec = (struct spec){ .precision = -1 };
	for (; *format == '-' || *format == '0'; format++) {
		spec->left |= *format == '-';
		spec->zero |= *format == '0';
	}
	if (*format == '*') {
		spec->width = va_arg(*args, int);
		format++;
	} else {
		spec->width = digits(&format);
	}
	if (*format == '.') {
		format++;
		if (*format == '*') {
			spec->precision = va_arg(*args, int);
			format++;
		} else {
			spec->precision = digits(&format);
		}
	}
	for (; *format == 'l' || *format == 'z'; format++)
		spec->longs++;
	spec->conversion = *format;
	return *format ? format + 1 : format;
}

/* False, with no argument taken, if there is no such conversion. */
static bool convert(struct output *out, const struct spec *spec, va_list *args)
{
	const char *text;
	int64_t number;
	char c;

	switch (spec->conversion) {
	case 'd':
	case 'i':
		number = spec->longs ? va_arg(*args, long) : va_arg(*args, int);
		put_number(out, spec, number < 0 ? -(uint64_t)number : (uint64_t)number, 10, number < 0 ? "-" : "");
		break;
	case 'u':
	case 'x':
	case 'X':
		put_number(out, spec, spec->longs ? va_arg(*args, unsigned long) : va_arg(*args, unsigned),
			   spec->conversion == 'u' ? 10 : 16, "");
		break;
	case 'p':
		put_number(out, spec, (uintptr_t)va_arg(*args, void *), 16, "0x");
		break;
	case 'c':
		c = (char)va_arg(*args, int);
		put_padded(out, spec, "", &c, 1);
		break;
	case 's':
		text = va_arg(*args, const char *);
		text = text ? text : "(null)";
		put_padded(out, spec, "", text, strnlen(text, (size_t)spec->precision));
		break;
	case '%':
		put(out, '%');
		break;
	default:
		return false;
	}
	return true;
}

size_t pv_vformat(char *to, size_t room, const char *format, va_list args)
{
	struct output out = { to, room, 0 };
	va_list rest;

	va_copy(rest, args);
	while (*format) {
		struct spec spec;
		const char *start = format;

		if (*format != '%') {
			put(&out, *format++);
			continue;
		}
		format = parse(format + 1, &spec, &rest);
		if (convert(&out, &spec, &rest))
			continue;
		/* Which argument it wanted is not known, so that all others would be read as what they are not. */
		for (format = start; *format; format++)
			put(&out, *format);
	}
	va_end(rest);
	if (room)
		to[out.length < room ? out.length : room - 1] = 0;
	return out.length;
}

size_t pv_format(char *to, size_t room, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	size_t length = pv_vformat(to, room, format, args);
	va_end(args);
	return length;
}
