/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What kvm.c, kvm_cpuid.c, kvm_entry.c and run.c share.
 */
#ifndef PARAVIRT_KVM_VCPU_H
#define PARAVIRT_KVM_VCPU_H

#include <linux/kvm.h>

#include "kvm.h"

struct pv_kvm_vcpu {
	struct pv_kvm *kvm;
	struct kvm_run *run;
	size_t run_bytes;
	int fd;
	uint32_t mode_given; /* started by another vCPU, whose mode it is to have */
	struct kvm_sregs mode;
	uint32_t by_ipi; /* started by one, which has set its registers */
	uint32_t unserved; /* and has left the guest since, for a reason that is to be served */
	int upcall_fd; /* irqfd of the upcall */
	uint64_t eoi_gpa; /* where KVM lets interrupts be ended in memory; 0: nowhere */
	uint32_t upcall_wired; /* the doorbell for it has been wired, or refused */
	int steal_fd; /* schedstat of the thread */
	uint64_t steal_read_ns; /* when it was last read */
	pthread_mutex_t lock; /* of what follows */
	pthread_t thread;
	bool in_thread; /* thread is valid */
};

/* The parts of machine->ops that KVM serves; ops.call is the caller's. */
void pv_kvm_ops(struct pv_machine *machine);
/* From the second ring on the kernel turns this doorbell into the upcall, and nobody leaves for user space (EVT-10). */
void pv_kvm_wire_upcall(struct pv_machine *machine, uint32_t index);
/* Remembers the step; -errno. */
int pv_kvm_failed(struct pv_kvm *kvm, const char *step);
/* Where another vCPU may start this one by IPIs (INIT, start-up): waits until it is started, or is to stop. */
void pv_kvm_await(struct pv_vcpu *vcpu);
/* Sets the registers of a vCPU that is to begin; 0 or -errno. In its own thread. */
int pv_kvm_enter(struct pv_vcpu *vcpu);
int pv_kvm_set_cpuid(struct pv_kvm *kvm, int fd, uint32_t index);
int64_t pv_kvm_upcall_vector(struct pv_vcpu *vcpu, uint32_t vector);

#endif
