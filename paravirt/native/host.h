/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What the host library's own files, and ours that use it, know beyond the public header: records whose
 * fields may change with every version.  The compiler and cffi read this same file, so below the includes
 * it holds plain declarations only.
 *
 * What several threads touch (pending words, status, stop flags) is accessed with __atomic builtins.
 */
#ifndef PARAVIRT_HOST_H
#define PARAVIRT_HOST_H

#include <pthread.h>

#include "paravirt_host.h"
#include "state.h"
#include "trace.h"

#define PV_PAGE_BYTES 4096ull
#define PV_INTERRUPT_FIRST 32 /* vectors below are exceptions', NMI's among them */
#define PV_SERVICES 16 /* slots of the standard; extensions follow */

/* ---- guest_memory.c, memory.c: guest-physical ranges and their host addresses ---- */

struct pv_region {
	uint64_t gpa;
	uint64_t size_bytes;
	uint8_t *hva;
};

struct pv_memory {
	struct pv_region regions[PV_MAX_REGIONS];
	uint32_t count;
	uint32_t kept; /* pages that are given away are zeroed and stay: they might not be to be had again */
	uint32_t unfenced; /* the guest's own barriers order nothing between its process and ours: a software vCPU's */
};

/*
 * Between a store that the guest looks at and a load of what it stores: the host's half of a pair in which each side
 * must see the other.  Where the guest's half is none, this one is both.
 */
void pv_memory_fence(const struct pv_memory *memory);
/* Whether the kernel has what pv_memory_fence needs for unfenced memory. */
bool pv_memory_can_fence(void);

/* How many regions there are to be looked at: one may be added meanwhile. */
uint32_t pv_memory_regions(const struct pv_memory *memory);
/* All of it. */
uint64_t pv_memory_bytes(const struct pv_memory *memory);
/* Has the host back whole pages now, or take them back (they read as zeros). 0 or -errno. */
int pv_memory_populate(const struct pv_memory *memory, uint64_t gpa, uint64_t size_bytes);
int pv_memory_discard(const struct pv_memory *memory, uint64_t gpa, uint64_t size_bytes);
/* The same of memory that is known to be the guest's, by its host address. */
int pv_memory_discard_at(const struct pv_memory *memory, void *hva, uint64_t size_bytes);

/* ---- ring.c: the device side of a virtqueue, split or packed ---- */

/* A chain that the device has, by what names it. */
struct pv_queue_taken {
	uint32_t room_bytes; /* for the device to write, as far as 32 bits tell */
	uint16_t places; /* in the ring; 0: the device does not have it */
};

/* Chains that are given back by one entry of the ring. */
struct pv_queue_used {
	uint16_t head; /* of the last one */
	uint16_t places; /* of them all; 0: there are none */
	uint32_t written_bytes; /* to the last one */
	bool whole; /* the last one was used wholly: one after it may speak for it (IN_ORDER) */
};

struct pv_way;
struct pv_inflight;

struct pv_queue {
	struct pv_queue_state *state; /* what is saved */
	const struct pv_memory *memory;
	struct pv_device *device; /* NULL in tests of the ring alone */
	uint64_t features; /* accepted, bits 0..63 */
	uint16_t index;
	uint16_t maximum; /* largest size; 0: no such queue */
	int doorbell_fd; /* eventfd that says "new buffers", or -1 */
	uint8_t *descriptors; /* host addresses while enabled */
	uint8_t *driver;
	uint8_t *device_area;
	const char *fault; /* id of the rule that the driver broke, or NULL */
	struct pv_queue_taken taken[PV_MAX_QUEUE_SIZE];
	struct pv_queue_used staged; /* given back, and not written to the ring yet */
	uint64_t *first; /* packed: where the first entry of a batch goes once it is published; NULL: there is none */
	uint64_t first_entry;
	uint32_t barrier; /* packed: exchanged for its being a barrier */
	struct pv_way *way; /* its chains' ways in a trace; NULL: off */
	struct pv_inflight *inflight; /* what it has taken, kept where a successor finds it; NULL: nowhere */
	int kick_fd; /* another program's eventfd that says "new buffers" beside the doorbell, or -1 */
	int call_fd; /* the same for its interrupts: signalled instead of the device's */
};

