// SPDX-License-Identifier: BSD-2-Clause
/*
 * A small hypervisor over /dev/kvm: what a vendor adds to libparavirt_host.  It boots an ELF image with our
 * notes, prints the guest's console, and exits with the status of its shutdown (255: it did not end well).
 * What it leaves out: disks, saved states, another life after a reset.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "paravirt_host.h"

#define CPUID_BASE 0x40000100 /* beside KVM's own leaves */
#define CPUID_ENTRIES 128
#define RAM_BYTES (128u << 20)
#define KICK SIGUSR1

struct cpu {
	int fd;
	struct kvm_run *run;
	struct kvm_sregs mode; /* in which it begins */
	pthread_t thread;
	uint32_t vector; /* of its upcalls */
};

static int kvm, vm, status = 255;
static struct pv_machine *machine;
static struct pv_entry_state entry;
static struct cpu cpus[PV_MAX_VCPUS];

static void die(const char *what, const char *why)
{
	fprintf(stderr, "example: %s: %s\n", what, why);
	exit(255);
}

static int control(int fd, unsigned long request, void *argument, const char *what)
{
	int result = ioctl(fd, request, argument);

	if (result < 0)
		die(what, strerror(errno));
	return result;
}

static int64_t console_write(struct pv_machine *from, const uint8_t *text, uint64_t size_bytes)
{
	(void)from;
	return fwrite(text, 1, size_bytes, stdout) == size_bytes && !fflush(stdout) ? PV_STATUS_OK : PV_STATUS_IO;
}

static void end(struct pv_machine *of, const struct pv_end *how)
{
	(void)of;
	if (how->kind == PV_END_SHUTDOWN)
		status = how->status < 254 ? (int)how->status : 254;
	else
		fprintf(stderr, "example: the guest did not shut down: end %u\n", how->kind);
}

static void upcall(struct pv_vcpu *vcpu)
{
	uint32_t vector = __atomic_load_n(&cpus[pv_vcpu_index(vcpu)].vector, __ATOMIC_SEQ_CST);
	struct kvm_msi message = { .address_lo = 0xfee00000u | pv_vcpu_index(vcpu) << 12 };

	message.data = vector == PV_UPCALL_NMI ? 0x400 : vector; /* delivery mode NMI, or fixed */
	if (vector != PV_UPCALL_OFF)
		ioctl(vm, KVM_SIGNAL_MSI, &message);
}

static int64_t upcall_vector(struct pv_vcpu *vcpu, uint32_t vector)
{
	__atomic_store_n(&cpus[pv_vcpu_index(vcpu)].vector, vector, __ATOMIC_SEQ_CST);
	return PV_STATUS_OK;
}

static int64_t start(struct pv_vcpu *caller, struct pv_vcpu *target) /* VCPU-6 */
{
	struct kvm_sregs *mode = &cpus[pv_vcpu_index(target)].mode;

	return ioctl(cpus[pv_vcpu_index(caller)].fd, KVM_GET_SREGS, mode) < 0 ? PV_STATUS_FAILED : PV_STATUS_OK;
}

static uint64_t fault_address(struct pv_vcpu *vcpu)
{
	struct kvm_sregs sregs;

	return ioctl(cpus[pv_vcpu_index(vcpu)].fd, KVM_GET_SREGS, &sregs) < 0 ? 0 : sregs.cr2;
}

