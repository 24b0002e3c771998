/* SPDX-License-Identifier: 0BSD
 *
 * A guest that is told what happens to its machine: says each event, is quiet, draws random bytes, goes on.  It ends
 * with MIGRATED; with `deaf` on its command line it never acknowledges.  Reports as TAP.
 */
#include "paravirt/base.h"
#include "paravirt/guest.h"
#include "paravirt/notes.h"
#include "paravirt/random.h"
#include "paravirt/string.h"
#include "tap.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_CONTINUITY, PV_CONTINUITY_FEATURE_NOTIFY),
	   PV_NEED(PV_SERVICE_SYSTEM, 0), PV_NEED(PV_SERVICE_EVENT, 0), PV_NEED(PV_SERVICE_TIME, 0));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

static const char *const names[] = { "NONE", "BEFORE_PAUSE", "RESUMED", "RESTORED", "CLONED", "MIGRATED" };
static struct pv_random generator;
static bool deaf;

static void say_hex(const char *what, const uint8_t *bytes)
{
	pv_print("# %s ", what);
	for (uint32_t i = 0; i < 16; i++)
		pv_print("%02x", bytes[i]);
	pv_print("\n");
}

/* After the event, by the generator alone: it looks for itself. */
static void say_random(void)
{
	uint8_t drawn[16];

	pv_random_draw(&generator, drawn, sizeof(drawn));
	say_hex("random", drawn);
}

static bool handle(const struct pv_continuity_page *page, const struct pv_continuity_page *now)
{
	const struct pv_time_page *clock = pv_at(pv_guest.boot.pages->time_gpa);
	static uint8_t generation[16];
	static uint32_t clock_generation;
	bool other = memcmp(generation, now->generation, sizeof(generation));
	uint32_t ticks = __atomic_load_n(&clock->generation, __ATOMIC_RELAXED);

	pv_print("# event %s %u\n", now->event < 6 ? names[now->event] : "?", (uint32_t)now->counter);
	say_hex("generation", now->generation);
	memcpy(generation, now->generation, sizeof(generation));
	if (now->event != PV_CONTINUITY_EVENT_BEFORE_PAUSE) {
		say_random();
		tap_ok(!other || now->event != PV_CONTINUITY_EVENT_RESUMED, "a pause makes no other machine", 0);
		tap_ok(ticks != clock_generation, "the clock's generation", ticks);
	}
	clock_generation = ticks;
	if (!deaf) {
		int64_t status = pv_continuity_acknowledge(now->counter);

		/* The next event may have come meanwhile: then there is no more to say to this one. */
		tap_ok(!status || __atomic_load_n(&page->counter, __ATOMIC_RELAXED) > now->counter, "acknowledged",
		       status);
	}
	return now->event == PV_CONTINUITY_EVENT_MIGRATED;
}

int pv_main(void)
{
	struct pv_wish wish = { .service = PV_SERVICE_CONTINUITY, .needed = PV_CONTINUITY_FEATURE_NOTIFY };
	const struct pv_continuity_page *page = pv_at(pv_guest.boot.pages->continuity_gpa);
	struct pv_continuity_page now;
	uint64_t seen = 0;
	bool over = false;

	tap_is(pv_negotiate(&wish, 1), PV_STATUS_OK, "feature NOTIFY");
	deaf = strstr(pv_guest.command_line, "deaf") != NULL;
	pv_random_init(&generator, page, pv_guest.boot.seed, pv_guest.boot.seed_bytes);
	tap_is(pv_continuity_subscribe(0), PV_STATUS_OK, "subscribed");
	tap_is(pv_continuity_acknowledge(1), PV_STATUS_INVALID, "there was no event");
	pv_continuity_read(page, &now);
	say_hex("generation", now.generation);
	say_random();
	pv_print("# waits\n");
	while (!over) {
		pv_hold();
		while (!pv_continuity_look(page, &seen, &now))
			pv_idle(PV_DEADLINE_NEVER);
		pv_release();
		over = handle(page, &now);
	}
	return tap_done();
}
