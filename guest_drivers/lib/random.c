/* SPDX-License-Identifier: 0BSD
 *
 * Random bytes: fast key erasure over ChaCha20, and the look at the generation that makes it safe to copy machines.
 */
#include "paravirt/random.h"
#include "paravirt/sha256.h"
#include "paravirt/string.h"

#define BLOCK_BYTES 64u

static inline uint32_t rotate(uint32_t x, int by)
{
	return x << by | x >> (32 - by);
}

static inline void quarter(uint32_t *x, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
	x[a] += x[b], x[d] = rotate(x[d] ^ x[a], 16);
	x[c] += x[d], x[b] = rotate(x[b] ^ x[c], 12);
	x[a] += x[b], x[d] = rotate(x[d] ^ x[a], 8);
	x[c] += x[d], x[b] = rotate(x[b] ^ x[c], 7);
}

/* RFC 8439, 2.3, with a nonce of zeros: a key is used for one stream. */
static void chacha20(const uint8_t key[PV_RANDOM_KEY_BYTES], uint32_t counter, uint8_t block[BLOCK_BYTES])
{
	uint32_t from[16] = { 0x61707865, 0x3320646e, 0x79622d32, 0x6b206574 }, x[16];

	memcpy(&from[4], key, PV_RANDOM_KEY_BYTES);
	from[12] = counter;
	memcpy(x, from, sizeof(x));
	for (uint32_t round = 0; round < 10; round++) {
		for (uint32_t i = 0; i < 4; i++)
			quarter(x, i, 4 + i, 8 + i, 12 + i);
		for (uint32_t i = 0; i < 4; i++)
			quarter(x, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4);
	}
	for (uint32_t i = 0; i < 16; i++)
		x[i] += from[i];
	memcpy(block, x, BLOCK_BYTES);
}

/* Not left out by a compiler that sees that nobody reads it again. */
static void wipe(void *at, uint64_t size_bytes)
{
	memset(at, 0, size_bytes);
	__asm__ volatile("" : : "r"(at) : "memory");
}

void pv_random_mix(struct pv_random *random, const void *seed, uint64_t size_bytes)
{
	struct pv_sha256 hash;

	pv_sha256_init(&hash);
	pv_sha256_update(&hash, random->key, sizeof(random->key));
	pv_sha256_update(&hash, seed, size_bytes);
	pv_sha256_final(&hash, random->key);
	wipe(&hash, sizeof(hash));
}

/* Whether the page is another than the key knows of; then its seed and generation are mixed in. */
static bool moved(struct pv_random *random)
{
	struct pv_continuity_page now;

	if (!random->page)
		return false;
	pv_continuity_read(random->page, &now);
	bool is_news =
		now.counter != random->counter || memcmp(now.generation, random->generation, sizeof(now.generation));
	if (is_news) {
		pv_random_mix(random, now.seed, sizeof(now.seed));
		pv_random_mix(random, now.generation, sizeof(now.generation));
		random->counter = now.counter;
		memcpy(random->generation, now.generation, sizeof(now.generation));
	}
	wipe(&now, sizeof(now));
	return is_news;
}

void pv_random_init(struct pv_random *random, const struct pv_continuity_page *page, const void *seed,
		    uint64_t size_bytes)
{
	*random = (struct pv_random){ .page = page };
	pv_random_mix(random, seed, size_bytes);
	moved(random);
}

/* The first half of the first block is the next key, the rest is output. */
static void fill(struct pv_random *random, uint8_t *to, uint64_t size_bytes)
{
	uint8_t next[PV_RANDOM_KEY_BYTES], block[BLOCK_BYTES];
	uint64_t used = PV_RANDOM_KEY_BYTES;
	uint32_t counter = 0;

	chacha20(random->key, counter, block);
	memcpy(next, block, sizeof(next));
	while (size_bytes) {
		if (used == BLOCK_BYTES) {
			chacha20(random->key, ++counter, block);
			used = 0;
		}
		uint64_t part = size_bytes < BLOCK_BYTES - used ? size_bytes : BLOCK_BYTES - used;
		memcpy(to, block + used, part);
		to += part;
		size_bytes -= part;
		used += part;
	}
	memcpy(random->key, next, sizeof(next));
	wipe(next, sizeof(next));
	wipe(block, sizeof(block));
}

void pv_random_draw(struct pv_random *random, void *to, uint64_t size_bytes)
{
	/* A machine that was copied while it drew would give the same bytes twice: what was drawn is drawn anew. */
	do {
		fill(random, to, size_bytes);
	} while (moved(random));
}
