/* SPDX-License-Identifier: 0BSD
 *
 * A note whose records are fewer than it says.
 */
#include "../support/refused.h"

CF_NOTE(require, PV_NOTE_REQUIRE, 2, PV_ABI_MINOR << 16 | PV_ABI_MAJOR, 3);

CF_REFUSED("NOTE-1 an image with a note that says more than it has");
