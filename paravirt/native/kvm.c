// SPDX-License-Identifier: BSD-2-Clause
/*
 * A virtual machine over KVM: descriptors, memory slots, interrupt routes, the state vCPUs start in.
 * run.c runs them.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/kvm_para.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "handlers.h"
#include "kvm_vcpu.h"

int pv_kvm_failed(struct pv_kvm *kvm, const char *step)
{
	kvm->failed = step;
	return errno ? -errno : -EIO;
}

#define CAPABILITY(capability, minimum, purpose)                                                \
	{                                                                                       \
		.name = #capability, .number = capability, .least = (minimum), .use = (purpose) \
	}

static const struct pv_capability capabilities[] = {
	CAPABILITY(KVM_CAP_USER_MEMORY, 1, "guest memory"),
	CAPABILITY(KVM_CAP_IRQCHIP, 1, "interrupt controllers in the kernel"),
	CAPABILITY(KVM_CAP_IRQ_ROUTING, 1, "upcalls"),
	CAPABILITY(KVM_CAP_IRQFD, 1, "upcalls"),
	CAPABILITY(KVM_CAP_IOEVENTFD, 1, "doorbells"),
	CAPABILITY(KVM_CAP_SYNC_REGS, KVM_SYNC_X86_REGS, "arguments of calls"),
	CAPABILITY(KVM_CAP_IMMEDIATE_EXIT, 1, "stopping a vCPU"),
	CAPABILITY(KVM_CAP_MP_STATE, 1, "starting vCPUs"),
	CAPABILITY(KVM_CAP_GET_TSC_KHZ, 1, "the time page"),
	CAPABILITY(KVM_CAP_READONLY_MEM, 0, "images mapped read-only"),
};

const struct pv_capability *pv_kvm_capability(uint32_t n)
{
	return n < sizeof(capabilities) / sizeof(capabilities[0]) ? &capabilities[n] : NULL;
}

int pv_kvm_vcpus_most(int system_fd)
{
	int most = pv_kvm_check(system_fd, KVM_CAP_MAX_VCPUS);

	return most > 0 ? most : pv_kvm_check(system_fd, KVM_CAP_NR_VCPUS);
}

int pv_kvm_check(int system_fd, uint32_t capability)
{
	int answer = ioctl(system_fd, KVM_CHECK_EXTENSION, (unsigned long)capability);

	return answer < 0 ? -errno : answer;
}

/*
 * The kernel gives up where it takes every lock of our memory if anything waits for the calling thread: a signal, or,
 * with no signal anywhere, the end of an io_uring that this thread made and has closed a moment ago.
 */
static int create_vm(int system_fd)
{
	int fd;

	do
		fd = ioctl(system_fd, KVM_CREATE_VM, 0);
	while (fd < 0 && errno == EINTR);
	return fd;
}

