// SPDX-License-Identifier: BSD-2-Clause
/*
 * The run loop of a vCPU over KVM: enter, serve the exit, enter again.  Traps, doorbells and virtio
 * registers are served here; what needs the surroundings goes through machine->ops.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kvm_vcpu.h"
#include "platform.h"
#include "pmem.h"

#define KICK (SIGRTMIN + 6)
#define STEAL_PERIOD_NS 10000000
#define BREAKPOINT 3 /* vector */

static void ignore(int number)
{
	(void)number;
}

static void kick(struct pv_vcpu *vcpu)
{
	struct pv_kvm_vcpu *own = vcpu->opaque;

	if (!own || own->run == MAP_FAILED)
		return;
	/* immediate_exit holds for the next entry, the signal for the one under way. */
	__atomic_store_n(&own->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	/* The lock, for a thread that has ended must not be signalled: its pthread_t may be another's by then. */
	pthread_mutex_lock(&own->lock);
	if (own->in_thread)
		pthread_kill(own->thread, KICK);
	pthread_mutex_unlock(&own->lock);
}

void pv_kvm_hold(struct pv_vcpu *vcpu)
{
	__atomic_store_n(&vcpu->hold, 1, __ATOMIC_SEQ_CST);
	kick(vcpu);
	pv_vcpu_wake(vcpu);
}

static void upcall(struct pv_vcpu *vcpu)
{
	uint64_t one = 1;

	/* Cannot be short; full means that one is under way already. */
	if (write(((struct pv_kvm_vcpu *)vcpu->opaque)->upcall_fd, &one, sizeof(one)) < 0)
		return;
}

static uint64_t fault_address(struct pv_vcpu *vcpu)
{
	struct kvm_sregs sregs;

	return ioctl(((struct pv_kvm_vcpu *)vcpu->opaque)->fd, KVM_GET_SREGS, &sregs) < 0 ? 0 : sregs.cr2;
}

/* Read here, in the caller's thread; set by the target's in enter(). */
static int64_t start(struct pv_vcpu *caller, struct pv_vcpu *target)
{
	struct pv_kvm_vcpu *own = target->opaque;

	if (ioctl(((struct pv_kvm_vcpu *)caller->opaque)->fd, KVM_GET_SREGS, &own->mode) < 0)
		return PV_STATUS_FAILED;
	own->mode_given = 1;
	if (own->kvm->platform)
		kick(target); /* it waits for an IPI in KVM_RUN */
	return PV_STATUS_OK;
}

void pv_kvm_ops(struct pv_machine *machine)
{
	machine->ops.upcall = upcall;
	machine->ops.upcall_vector = pv_kvm_upcall_vector;
	machine->ops.start = start;
	machine->ops.fault_address = fault_address;
	machine->ops.kick = kick;
}

/* Has KVM finish the exit being served, so that registers can be replaced. */
static void complete(struct pv_kvm_vcpu *own)
{
	own->run->immediate_exit = 1;
	ioctl(own->fd, KVM_RUN, 0);
	own->run->immediate_exit = 0;
}

static void serve_trap(struct pv_vcpu *vcpu, struct kvm_run *run)
{
	struct kvm_regs *regs = &run->s.regs.regs;
	struct pv_trap trap = { regs->rax, regs->rdx, regs->rdi, regs->rsi, regs->rcx,
				regs->r8,  regs->r9,  regs->r10, regs->r11 };

	pv_trap(vcpu, &trap);
	regs->rax = trap.rax;
	regs->rdx = trap.rdx;
	regs->rcx = trap.rcx;
	regs->r8 = trap.r8;
	regs->r9 = trap.r9;
	regs->r10 = trap.r10;
	regs->r11 = trap.r11;
	run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
}

/* Nothing listens on other ports: reads float high, writes are lost. */
static void serve_io(struct pv_vcpu *vcpu, struct kvm_run *run)
{
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	bool word = run->io.direction == KVM_EXIT_IO_OUT && run->io.size == 4;
	struct pv_platform *platform = ((struct pv_kvm_vcpu *)vcpu->opaque)->kvm->platform;

	if (word && run->io.port == PV_TRAP_PORT && run->io.count == 1) {
		serve_trap(vcpu, run);
	} else if (word && run->io.port == PV_DOORBELL_PORT && run->io.count == 1) {
		uint32_t value;

		memcpy(&value, data, sizeof(value));
		pv_doorbell(vcpu->machine, value);
		if (value >> 16 == PV_EVENT_DOORBELL)
			pv_kvm_wire_upcall(vcpu->machine, value & 0xffff);
	} else if (platform) {
		pv_platform_port(platform, run->io.direction == KVM_EXIT_IO_OUT, run->io.port, run->io.size,
				 run->io.count, data);
	} else if (run->io.direction == KVM_EXIT_IO_IN) {
		memset(data, 0xff, (size_t)run->io.size * run->io.count);
	}
}

/* True to go on, false with `out` filled in. */
static bool serve_mmio(struct pv_vcpu *vcpu, struct kvm_run *run, struct pv_exit *out)
{
	uint32_t offset;
	struct pv_device *device = pv_mmio_window(vcpu->machine, run->mmio.phys_addr, &offset);
	uint32_t size = run->mmio.len <= 8 ? run->mmio.len : 8;
	uint64_t value = UINT64_MAX;

	if (run->mmio.is_write) {
		value = 0;
		memcpy(&value, run->mmio.data, size);
		if (device)
			pv_mmio_write(device, offset, size, value);
	} else {
		if (device)
			value = pv_mmio_read(device, offset, size);
		memcpy(run->mmio.data, &value, size);
	}
	return device || pv_region_access(vcpu->machine, run->mmio.phys_addr, run->mmio.is_write, out);
}

/* Time that the thread was ready to run and did not, at most every 10 ms. */
static void account_steal(struct pv_vcpu *vcpu)
{
	struct pv_kvm_vcpu *own = vcpu->opaque;
	uint64_t now = pv_clock_ns();
	char text[64];
	char *second;

	if (own->steal_fd < 0 || now - own->steal_read_ns < STEAL_PERIOD_NS)
		return;
	own->steal_read_ns = now;
	ssize_t got = pread(own->steal_fd, text, sizeof(text) - 1, 0);
	if (got <= 0)
		return;
	text[got] = '\0';
	strtoull(text, &second, 10);
	__atomic_store_n(&vcpu->page->steal_ns, strtoull(second, NULL, 10), __ATOMIC_RELAXED);
}

static void trace_exit(struct pv_vcpu *vcpu, const struct kvm_run *run, uint64_t begin_ns)
{
	struct pv_trace_event event = {
		.begin_ns = begin_ns,
		.end_ns = pv_clock_ns(),
		.kind = PV_TRACE_EXIT,
		.id = run->exit_reason,
	};

	pv_trace_put(vcpu->trace, &event);
}

static uint32_t reason(const struct kvm_run *run)
{
	if (run->exit_reason == KVM_EXIT_MMIO)
		return PV_REASON_MMIO;
	if (run->exit_reason != KVM_EXIT_IO)
		return PV_REASON_OTHER;
	switch (run->io.port) {
	case PV_TRAP_PORT:
		return PV_REASON_TRAP;
	case PV_DOORBELL_PORT:
		return PV_REASON_DOORBELL;
	default:
		return PV_REASON_PORT;
	}
}

/*
 * Keeps the thread out of the guest while somebody wants that, with no exit under way, so that registers can be
 * replaced; false if it does not go on at all.
 */
static bool hold(struct pv_vcpu *vcpu, struct pv_kvm_vcpu *own, uint32_t why, uint64_t detail)
{
	bool on = true;

	complete(own);
	if (why == PV_HELD_ASKED && vcpu->debug_frame_gpa) {
		why = PV_HELD_CALL;
		detail = vcpu->debug_frame_gpa;
	}
	vcpu->debug_frame_gpa = 0;
	if (vcpu->machine->held)
		on = vcpu->machine->held(vcpu, why, detail);
	return on;
}

static bool serve_debug(struct pv_vcpu *vcpu, struct kvm_run *run)
{
	uint64_t dr6 = run->debug.arch.exception == BREAKPOINT ? 0 : run->debug.arch.dr6;

	return hold(vcpu, vcpu->opaque, PV_HELD_DEBUG, dr6);
}

/* Serves one exit: true to go on, false with `out` filled in. */
static bool serve(struct pv_vcpu *vcpu, struct kvm_run *run, struct pv_exit *out)
{
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		serve_io(vcpu, run);
		return true;
	case KVM_EXIT_MMIO:
		if (serve_mmio(vcpu, run, out))
			return true;
		break;
	case KVM_EXIT_DEBUG:
		return serve_debug(vcpu, run);
	case KVM_EXIT_INTR:
	case KVM_EXIT_HLT: /* only without an in-kernel interrupt controller */
		return true;
	case KVM_EXIT_SHUTDOWN:
		out->kind = PV_EXIT_TRIPLE_FAULT;
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		out->kind = PV_EXIT_INTERNAL;
		out->reason = run->internal.suberror;
		break;
	case KVM_EXIT_FAIL_ENTRY:
		out->kind = PV_EXIT_ENTRY;
		out->detail = run->fail_entry.hardware_entry_failure_reason;
		break;
	default:
		out->kind = PV_EXIT_UNKNOWN;
		out->reason = run->exit_reason;
		break;
	}
	out->rip = run->s.regs.regs.rip;
	out->rsp = run->s.regs.regs.rsp;
	out->cr2 = fault_address(vcpu);
	/* A debugger may know better: a breakpoint for which the guest has no gate yet, or somebody who wants to look. */
	if (!vcpu->machine->held || !hold(vcpu, vcpu->opaque, PV_HELD_END, out->kind))
		return false;
	out->kind = PV_EXIT_STOPPED;
	return true;
}

