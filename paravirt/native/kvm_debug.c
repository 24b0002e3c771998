// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a debugger does to a vCPU over KVM: its registers, and what it stops for.  The vCPU is held meanwhile (run.c);
 * who decides is paravirt/debug.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kvm_vcpu.h"

#define ST_BYTES 10

/* As FXSAVE writes it, with which KVM's record of the extended state begins. */
struct fxsave {
	uint16_t fcw;
	uint16_t fsw;
	uint8_t used;
	uint8_t reserved;
	uint16_t opcode;
	uint64_t ip;
	uint64_t dp;
	uint32_t mxcsr;
	uint32_t mxcsr_mask;
	uint8_t st[8][16];
	uint8_t xmm[16][16];
	uint8_t rest[96];
};

static int fd_of(const struct pv_vcpu *vcpu)
{
	return ((struct pv_kvm_vcpu *)vcpu->opaque)->fd;
}

static void from_general(struct pv_registers *to, const struct kvm_regs *from)
{
	const uint64_t general[16] = {
		from->rax, from->rbx, from->rcx, from->rdx, from->rsi, from->rdi, from->rbp, from->rsp,
		from->r8,  from->r9,  from->r10, from->r11, from->r12, from->r13, from->r14, from->r15,
	};

	memcpy(to->general, general, sizeof(general));
	to->rip = from->rip;
	to->rflags = from->rflags;
}

static struct kvm_regs to_general(const struct pv_registers *from)
{
	const uint64_t *g = from->general;

	return (struct kvm_regs){
		.rax = g[0],
		.rbx = g[1],
		.rcx = g[2],
		.rdx = g[3],
		.rsi = g[4],
		.rdi = g[5],
		.rbp = g[6],
		.rsp = g[7],
		.r8 = g[8],
		.r9 = g[9],
		.r10 = g[10],
		.r11 = g[11],
		.r12 = g[12],
		.r13 = g[13],
		.r14 = g[14],
		.r15 = g[15],
		.rip = from->rip,
		.rflags = from->rflags,
	};
}

static void from_system(struct pv_registers *to, const struct kvm_sregs *from)
{
	const uint64_t segments[6] = { from->cs.selector, from->ss.selector, from->ds.selector,
				       from->es.selector, from->fs.selector, from->gs.selector };
	const uint64_t control[5] = { from->cr0, from->cr2, from->cr3, from->cr4, from->cr8 };

	memcpy(to->segments, segments, sizeof(segments));
	memcpy(to->control, control, sizeof(control));
	to->fs_base = from->fs.base;
	to->gs_base = from->gs.base;
	to->efer = from->efer;
	to->tables[0] = from->gdt.base;
	to->tables[1] = from->idt.base;
}

static void to_system(struct kvm_sregs *to, const struct pv_registers *from)
{
	to->cr0 = from->control[0];
	to->cr2 = from->control[1];
	to->cr3 = from->control[2];
	to->cr4 = from->control[3];
	to->cr8 = from->control[4];
	to->fs.base = from->fs_base;
	to->gs.base = from->gs_base;
	memset(to->interrupt_bitmap, 0, sizeof(to->interrupt_bitmap));
}

/* The tag word as the FPU's state in memory has it, two bits each, from one bit that says whether there is a value. */
static uint16_t tags_of(uint8_t used)
{
	uint16_t tags = 0;

	for (uint32_t i = 0; i < 8; i++)
		tags |= (uint16_t)((used >> i & 1 ? 0 : 3) << 2 * i);
	return tags;
}

static uint8_t used_of(uint64_t tags)
{
	uint8_t used = 0;

	for (uint32_t i = 0; i < 8; i++)
		used |= (uint8_t)(((tags >> 2 * i & 3) != 3) << i);
	return used;
}

static void from_fpu(struct pv_registers *to, const struct kvm_xsave *from)
{
	const struct fxsave *fx = (const void *)from->region;
	const uint64_t fpu[8] = { fx->fcw, fx->fsw, tags_of(fx->used), 0, fx->ip, 0, fx->dp, fx->opcode };

	memcpy(to->fpu, fpu, sizeof(fpu));
	memset(to->st, 0, sizeof(to->st));
	for (uint32_t i = 0; i < 8; i++)
		memcpy(to->st[i], fx->st[i], ST_BYTES);
	memcpy(to->xmm, fx->xmm, sizeof(to->xmm));
	to->mxcsr = fx->mxcsr;
}