int pv_kvm_create(struct pv_kvm *kvm, const char *path, struct pv_machine *machine)
{
	memset(kvm, 0, sizeof(*kvm));
	kvm->machine = machine;
	kvm->vm_fd = -1;
	pv_kvm_ops(machine);
	pthread_mutex_init(&kvm->lock, NULL);
	kvm->system_fd = open(path, O_RDWR | O_CLOEXEC);
	if (kvm->system_fd < 0)
		return pv_kvm_failed(kvm, "open");
	if (ioctl(kvm->system_fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
		errno = ENOTTY;
		return pv_kvm_failed(kvm, "KVM_GET_API_VERSION");
	}
	kvm->vm_fd = create_vm(kvm->system_fd);
	if (kvm->vm_fd < 0)
		return pv_kvm_failed(kvm, "KVM_CREATE_VM");
	/* Needed by VMX without unrestricted guest; any three pages below 4 GiB that are not RAM. */
	if (ioctl(kvm->vm_fd, KVM_SET_TSS_ADDR, 0xfffbd000ul) < 0)
		return pv_kvm_failed(kvm, "KVM_SET_TSS_ADDR");
	return 0;
}

void pv_kvm_destroy(struct pv_kvm *kvm)
{
	if (kvm->vm_fd >= 0)
		close(kvm->vm_fd);
	if (kvm->system_fd >= 0)
		close(kvm->system_fd);
	kvm->vm_fd = kvm->system_fd = -1;
	pthread_mutex_destroy(&kvm->lock);
}

static int add_slot(struct pv_kvm *kvm, uint32_t flags, uint64_t gpa, uint64_t size_bytes, void *hva)
{
	struct kvm_userspace_memory_region region = {
		.slot = kvm->slots,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size_bytes,
		.userspace_addr = (uintptr_t)hva,
	};

	if (ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return pv_kvm_failed(kvm, "KVM_SET_USER_MEMORY_REGION");
	kvm->slots++;
	return 0;
}

int pv_kvm_add_memory(struct pv_kvm *kvm, uint64_t gpa, uint64_t size_bytes, void *hva)
{
	return add_slot(kvm, 0, gpa, size_bytes, hva);
}

/*
 * KVM fetches a page that takes time beside the vCPU, which it halts, and lets it try again whatever came of that: a
 * page that cannot be had is asked for without end.  Where HLT is the guest's own affair it does not halt vCPUs, and
 * the fault is waited for in KVM_RUN, which then fails.  Before vCPUs are created; where it is refused, the guest hangs.
 */
static void wait_for_pages(struct pv_kvm *kvm)
{
	struct kvm_enable_cap halts = {
		.cap = KVM_CAP_X86_DISABLE_EXITS,
		.args = { KVM_X86_DISABLE_EXITS_HLT },
	};

	(void)ioctl(kvm->vm_fd, KVM_ENABLE_CAP, &halts);
}

int pv_kvm_add_mapped(struct pv_kvm *kvm, uint64_t gpa, uint64_t size_bytes, void *hva, bool read_only)
{
	wait_for_pages(kvm);
	return add_slot(kvm, read_only ? KVM_MEM_READONLY : 0, gpa, size_bytes, hva);
}

/* One table for all: lines to the I/O APIC, upcalls as messages to each vCPU's local APIC. */
static int set_routes(struct pv_kvm *kvm)
{
	uint32_t count = PV_KVM_LINES + kvm->machine->vcpu_count;
	struct kvm_irq_routing *table = calloc(1, sizeof(*table) + count * sizeof(table->entries[0]));
	int result;

	if (!table)
		return pv_kvm_failed(kvm, "KVM_SET_GSI_ROUTING");
	for (uint32_t i = 0; kvm->lines && i < PV_KVM_LINES; i++) {
		table->entries[i] = (struct kvm_irq_routing_entry){ .gsi = i, .type = KVM_IRQ_ROUTING_IRQCHIP };
		table->entries[i].u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
		table->entries[i].u.irqchip.pin = i;
		table->nr++;
	}
	for (uint32_t i = 0; i < kvm->machine->vcpu_count; i++) {
		uint32_t vector = kvm->upcall_vectors[i];

		/* Without a route an upcall that is on its way while the guest chooses OFF ends here. */
		if (vector == PV_UPCALL_OFF)
			continue;
		struct kvm_irq_routing_entry *e = &table->entries[table->nr++];
		e->gsi = PV_KVM_LINES + i;
		e->type = KVM_IRQ_ROUTING_MSI;
		e->u.msi.address_lo = 0xfee00000u | i << 12;
		e->u.msi.data = vector == PV_UPCALL_NMI ? 0x400 : vector; /* delivery mode NMI, or fixed */
	}
	result = ioctl(kvm->vm_fd, KVM_SET_GSI_ROUTING, table) < 0 ? pv_kvm_failed(kvm, "KVM_SET_GSI_ROUTING") : 0;
	free(table);
	return result;
}

/*
 * KVM's own end-of-interrupt in memory, whose word is as EVT-13 and EVT-14 say: it is set only while guest code runs, so
 * there is nothing to save, and it holds until it is armed anew.  Where KVM refuses, the guest finds it clear.
 */
static void arm_eoi(struct pv_kvm_vcpu *own, uint64_t eoi_gpa)
{
	union {
		struct kvm_msrs list;
		uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
	} one = { .list = { .nmsrs = 1 } };

	one.list.entries[0] = (struct kvm_msr_entry){
		.index = MSR_KVM_PV_EOI_EN,
		.data = eoi_gpa ? eoi_gpa | KVM_MSR_ENABLED : 0,
	};
	if (eoi_gpa != own->eoi_gpa && ioctl(own->fd, KVM_SET_MSRS, &one) == 1)
		own->eoi_gpa = eoi_gpa;
}

int64_t pv_kvm_upcall_vector(struct pv_vcpu *vcpu, uint32_t vector)
{
	struct pv_kvm_vcpu *own = vcpu->opaque;
	struct pv_kvm *kvm = own->kvm;

	arm_eoi(own, pv_event_eoi_gpa(vcpu, vector));
	pthread_mutex_lock(&kvm->lock);
	kvm->upcall_vectors[vcpu->index] = vector;
	int result = set_routes(kvm);
	pthread_mutex_unlock(&kvm->lock);
	return result ? PV_STATUS_FAILED : PV_STATUS_OK;
}

static int add_irqfd(struct pv_kvm *kvm, int fd, uint32_t source)
{
	struct kvm_irqfd irqfd = { .fd = (uint32_t)fd, .gsi = source };

	return ioctl(kvm->vm_fd, KVM_IRQFD, &irqfd) < 0 ? pv_kvm_failed(kvm, "KVM_IRQFD") : 0;
}

int pv_kvm_line(struct pv_kvm *kvm, int fd, uint32_t line)
{
	return add_irqfd(kvm, fd, line);
}

static int set_ioeventfd(struct pv_kvm *kvm, int fd, uint64_t place, uint32_t value, uint32_t flags)
{
	struct kvm_ioeventfd ioeventfd = {
		.datamatch = value,
		.addr = place,
		.len = 4,
		.fd = fd,
		.flags = KVM_IOEVENTFD_FLAG_DATAMATCH | flags,
	};

	return ioctl(kvm->vm_fd, KVM_IOEVENTFD, &ioeventfd) < 0 ? pv_kvm_failed(kvm, "KVM_IOEVENTFD") : 0;
}

int pv_kvm_doorbell(struct pv_kvm *kvm, int fd, uint32_t value)
{
	return set_ioeventfd(kvm, fd, PV_DOORBELL_PORT, value, KVM_IOEVENTFD_FLAG_PIO);
}

int pv_kvm_no_doorbell(struct pv_kvm *kvm, int fd, uint32_t value)
{
	const uint32_t flags = KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DEASSIGN;

	return set_ioeventfd(kvm, fd, PV_DOORBELL_PORT, value, flags);
}

int pv_kvm_mmio_doorbell(struct pv_kvm *kvm, int fd, uint64_t gpa, uint32_t value)
{
	return set_ioeventfd(kvm, fd, gpa, value, 0);
}

void pv_kvm_wire_upcall(struct pv_machine *machine, uint32_t index)
{
	if (index >= machine->vcpu_count ||
	    !pv_feature_accepted(machine, PV_SERVICE_EVENT, PV_EVENT_FEATURE_DOORBELL_BIT))
		return;
	struct pv_vcpu *vcpu = machine->vcpus[index];
	struct pv_kvm_vcpu *own = vcpu->opaque;
	/* Once for each vCPU, whatever comes of it: what KVM refuses goes on by exits. */
	if (__atomic_load_n(&vcpu->state.upcall_vector, __ATOMIC_SEQ_CST) &&
	    !__atomic_exchange_n(&own->upcall_wired, 1, __ATOMIC_SEQ_CST))
		(void)pv_kvm_doorbell(own->kvm, own->upcall_fd, (uint32_t)PV_EVENT_DOORBELL << 16 | index);
}

/* The guest's counter is the host's: the time page needs no offset per vCPU. Where it fails it was so already. */
static void align_counter(int fd)
{
	uint64_t offset = 0;
	struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uintptr_t)&offset,
	};

	ioctl(fd, KVM_SET_DEVICE_ATTR, &attr);
}