static void kick(struct pv_vcpu *vcpu)
{
	/* The first for the next entry, the second for the one under way; the thread is there until this is done. */
	__atomic_store_n(&cpus[pv_vcpu_index(vcpu)].run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	pthread_kill(cpus[pv_vcpu_index(vcpu)].thread, KICK);
}

static void ignore(int number)
{
	(void)number;
}

static bool serve(struct pv_vcpu *vcpu, struct kvm_run *run)
{
	struct kvm_regs *r = &run->s.regs.regs;
	struct pv_trap t = { r->rax, r->rdx, r->rdi, r->rsi, r->rcx, r->r8, r->r9, r->r10, r->r11 };

	pv_vcpu_exited(vcpu);
	if (run->exit_reason == KVM_EXIT_MMIO) /* nothing is there */
		memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
	if (run->exit_reason != KVM_EXIT_IO)
		return run->exit_reason == KVM_EXIT_MMIO || run->exit_reason == KVM_EXIT_INTR;
	if (pv_port(vcpu, run->io.direction == KVM_EXIT_IO_OUT, run->io.port, run->io.size, run->io.count,
		    (uint8_t *)run + run->io.data_offset, &t)) {
		r->rax = t.rax, r->rdx = t.rdx, r->rcx = t.rcx;
		r->r8 = t.r8, r->r9 = t.r9, r->r10 = t.r10, r->r11 = t.r11;
		run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
	}
	return true;
}

static void enter(struct pv_vcpu *vcpu, struct cpu *cpu)
{
	const struct pv_start *begin = pv_vcpu_begins(vcpu);
	struct kvm_regs regs = { .rip = begin->entry_gpa, .rsp = begin->stack_gpa, .rflags = entry.rflags };
	struct kvm_vcpu_events events;
	struct kvm_sregs own;

	control(cpu->fd, KVM_GET_SREGS, &own, "KVM_GET_SREGS");
	cpu->mode.apic_base = own.apic_base; /* its own, not the starter's */
	memset(cpu->mode.interrupt_bitmap, 0, sizeof(cpu->mode.interrupt_bitmap));
	regs.rdi = begin->argument;
	regs.rbx = entry.rbx, entry.rbx = 0; /* of the boot vCPU alone, which comes here before all others */
	control(cpu->fd, KVM_SET_SREGS, &cpu->mode, "KVM_SET_SREGS");
	control(cpu->fd, KVM_SET_REGS, &regs, "KVM_SET_REGS");
	control(cpu->fd, KVM_GET_VCPU_EVENTS, &events, "KVM_GET_VCPU_EVENTS");
	events.nmi.masked = events.interrupt.shadow = 0; /* it may have stopped in a handler */
	control(cpu->fd, KVM_SET_VCPU_EVENTS, &events, "KVM_SET_VCPU_EVENTS");
}

static void *run_cpu(void *argument)
{
	struct pv_vcpu *vcpu = argument;
	struct cpu *cpu = &cpus[pv_vcpu_index(vcpu)];

	while (pv_vcpu_wait_start(vcpu)) {
		enter(vcpu, cpu);
		while (pv_vcpu_lives(vcpu))
			if (ioctl(cpu->fd, KVM_RUN, 0) < 0 ? errno != EINTR && errno != EAGAIN : !serve(vcpu, cpu->run))
				die("a vCPU",
				    "KVM_RUN failed, or ended as nobody serves it: by a triple fault, mostly");
		cpu->run->immediate_exit = 1; /* KVM finishes the exit that was served last */
		ioctl(cpu->fd, KVM_RUN, 0);
		cpu->run->immediate_exit = 0;
	}
	return NULL;
}

static void run(uint32_t count)
{
	struct pv_start begin = { .entry_gpa = entry.rip, .argument = entry.rdi };
	struct sigaction action = { .sa_handler = ignore };

	sigaction(KICK, &action, NULL);
	pv_time_start(machine, 1000ull * (unsigned)control(cpus[0].fd, KVM_GET_TSC_KHZ, 0, "KVM_GET_TSC_KHZ"), 0);
	for (uint32_t i = 0; i < count; i++)
		if (pthread_create(&cpus[i].thread, NULL, run_cpu, pv_machine_vcpu(machine, i)))
			die("a thread", "the host cannot make it");
	pv_vcpu_boot(pv_machine_vcpu(machine, 0), &begin);
	pv_timer_run(machine);
	for (uint32_t i = 0; i < count; i++)
		pthread_join(cpus[i].thread, NULL);
}

static void set_cpuid(const struct cpu *cpu)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[CPUID_ENTRIES];
	} table = { .head = { .nent = CPUID_ENTRIES - PV_CPUID_LEAVES - 1 } };
	uint32_t words[4];

	control(kvm, KVM_GET_SUPPORTED_CPUID, &table, "KVM_GET_SUPPORTED_CPUID");
	for (uint32_t n = 0; n <= PV_CPUID_LEAVES; n++) {
		struct kvm_cpuid_entry2 *e = &table.entries[table.head.nent++];

		pv_boot_cpuid(machine, CPUID_BASE, n, words);
		e->function = CPUID_BASE + n, e->index = e->flags = 0;
		e->eax = words[0], e->ebx = words[1], e->ecx = words[2], e->edx = words[3];
	}
	control(cpu->fd, KVM_SET_CPUID2, &table, "KVM_SET_CPUID2");
}

static void set_mode(struct kvm_sregs *s)
{
	s->cs = s->ss = (struct kvm_segment){ .limit = ~0u, .dpl = entry.level, .present = 1, .s = 1, .g = 1 };
	s->cs.selector = entry.code_selector, s->cs.type = 11, s->cs.l = entry.wide, s->cs.db = !entry.wide;
	s->ss.selector = entry.data_selector, s->ss.type = 3, s->ss.db = 1;
	s->ds = s->es = s->fs = s->gs = s->ss;
	s->tr = (struct kvm_segment){ .base = entry.task.base_gpa, .limit = entry.task.limit, .type = 11 };
	s->tr.selector = entry.task.selector, s->tr.present = 1;
	s->gdt.base = entry.gdt.base_gpa, s->gdt.limit = (uint16_t)entry.gdt.limit;
	s->idt.base = entry.idt.base_gpa, s->idt.limit = (uint16_t)entry.idt.limit;
	s->cr0 = entry.cr0, s->cr3 = entry.cr3, s->cr4 = entry.cr4, s->efer = entry.efer;
}

