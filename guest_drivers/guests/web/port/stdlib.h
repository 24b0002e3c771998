/* SPDX-License-Identifier: 0BSD
 *
 * What lwIP wants of <stdlib.h>.
 */
#ifndef PORT_STDLIB_H
#define PORT_STDLIB_H

int atoi(const char *digits);

#endif
