/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Taking numbers off the front of a fuzzer's input; behind its end there are zeros.
 */
#ifndef PARAVIRT_FUZZ_INPUT_H
#define PARAVIRT_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* A condition that no input may break: libFuzzer keeps the input that did. */
#define REQUIRE(condition)                \
	do {                              \
		if (!(condition))         \
			__builtin_trap(); \
	} while (0)

struct input {
	const uint8_t *data;
	size_t size_bytes;
};

static inline size_t take(struct input *input, void *to, size_t size_bytes)
{
	size_t taken = size_bytes < input->size_bytes ? size_bytes : input->size_bytes;

	memset(to, 0, size_bytes);
	if (taken)
		memcpy(to, input->data, taken);
	input->data += taken;
	input->size_bytes -= taken;
	return taken;
}

static inline uint8_t take8(struct input *input)
{
	uint8_t number;

	take(input, &number, sizeof(number));
	return number;
}

static inline uint16_t take16(struct input *input)
{
	uint16_t number;

	take(input, &number, sizeof(number));
	return number;
}

static inline uint64_t take64(struct input *input)
{
	uint64_t number;

	take(input, &number, sizeof(number));
	return number;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

#endif
