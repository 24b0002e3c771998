// SPDX-License-Identifier: BSD-2-Clause
/*
 * The state in which a vCPU begins, over KVM: as the machine's entry says, or in its starter's mode.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "kvm_vcpu.h"

#define USER_FLAGS 0x3202 /* IOPL 3, IF, and the bit that is always set */
#define CR0_PROTECTED 0x00000033 /* PE MP ET NE */
#define CR0_LONG 0x80010033 /* and WP PG */
#define CR4_LONG 0x00000620 /* PAE OSFXSR OSXMMEXCPT */
#define CR4_OSXSAVE 0x00040000
#define EFER_LONG 0xd00 /* LME LMA NXE */
#define HELD_LOOK_US 1000

static struct kvm_segment segment(uint16_t selector, uint8_t type, uint8_t dpl, bool wide)
{
	bool code = type & 8;

	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.dpl = dpl,
		.s = 1,
		.g = 1,
		.db = !(code && wide),
		.l = code && wide,
	};
}

static void enter_long(struct kvm_sregs *sregs, const struct pv_entry *entry)
{
	bool user = entry->mode == PV_MODE_USER;
	uint8_t dpl = user ? 3 : 0;

	sregs->cs = segment(user ? 0x23 : 0x08, 0xb, dpl, true);
	sregs->ss = segment(user ? 0x1b : 0x10, 0x3, dpl, true);
	sregs->cr3 = entry->page_table_gpa;
	sregs->cr0 = CR0_LONG;
	sregs->cr4 = CR4_LONG | (entry->xcr0 ? CR4_OSXSAVE : 0);
	sregs->efer = EFER_LONG;
	sregs->gdt = (struct kvm_dtable){ .base = entry->gdt_gpa, .limit = (uint16_t)(entry->gdt_bytes - 1) };
	sregs->idt = (struct kvm_dtable){ .base = entry->idt_gpa, .limit = 4095 };
	sregs->tr = (struct kvm_segment){
		.base = entry->tss_gpa,
		.limit = entry->tss_bytes - 1,
		.selector = 0x28,
		.type = 11,
		.present = 1,
	};
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss;
}

static void enter_pvh(struct kvm_sregs *sregs)
{
	sregs->cs = segment(0x08, 0xb, 0, false);
	sregs->ss = segment(0x10, 0x3, 0, false);
	sregs->cr0 = CR0_PROTECTED & ~0x22u; /* PE and ET alone */
	sregs->cr4 = 0;
	sregs->efer = 0;
	sregs->tr = (struct kvm_segment){ .limit = 0x67, .type = 11, .present = 1 };
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss;
}

/* The 64-bit entry of Linux's boot protocol: its selectors, interrupts off. */
static void enter_linux(struct kvm_sregs *sregs, const struct pv_entry *entry)
{
	enter_long(sregs, entry);
	sregs->cs.selector = 0x10;
	sregs->ss.selector = 0x18;
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss;
	sregs->tr.base = 0;
	sregs->tr.limit = 0x67;
}

/* All but what belongs to the vCPU itself, such as its local APIC's base. */
static void enter_mode(struct kvm_sregs *sregs, const struct kvm_sregs *mode)
{
	uint64_t apic_base = sregs->apic_base;

	*sregs = *mode;
	sregs->apic_base = apic_base;
	memset(sregs->interrupt_bitmap, 0, sizeof(sregs->interrupt_bitmap));
}

/* The vCPU may have stopped in a handler; NMIs would be held back until an IRET that never comes. */
static int leave_handlers(struct pv_kvm_vcpu *own)
{
	struct kvm_vcpu_events events;

	if (ioctl(own->fd, KVM_GET_VCPU_EVENTS, &events) < 0)
		return -errno;
	events.nmi.masked = 0;
	events.interrupt.shadow = 0;
	return ioctl(own->fd, KVM_SET_VCPU_EVENTS, &events) < 0 ? -errno : 0;
}

