/* SPDX-License-Identifier: 0BSD
 *
 * Statuses as words, for messages.
 */
#ifndef PARAVIRT_STATUS_H
#define PARAVIRT_STATUS_H

#include <stdint.h>

/* "NOT_FOUND" of PV_STATUS_NOT_FOUND. Of what is not known: "FAILED" if it is negative (ERR-1), else "OK". */
const char *pv_status_name(int64_t status);

#endif
