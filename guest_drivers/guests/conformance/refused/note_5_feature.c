/* SPDX-License-Identifier: 0BSD
 *
 * A feature that no host has.
 */
#include "../support/refused.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_BASE, 1ull << 63));

CF_REFUSED("NOTE-5 an image whose feature is missing");
