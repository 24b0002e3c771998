/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The host over KVM: a virtual machine's descriptors, its vCPUs' run loops.  Read by cffi too.
 */
#ifndef PARAVIRT_KVM_H
#define PARAVIRT_KVM_H

#include "host.h"

/* Ports of the trap and the doorbell; both 32 bits wide. */
#define PV_TRAP_PORT 0x5050
#define PV_DOORBELL_PORT 0x5054
#define PV_KVM_LINES 24 /* pins of the I/O APIC; interrupt source 24 + n is vCPU n's upcall */
#define PV_CPUID_BASE 0x40000100

/* Modes of entry. */
#define PV_MODE_USER 0 /* 64-bit, CPL 3 */
#define PV_MODE_SUPERVISOR 1 /* 64-bit, CPL 0 */
#define PV_MODE_PVH 2 /* 32-bit protected mode, paging off */
#define PV_MODE_LINUX 3 /* 64-bit, CPL 0, as Linux's boot protocol has it */

/* Why a run loop ended. */
#define PV_EXIT_STOPPED 0 /* vcpu->stop */
#define PV_EXIT_TRIPLE_FAULT 1
#define PV_EXIT_UNKNOWN 2 /* reason: KVM's exit reason, which this host does not serve */
#define PV_EXIT_INTERNAL 3 /* reason: KVM_EXIT_INTERNAL_ERROR's suberror */
#define PV_EXIT_ENTRY 4 /* reason: hardware's, the CPU refused the state */
#define PV_EXIT_ERROR 5 /* reason: errno of KVM_RUN */
#define PV_EXIT_UNSUPPORTED 6 /* software vCPU: what it does not do; its engine has said what */
#define PV_EXIT_ENGINE 7 /* software vCPU: its engine has ended */
#define PV_EXIT_REGION 8 /* what lies behind a device's region cannot be had (PMEM-6); reason: the device's index */

struct pv_exit {
	uint32_t kind;
	uint32_t reason;
	uint64_t rip;
	uint64_t rsp;
	uint64_t cr2;
	uint64_t detail;
};

/* How vCPUs are entered; the tables lie in guest memory. */
struct pv_entry {
	uint32_t mode;
	uint64_t page_table_gpa;
	uint64_t gdt_gpa;
	uint64_t idt_gpa;
	uint64_t tss_gpa;
	uint32_t gdt_bytes;
	uint32_t tss_bytes;
	uint64_t xcr0; /* state components in use (BOOT-10); 0: no XSAVE */
};

/* A leaf of CPUID: EAX, EBX, ECX, EDX. */
struct pv_cpuid {
	uint32_t function;
	uint32_t index;
	uint32_t words[4];
};

/* What becomes of one: the bits in `keep` stay, then those in `put` are set. */
struct pv_cpuid_change {
	uint32_t function;
	uint32_t index;
	uint32_t keep[4];
	uint32_t put[4];
};

struct pv_kvm_vcpu;
struct pv_platform;

struct pv_kvm {
	struct pv_machine *machine;
	struct pv_entry entry;
	int system_fd;
	int vm_fd;
	uint32_t slots;
	bool lines; /* devices raise lines of an I/O APIC; before vCPUs are created */
	struct pv_platform *platform; /* of a plain guest, whose vCPUs may start one another by IPIs; NULL: none */
	bool controllers; /* of interrupts are there: from the first vCPU on */
	uint32_t upcall_vectors[PV_MAX_VCPUS];
	uint64_t boot_info_gpa; /* for the CPUID leaves; before vCPUs are created */
	uint32_t vcpus; /* likewise: of the machine, of which machine->vcpu_count are there already */
	const struct pv_cpuid_change *cpuid; /* likewise: the caller's, of what KVM can give */
	uint32_t cpuid_changes;
	const char *failed; /* the step that failed last */
	pthread_mutex_t lock; /* of the routes */
};

