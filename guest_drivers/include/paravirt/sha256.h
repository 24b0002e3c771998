/* SPDX-License-Identifier: 0BSD
 *
 * SHA-256 (FIPS 180-4) in plain C.
 */
#ifndef PARAVIRT_SHA256_H
#define PARAVIRT_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define PV_SHA256_BYTES 32

struct pv_sha256 {
	uint32_t state[8];
	uint64_t length_bytes;
	uint8_t block[64]; /* what does not fill a block yet */
};

void pv_sha256_init(struct pv_sha256 *hash);
void pv_sha256_update(struct pv_sha256 *hash, const void *data, size_t size_bytes);
void pv_sha256_final(struct pv_sha256 *hash, uint8_t digest[PV_SHA256_BYTES]);
/* 64 lower-case digits and a NUL. */
void pv_sha256_hex(const uint8_t digest[PV_SHA256_BYTES], char hex[2 * PV_SHA256_BYTES + 1]);

#endif
