/* SPDX-License-Identifier: 0BSD
 *
 * A note that stands twice.
 */
#include "../support/refused.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_SYSTEM, 0));
CF_NOTE(first, PV_NOTE_PRIVILEGE, 2, PV_PRIVILEGE_ANY, 0);
CF_NOTE(second, PV_NOTE_PRIVILEGE, 2, PV_PRIVILEGE_ANY, 0);

CF_REFUSED("NOTE-1 an image with a note that stands twice");
