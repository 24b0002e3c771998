// SPDX-License-Identifier: BSD-2-Clause
/*
 * The CPUID of a vCPU over KVM: what KVM can do, our leaves, the vCPU's number.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kvm_vcpu.h"

#define CPUID_ENTRIES 256

/* Our leaves beside KVM's own (rule CPUID-1), and the counter's frequency where guests look for it. */
static uint32_t own_leaves(const struct pv_kvm *kvm, struct kvm_cpuid_entry2 *to, uint32_t counter_khz)
{
	static const char signature[12] = PV_CPUID_SIGNATURE;
	uint32_t words[3];

	memcpy(words, signature, sizeof(words));
	to[0] = (struct kvm_cpuid_entry2){
		.function = PV_CPUID_BASE,
		.eax = PV_CPUID_BASE + PV_CPUID_LEAVES,
		.ebx = words[0],
		.ecx = words[1],
		.edx = words[2],
	};
	to[1] = (struct kvm_cpuid_entry2){
		.function = PV_CPUID_BASE + 1,
		.eax = PV_ABI_MAJOR << 16 | PV_ABI_MINOR,
		.ebx = PV_TRAP_KIND_PORT,
		.ecx = PV_TRAP_PORT,
		.edx = PV_DOORBELL_PORT,
	};
	to[2] = (struct kvm_cpuid_entry2){
		.function = PV_CPUID_BASE + 2,
		.eax = (uint32_t)kvm->boot_info_gpa,
		.ebx = (uint32_t)(kvm->boot_info_gpa >> 32),
		.ecx = kvm->vcpus,
	};
	to[3] = (struct kvm_cpuid_entry2){ .function = 0x40000010, .eax = counter_khz };
	return 4;
}

int pv_kvm_set_cpuid(struct pv_kvm *kvm, int fd, uint32_t index)
{
	struct kvm_cpuid2 *table = calloc(1, sizeof(*table) + CPUID_ENTRIES * sizeof(table->entries[0]));
	int khz = ioctl(fd, KVM_GET_TSC_KHZ, 0), result = 0;

	if (!table)
		return pv_kvm_failed(kvm, "KVM_SET_CPUID2");
	table->nent = CPUID_ENTRIES - 4;
	if (ioctl(kvm->system_fd, KVM_GET_SUPPORTED_CPUID, table) < 0)
		result = pv_kvm_failed(kvm, "KVM_GET_SUPPORTED_CPUID");
	for (uint32_t i = 0; i < table->nent; i++) {
		struct kvm_cpuid_entry2 *e = &table->entries[i];

		if (e->function == 1)
			e->ebx = (e->ebx & 0x00ffffff) | index << 24;
		else if (e->function == 0xb || e->function == 0x1f)
			e->edx = index;
		else if (e->function == 0x40000000 && e->eax < 0x40000010)
			e->eax = 0x40000010;
	}
	table->nent += own_leaves(kvm, &table->entries[table->nent], khz > 0 ? (uint32_t)khz : 0);
	if (!result && ioctl(fd, KVM_SET_CPUID2, table) < 0)
		result = pv_kvm_failed(kvm, "KVM_SET_CPUID2");
	free(table);
	return result;
}