/* Whether a queue could be as `wanted` says: 0, or a negative status of the ABI (INVALID, UNALIGNED, BAD_ADDRESS). */
int64_t pv_queue_check(const struct pv_queue *queue, const struct pv_queue_state *wanted);
/* Takes the areas named in state into use: 0, or what pv_queue_check says. */
int64_t pv_queue_enable(struct pv_queue *queue);
void pv_queue_disable(struct pv_queue *queue);
/* Next chain: 1 taken, 0 none waiting, -1 the driver broke queue->fault (the queue then stays silent). */
int pv_queue_pop(struct pv_queue *queue, struct pv_chain *chain);

/* ---- status.c: a virtio device's status machine, the same for every transport ---- */

struct pv_device {
	struct pv_device_state state; /* what is saved */
	struct pv_machine *machine;
	uint32_t index;
	uint32_t type; /* virtio device id */
	char name[32]; /* logical name; full if 32 bytes long */
	uint64_t offered[2]; /* feature bits; VERSION_1, INDIRECT_DESC and EVENT_IDX included by the caller */
	uint32_t config_bytes;
	uint32_t config_writable_from; /* first byte that the driver may write */
	uint32_t config_writable_bytes; /* how many from there on; 0: up to config_bytes */
	uint8_t config[256];
	uint32_t queue_count;
	struct pv_queue queues[PV_MAX_QUEUES];
	struct pv_device_ops ops;
	void *opaque; /* the back end's own */
	uint32_t mmio; /* 1: reached by virtio-mmio, 0: by calls */
	uint64_t mmio_gpa;
	uint64_t region_gpa; /* memory of the device's own: the guest has it, and it is no guest memory (PMEM-2) */
	uint64_t region_bytes; /* 0: none */
	uint32_t read_only; /* attached so: in device_info */
	int interrupt_fd; /* eventfd of mmio's interrupt line, or of who passes on that the configuration changed, or -1 */
	uint32_t leaving; /* it is to go, and is not listed any more */
	uint32_t gone; /* and has gone: the struct stays, since a vCPU may just be looking at it */
	uint32_t active; /* activate was called, reset not yet */
	const char *fault; /* id of the rule that the driver broke since the last reset, or NULL */
	const char *last_fault; /* the same, whatever was reset since */
	uint64_t interrupts; /* statistics */
	uint64_t doorbells; /* that came as calls or exits */
	pthread_mutex_t lock;
};

void pv_device_init(struct pv_device *device, struct pv_machine *machine);
void pv_device_deinit(struct pv_device *device);
/* Puts a device among the machine's under its index, machine->device_count; while vCPUs run it arrives (DEV-22). */
void pv_device_arrive(struct pv_device *device);
/* Has a device leave (DEV-23): it is gone at once, or once its driver has reset it. Any thread. */
void pv_device_leave(struct pv_device *device);
/* Whether it has: its back end is not called any more. */
bool pv_device_gone(const struct pv_device *device);
/* Each answers with a status of the ABI. They take the lock. */
int64_t pv_device_accept(struct pv_device *device, uint64_t block, uint64_t features);
int64_t pv_device_set_status(struct pv_device *device, uint64_t status, uint64_t *after);
int64_t pv_device_queue_setup(struct pv_device *device, const struct pv_queue_setup *setup);
int64_t pv_device_queue_reset(struct pv_device *device, uint64_t queue);
/* Afterwards the driver looks at the queue once more: what was used before may have gone the old way. */
int64_t pv_device_bind(struct pv_device *device, uint64_t queue, uint64_t vcpu, uint64_t channel);
int64_t pv_device_config_read(struct pv_device *device, uint64_t offset, void *to, uint64_t size_bytes);
int64_t pv_device_config_write(struct pv_device *device, uint64_t offset, const void *from, uint64_t size_bytes);
int64_t pv_device_notify(struct pv_device *device, uint64_t queue);
/* As pv_device_set_config, for threads that a reset waits for: false if the device is locked, try again. */
bool pv_device_try_set_config(struct pv_device *device, const void *config, uint32_t size_bytes);

/* ---- base.c, dispatch.c: machines and their calls ---- */

struct pv_capture;
struct pv_recording;

/* A vCPU's call ring, beside what is saved of it; callring.c's own. */
struct pv_callring {
	struct pv_submission *submissions; /* in guest memory, while the ring is on */
	struct pv_completion *completions;
	struct pv_ring_control *control;
	uint64_t calls;
	const char *fault; /* id of the rule that the guest broke last, or NULL */
};