static int set_run_state(struct pv_kvm_vcpu *own, uint32_t state)
{
	struct kvm_mp_state wanted = { .mp_state = state };

	return ioctl(own->fd, KVM_SET_MP_STATE, &wanted);
}

/* A kick may be for a call that is starting the vCPU, and comes before that is done. */
static void heed_kick(struct pv_vcpu *vcpu)
{
	struct pv_kvm_vcpu *own = vcpu->opaque;

	__atomic_store_n(&own->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&vcpu->starting, __ATOMIC_SEQ_CST))
		sched_yield();
}

/* Who holds it asks KVM for more than it answers during KVM_RUN; none that would start it runs meanwhile. */
static bool is_held(const struct pv_vcpu *vcpu)
{
	if (!__atomic_load_n(&vcpu->hold, __ATOMIC_SEQ_CST))
		return false;
	usleep(HELD_LOOK_US);
	return true;
}

/*
 * KVM takes the IPIs only in KVM_RUN, where the vCPU waits as after a reset.  A call that starts it, or its machine's
 * end, kicks it out of there.
 */
void pv_kvm_await(struct pv_vcpu *vcpu)
{
	struct pv_kvm_vcpu *own = vcpu->opaque;
	struct kvm_mp_state now = { .mp_state = KVM_MP_STATE_UNINITIALIZED };

	own->by_ipi = own->unserved = 0;
	if (!own->kvm->platform || !vcpu->index || set_run_state(own, now.mp_state) < 0)
		return;
	while (!pv_vcpu_awaited(vcpu)) {
		if (is_held(vcpu))
			continue;
		bool left = ioctl(own->fd, KVM_RUN, 0) == 0;

		if (!left && errno == EINTR)
			heed_kick(vcpu);
		else if (!left && errno != EAGAIN)
			break;
		if (ioctl(own->fd, KVM_GET_MP_STATE, &now) < 0)
			break;
		if (now.mp_state == KVM_MP_STATE_UNINITIALIZED || now.mp_state == KVM_MP_STATE_INIT_RECEIVED)
			continue;
		/* The start-up IPI may have come in the midst of KVM_RUN, which then went on with the guest's code. */
		own->by_ipi = pv_vcpu_begun(vcpu);
		own->unserved = own->by_ipi && left;
	}
}

/* Registers as vcpu->start says; for PVH the argument is the start info's address. */
int pv_kvm_enter(struct pv_vcpu *vcpu)
{
	struct pv_kvm_vcpu *own = vcpu->opaque;
	const struct pv_entry *entry = &own->kvm->entry;
	struct kvm_regs regs = { .rip = vcpu->start.entry_gpa, .rsp = vcpu->start.stack_gpa };
	struct kvm_sregs sregs;

	if (ioctl(own->fd, KVM_GET_SREGS, &sregs) < 0)
		return -errno;
	if (own->mode_given) {
		enter_mode(&sregs, &own->mode);
		regs.rdi = vcpu->start.argument;
		regs.rflags = USER_FLAGS;
	} else if (entry->mode == PV_MODE_PVH) {
		enter_pvh(&sregs);
		regs.rbx = vcpu->start.argument;
		regs.rflags = 2;
	} else if (entry->mode == PV_MODE_LINUX) {
		enter_linux(&sregs, entry);
		regs.rsi = vcpu->start.argument;
		regs.rflags = 2;
	} else {
		enter_long(&sregs, entry);
		regs.rdi = vcpu->start.argument;
		regs.rflags = USER_FLAGS;
	}
	if (ioctl(own->fd, KVM_SET_SREGS, &sregs) < 0 || ioctl(own->fd, KVM_SET_REGS, &regs) < 0)
		return -errno;
	if (own->kvm->platform && set_run_state(own, KVM_MP_STATE_RUNNABLE) < 0)
		return -errno;
	return leave_handlers(own);
}
