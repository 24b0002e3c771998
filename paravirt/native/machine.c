// SPDX-License-Identifier: BSD-2-Clause
/*
 * Machines as the public header has them: made, filled and destroyed through functions, so that a vendor's
 * program depends on no record's fields.  Our own host fills the records in itself.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "host.h"

uint32_t pv_host_api(void)
{
	return PV_HOST_API;
}

const char *pv_abi_digest(void)
{
	return PV_ABI_DIGEST;
}

/* A machine of ours, with the thread of its call rings: made when a guest sets up its first one. */
struct own {
	struct pv_machine machine; /* first: what the caller has is its address */
	pthread_mutex_t lock; /* two vCPUs may set up the first ring */
	pthread_t rings;
	bool serving;
};

static void *run_rings(void *machine)
{
	pv_callring_serve(machine);
	return NULL;
}

static int64_t serve_callrings(struct pv_vcpu *vcpu)
{
	struct own *own = (struct own *)vcpu->machine;
	struct pv_machine *machine = &own->machine;

	pthread_mutex_lock(&own->lock);
	if (machine->callrings.doorbell_fd < 0)
		machine->callrings.doorbell_fd = eventfd(0, EFD_CLOEXEC);
	if (!own->serving && machine->callrings.doorbell_fd >= 0)
		own->serving = !pthread_create(&own->rings, NULL, run_rings, machine);
	bool serving = own->serving;
	pthread_mutex_unlock(&own->lock);
	return serving ? PV_STATUS_OK : PV_STATUS_FAILED;
}

static void end_rings(struct own *own)
{
	struct pv_machine *machine = &own->machine;

	if (own->serving) {
		__atomic_store_n(&machine->ending, 1, __ATOMIC_SEQ_CST);
		pv_callring_wake(machine);
		pthread_join(own->rings, NULL);
	}
	if (machine->ops.serve_callrings == serve_callrings && machine->callrings.doorbell_fd >= 0)
		close(machine->callrings.doorbell_fd);
	pthread_mutex_destroy(&machine->callrings.lock);
	pthread_mutex_destroy(&machine->clock);
	pthread_mutex_destroy(&own->lock);
}

static bool compatible(uint32_t api)
{
	return api >> 16 == PV_HOST_API >> 16 && (api & 0xffff) <= (PV_HOST_API & 0xffff);
}

static bool add_vcpus(struct pv_machine *machine, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		struct pv_vcpu *vcpu = calloc(1, sizeof(*vcpu));

		if (!vcpu)
			return false;
		vcpu->index = i;
		vcpu->machine = machine;
		vcpu->state.deadline_ns = PV_DEADLINE_NEVER;
		machine->vcpus[i] = vcpu;
		machine->vcpu_count = i + 1;
	}
	return true;
}

struct pv_machine *pv_machine_create(const struct pv_machine_config *config, const char **wrong)
{
	struct own *own = NULL;

	if (!compatible(config->api)) {
		*wrong = "libparavirt_host is not the one that this program was compiled for; compile it again";
	} else if (!config->vcpus || config->vcpus > PV_MAX_VCPUS) {
		*wrong = "a machine has from 1 to 64 vCPUs";
	} else if (!config->ops.upcall || !config->ops.upcall_vector || !config->ops.kick || !config->ops.start ||
		   !config->ops.fault_address) {
		*wrong = "an operation is missing that every machine needs";
	} else {
		*wrong = "there is no memory for the machine";
		own = calloc(1, sizeof(*own));
	}
	if (!own)
		return NULL;
	struct pv_machine *machine = &own->machine;
	pthread_mutex_init(&own->lock, NULL);
	pv_machine_init(machine);
	machine->ops = config->ops;
	if (!machine->ops.serve_callrings)
		machine->ops.serve_callrings = serve_callrings;
	machine->opaque = config->opaque;
	machine->poison = config->poison;
	machine->console_budget = config->console_bytes ? config->console_bytes : UINT64_MAX;
	machine->trace_mark_budget = config->trace_marks ? config->trace_marks : UINT64_MAX;
	machine->doorbell_budget = config->doorbells_per_second;
	machine->services = 1u << PV_SERVICE_BASE;
	if (getrandom(&machine->poison_seed, sizeof(machine->poison_seed), 0) < 0 ||
	    !add_vcpus(machine, config->vcpus)) {
		pv_machine_destroy(machine);
		return NULL;
	}
	*wrong = NULL;
	return machine;
}

