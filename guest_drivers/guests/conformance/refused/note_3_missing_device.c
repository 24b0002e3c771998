/* SPDX-License-Identifier: 0BSD
 *
 * A device that is not optional and that nobody attaches.
 */
#include "../support/refused.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_SYSTEM, 0));
PV_MANIFEST(PV_WANT("absent", PV_DEVICE_TYPE_BLOCK, 0));

CF_REFUSED("NOTE-3 an image whose device is missing");
