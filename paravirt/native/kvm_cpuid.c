// SPDX-License-Identifier: BSD-2-Clause
/*
 * The CPUID of a vCPU over KVM: what KVM can do, our leaves, the vCPU's number.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kvm_vcpu.h"

#define CPUID_ENTRIES 256
#define OWN_ENTRIES 4
/* Of leaf 1: what KVM leaves to us to say, since it is about us, or about the interrupt controllers that we chose. */
#define HYPERVISOR (1u << 31) /* ECX */
#define TSC_DEADLINE (1u << 24)
#define SEVERAL (1u << 28) /* EDX */

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

/*
 * All vCPUs are cores of one package, a thread each: the host's own topology, which KVM passes on, is not the guest's.
 * Leaves of Intel's (4, 0xb, 0x1f) and AMD's (0x80000008, 0x8000001e); what they count in bits is rounded up.
 */
static void number_vcpu(struct kvm_cpuid_entry2 *e, uint32_t index, uint32_t count)
{
	uint32_t bits = 0;

	while (1u << bits < count)
		bits++;
	switch (e->function) {
	case 1:
		e->ebx = (e->ebx & 0xffff) | count << 16 | index << 24;
		e->edx = count > 1 ? e->edx | SEVERAL : e->edx & ~SEVERAL;
		break;
	case 4:
		e->eax = (e->eax & 0x3fff) | (e->eax & 0x1f ? (count - 1) << 26 : 0);
		break;
	case 0xb:
	case 0x1f: /* level 0: threads of a core, 1: cores of the package */
		e->eax = e->index == 1 ? bits : 0;
		e->ebx = e->index == 0 ? 1 : e->index == 1 ? count : 0;
		e->ecx = e->index < 2 ? e->index | (e->index + 1) << 8 : e->index;
		e->edx = index;
		break;
	case 0x80000008:
		e->ecx = bits << 12 | (count - 1);
		break;
	case 0x8000001e:
		e->eax = index;
		e->ebx = index;
		e->ecx = 0;
		break;
	default:
		break;
	}
}

/* What KVM can give, and what it leaves to us to offer; the caller frees it. NULL: kvm->failed says at which step. */
static struct kvm_cpuid2 *supported(struct pv_kvm *kvm)
{
	struct kvm_cpuid2 *table = calloc(1, sizeof(*table) + CPUID_ENTRIES * sizeof(table->entries[0]));
	bool deadline = pv_kvm_check(kvm->system_fd, KVM_CAP_TSC_DEADLINE_TIMER) > 0;

	if (!table)
		return NULL;
	table->nent = CPUID_ENTRIES - OWN_ENTRIES;
	if (ioctl(kvm->system_fd, KVM_GET_SUPPORTED_CPUID, table) < 0) {
		free(table);
		return NULL;
	}
	for (uint32_t i = 0; i < table->nent; i++)
		if (table->entries[i].function == 1)
			table->entries[i].ecx |= HYPERVISOR | (deadline ? TSC_DEADLINE : 0);
	return table;
}

int pv_kvm_supported(struct pv_kvm *kvm, struct pv_cpuid *to, uint32_t count)
{
	struct kvm_cpuid2 *table = supported(kvm);
	uint32_t found = 0;

	if (!table)
		return pv_kvm_failed(kvm, "KVM_GET_SUPPORTED_CPUID");
	for (; found < table->nent && found < count; found++) {
		const struct kvm_cpuid_entry2 *e = &table->entries[found];

		to[found] = (struct pv_cpuid){ e->function, e->index, { e->eax, e->ebx, e->ecx, e->edx } };
	}
	free(table);
	return (int)found;
}

static void change(struct kvm_cpuid_entry2 *e, const struct pv_kvm *kvm)
{
	for (uint32_t i = 0; i < kvm->cpuid_changes; i++) {
		const struct pv_cpuid_change *c = &kvm->cpuid[i];

		if (c->function != e->function || c->index != e->index)
			continue;
		e->eax = (e->eax & c->keep[0]) | c->put[0];
		e->ebx = (e->ebx & c->keep[1]) | c->put[1];
		e->ecx = (e->ecx & c->keep[2]) | c->put[2];
		e->edx = (e->edx & c->keep[3]) | c->put[3];
	}
}

int pv_kvm_set_cpuid(struct pv_kvm *kvm, int fd, uint32_t index)
{
	struct kvm_cpuid2 *table = supported(kvm);
	int khz = ioctl(fd, KVM_GET_TSC_KHZ, 0), result = 0;

	if (!table)
		return pv_kvm_failed(kvm, "KVM_GET_SUPPORTED_CPUID");
	for (uint32_t i = 0; i < table->nent; i++) {
		struct kvm_cpuid_entry2 *e = &table->entries[i];

		change(e, kvm);
		number_vcpu(e, index, kvm->vcpus);
		if (e->function == 0x40000000 && e->eax < 0x40000010)
			e->eax = 0x40000010;
	}
	table->nent += own_leaves(kvm, &table->entries[table->nent], khz > 0 ? (uint32_t)khz : 0);
	if (ioctl(fd, KVM_SET_CPUID2, table) < 0)
		result = pv_kvm_failed(kvm, "KVM_SET_CPUID2");
	free(table);
	return result;
}
