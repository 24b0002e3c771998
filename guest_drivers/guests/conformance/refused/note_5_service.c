/* SPDX-License-Identifier: 0BSD
 *
 * A service that no host has.
 */
#include "../support/refused.h"

PV_REQUIRE(PV_NEED(0x7ffe, 0));

CF_REFUSED("NOTE-5 an image whose service is missing");
