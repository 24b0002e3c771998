/* SPDX-License-Identifier: 0BSD
 *
 * Chapter entropy: seed bytes by call.  How good they are nobody can tell from a few; what is judged is that
 * all are written and that they differ.
 */
#include "paravirt/string.h"
#include "support/conformance.h"

#define MARK 0x77

static uint8_t first[PV_LIMIT_ENTROPY_BYTES + 1], second[PV_LIMIT_ENTROPY_BYTES + 1];

static int64_t fill(uint8_t *at, uint64_t size_bytes)
{
	struct pv_answer answer = pv_call2(PV_CALL_ENTROPY_FILL, pv_gpa(at), size_bytes);

	return answer.status < 0 ? answer.status : (int64_t)answer.value;
}

static void entropy(void)
{
	static const uint64_t sizes[] = { 1, 7, 64, PV_LIMIT_ENTROPY_BYTES };
	bool last_written = false;

	cf_case("ENT-1 entropy.fill fills the whole buffer");
	if (!cf_offered(PV_SERVICE_ENTROPY)) {
		cf_skip("service entropy is not offered");
		return;
	}
	for (uint32_t i = 0; i < CF_COUNT(sizes); i++)
		cf_expect(fill(first, sizes[i]), (int64_t)sizes[i], "bytes written");
	/* A byte can come out as it was, but not sixteen times. */
	for (uint32_t i = 0; i < 16; i++) {
		memset(second, MARK, sizeof(second));
		fill(second, PV_LIMIT_ENTROPY_BYTES);
		last_written |= second[PV_LIMIT_ENTROPY_BYTES - 1] != MARK;
	}
	cf_want(last_written, "the last byte is written");
	cf_expect(second[PV_LIMIT_ENTROPY_BYTES], MARK, "the byte behind it");
	cf_case("ENT-1 the bytes of two calls differ");
	cf_want(memcmp(first, second, 32), "the first 32");
	cf_want(memcmp(second, second + 32, 32), "and they do not repeat");
}

CF_CHAPTER(entropy, entropy);
