/* SPDX-License-Identifier: 0BSD
 *
 * The last vCPU stops: the machine ends, with success.  Whoever runs this sees that; the guest sees no more than
 * that it does not go on.
 */
#include "../support/conformance.h"

static void stop(void)
{
	cf_case("VCPU-8 the machine ends when the last vCPU stops");
	if (!cf_exists(PV_CALL_VCPU_STOP)) {
		cf_skip("vcpu.stop is not offered");
		return;
	}
	cf_finish();
	pv_call0(PV_CALL_VCPU_STOP);
	cf_bail_out("vcpu.stop came back");
}

CF_CHAPTER(stop, stop);
