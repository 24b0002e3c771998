/* SPDX-License-Identifier: 0BSD
 *
 * What benchmarks do with the times that they took: Shell's sort, with gaps of 3 to 1, short, and quick enough for some
 * million values.
 */
#ifndef SORT_H
#define SORT_H

#include <stdint.h>

static inline void sort(uint64_t *values, uint64_t count)
{
	uint64_t gap = 1;

	while (gap < count / 3)
		gap = gap * 3 + 1;
	for (; gap; gap /= 3)
		for (uint64_t i = gap; i < count; i++) {
			uint64_t value = values[i], j = i;

			for (; j >= gap && values[j - gap] > value; j -= gap)
				values[j] = values[j - gap];
			values[j] = value;
		}
}

#endif
