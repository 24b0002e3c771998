/* SPDX-License-Identifier: 0BSD
 *
 * An image without Paravirt notes: a host enters it by PVH, as any plain guest, and it finds the host by CPUID.
 * It begins in the runtime, which looks at CPUID at CPL 0, where it may be looked at.
 */
#include "../../../runtime/x86_64/runtime.h"
#include "../support/device.h"
#include "paravirt/guest.h"

static void plain(void)
{
	struct pv_virtio device;
	uint32_t found = 0;

	cf_case("CPUID-1 CPUID says to a plain guest what the boot information says");
	cf_expect(pv_discovered.trap_port, (int64_t)cf_boot.abi->trap, "trap");
	cf_expect(pv_discovered.doorbell_port, (int64_t)cf_boot.abi->doorbell, "doorbell");
	cf_case("BOOT-8 a plain guest has no record TABLES");
	cf_want(!cf_boot.tables, "no record");
	cf_case("NOTE-4 a plain guest is offered every device");
	found += cf_device(&device, PV_DEVICE_TYPE_CONSOLE, NULL);
	found += cf_device(&device, PV_DEVICE_TYPE_ENTROPY, NULL);
	if (cf_want(found > 0, "a console or entropy, which need nothing of the user") &&
	    device.type == PV_DEVICE_TYPE_ENTROPY) {
		cf_want(cf_works(&device, 0), "it works");
		cf_down(&device);
	}
}

CF_CHAPTER(plain, plain);

int pv_main(void)
{
	if (!pv_guest.paravirt)
		pv_panic("this host does not say in CPUID that it is one of Paravirt's");
	return cf_main(pv_at(pv_discovered.boot_info_gpa));
}