/* Of all rings of a machine. */
struct pv_callrings {
	pthread_mutex_t lock; /* who holds it may touch rings */
	uint32_t wanted; /* vCPUs that wait for the lock */
	uint64_t on; /* rings that are on, a bit per vCPU */
	uint32_t turn; /* vCPU to visit next */
	int doorbell_fd; /* eventfd that wakes pv_callring_serve, or -1 */
	uint32_t doorbells; /* that no eventfd took */
	struct pv_trace *trace; /* calls over rings; NULL: off */
	struct pv_capture *capture; /* the same for a recording */
};

/* Service continuity, beside what is saved of it. */
struct pv_continuity {
	struct pv_continuity_page *page; /* in guest memory; NULL: there is none */
	uint32_t heard; /* futex: changes when the guest acknowledges, or the machine ends */
	uint64_t announced_ns; /* CLOCK_MONOTONIC of the last event */
	uint64_t acknowledgements; /* statistics */
	uint64_t last_ns; /* how long the last one took */
	uint64_t longest_ns;
};

/* Why a vCPU left for user space. */
#define PV_REASON_TRAP 0
#define PV_REASON_DOORBELL 1
#define PV_REASON_PORT 2 /* another */
#define PV_REASON_MMIO 3
#define PV_REASON_OTHER 4
#define PV_REASONS 5

/* Why a vCPU's thread is in machine->held. */
#define PV_HELD_ASKED 0 /* vcpu->hold was set */
#define PV_HELD_DEBUG 1 /* the CPU stopped for a debugger; detail: DR6, or 0 for a breakpoint in the code */
#define PV_HELD_CALL 2 /* the guest called system.debug; detail: GPA of its debug_frame */
#define PV_HELD_END 3 /* the vCPU cannot go on; detail: PV_EXIT_. False: it ends */

struct pv_vcpu {
	struct pv_vcpu_saved state; /* what is saved */
	struct pv_machine *machine;
	struct pv_vcpu_page *page; /* in guest memory: write with care, believe nothing read */
	struct pv_start start;
	struct pv_trace *trace; /* NULL: off */
	struct pv_capture *capture; /* record.h; NULL: off */
	uint32_t index;
	uint32_t stop; /* leave the run loop as soon as possible */
	uint32_t hold; /* stay out of the guest, in machine->held, until it is zero */
	uint64_t debug_frame_gpa; /* where its call of system.debug has left a frame; 0: nowhere */
	uint32_t kicking; /* threads that may be in ops.kick */
	uint32_t blocked; /* waits on wake */
	uint32_t starting; /* somebody fills start in */
	uint32_t starts; /* times that it was started */
	uint32_t life; /* the start that its thread is at; the thread's own */
	uint32_t wake; /* futex; changes when there may be something to do */
	struct pv_callring callring;
	uint64_t calls; /* but those over the ring */
	uint64_t exits;
	uint64_t exits_for[PV_REASONS]; /* of them, by reason; its thread writes */
	uint64_t upcalls;
	void *opaque; /* run.c's */
};

struct pv_machine {
	struct pv_machine_state state; /* what is saved */
	struct pv_memory memory;
	struct pv_vcpu *vcpus[PV_MAX_VCPUS];
	uint32_t vcpu_count;
	struct pv_device *devices[PV_MAX_DEVICES];
	uint32_t device_count;
	struct pv_machine_ops ops;
	/* Called in a vCPU's thread, which it keeps while the vCPU is to stay out of the guest (PV_HELD_). True: it goes on. */
	bool (*held)(struct pv_vcpu *vcpu, uint32_t why, uint64_t detail);
	struct pv_recording *recording; /* record.h; NULL: off */
	uint32_t services; /* offered, a bit per number; a masked service is not in it */
	uint64_t denied[16]; /* denied functions of each service, a bit each */
	uint64_t offered[16]; /* features, by service number */
	struct pv_extension *extensions[PV_MAX_EXTENSIONS]; /* ascending; slots PV_SERVICES and up */
	uint32_t extension_count;
	uint32_t poison;
	uint64_t poison_seed;
	const uint8_t *boot_info; /* the host's copy */
	uint32_t boot_info_bytes;
	void *owned_boot_info; /* the same, if pv_boot made it */
	uint64_t boot_info_gpa; /* set by pv_boot */
	uint16_t ports[2]; /* trap and doorbell; set by pv_boot */
	uint64_t console_budget; /* bytes of output (CON-2) */
	uint64_t trace_mark_budget; /* marks and ends of spans (TRC-1) */
	uint64_t doorbell_budget; /* doorbells by call or exit, per second and machine; 0: no bound */
	uint64_t doorbell_due_ns; /* when the budget is whole again */
	struct pv_time_page *time_page; /* in guest memory */
	struct pv_time_page time; /* the host's copy */
	uint64_t counter_offset; /* guest counter = host counter + offset */
	uint64_t counter_hz; /* 0: no usable counter */
	uint64_t started_ns; /* CLOCK_MONOTONIC when the guest began */
	uint64_t zero_ns; /* the same, later by what it stood still: its time zero */
	pthread_mutex_t clock; /* who holds it may write the time page */
	uint32_t clock_stands; /* between pv_time_stop and pv_time_go */
	uint64_t stood_wall_ns; /* the host's wall clock when it was stopped */
	struct pv_continuity continuity;
	uint32_t timer; /* futex of the timer thread */
	uint64_t timer_due_ns; /* when it will wake by itself */
	struct pv_callrings callrings;
	uint64_t reported_bytes; /* statistics: by memory.report and by free page reporting */
	uint32_t ending;
	uint32_t ended; /* ops.end was called */
	uint32_t running; /* vCPUs started and not stopped */
	void *opaque; /* the surroundings' own */
	void *accelerator; /* software.c's */
};

