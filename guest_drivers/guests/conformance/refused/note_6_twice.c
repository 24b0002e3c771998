/* SPDX-License-Identifier: 0BSD
 *
 * A name that stands twice.
 */
#include "../support/refused.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_SYSTEM, 0));
PV_MANIFEST(PV_WANT("same", PV_DEVICE_TYPE_ENTROPY, PV_DEVICE_FLAG_OPTIONAL),
	    PV_WANT("same", PV_DEVICE_TYPE_BLOCK, PV_DEVICE_FLAG_OPTIONAL));

CF_REFUSED("NOTE-6 an image with a name that stands twice");
