/* SPDX-License-Identifier: 0BSD
 *
 * SHA-256 as FIPS 180-4 describes it; the message schedule is kept as a ring of 16 words.
 */
#include "paravirt/sha256.h"
#include "paravirt/string.h"

static const uint32_t k[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static inline uint32_t rotate(uint32_t x, int by)
{
	return x >> by | x << (32 - by);
}

static inline uint32_t load_big(const uint8_t *at)
{
	uint32_t x;

	__builtin_memcpy(&x, at, sizeof(x));
	return __builtin_bswap32(x);
}

/* One round; the caller turns the names instead of the values. */
#define ROUND(a, b, c, d, e, f, g, h, i, wi)                                                                      \
	do {                                                                                                      \
		uint32_t t = (h) + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((g) ^ ((e) & ((f) ^ (g)))) + \
			     k[i] + (wi);                                                                         \
		(d) += t;                                                                                         \
		(h) = t + (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + (((a) & (b)) | ((c) & ((a) | (b))));   \
	} while (0)

static inline uint32_t schedule(uint32_t w[16], unsigned i)
{
	uint32_t x = w[(i + 1) & 15], y = w[(i + 14) & 15];

	return w[i & 15] +=
	       (rotate(x, 7) ^ rotate(x, 18) ^ x >> 3) + w[(i + 9) & 15] + (rotate(y, 17) ^ rotate(y, 19) ^ y >> 10);
}

#define EIGHT(i, word)                                                 \
	do {                                                           \
		ROUND(a, b, c, d, e, f, g, h, (i) + 0, word((i) + 0)); \
		ROUND(h, a, b, c, d, e, f, g, (i) + 1, word((i) + 1)); \
		ROUND(g, h, a, b, c, d, e, f, (i) + 2, word((i) + 2)); \
		ROUND(f, g, h, a, b, c, d, e, (i) + 3, word((i) + 3)); \
		ROUND(e, f, g, h, a, b, c, d, (i) + 4, word((i) + 4)); \
		ROUND(d, e, f, g, h, a, b, c, (i) + 5, word((i) + 5)); \
		ROUND(c, d, e, f, g, h, a, b, (i) + 6, word((i) + 6)); \
		ROUND(b, c, d, e, f, g, h, a, (i) + 7, word((i) + 7)); \
	} while (0)
#define FIRST(i) (w[i] = load_big(block + 4 * (i)))
#define LATER(i) schedule(w, (i))

static void compress(uint32_t state[8], const uint8_t *block)
{
	uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
	uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
	uint32_t w[16];

	EIGHT(0, FIRST);
	EIGHT(8, FIRST);
	for (unsigned i = 16; i < 64; i += 16) {
		EIGHT(i, LATER);
		EIGHT(i + 8, LATER);
	}
	state[0] += a;
	state[1] += b;
	state[2] += c;
	state[3] += d;
	state[4] += e;
	state[5] += f;
	state[6] += g;
	state[7] += h;
}

void pv_sha256_init(struct pv_sha256 *hash)
{
	*hash = (struct pv_sha256){
		.state = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab,
			   0x5be0cd19 },
	};
}

void pv_sha256_update(struct pv_sha256 *hash, const void *data, size_t size_bytes)
{
	const uint8_t *from = data;
	size_t held = hash->length_bytes % 64;

	hash->length_bytes += size_bytes;
	if (held) {
		size_t part = size_bytes < 64 - held ? size_bytes : 64 - held;

		memcpy(hash->block + held, from, part);
		if (held + part < 64)
			return;
		compress(hash->state, hash->block);
		from += part;
		size_bytes -= part;
	}
	for (; size_bytes >= 64; from += 64, size_bytes -= 64)
		compress(hash->state, from);
	if (size_bytes)
		memcpy(hash->block, from, size_bytes);
}

void pv_sha256_final(struct pv_sha256 *hash, uint8_t digest[PV_SHA256_BYTES])
{
	uint64_t bits = __builtin_bswap64(hash->length_bytes * 8);
	uint8_t padding[72] = { 0x80 };
	size_t zeros = (119 - hash->length_bytes % 64) % 64; /* so that the length ends a block */

	memcpy(padding + 1 + zeros, &bits, sizeof(bits));
	pv_sha256_update(hash, padding, 1 + zeros + sizeof(bits));
	for (int i = 0; i < 8; i++) {
		uint32_t word = __builtin_bswap32(hash->state[i]);

		memcpy(digest + 4 * i, &word, sizeof(word));
	}
}

void pv_sha256_hex(const uint8_t digest[PV_SHA256_BYTES], char hex[2 * PV_SHA256_BYTES + 1])
{
	for (int i = 0; i < PV_SHA256_BYTES; i++) {
		hex[2 * i] = "0123456789abcdef"[digest[i] >> 4];
		hex[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
	}
	hex[2 * PV_SHA256_BYTES] = 0;
}
