/* SPDX-License-Identifier: 0BSD
 *
 * Service continuity: what happens to the machine as a whole, and saying that it was heard.
 *
 * A guest accepts the feature NOTIFY, sets a handler for PV_CHANNEL_CONTINUITY, subscribes, and looks once: what came
 * before raises nothing.  After each event it looks, does what has to be done (quiet before a pause; afterwards seeds
 * and clocks) and acknowledges what it looked at.
 */
#ifndef PARAVIRT_CONTINUITY_H
#define PARAVIRT_CONTINUITY_H

#include "paravirt/call.h"

/* The page in one consistent reading (CONT-2). */
void pv_continuity_read(const struct pv_continuity_page *page, struct pv_continuity_page *copy);

/*
 * Whether there was an event since the one with the counter *seen, of which the last one's page is in `copy`.  Others
 * before it may have gone by: what matters is told by the generation.
 */
bool pv_continuity_look(const struct pv_continuity_page *page, uint64_t *seen, struct pv_continuity_page *copy);

/* Has events raise PV_CHANNEL_CONTINUITY of that vCPU, and of no other any more. */
static inline int64_t pv_continuity_subscribe(uint32_t vcpu)
{
	return pv_call1(PV_CALL_CONTINUITY_SUBSCRIBE, vcpu).status;
}

/* INVALID: something else has happened meanwhile, so look again. */
static inline int64_t pv_continuity_acknowledge(uint64_t counter)
{
	return pv_call1(PV_CALL_CONTINUITY_ACKNOWLEDGE, counter).status;
}

#endif