static void to_fpu(struct kvm_xsave *to, const struct pv_registers *from)
{
	struct fxsave *fx = (void *)to->region;
	uint64_t *present = (void *)((uint8_t *)to->region + sizeof(*fx));

	fx->fcw = (uint16_t)from->fpu[0];
	fx->fsw = (uint16_t)from->fpu[1];
	fx->used = used_of(from->fpu[2]);
	for (uint32_t i = 0; i < 8; i++)
		memcpy(fx->st[i], from->st[i], ST_BYTES);
	memcpy(fx->xmm, from->xmm, sizeof(fx->xmm));
	fx->mxcsr = (uint32_t)from->mxcsr;
	*present |= 3; /* x87 and SSE: not as after a reset any more */
}

int pv_kvm_get_registers(struct pv_vcpu *vcpu, struct pv_registers *registers)
{
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xsave fpu;
	int fd = fd_of(vcpu);

	if (ioctl(fd, KVM_GET_REGS, &regs) < 0 || ioctl(fd, KVM_GET_SREGS, &sregs) < 0 ||
	    ioctl(fd, KVM_GET_XSAVE, &fpu) < 0)
		return -errno;
	from_general(registers, &regs);
	from_system(registers, &sregs);
	from_fpu(registers, &fpu);
	return 0;
}

/* Control registers only if they are others: to set them has KVM forget what it knows of the guest's pages. */
int pv_kvm_set_registers(struct pv_vcpu *vcpu, const struct pv_registers *registers)
{
	struct kvm_regs regs = to_general(registers);
	struct kvm_sregs sregs, before;
	struct kvm_xsave fpu;
	int fd = fd_of(vcpu);

	if (ioctl(fd, KVM_GET_SREGS, &sregs) < 0 || ioctl(fd, KVM_GET_XSAVE, &fpu) < 0)
		return -errno;
	before = sregs;
	to_system(&sregs, registers);
	to_fpu(&fpu, registers);
	if (memcmp(&before, &sregs, offsetof(struct kvm_sregs, interrupt_bitmap)) &&
	    ioctl(fd, KVM_SET_SREGS, &sregs) < 0)
		return -errno;
	if (ioctl(fd, KVM_SET_XSAVE, &fpu) < 0 || ioctl(fd, KVM_SET_REGS, &regs) < 0)
		return -errno;
	return 0;
}

int pv_kvm_set_debug(struct pv_vcpu *vcpu, uint32_t what, const uint64_t *addresses, uint64_t dr7)
{
	struct kvm_guest_debug debug = { .control = what ? KVM_GUESTDBG_ENABLE : 0 };

	if (what & PV_DEBUG_STEP)
		debug.control |= KVM_GUESTDBG_SINGLESTEP;
	if (what & PV_DEBUG_CODE)
		debug.control |= KVM_GUESTDBG_USE_SW_BP;
	if (what & PV_DEBUG_ADDRESSES) {
		debug.control |= KVM_GUESTDBG_USE_HW_BP;
		memcpy(debug.arch.debugreg, addresses, 4 * sizeof(*addresses));
		debug.arch.debugreg[7] = dr7;
	}
	if (what & PV_DEBUG_GIVE_CODE)
		debug.control |= KVM_GUESTDBG_INJECT_BP;
	if (what & PV_DEBUG_GIVE_STEP)
		debug.control |= KVM_GUESTDBG_INJECT_DB;
	return ioctl(fd_of(vcpu), KVM_SET_GUEST_DEBUG, &debug) < 0 ? -errno : 0;
}

void pv_kvm_forget_exception(struct pv_vcpu *vcpu)
{
	struct kvm_vcpu_events events;

	if (ioctl(fd_of(vcpu), KVM_GET_VCPU_EVENTS, &events) < 0)
		return;
	events.flags &= (uint32_t)~KVM_VCPUEVENT_VALID_PAYLOAD;
	memset(&events.exception, 0, sizeof(events.exception));
	ioctl(fd_of(vcpu), KVM_SET_VCPU_EVENTS, &events);
}
