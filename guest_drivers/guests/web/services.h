/* SPDX-License-Identifier: 0BSD
 *
 * What this guest does for those that connect; the numbers of ports are those of the internet's small services.
 */
#ifndef WEB_SERVICES_H
#define WEB_SERVICES_H

#include "streams.h"

#define ECHO_PORT 7
#define DISCARD_PORT 9
#define SOURCE_PORT 19
#define PAGE_PORT 80

/* What is sent comes back, until the peer ends. */
extern const struct service echo_service;
/* What is sent is hashed; when the peer ends it is told "BYTES SHA-256\n". */
extern const struct service discard_service;
/* For a line "BYTES SEED\n", that many bytes of the pattern that belongs to the seed; the connection ends with them. */
extern const struct service source_service;
/* A page about this machine, for browsers. */
extern const struct service page_service;

#endif