/* Fixed-mode messages are taken only by a local APIC that is switched on; a CPL 3 guest cannot do it. */
static int enable_apic(struct pv_kvm *kvm, int fd)
{
	struct kvm_lapic_state apic;
	uint32_t spurious = 0x1ff;

	if (ioctl(fd, KVM_GET_LAPIC, &apic) < 0)
		return pv_kvm_failed(kvm, "KVM_GET_LAPIC");
	memcpy(&apic.regs[0xf0], &spurious, sizeof(spurious));
	return ioctl(fd, KVM_SET_LAPIC, &apic) < 0 ? pv_kvm_failed(kvm, "KVM_SET_LAPIC") : 0;
}

/* The state components of the CPU level asked for (BOOT-10); a guest without privilege cannot do it. */
static int enable_vectors(struct pv_kvm *kvm, int fd)
{
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs = { { .xcr = 0, .value = kvm->entry.xcr0 } } };

	return kvm->entry.xcr0 && ioctl(fd, KVM_SET_XCRS, &xcrs) < 0 ? pv_kvm_failed(kvm, "KVM_SET_XCRS") : 0;
}

/*
 * Before the first vCPU.  Where nobody needs lines, local APICs do: what the kernel's PIC and I/O APIC put in place is
 * waited for by whoever adds memory (7 ms) or ends the machine (15 ms) soon after, so memory comes before it.
 */
