// SPDX-License-Identifier: BSD-2-Clause
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "callring_host.h"
#include "check.h"
#include "host.h"

static struct pv_machine machine;
static struct pv_vcpu vcpus[HOST_VCPUS];
static pthread_t server;

static void nothing(struct pv_vcpu *vcpu)
{
	(void)vcpu;
}

static int64_t vector(struct pv_vcpu *vcpu, uint32_t number)
{
	(void)vcpu, (void)number;
	return PV_STATUS_OK;
}

static void end(struct pv_machine *m, const struct pv_end *how)
{
	(void)m, (void)how;
}

static void *serve(void *argument)
{
	pv_callring_serve(argument);
	return NULL;
}

static void add_vcpu(uint32_t index, void *page)
{
	struct pv_vcpu *vcpu = &vcpus[index];

	vcpu->machine = &machine;
	vcpu->index = index;
	vcpu->page = page;
	vcpu->state.deadline_ns = PV_DEADLINE_NEVER;
	vcpu->state.state = PV_VCPU_STATE_RUNNING;
	machine.vcpus[index] = vcpu;
	machine.vcpu_count = index + 1;
}

void host_start(void *arena, uint64_t size_bytes)
{
	static const uint8_t boot_info[100];
	uint8_t *pages = (uint8_t *)arena + size_bytes - (HOST_VCPUS + 1) * 4096;

	pv_machine_init(&machine);
	CHECK(pv_memory_add(&machine.memory, (uintptr_t)arena, size_bytes, arena) == 0);
	machine.services = 0xffe;
	machine.boot_info = boot_info;
	machine.boot_info_bytes = sizeof(boot_info);
	machine.running = HOST_VCPUS;
	machine.trace_mark_budget = machine.console_budget = UINT64_MAX;
	for (uint32_t s = 0; s < 16; s++)
		machine.offered[s] = machine.state.accepted[s] = 0xff;
	machine.state.confirmed = 0xffff;
	machine.ops =
		(struct pv_machine_ops){ .upcall = nothing, .upcall_vector = vector, .kick = nothing, .end = end };
	machine.time_page = (struct pv_time_page *)(pages + HOST_VCPUS * 4096);
	for (uint32_t i = 0; i < HOST_VCPUS; i++)
		add_vcpu(i, pages + i * 4096);
	pv_time_start(&machine, 0, 0);
	pv_callring_sleep_on(&machine, eventfd(0, EFD_CLOEXEC));
	CHECK(pthread_create(&server, NULL, serve, &machine) == 0);
}

void host_stop(void)
{
	pv_machine_end(&machine);
	CHECK(pthread_join(server, NULL) == 0);
	close(machine.callrings.doorbell_fd);
}

int64_t host_trap(uint32_t vcpu, uint32_t id, const uint64_t args[6], uint64_t *value)
{
	struct pv_call call = { .id = id, .road = PV_ROAD_TRAP };
	struct pv_result result;

	memcpy(call.args, args, sizeof(call.args));
	pv_dispatch(&vcpus[vcpu], &call, &result);
	*value = result.value;
	return result.status;
}

void host_doorbell(uint32_t value)
{
	pv_doorbell(&machine, value);
}

struct pv_vcpu_page *host_page(uint32_t vcpu)
{
	return vcpus[vcpu].page;
}

uint64_t host_ring_calls(uint32_t vcpu)
{
	return vcpus[vcpu].callring.calls;
}

bool host_ring_fault(uint32_t vcpu)
{
	return vcpus[vcpu].callring.fault != NULL;
}
