/* SPDX-License-Identifier: 0BSD
 *
 * lwIP asks for <stdio.h> and, as configured here, for nothing that is in it.
 */