void pv_machine_destroy(struct pv_machine *machine)
{
	end_rings((struct own *)machine); /* who makes calls to devices too */
	for (uint32_t i = 0; i < machine->device_count; i++) {
		pv_device_deinit(machine->devices[i]);
		free(machine->devices[i]);
	}
	for (uint32_t i = 0; i < machine->vcpu_count; i++)
		free(machine->vcpus[i]);
	free(machine->owned_boot_info);
	free((struct own *)machine);
}

void *pv_machine_opaque(const struct pv_machine *machine)
{
	return machine->opaque;
}

struct pv_memory *pv_machine_memory(struct pv_machine *machine)
{
	return &machine->memory;
}

bool pv_machine_offer(struct pv_machine *machine, uint32_t service, uint64_t features)
{
	if (service >= PV_SERVICES || !pv_call_name(service << 16))
		return false;
	machine->services |= 1u << service;
	machine->offered[service] = features;
	return true;
}

void pv_machine_offer_all(struct pv_machine *machine)
{
	for (uint32_t service = 0; service < PV_SERVICES; service++)
		if (pv_call_name(service << 16))
			machine->services |= 1u << service;
	machine->offered[PV_SERVICE_BASE] = PV_BASE_FEATURE_RING;
	machine->offered[PV_SERVICE_MEMORY] = PV_MEMORY_FEATURE_BALLOON | PV_MEMORY_FEATURE_FREE_PAGE_REPORTING;
	machine->offered[PV_SERVICE_DEVICE] = PV_DEVICE_FEATURE_QUEUE_RESET | PV_DEVICE_FEATURE_HOTPLUG;
}

bool pv_machine_deny(struct pv_machine *machine, uint32_t id)
{
	if (!pv_call_name(id) || id >> 16 == PV_SERVICE_BASE)
		return false;
	machine->denied[id >> 16] |= 1ull << (id & 0xffff);
	return true;
}

bool pv_machine_pages(struct pv_machine *machine, uint64_t time_gpa, uint64_t vcpu_gpa)
{
	uint8_t *pages = pv_memory_at(&machine->memory, vcpu_gpa, (uint64_t)machine->vcpu_count * PV_PAGE_BYTES);

	machine->time_page = pv_memory_at(&machine->memory, time_gpa, PV_PAGE_BYTES);
	if (!machine->time_page || !pages || time_gpa % PV_PAGE_BYTES || vcpu_gpa % PV_PAGE_BYTES)
		return false;
	for (uint32_t i = 0; i < machine->vcpu_count; i++) {
		struct pv_vcpu_page *page = (void *)(pages + (size_t)i * PV_PAGE_BYTES);

		memset(page, 0, sizeof(*page));
		page->index = i;
		page->deadline_ns = PV_DEADLINE_NEVER;
		machine->vcpus[i]->page = page;
	}
	return true;
}

bool pv_machine_continuity(struct pv_machine *machine, uint64_t continuity_gpa)
{
	machine->continuity.page = pv_memory_at(&machine->memory, continuity_gpa, PV_PAGE_BYTES);
	if (!machine->continuity.page || continuity_gpa % PV_PAGE_BYTES)
		return false;
	memset(machine->continuity.page, 0, sizeof(*machine->continuity.page));
	return true;
}

void pv_machine_boot_info(struct pv_machine *machine, const void *info, uint32_t size_bytes)
{
	machine->boot_info = info;
	machine->boot_info_bytes = size_bytes;
}

