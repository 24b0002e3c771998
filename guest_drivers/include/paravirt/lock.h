/* SPDX-License-Identifier: 0BSD
 *
 * A lock between vCPUs that names its holder.  Who waits spins for as long as a holder that has a CPU takes, then gives
 * its own away: the holder may want it.  An upcall's handler takes none that the code it interrupts may hold.
 */
#ifndef PARAVIRT_LOCK_H
#define PARAVIRT_LOCK_H

#include "paravirt/vcpu.h"

#define PV_LOCK_SPINS 1000u /* some microseconds: no more than a yield costs */

/* Zero is a lock that is free. */
struct pv_lock {
	uint32_t holder; /* its index + 1 */
};

static inline void pv_lock(struct pv_lock *lock, uint32_t vcpu)
{
	for (uint32_t spins = 1;; spins++) {
		uint32_t holder = 0;

		if (__atomic_compare_exchange_n(&lock->holder, &holder, vcpu + 1, false, __ATOMIC_ACQUIRE,
						__ATOMIC_RELAXED))
			return;
		if (spins % PV_LOCK_SPINS)
			pv_relax();
		else
			pv_vcpu_yield(holder - 1);
	}
}

static inline void pv_unlock(struct pv_lock *lock)
{
	__atomic_store_n(&lock->holder, 0, __ATOMIC_RELEASE);
}

#endif
