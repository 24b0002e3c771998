/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Between backend.c and backend_serve.c: what is wanted of a thread, and its work while its queues are in use.
 */
#ifndef PARAVIRT_BACKEND_SERVE_H
#define PARAVIRT_BACKEND_SERVE_H

#include "backend.h"

#define PV_WANT_PARKED 0
#define PV_WANT_SERVE 1
#define PV_WANT_END 2

/* Takes turns until something else is wanted; then nothing is in flight. */
void pv_backend_serve(struct pv_backend_thread *thread);

#endif
