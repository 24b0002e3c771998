/* SPDX-License-Identifier: 0BSD
 *
 * The notes of the images that run: little is required, so that they judge hosts that offer little.  There is
 * no console in the manifest, though most hosts have one (NOTE-3).
 */
#include "paravirt/notes.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_SYSTEM, 0));
PV_MANIFEST(PV_WANT("scratch", PV_DEVICE_TYPE_BLOCK, PV_DEVICE_FLAG_OPTIONAL),
	    PV_WANT("fixed", PV_DEVICE_TYPE_BLOCK, PV_DEVICE_FLAG_READ_ONLY | PV_DEVICE_FLAG_OPTIONAL),
	    PV_WANT("mapped", PV_DEVICE_TYPE_PMEM, PV_DEVICE_FLAG_OPTIONAL),
	    PV_WANT("frozen", PV_DEVICE_TYPE_PMEM, PV_DEVICE_FLAG_READ_ONLY | PV_DEVICE_FLAG_OPTIONAL),
	    PV_WANT("wire", PV_DEVICE_TYPE_NET, PV_DEVICE_FLAG_OPTIONAL),
	    PV_WANT("socks", PV_DEVICE_TYPE_VSOCK, PV_DEVICE_FLAG_OPTIONAL),
	    PV_WANT("rubber", PV_DEVICE_TYPE_BALLOON, PV_DEVICE_FLAG_OPTIONAL),
	    PV_WANT("dice", PV_DEVICE_TYPE_ENTROPY, PV_DEVICE_FLAG_OPTIONAL));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);
