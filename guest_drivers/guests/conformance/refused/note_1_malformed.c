/* SPDX-License-Identifier: 0BSD
 *
 * A note that is shorter than its record.
 */
#include "../support/refused.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_SYSTEM, 0));
CF_NOTE(privilege, PV_NOTE_PRIVILEGE, 1, PV_PRIVILEGE_ANY);

CF_REFUSED("NOTE-1 an image with a note that is too short");
