/* SPDX-License-Identifier: 0BSD
 *
 * A note that a host must know, and cannot.
 */
#include "../support/refused.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_SYSTEM, 0));
CF_NOTE(unknown, PV_NOTE_MANDATORY + 1, 1, 0);

CF_REFUSED("NOTE-2 an image with an unknown mandatory note");
