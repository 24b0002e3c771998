/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The reference random generator on a page that this program writes: known answers, two machines of one, and one that
 * is copied in the middle of drawing.
 */
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "paravirt/random.h"

#define ROOM_BYTES 4096u

static struct pv_continuity_page page;
static uint8_t *room; /* whose first touch is the moment of the copy */
static uint32_t touched;

/* The library makes no call here. */
struct pv_answer pv_call(uint32_t id, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
	CHECK(!id && a0 + a1 + a2 + a3 + a4 + a5);
	return (struct pv_answer){ 0, 0 };
}

static void announce(uint8_t generation, uint8_t seed)
{
	page.sequence++;
	page.counter++;
	memset(page.generation, generation, sizeof(page.generation));
	memset(page.seed, seed, sizeof(page.seed));
	page.sequence++;
}

/* RFC 8439, A.1: the first two blocks of a key of zeros. */
static void known_answers(void)
{
	static const uint8_t key[] = { 0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90, 0x40, 0x5d, 0x6a,
				       0xe5, 0x53, 0x86, 0xbd, 0x28, 0xbd, 0xd2, 0x19, 0xb8, 0xa0, 0x8d,
				       0xed, 0x1a, 0xa8, 0x36, 0xef, 0xcc, 0x8b, 0x77, 0x0d, 0xc7 };
	static const uint8_t begin[] = { 0xda, 0x41, 0x59, 0x7c, 0x51, 0x57, 0x48, 0x8d };
	static const uint8_t second[] = { 0x9f, 0x07, 0xe7, 0xbe, 0x55, 0x51, 0x38, 0x7a };
	struct pv_random random = { .page = NULL };
	uint8_t drawn[70];

	pv_random_draw(&random, drawn, sizeof(drawn));
	CHECK(!memcmp(random.key, key, sizeof(key)));
	CHECK(!memcmp(drawn, begin, sizeof(begin)));
	CHECK(!memcmp(drawn + 32, second, sizeof(second)));
}

static void two_of_one(void)
{
	struct pv_random one, other;
	uint8_t drawn[2][40], again[40];

	pv_random_init(&one, &page, "seed", 4);
	other = one;
	pv_random_draw(&one, drawn[0], sizeof(drawn[0]));
	pv_random_draw(&other, drawn[1], sizeof(drawn[1]));
	CHECK(!memcmp(drawn[0], drawn[1], sizeof(drawn[0]))); /* what a generator that does not look does */
	announce(1, 1);
	pv_random_draw(&one, drawn[0], sizeof(drawn[0]));
	page.counter--; /* the same event of another copy */
	announce(2, 1);
	pv_random_draw(&other, drawn[1], sizeof(drawn[1]));
	CHECK(memcmp(drawn[0], drawn[1], sizeof(drawn[0])));
	pv_random_draw(&other, again, sizeof(again));
	CHECK(memcmp(drawn[1], again, sizeof(again)));
}

static void copied(int number)
{
	CHECK(number == SIGSEGV && !touched++);
	CHECK(!mprotect(room, ROOM_BYTES, PROT_READ | PROT_WRITE));
	announce(7, 7);
}

/* The event comes when the generator has taken its blocks and stores the first byte (CONT-8). */
static void copied_while_drawing(void)
{
	struct sigaction action = { .sa_handler = copied };
	struct pv_random one, still;
	uint8_t drawn[64];

	room = mmap(NULL, ROOM_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(room != MAP_FAILED && !sigaction(SIGSEGV, &action, NULL));
	pv_random_init(&one, &page, "seed", 4);
	still = one;
	pv_random_draw(&still, drawn, sizeof(drawn));
	pv_random_draw(&one, room, sizeof(drawn));
	CHECK(touched == 1);
	CHECK(memcmp(room, drawn, sizeof(drawn)));
	CHECK(one.counter == page.counter && one.generation[0] == 7);
}

static void looks(void)
{
	struct pv_continuity_page copy;
	uint64_t seen = page.counter;

	CHECK(!pv_continuity_look(&page, &seen, &copy));
	announce(9, 8);
	CHECK(pv_continuity_look(&page, &seen, &copy) && seen == page.counter);
	CHECK(copy.generation[15] == 9 && copy.seed[31] == 8);
	CHECK(!pv_continuity_look(&page, &seen, &copy));
}

int main(void)
{
	known_answers();
	two_of_one();
	looks();
	copied_while_drawing();
	return 0;
}