/* The exit that KVM_RUN has just left with: true to go on, false with `out` filled in. */
static bool serve_exit(struct pv_vcpu *vcpu, struct pv_kvm_vcpu *own, struct pv_exit *out)
{
	__atomic_store_n(&vcpu->page->exits, ++vcpu->exits, __ATOMIC_RELAXED);
	vcpu->exits_for[reason(own->run)]++;
	uint64_t begin_ns = vcpu->trace ? pv_clock_ns() : 0;
	bool on = serve(vcpu, own->run, out);
	if (vcpu->trace)
		trace_exit(vcpu, own->run, begin_ns);
	account_steal(vcpu);
	return on;
}

static bool run_once(struct pv_vcpu *vcpu, struct pv_kvm_vcpu *own, struct pv_exit *out)
{
	if (ioctl(own->fd, KVM_RUN, 0) < 0) {
		/* Cleared before hold and stop are looked at: whoever asks from now on is heard. */
		if (errno == EINTR)
			__atomic_store_n(&own->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
		if (errno == EINTR || errno == EAGAIN)
			return true;
		out->kind = PV_EXIT_ERROR;
		out->reason = (uint32_t)errno;
		return false;
	}
	return serve_exit(vcpu, own, out);
}

static void thread_begin(struct pv_kvm_vcpu *own)
{
	struct sigaction action = { .sa_handler = ignore };
	sigset_t all;

	/* Signals are for the main thread; only the kick comes here. */
	sigaction(KICK, &action, NULL);
	sigfillset(&all);
	sigdelset(&all, KICK);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	own->steal_fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
	pthread_mutex_lock(&own->lock);
	own->thread = pthread_self();
	own->in_thread = true;
	pthread_mutex_unlock(&own->lock);
}

static void thread_end(struct pv_kvm_vcpu *own)
{
	pthread_mutex_lock(&own->lock);
	own->in_thread = false;
	pthread_mutex_unlock(&own->lock);
	if (own->steal_fd >= 0)
		close(own->steal_fd);
	own->steal_fd = -1;
}

void pv_vcpu_run(struct pv_vcpu *vcpu, struct pv_exit *out)
{
	struct pv_kvm_vcpu *own = vcpu->opaque;

	memset(out, 0, sizeof(*out));
	out->kind = PV_EXIT_STOPPED;
	thread_begin(own);
	while (pv_kvm_await(vcpu), pv_vcpu_wait_start(vcpu)) {
		int result = own->by_ipi ? 0 : pv_kvm_enter(vcpu);

		if (result) {
			out->kind = PV_EXIT_ERROR;
			out->reason = (uint32_t)-result;
			break;
		}
		bool on = !own->unserved || serve_exit(vcpu, own, out);
		while (on && pv_vcpu_lives(vcpu))
			on = __atomic_load_n(&vcpu->hold, __ATOMIC_SEQ_CST) ? hold(vcpu, own, PV_HELD_ASKED, 0)
									    : run_once(vcpu, own, out);
		if (!on)
			break;
		complete(own);
	}
	thread_end(own);
}
