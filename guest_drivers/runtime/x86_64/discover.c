/* SPDX-License-Identifier: 0BSD
 *
 * Finding a Paravirt host by CPUID, for a guest that was not booted by the ABI's own entry.  To be done
 * at CPL 0: where KVM does without virtualisation hardware, CPL 3 sees the CPUID of the machine below.
 */
#include "paravirt/string.h"
#include "runtime.h"

struct leaf {
	uint32_t eax, ebx, ecx, edx;
};

static struct leaf cpuid(uint32_t number)
{
	struct leaf leaf;

	__asm__ volatile("cpuid"
			 : "=a"(leaf.eax), "=b"(leaf.ebx), "=c"(leaf.ecx), "=d"(leaf.edx)
			 : "a"(number), "c"(0));
	return leaf;
}

struct pv_discovery pv_discovered;

void pv_discover(void)
{
	if (!(cpuid(1).ecx >> 31)) /* no hypervisor at all */
		return;
	for (uint32_t base = PV_CPUID_FIRST; base <= PV_CPUID_LAST; base += PV_CPUID_STEP) { /* CPUID-2 */
		struct leaf signature = cpuid(base);

		if (memcmp(&signature.ebx, PV_CPUID_SIGNATURE, sizeof(PV_CPUID_SIGNATURE)) ||
		    signature.eax < base + PV_CPUID_LEAVES)
			continue;
		struct leaf abi = cpuid(base + 1), boot = cpuid(base + 2);
		if (abi.eax >> 16 != PV_ABI_MAJOR || abi.ebx != PV_TRAP_KIND_PORT)
			continue;
		pv_discovered.trap_port = (uint16_t)abi.ecx;
		pv_discovered.doorbell_port = (uint16_t)abi.edx;
		pv_discovered.boot_info_gpa = (uint64_t)boot.ebx << 32 | boot.eax;
		break;
	}
}