void pv_machine_init(struct pv_machine *machine);
/* event.c, for vCPUs that start one another without calls: whether a vCPU was started by one, or is to stop. */
bool pv_vcpu_awaited(const struct pv_vcpu *vcpu);
/* It has begun by itself, in its own thread: true, or false: a call starts it just now. */
bool pv_vcpu_begun(struct pv_vcpu *vcpu);
/* memory.c: the guest says that so much went into the balloon, and out of it. */
void pv_memory_moved(struct pv_machine *machine, uint64_t in_bytes, uint64_t out_bytes);
/* Bit mask of the functions of a service that exist now. */
uint32_t pv_call_mask(const struct pv_machine *machine, uint32_t service);
uint64_t pv_random(struct pv_machine *machine);
/* What the declaration says of the n-th call; false past the end. */
bool pv_call_declared(uint32_t n, uint32_t *id, uint32_t *roads, uint32_t *registers);

/* ---- extension.c: services of vendors and experiments ---- */

/* Where the machine keeps a service that it offers: its number, or PV_SERVICES and up; -1: it offers no such. */
int pv_service_slot(const struct pv_machine *machine, uint64_t service);
/* Features offered, by slot. */
uint64_t pv_service_offers(const struct pv_machine *machine, uint32_t slot);

/* ---- event.c ---- */

/* Waits until woken, or until deadline_ns (monotonic of the machine). */
void pv_vcpu_block(struct pv_vcpu *vcpu, uint64_t deadline_ns);
void pv_vcpu_wake(struct pv_vcpu *vcpu);

/* ---- time.c ---- */

void pv_timer_poke(struct pv_machine *machine);

/* ---- continuity.c ---- */

/* The machine ends: nobody waits for the guest any more. */
void pv_continuity_end(struct pv_machine *machine);

/* ---- callring.c: the ring road ---- */

/* Gives the vCPU the ring described in `setup`, a copy: a status of base.ring. From its own thread. */
int64_t pv_callring_set_up(struct pv_vcpu *vcpu, const struct pv_ring_setup *setup);
/* Takes a ring, or all, out of use: afterwards nobody touches their memory (RING-12). Not from a call over a ring. */
void pv_callring_remove(struct pv_vcpu *vcpu);
void pv_callring_remove_all(struct pv_machine *machine);
/* Visits each ring once; calls made. One thread at a time, and not beside pv_callring_serve. */
uint32_t pv_callring_poll(struct pv_machine *machine);
/*
 * Where a vCPU that chooses `vector` now may end its upcalls in memory, which an accelerator that can sees to from then
 * on; 0: nowhere, also from what it chose before (EVT-13).
 */
uint64_t pv_event_eoi_gpa(const struct pv_vcpu *vcpu, uint32_t vector);
/* A doorbell for upcalls that no eventfd took (EVT-10): OK, or why it was not heard. */
int64_t pv_event_doorbell(struct pv_machine *machine, uint32_t vcpu);
/* A doorbell for rings that no eventfd took: OK, or NOT_FOUND. */
int64_t pv_callring_doorbell(struct pv_machine *machine, uint32_t vcpu);
void pv_callring_wake(struct pv_machine *machine);

#endif
