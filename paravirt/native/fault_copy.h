/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Copies from memory that may turn out not to be there: a mapped file that was cut, a page whose disk fails.
 * Elsewhere the kernel would answer with SIGBUS and the process would end; here what could not be copied is left.
 */
#ifndef PARAVIRT_FAULT_COPY_H
#define PARAVIRT_FAULT_COPY_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Whether pv_fault_copy is safe: the process has our handler of SIGBUS, which leaves all but our own copies to the
 * one before.  False once somebody else has put theirs in its place.
 */
bool pv_fault_copy_guard(void);
/* Bytes that were not copied: 0 but for a fault.  The calling thread does not block SIGBUS. */
uint64_t pv_fault_copy(void *to, const void *from, uint64_t size_bytes);

#endif
