/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Chains of virtio-balloon devices (balloon.c).
 */
#ifndef PARAVIRT_BALLOON_H
#define PARAVIRT_BALLOON_H

#include "host.h"

/* A list of pages that go into the balloon or come out of it: NULL, or the rule that the driver broke. */
const char *pv_balloon_move(struct pv_machine *machine, const struct pv_chain *chain, bool in, uint64_t *moved_bytes);
/* A report of free pages: their contents are gone when the chain is given back. */
void pv_balloon_report(struct pv_machine *machine, const struct pv_chain *chain);

#endif