/* All answer 0 or -errno, with kvm->failed naming the step. */
/* Also sets machine->ops, except call. */
int pv_kvm_create(struct pv_kvm *kvm, const char *path, struct pv_machine *machine);
void pv_kvm_destroy(struct pv_kvm *kvm);
/* Memory comes before vCPUs: afterwards a slot may take 7 ms. */
int pv_kvm_add_memory(struct pv_kvm *kvm, uint64_t gpa, uint64_t size_bytes, void *hva);
/* The same of a file's pages, which may get lost: KVM_RUN then fails with EFAULT. A store to read-only ones is an exit. */
int pv_kvm_add_mapped(struct pv_kvm *kvm, uint64_t gpa, uint64_t size_bytes, void *hva, bool read_only);
/* The CPUID that KVM can give, at most `count` leaves: how many, or -errno. */
int pv_kvm_supported(struct pv_kvm *kvm, struct pv_cpuid *to, uint32_t count);
/* Makes vCPU number vcpu->index. */
int pv_kvm_vcpu_create(struct pv_kvm *kvm, struct pv_vcpu *vcpu);
void pv_kvm_vcpu_destroy(struct pv_vcpu *vcpu);
/* The kernel signals fd when the guest writes value to the doorbell port. */
int pv_kvm_doorbell(struct pv_kvm *kvm, int fd, uint32_t value);
/* As if that had not been; closing fd is not enough. */
int pv_kvm_no_doorbell(struct pv_kvm *kvm, int fd, uint32_t value);
/* The same for a 32-bit write of value to an MMIO address. */
int pv_kvm_mmio_doorbell(struct pv_kvm *kvm, int fd, uint64_t gpa, uint32_t value);
/* The kernel raises the line of the I/O APIC, which is there where kvm->lines says so, when fd is signalled. */
int pv_kvm_line(struct pv_kvm *kvm, int fd, uint32_t line);
/* Runs the vCPU in this thread until it stops for good. Releases nothing. */
void pv_vcpu_run(struct pv_vcpu *vcpu, struct pv_exit *exit);
/* Has the vCPU's thread come to machine->held, from the guest or from a wait. Any thread. */
void pv_kvm_hold(struct pv_vcpu *vcpu);

/* What a debugger sees of a vCPU, and may change. */
struct pv_registers {
	uint64_t general[16]; /* RAX RBX RCX RDX RSI RDI RBP RSP R8 to R15 */
	uint64_t rip;
	uint64_t rflags;
	uint64_t segments[6]; /* selectors: CS SS DS ES FS GS */
	uint64_t fs_base;
	uint64_t gs_base;
	uint64_t control[5]; /* CR0 CR2 CR3 CR4 CR8 */
	uint64_t efer;
	uint64_t tables[2]; /* addresses of GDT and IDT; not set */
	uint64_t fpu[8]; /* FCW FSW FTW FISEG FIOFF FOSEG FOOFF FOP, as the target description has them */
	uint8_t st[8][16]; /* ten bytes each */
	uint8_t xmm[16][16];
	uint64_t mxcsr;
};

/* Of a vCPU that is held, or does not run; any thread. 0 or -errno. Selectors and EFER are not set. */
int pv_kvm_get_registers(struct pv_vcpu *vcpu, struct pv_registers *registers);
int pv_kvm_set_registers(struct pv_vcpu *vcpu, const struct pv_registers *registers);

/* An exception that ended the vCPU's run has not been. While it is held. */
void pv_kvm_forget_exception(struct pv_vcpu *vcpu);

#define PV_DEBUG_STEP 1 /* stop after one instruction */
#define PV_DEBUG_CODE 2 /* stop at INT3, before the guest sees it */
#define PV_DEBUG_ADDRESSES 4 /* stop as the debug registers say */
#define PV_DEBUG_GIVE_CODE 8 /* the INT3 that stopped it was the guest's own: its gate is to have it */
#define PV_DEBUG_GIVE_STEP 16 /* so was the debug trap */

/* What the vCPU stops for from now on: PV_DEBUG_, DR0 to DR3, DR7. While it is held. 0 or -errno. */
int pv_kvm_set_debug(struct pv_vcpu *vcpu, uint32_t what, const uint64_t *addresses, uint64_t dr7);
/* A capability that this host needs (or only likes), by <linux/kvm.h>'s name for it. */
struct pv_capability {
	const char *name;
	uint32_t number;
	uint32_t least; /* that KVM_CHECK_EXTENSION must answer; 0: not needed */
	const char *use;
};

/* The n-th of them, NULL past the end. */
const struct pv_capability *pv_kvm_capability(uint32_t n);
/* As KVM_CHECK_EXTENSION answers; negative errno if it cannot be asked. */
int pv_kvm_check(int system_fd, uint32_t capability);
/* How many vCPUs a machine may have. */
int pv_kvm_vcpus_most(int system_fd);
uint64_t pv_kvm_counter_hz(struct pv_vcpu *vcpu);
/* Whether the vCPU has not ended an interrupt of that vector (EVT-9). Not while it runs. */
bool pv_kvm_in_service(struct pv_vcpu *vcpu, uint32_t vector);

#endif