static int add_interrupt_controllers(struct pv_kvm *kvm)
{
	struct kvm_enable_cap local = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 0 } };

	if (!kvm->controllers && (kvm->lines || ioctl(kvm->vm_fd, KVM_ENABLE_CAP, &local) < 0)) {
		if (ioctl(kvm->vm_fd, KVM_CREATE_IRQCHIP, 0) < 0)
			return pv_kvm_failed(kvm, "KVM_CREATE_IRQCHIP");
	}
	kvm->controllers = true;
	return 0;
}

static int prepare(struct pv_kvm *kvm, struct pv_kvm_vcpu *own, uint32_t index)
{
	int size = ioctl(kvm->system_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };
	int result;

	own->fd = ioctl(kvm->vm_fd, KVM_CREATE_VCPU, (unsigned long)index);
	if (own->fd < 0 || size < 0)
		return pv_kvm_failed(kvm, "KVM_CREATE_VCPU");
	own->run_bytes = (size_t)size;
	own->run = mmap(NULL, own->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, own->fd, 0);
	if (own->run == MAP_FAILED)
		return pv_kvm_failed(kvm, "mmap of kvm_run");
	own->run->kvm_valid_regs = KVM_SYNC_X86_REGS;
	own->upcall_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (own->upcall_fd < 0)
		return pv_kvm_failed(kvm, "eventfd");
	if (ioctl(own->fd, KVM_SET_MP_STATE, &runnable) < 0)
		return pv_kvm_failed(kvm, "KVM_SET_MP_STATE");
	align_counter(own->fd);
	result = pv_kvm_set_cpuid(kvm, own->fd, index);
	if (!result)
		result = enable_vectors(kvm, own->fd); /* after the CPUID that says what there is */
	return result ? result : enable_apic(kvm, own->fd);
}

int pv_kvm_vcpu_create(struct pv_kvm *kvm, struct pv_vcpu *vcpu)
{
	struct pv_kvm_vcpu *own = calloc(1, sizeof(*own));
	int result;

	if (!own)
		return pv_kvm_failed(kvm, "KVM_CREATE_VCPU");
	own->kvm = kvm;
	own->fd = own->upcall_fd = own->steal_fd = -1;
	own->run = MAP_FAILED;
	pthread_mutex_init(&own->lock, NULL);
	vcpu->opaque = own;
	result = add_interrupt_controllers(kvm);
	if (!result)
		result = prepare(kvm, own, vcpu->index);
	if (!result)
		result = set_routes(kvm);
	return result ? result : add_irqfd(kvm, own->upcall_fd, PV_KVM_LINES + vcpu->index);
}

void pv_kvm_vcpu_destroy(struct pv_vcpu *vcpu)
{
	struct pv_kvm_vcpu *own = vcpu->opaque;

	if (!own)
		return;
	if (own->run != MAP_FAILED)
		munmap(own->run, own->run_bytes);
	if (own->upcall_fd >= 0)
		close(own->upcall_fd);
	if (own->fd >= 0)
		close(own->fd);
	pthread_mutex_destroy(&own->lock);
	free(own);
	vcpu->opaque = NULL;
}

uint64_t pv_kvm_counter_hz(struct pv_vcpu *vcpu)
{
	int khz = ioctl(((struct pv_kvm_vcpu *)vcpu->opaque)->fd, KVM_GET_TSC_KHZ, 0);

	return khz > 0 ? (uint64_t)khz * 1000 : 0;
}

bool pv_kvm_in_service(struct pv_vcpu *vcpu, uint32_t vector)
{
	struct kvm_lapic_state apic;
	uint32_t word;

	if (ioctl(((struct pv_kvm_vcpu *)vcpu->opaque)->fd, KVM_GET_LAPIC, &apic) < 0)
		return false;
	memcpy(&word, &apic.regs[0x100 + vector / 32 % 8 * 0x10], sizeof(word)); /* the in-service register */
	return word >> vector % 32 & 1;
}
