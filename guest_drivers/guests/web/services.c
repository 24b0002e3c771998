/* SPDX-License-Identifier: 0BSD
 *
 * Services for tests of networks, and of what carries them: echo, discard, source.
 */
#include "services.h"

#include "paravirt/format.h"
#include "paravirt/sha256.h"
#include "paravirt/string.h"

/* ---- echo ---- */

static bool take_echo(struct stream *stream, const uint8_t *bytes, uint32_t size_bytes)
{
	return stream_write(stream, bytes, size_bytes);
}

const struct service echo_service = { .port = ECHO_PORT, .echoes = true, .take = take_echo };

/* ---- discard ---- */

struct discard {
	struct pv_sha256 hash;
	uint64_t bytes;
	bool ended;
};

static bool take_discard(struct stream *stream, const uint8_t *bytes, uint32_t size_bytes)
{
	struct discard *discard = stream->state;

	if (!discard->bytes)
		pv_sha256_init(&discard->hash);
	discard->bytes += size_bytes;
	pv_sha256_update(&discard->hash, bytes, size_bytes);
	return true;
}

static void tell_discard(struct stream *stream)
{
	struct discard *discard = stream->state;
	struct pv_sha256 hash = discard->hash; /* may have to be told again */
	uint8_t digest[PV_SHA256_BYTES];
	char hex[2 * PV_SHA256_BYTES + 1], line[128];

	if (!discard->ended)
		return;
	if (!discard->bytes)
		pv_sha256_init(&hash);
	pv_sha256_final(&hash, digest);
	pv_sha256_hex(digest, hex);
	size_t length = pv_format(line, sizeof(line), "%lu %s\n", discard->bytes, hex);
	if (stream_write(stream, line, (uint32_t)length))
		stream_close(stream);
}

static void end_discard(struct stream *stream)
{
	struct discard *discard = stream->state;

	discard->ended = true;
	tell_discard(stream);
}

const struct service discard_service = {
	.port = DISCARD_PORT,
	.state_bytes = sizeof(struct discard),
	.take = take_discard,
	.end = end_discard,
	.more = tell_discard,
};

/* ---- source ---- */

#define CHUNK_WORDS 1024
#define PATTERN_WORDS 8191 /* until it begins again: a prime, so that nothing falls on its bounds */

struct source {
	char line[48];
	uint32_t length;
	bool told; /* the line is complete */
	uint64_t seed, word; /* the next word of the pattern */
	uint64_t left_bytes;
};

/* Word number `word`: splitmix64, which needs none of those before. */
static uint64_t pattern(uint64_t seed, uint64_t word)
{
	uint64_t z = seed + (word % PATTERN_WORDS + 1) * 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static void feed_source(struct stream *stream)
{
	static uint64_t chunk[CHUNK_WORDS];
	struct source *source = stream->state;

	while (source->told && source->left_bytes) {
		uint64_t most = source->left_bytes < sizeof(chunk) ? source->left_bytes : sizeof(chunk);
		uint32_t room = tcp_sndbuf(stream->pcb);

		/* Whole words but for the last one, so that the pattern goes on where it stopped. */
		uint32_t size_bytes = most <= room ? (uint32_t)most : room & ~7u;
		for (uint32_t i = 0; i < (size_bytes + 7) / 8; i++)
			chunk[i] = pattern(source->seed, source->word + i);
		if (!size_bytes || !stream_write(stream, chunk, size_bytes))
			return;
		source->word += size_bytes / 8;
		source->left_bytes -= size_bytes;
	}
	if (source->told)
		stream_close(stream);
}

static const char *number(const char *at, uint64_t *value)
{
	for (*value = 0; *at >= '0' && *at <= '9'; at++)
		*value = *value * 10 + (uint64_t)(*at - '0');
	return at;
}

static bool take_source(struct stream *stream, const uint8_t *bytes, uint32_t size_bytes)
{
	struct source *source = stream->state;

	for (uint32_t i = 0; i < size_bytes && !source->told; i++) {
		source->told = bytes[i] == '\n' || source->length == sizeof(source->line) - 2;
		source->line[source->length++] = (char)bytes[i]; /* a zero stays behind it */
		if (source->told) {
			const char *end = number(source->line, &source->left_bytes);
			number(*end ? end + 1 : end, &source->seed);
		}
	}
	feed_source(stream);
	return true;
}

static void end_source(struct stream *stream)
{
	struct source *source = stream->state;

	if (!source->told) /* and never will be */
		stream_close(stream);
}

const struct service source_service = {
	.port = SOURCE_PORT,
	.state_bytes = sizeof(struct source),
	.take = take_source,
	.end = end_source,
	.more = feed_source,
};
