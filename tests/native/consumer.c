// SPDX-License-Identifier: BSD-2-Clause
/*
 * A vendor's program, in the part of C that C++ shares: it makes machines, good and bad, and a call.
 */
#include <paravirt_host.h>
#include <stdio.h>
#include <string.h>

static void nothing(struct pv_vcpu *vcpu)
{
	(void)vcpu;
}
static int64_t vector(struct pv_vcpu *vcpu, uint32_t number)
{
	(void)vcpu, (void)number;
	return PV_STATUS_OK;
}
static int64_t start(struct pv_vcpu *a, struct pv_vcpu *b)
{
	(void)a, (void)b;
	return PV_STATUS_FAILED;
}
static uint64_t fault(struct pv_vcpu *vcpu)
{
	(void)vcpu;
	return 0;
}

static struct pv_machine *make(uint32_t api, uint32_t vcpus)
{
	struct pv_machine_config config;
	const char *wrong = "nothing";

	memset(&config, 0, sizeof(config));
	config.api = api;
	config.vcpus = vcpus;
	config.ops.upcall = config.ops.kick = nothing;
	config.ops.upcall_vector = vector;
	config.ops.start = start;
	config.ops.fault_address = fault;
	struct pv_machine *machine = pv_machine_create(&config, &wrong);
	printf("%s\n", wrong ? wrong : "made");
	return machine;
}

int main(void)
{
	static uint8_t ram[1 << 16] __attribute__((aligned(4096)));

	if (make(PV_HOST_API + 0x10000, 1) || make(PV_HOST_API + 1, 1) || make(PV_HOST_API, 0) ||
	    make(PV_HOST_API, 65) || pv_host_api() != PV_HOST_API || strcmp(pv_abi_digest(), PV_ABI_DIGEST))
		return 1;
	struct pv_machine *machine = make(PV_HOST_API, 2);
	if (!machine || pv_memory_add(pv_machine_memory(machine), 0, sizeof(ram), ram) ||
	    pv_machine_pages(machine, 0x1000, 0xf000) || !pv_machine_pages(machine, 0x1000, 0x2000))
		return 2;
	struct pv_trap trap;
	memset(&trap, 0, sizeof(trap));
	trap.rax = PV_CALL_BASE_VERSION;
	pv_trap(pv_machine_vcpu(machine, 1), &trap);
	printf("%lld %llx\n", (long long)trap.rax, (unsigned long long)trap.rdx);
	pv_machine_destroy(machine);
	return 0;
}
