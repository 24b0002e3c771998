// SPDX-License-Identifier: 0BSD
/*
 * Discovery by CPUID, and the call itself: by the port trap of x86-64, the only one that a host of version 1 has for
 * kernels that were not written for it.
 */
#include <linux/errno.h>
#include <linux/export.h>
#include <linux/printk.h>

#include <asm/cpufeature.h>
#include <asm/io.h>
#include <asm/processor.h>

#include "paravirt.h"

static u16 trap_port, doorbell_port;

struct pv_answer paravirt_call(u32 id, u64 a0, u64 a1, u64 a2, u64 a3, u64 a4, u64 a5)
{
	register u64 rax asm("rax") = id; /* bits 63:32 zero (CALL-8) */
	register u64 rdx asm("rdx") = trap_port;
	register u64 rcx asm("rcx") = a2;
	register u64 r8 asm("r8") = a3;
	register u64 r9 asm("r9") = a4;
	register u64 r10 asm("r10") = a5;
	s64 status;

	/* CALL-9: all but RBX RBP RSP RSI RDI R12-R15 may come back as anything. */
	asm volatile("outl %%eax, %%dx"
		     : "+r"(rax), "+r"(rdx), "+r"(rcx), "+r"(r8), "+r"(r9), "+r"(r10)
		     : "D"(a0), "S"(a1)
		     : "r11", "cc", "memory");
	status = (s64)rax;
	if (status < PV_STATUS_NO_MEMORY)
		status = PV_STATUS_FAILED;
	return (struct pv_answer){ status, rdx };
}
EXPORT_SYMBOL_GPL(paravirt_call);

int paravirt_error(s64 status)
{
	static const int errors[] = {
		[-PV_STATUS_FAILED] = EREMOTEIO,
		[-PV_STATUS_NOT_SUPPORTED] = EOPNOTSUPP,
		[-PV_STATUS_INVALID] = EINVAL,
		[-PV_STATUS_BAD_ADDRESS] = EFAULT,
		[-PV_STATUS_UNALIGNED] = EINVAL,
		[-PV_STATUS_LIMIT] = EMSGSIZE,
		[-PV_STATUS_WRONG_ROAD] = EOPNOTSUPP,
		[-PV_STATUS_BAD_STATE] = EBUSY,
		[-PV_STATUS_NOT_FOUND] = ENODEV,
		[-PV_STATUS_QUOTA] = EDQUOT,
		[-PV_STATUS_IO] = EIO,
		[-PV_STATUS_NO_MEMORY] = ENOMEM,
	};

	return status < 0 ? -errors[-status] : 0;
}
EXPORT_SYMBOL_GPL(paravirt_error);

void paravirt_ring(u32 word)
{
	outl(word, doorbell_port); /* x86 orders it after earlier stores, which DEV-8 asks for */
}
EXPORT_SYMBOL_GPL(paravirt_ring);

/* The base of our leaves, or 0; other interfaces have theirs before and behind it (CPUID-2). */
static u32 find_base(void)
{
	static const char expected[sizeof_field(struct pv_cpuid_signature, signature)] = "ParavirtABI";
	struct pv_cpuid_signature found;
	u32 base;

	if (!boot_cpu_has(X86_FEATURE_HYPERVISOR))
		return 0;
	for (base = PV_CPUID_FIRST; base <= PV_CPUID_LAST; base += PV_CPUID_STEP) {
		u32 *words = (u32 *)&found;

		cpuid(base, &words[0], &words[1], &words[2], &words[3]);
		if (!memcmp(found.signature, expected, sizeof(expected)) && found.last_leaf >= base + PV_CPUID_LEAVES)
			return base;
	}
	return 0;
}

int paravirt_discover(void)
{
	struct pv_cpuid_abi abi;
	struct pv_cpuid_boot boot;
	u32 base = find_base();

	if (!base) {
		pr_info("no host that speaks the hypercall ABI\n");
		return -ENODEV;
	}
	cpuid(base + 1, &abi.version, &abi.trap_kind, &abi.trap, &abi.doorbell);
	cpuid(base + 2, &boot.boot_info_low, &boot.boot_info_high, &boot.vcpus, &boot.flags);
	if (abi.version >> 16 != PV_ABI_MAJOR) { /* VER-3: then not a single call */
		pr_err("the host speaks version %u of the ABI, this is for %u\n", abi.version >> 16, PV_ABI_MAJOR);
		return -ENODEV;
	}
	if (abi.trap_kind != PV_TRAP_KIND_PORT || abi.trap > U16_MAX || abi.doorbell > U16_MAX) {
		pr_err("the host's trap is of kind %u, which this driver does not know\n", abi.trap_kind);
		return -ENODEV;
	}
	trap_port = abi.trap;
	doorbell_port = abi.doorbell;
	paravirt.version = abi.version;
	paravirt.vcpus = boot.vcpus;
	return 0;
}