static void make_cpu(struct cpu *cpu, uint32_t index)
{
	struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs = { { .value = entry.xcr0 } } };
	uint64_t none = 0;
	struct kvm_device_attr offset = { 0, KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, (uintptr_t)&none };
	struct kvm_lapic_state apic;
	size_t run_bytes = (size_t)control(kvm, KVM_GET_VCPU_MMAP_SIZE, NULL, "KVM_GET_VCPU_MMAP_SIZE");

	cpu->fd = control(vm, KVM_CREATE_VCPU, (void *)(uintptr_t)index, "KVM_CREATE_VCPU");
	cpu->run = mmap(NULL, run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, cpu->fd, 0);
	if (cpu->run == MAP_FAILED)
		die("kvm_run", strerror(errno));
	cpu->run->kvm_valid_regs = KVM_SYNC_X86_REGS;
	set_cpuid(cpu);
	ioctl(cpu->fd, KVM_SET_DEVICE_ATTR, &offset); /* the host's counter; where that fails it is so already */
	control(cpu->fd, KVM_SET_MP_STATE, &runnable, "KVM_SET_MP_STATE");
	if (entry.xcr0) /* BOOT-10 */
		control(cpu->fd, KVM_SET_XCRS, &xcrs, "the CPU is of a lower level than the image needs");
	control(cpu->fd, KVM_GET_LAPIC, &apic, "KVM_GET_LAPIC");
	memcpy(&apic.regs[0xf0], "\xff\x01", 2); /* spurious vector, switched on (BOOT-11) */
	control(cpu->fd, KVM_SET_LAPIC, &apic, "KVM_SET_LAPIC");
	control(cpu->fd, KVM_GET_SREGS, &cpu->mode, "KVM_GET_SREGS");
	set_mode(&cpu->mode);
}

static void make_vm(void *ram, uint32_t count)
{
	struct kvm_userspace_memory_region region = { .memory_size = RAM_BYTES, .userspace_addr = (uintptr_t)ram };

	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	vm = control(kvm, KVM_CREATE_VM, NULL, "/dev/kvm");
	control(vm, KVM_SET_TSS_ADDR, (void *)0xfffbd000, "KVM_SET_TSS_ADDR");
	control(vm, KVM_CREATE_IRQCHIP, NULL, "KVM_CREATE_IRQCHIP");
	control(vm, KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION");
	for (uint32_t i = 0; i < count; i++)
		make_cpu(&cpus[i], i);
}

/* A machine with the image in it; what both refuse is said. */
static void *make_machine(const struct pv_machine_config *config, struct pv_boot *boot, const char *path)
{
	FILE *file = fopen(path, "rb");
	void *ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	void *bytes = malloc(RAM_BYTES);
	struct pv_image image;
	const char *wrong;

	if (!file || !bytes || ram == MAP_FAILED)
		die(path, strerror(errno));
	wrong = pv_image_parse(&image, bytes, fread(bytes, 1, RAM_BYTES, file));
	if (!wrong)
		machine = pv_machine_create(config, &wrong);
	if (!wrong && pv_memory_add(pv_machine_memory(machine), 0, RAM_BYTES, ram) == 0) {
		pv_machine_offer_all(machine);
		pv_entropy_offer(machine, &image);
		boot->image = &image;
		wrong = pv_boot(machine, boot, &entry);
	}
	if (wrong)
		die(path, wrong);
	fclose(file);
	free(bytes);
	return ram;
}

int main(int argc, char **argv)
{
	struct pv_machine_config config = { .api = PV_HOST_API };
	struct pv_boot boot = { .trap_port = 0x5050, .doorbell_port = 0x5054 };

	config.ops.console_write = console_write, config.ops.end = end, config.ops.kick = kick;
	config.ops.upcall = upcall, config.ops.upcall_vector = upcall_vector;
	config.ops.start = start, config.ops.fault_address = fault_address;
	config.vcpus = argc > 2 ? (uint32_t)atoi(argv[2]) : 1;
	boot.privilege = argc > 3 && argv[3][0] == 's' ? PV_PRIVILEGE_SUPERVISOR : PV_PRIVILEGE_USER;
	config.poison = argc > 4;
	config.console_bytes = 16 << 20, config.trace_marks = 100000, config.doorbells_per_second = 200000;
	if (argc < 2 || argc > 5)
		die("usage", "example IMAGE [VCPUS [user|supervisor [poison]]]");
	make_vm(make_machine(&config, &boot, argv[1]), config.vcpus);
	run(config.vcpus);
	pv_machine_destroy(machine);
	return status;
}
