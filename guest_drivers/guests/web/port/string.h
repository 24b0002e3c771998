/* SPDX-License-Identifier: 0BSD
 *
 * lwIP's <string.h> is the guest library's.
 */
#include "paravirt/string.h"
