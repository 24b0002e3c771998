/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The host's half of the software vCPUs: their engine is a process of its own (paravirt/accel/engine), which sends
 * exits and is sent entries over a socket per vCPU, one record a message.  Read by cffi too.
 */
#ifndef PARAVIRT_SOFTWARE_H
#define PARAVIRT_SOFTWARE_H

#include "kvm.h"

/* Exits: from the engine. Traps, and what no RAM answers. */
#define PV_SOFTWARE_TRAP 1
#define PV_SOFTWARE_DOORBELL 2
#define PV_SOFTWARE_READ 3
#define PV_SOFTWARE_WRITE 4
#define PV_SOFTWARE_TRIPLE_FAULT 5
#define PV_SOFTWARE_INTERNAL 6

struct pv_software_exit {
	uint32_t kind;
	uint32_t size_bytes;
	uint64_t place; /* port or GPA */
	uint64_t value;
	uint64_t rip;
	uint64_t rsp;
	uint64_t cr2;
	uint64_t steal_ns;
	uint64_t rax;
	uint64_t args[6]; /* RDI RSI RCX R8 R9 R10 */
};

/* Entries: to the engine. */
#define PV_SOFTWARE_START 1
#define PV_SOFTWARE_RESUME 2
#define PV_SOFTWARE_RESUME_POISONED 3
#define PV_SOFTWARE_GO_ON 4

struct pv_software_entry {
	uint32_t kind;
	uint32_t reserved;
	uint64_t value; /* that a load reads */
	uint64_t rax;
	uint64_t rdx;
	uint64_t poison[5]; /* RCX R8 R9 R10 R11 */
	struct pv_start start;
};

/* On the control socket: a rest is a time in which no guest code runs. */
#define PV_SOFTWARE_KICK 1 /* host: please rest */
#define PV_SOFTWARE_REST 2 /* engine: it begins */
#define PV_SOFTWARE_UPCALL 3 /* host: the vCPU is to take an interrupt; `value`: vector, where it may be ended << 8 */
#define PV_SOFTWARE_GO 4 /* host: it is over */
#define PV_SOFTWARE_MODE 5 /* host: the vCPU will start in the mode that vCPU `value` has now */

struct pv_software_control {
	uint32_t kind;
	uint32_t vcpu;
	uint64_t value;
};

struct pv_software_vcpu {
	int fd; /* its socket */
	uint32_t upcall; /* one is due */
	uint64_t interrupt; /* for its upcalls, as PV_SOFTWARE_UPCALL has it */
	uint64_t deferred[PV_LIMIT_CHANNELS / 64]; /* channels to raise at the next rest */
	uint64_t cr2;
};

struct pv_software {
	struct pv_machine *machine;
	int control_fd;
	uint32_t kicked;
	struct pv_software_vcpu vcpus[PV_MAX_VCPUS];
	uint64_t sampled_counter; /* counter and clock at one moment */
	uint64_t sampled_ns;
};

/* Takes over the parts of machine->ops that are not the caller's; fds stay the caller's. */
void pv_software_init(struct pv_software *software, struct pv_machine *machine);
void pv_software_add_vcpu(struct pv_software *software, struct pv_vcpu *vcpu, int fd);
/* Serves rests until the engine or the machine ends. A thread of its own. */
void pv_software_serve(struct pv_software *software);
/* As pv_vcpu_run over KVM; PV_EXIT_ENGINE: the engine is gone. */
void pv_software_run(struct pv_vcpu *vcpu, struct pv_exit *exit);
/* Frequency of the host's counter, which the guest's is, measured since init (20 ms at least: it waits for them). */
uint64_t pv_software_counter_hz(const struct pv_software *software);

#endif
