// SPDX-License-Identifier: BSD-2-Clause
/*
 * The floor of a call: a guest that is already up goes on, its base.version answered by entering
 * again at once.  Other calls are served as always, so that it can tell its figures.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kvm_vcpu.h"

typedef void (*dispatcher)(struct pv_vcpu *, const struct pv_call *, struct pv_result *);

void floor_run(struct pv_vcpu *vcpu, dispatcher dispatch)
{
	struct pv_kvm_vcpu *own = vcpu->opaque;
	struct kvm_run *run = own->run;
	struct kvm_regs *regs = &run->s.regs.regs;

	run->immediate_exit = 0; /* the kick may have come when the vCPU had stopped already */
	while (!__atomic_load_n(&vcpu->stop, __ATOMIC_SEQ_CST)) {
		if (ioctl(own->fd, KVM_RUN, 0) < 0) {
			if (errno != EINTR)
				return;
			continue;
		}
		if (run->exit_reason != KVM_EXIT_IO)
			return;
		if (run->io.port != PV_TRAP_PORT)
			continue;
		if (regs->rax == PV_CALL_BASE_VERSION)
			continue;
		struct pv_call call = {
			.id = (uint32_t)regs->rax,
			.road = PV_ROAD_TRAP,
			.args = { regs->rdi, regs->rsi, regs->rcx, regs->r8, regs->r9, regs->r10 },
		};
		struct pv_result result;

		dispatch(vcpu, &call, &result);
		regs->rax = (uint64_t)result.status;
		regs->rdx = result.value;
		run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
	}
}
