/* SPDX-License-Identifier: 0BSD
 *
 * A minor version that no host has.
 */
#include "../support/refused.h"

CF_NOTE(require, PV_NOTE_REQUIRE, 2, 0xffffu << 16 | PV_ABI_MAJOR, 0);

CF_REFUSED("NOTE-7 an image of a far minor version");