struct pv_vcpu *pv_machine_vcpu(const struct pv_machine *machine, uint32_t index)
{
	return index < machine->vcpu_count ? machine->vcpus[index] : NULL;
}

struct pv_machine *pv_vcpu_machine(const struct pv_vcpu *vcpu)
{
	return vcpu->machine;
}

uint32_t pv_vcpu_index(const struct pv_vcpu *vcpu)
{
	return vcpu->index;
}

void *pv_vcpu_opaque(const struct pv_vcpu *vcpu)
{
	return vcpu->opaque;
}

void pv_vcpu_set_opaque(struct pv_vcpu *vcpu, void *opaque)
{
	vcpu->opaque = opaque;
}

void pv_vcpu_boot(struct pv_vcpu *vcpu, const struct pv_start *start)
{
	vcpu->start = *start;
	__atomic_fetch_add(&vcpu->machine->running, 1, __ATOMIC_SEQ_CST);
	__atomic_store_n(&vcpu->page->state, PV_VCPU_STATE_RUNNING, __ATOMIC_RELAXED);
	__atomic_store_n(&vcpu->state.state, PV_VCPU_STATE_RUNNING, __ATOMIC_SEQ_CST);
	pv_vcpu_wake(vcpu);
}

const struct pv_start *pv_vcpu_begins(const struct pv_vcpu *vcpu)
{
	return &vcpu->start;
}

void pv_vcpu_exited(struct pv_vcpu *vcpu)
{
	__atomic_store_n(&vcpu->page->exits, ++vcpu->exits, __ATOMIC_RELAXED);
}

void pv_vcpu_stolen(struct pv_vcpu *vcpu, uint64_t steal_ns)
{
	__atomic_store_n(&vcpu->page->steal_ns, steal_ns, __ATOMIC_RELAXED);
}

struct pv_device *pv_device_create(struct pv_machine *machine, const struct pv_device_config *config)
{
	const uint64_t ring =
		PV_VIRTIO_F_VERSION_1 | PV_VIRTIO_F_INDIRECT_DESC | PV_VIRTIO_F_EVENT_IDX | PV_VIRTIO_F_RING_PACKED;
	struct pv_device *device = malloc(sizeof(*device));

	if (!device || machine->device_count == PV_MAX_DEVICES || config->queue_count > PV_MAX_QUEUES ||
	    config->config_bytes > sizeof(device->config)) {
		free(device);
		return NULL;
	}
	pv_device_init(device, machine);
	device->index = machine->device_count;
	device->type = config->type;
	memcpy(device->name, config->name, strnlen(config->name, sizeof(device->name)));
	device->offered[0] = ring | config->features | (config->ops.queue_changed ? PV_VIRTIO_F_RING_RESET : 0);
	device->config_bytes = config->config_bytes;
	device->config_writable_from = config->config_writable_from;
	device->config_writable_bytes = config->config_writable_bytes;
	if (config->config_bytes)
		memcpy(device->config, config->config, config->config_bytes);
	device->queue_count = config->queue_count;
	for (uint32_t i = 0; i < config->queue_count; i++)
		device->queues[i].maximum =
			config->queue_sizes[i] < PV_MAX_QUEUE_SIZE ? config->queue_sizes[i] : PV_MAX_QUEUE_SIZE;
	device->mmio = config->mmio_gpa != 0;
	device->mmio_gpa = config->mmio_gpa;
	device->interrupt_fd = config->mmio_gpa ? config->interrupt_fd : -1;
	device->ops = config->ops;
	device->opaque = config->opaque;
	machine->devices[machine->device_count++] = device;
	return device;
}

void *pv_device_opaque(const struct pv_device *device)
{
	return device->opaque;
}

struct pv_queue *pv_device_queue(struct pv_device *device, uint32_t queue)
{
	return queue < device->queue_count ? &device->queues[queue] : NULL;
}

void pv_queue_set_doorbell(struct pv_queue *queue, int fd)
{
	queue->doorbell_fd = fd;
}
