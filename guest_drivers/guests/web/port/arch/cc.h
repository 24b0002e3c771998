/* SPDX-License-Identifier: 0BSD
 *
 * What lwIP asks of a compiler and a platform; what it is to be like is lwipopts.h's.
 */
#ifndef ARCH_CC_H
#define ARCH_CC_H

#include "paravirt/guest.h"
#include "paravirt/string.h"

/* There is no C library whose headers would say these. */
#define LWIP_NO_INTTYPES_H 1
#define LWIP_NO_UNISTD_H 1
#define LWIP_NO_CTYPE_H 1
#define SSIZE_MAX LONG_MAX
typedef long ssize_t;
#define X8_F "02x"
#define U16_F "u"
#define S16_F "d"
#define X16_F "x"
#define U32_F "u"
#define S32_F "d"
#define X32_F "x"
#define SZT_F "zu"

#define LWIP_PLATFORM_DIAG(words) pv_print words
#define LWIP_PLATFORM_ASSERT(what) pv_panic("lwIP: %s", what)

uint32_t port_random(void);
#define LWIP_RAND() port_random()

#endif
