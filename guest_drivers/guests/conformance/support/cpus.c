/* SPDX-License-Identifier: 0BSD
 *
 * Further vCPUs: a stack and a block for each of the first few.
 */
#include "conformance.h"

#define STACK_BYTES 16384u

extern const char cf_cpu_entry[];
_Noreturn void cf_cpu_begin(struct cf_cpu *cpu);

struct cf_cpu cf_cpus[CF_VCPUS];
static uint8_t stacks[CF_VCPUS][STACK_BYTES] __attribute__((aligned(16)));

uint32_t cf_this_vcpu(void)
{
	uint8_t here;

	for (uint32_t i = 1; i < CF_VCPUS; i++)
		if (pv_gpa(&here) - pv_gpa(stacks[i]) < STACK_BYTES)
			return i;
	return 0;
}

int64_t cf_start(uint32_t vcpu, void (*run)(void *argument), void *argument)
{
	if (vcpu >= CF_VCPUS)
		return PV_STATUS_NOT_FOUND;
	cf_cpus[vcpu] = (struct cf_cpu){ .run = run, .argument = argument };
	return pv_call4(PV_CALL_VCPU_START, vcpu, pv_gpa(cf_cpu_entry), pv_gpa(stacks[vcpu] + STACK_BYTES),
			pv_gpa(&cf_cpus[vcpu]))
		.status;
}

void cf_cpu_begin(struct cf_cpu *cpu)
{
	cpu->run(cpu->argument);
	for (;;)
		pv_call0(PV_CALL_VCPU_STOP);
}

bool cf_join(uint32_t vcpu)
{
	uint64_t end_ns = cf_now_ns() + CF_SECOND;

	while (pv_call1(PV_CALL_VCPU_STATE, vcpu).value != PV_VCPU_STATE_STOPPED)
		if (cf_now_ns() > end_ns)
			return false;
	return true;
}
