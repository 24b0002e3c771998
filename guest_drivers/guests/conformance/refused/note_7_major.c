/* SPDX-License-Identifier: 0BSD
 *
 * Another major version.
 */
#include "../support/refused.h"

CF_NOTE(require, PV_NOTE_REQUIRE, 2, PV_ABI_MINOR << 16 | (PV_ABI_MAJOR + 1), 0);

CF_REFUSED("NOTE-7 an image of the next major version");
