/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The host side of the ABI: guest memory, dispatch of calls, events, time, virtio devices and
 * queues.  It knows neither KVM nor Python; run.h adds KVM.  The compiler and cffi read this same
 * file, so below the includes it holds plain declarations only.
 *
 * Threads: a vCPU's calls come from its own thread.  A queue is walked by one thread at a time.  What
 * several threads touch (pending words, status, stop flags) is accessed with __atomic builtins.
 * The guest is hostile: whatever lies in its memory is copied once and the copy is checked.
 */
#ifndef PARAVIRT_HOST_H
#define PARAVIRT_HOST_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "paravirt_abi.h"
#include "state.h"

#define PV_MAX_REGIONS 8
#define PV_MAX_VCPUS 64
#define PV_MAX_DEVICES 32
#define PV_MAX_QUEUES 8
#define PV_MAX_QUEUE_SIZE 256
#define PV_MAX_EXTENSIONS 16
#define PV_SERVICES 16 /* slots of the standard; extensions follow */
#define PV_NO_CHANNEL 0xffffffff

/* ---- memory.c: guest-physical ranges and their host addresses ---- */

struct pv_region {
	uint64_t gpa;
	uint64_t size_bytes;
	uint8_t *hva;
};

struct pv_memory {
	struct pv_region regions[PV_MAX_REGIONS];
	uint32_t count;
};

/* 0, or -1 if there is no room, the range overlaps or wraps, or gpa and hva differ modulo 16. Before vCPUs run. */
int pv_memory_add(struct pv_memory *memory, uint64_t gpa, uint64_t size_bytes, void *hva);
/* Host address of a range that lies wholly inside one region, else NULL. Length 0: any address inside or at an end. */
void *pv_memory_at(const struct pv_memory *memory, uint64_t gpa, uint64_t size_bytes);
bool pv_memory_read(const struct pv_memory *memory, uint64_t gpa, void *to, uint64_t size_bytes);
/* Has the host back whole pages now, or take them back (they read as zeros). 0 or -errno. */
int pv_memory_populate(const struct pv_memory *memory, uint64_t gpa, uint64_t size_bytes);
int pv_memory_discard(const struct pv_memory *memory, uint64_t gpa, uint64_t size_bytes);
bool pv_memory_write(const struct pv_memory *memory, uint64_t gpa, const void *from, uint64_t size_bytes);

/* ---- ring.c: the device side of a split virtqueue ---- */

struct pv_device;

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
};

/* A descriptor chain, copied and checked: device-readable segments first, then device-writable ones. */
struct pv_chain {
	uint16_t head;
	uint16_t readable; /* segments */
	uint16_t writable; /* segments */
	uint64_t readable_bytes;
	uint64_t writable_bytes;
	struct iovec segments[PV_MAX_QUEUE_SIZE];
};

/* Whether a queue could be as `wanted` says: 0, or a negative status of the ABI (INVALID, UNALIGNED, BAD_ADDRESS). */
int64_t pv_queue_check(const struct pv_queue *queue, const struct pv_queue_state *wanted);
/* Takes the areas named in state into use: 0, or what pv_queue_check says. */
int64_t pv_queue_enable(struct pv_queue *queue);
void pv_queue_disable(struct pv_queue *queue);
/* Next chain: 1 taken, 0 none waiting, -1 the driver broke queue->fault (the queue then stays silent). */
int pv_queue_pop(struct pv_queue *queue, struct pv_chain *chain);
/* Gives a chain back with the number of bytes written. */
void pv_queue_push(struct pv_queue *queue, uint16_t head, uint32_t written_bytes);
/* True if the driver wants to be told of what was pushed since it was last asked. One call per batch. */
bool pv_queue_wants_interrupt(struct pv_queue *queue);
/* Asks for doorbells; true if buffers came meanwhile, so look again. */
bool pv_queue_arm(struct pv_queue *queue);
void pv_queue_disarm(struct pv_queue *queue);
/* Copy from the readable, to the writable part of a chain at a byte offset; bytes copied. */
uint64_t pv_chain_read(const struct pv_chain *chain, uint64_t offset, void *to, uint64_t size_bytes);
uint64_t pv_chain_write(const struct pv_chain *chain, uint64_t offset, const void *from, uint64_t size_bytes);

/* ---- status.c: a virtio device's status machine, the same for every transport ---- */

struct pv_machine;

/* A back end. Called from a vCPU's thread with the device locked; reset returns when no I/O is in flight. */
struct pv_device_ops {
	void (*activate)(struct pv_device *device); /* DRIVER_OK was set */
	void (*reset)(struct pv_device *device); /* was active, is to stop */
	void (*notify)(struct pv_device *device, uint32_t queue); /* a doorbell that came as a call */
	void (*config_written)(struct pv_device *device, uint32_t offset, uint32_t size_bytes);
	/* A queue of an active device was enabled, or is to stop; NULL: the device does not offer RING_RESET. */
	void (*queue_changed)(struct pv_device *device, uint32_t queue, bool enabled);
};

struct pv_device {
	struct pv_device_state state; /* what is saved */
	struct pv_machine *machine;
	uint32_t index;
	uint32_t type; /* virtio device id */
	char name[32]; /* logical name; full if 32 bytes long */
	uint64_t offered[2]; /* feature bits; VERSION_1, INDIRECT_DESC and EVENT_IDX included by the caller */
	uint32_t config_bytes;
	uint32_t config_writable_from; /* first byte that the driver may write, up to config_bytes */
	uint8_t config[256];
	uint32_t queue_count;
	struct pv_queue queues[PV_MAX_QUEUES];
	struct pv_device_ops ops;
	void *opaque; /* the back end's own */
	uint32_t mmio; /* 1: reached by virtio-mmio, 0: by calls */
	uint64_t mmio_gpa;
	int interrupt_fd; /* mmio: eventfd of the interrupt line, or -1 */
	uint32_t active; /* activate was called, reset not yet */
	const char *fault; /* id of the rule that the driver broke since the last reset, or NULL */
	const char *last_fault; /* the same, whatever was reset since */
	uint64_t interrupts; /* statistics */
	uint64_t doorbells; /* that came as calls or exits */
	pthread_mutex_t lock;
};

void pv_device_init(struct pv_device *device, struct pv_machine *machine);
void pv_device_deinit(struct pv_device *device);
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
/* The driver broke a rule: NEEDS_RESET, told by a configuration event. Any thread; takes no lock; keeps `rule`. */
void pv_device_fault(struct pv_device *device, const char *rule);
/* New configuration bytes from the host: generation + 1, configuration event. Takes the lock: not from a thread
 * that the back end's reset waits for. */
void pv_device_set_config(struct pv_device *device, const void *config, uint32_t size_bytes);
/* Tells the driver that queue used buffers: its channel, or the interrupt line. */
void pv_device_interrupt(struct pv_device *device, uint32_t queue);
/* Pops with the device's consequences: on a fault calls pv_device_fault. As pv_queue_pop. */
int pv_device_pop(struct pv_device *device, uint32_t queue, struct pv_chain *chain);

/* ---- device.c: the service device, a handler per call (handlers.h), and the doorbell ---- */

/* A write to the doorbell that no eventfd took: device << 16 | queue. What names nothing is ignored (DEV-8). */
void pv_doorbell(struct pv_machine *machine, uint32_t value);

/* ---- mmio.c: the virtio-mmio register window ---- */

/* One access at an offset inside the window. Sizes other than the register's read as zero and write nothing. */
uint64_t pv_mmio_read(struct pv_device *device, uint32_t offset, uint32_t size_bytes);
void pv_mmio_write(struct pv_device *device, uint32_t offset, uint32_t size_bytes, uint64_t value);

/* ---- dispatch.c: calls ---- */

struct pv_vcpu;

struct pv_call {
	uint32_t id;
	uint32_t road; /* one of PV_ROAD_ */
	uint64_t args[6];
};

struct pv_result {
	int64_t status;
	uint64_t value;
};

/* An argument of a call. A buffer takes two registers, address and length, or one if it is a single unit. */
struct pv_argument {
	uint8_t kind; /* PV_ARGUMENT_ */
	uint8_t fixed; /* one unit: no length register */
	uint16_t align; /* of the address, a power of two */
	uint32_t unit; /* bytes per unit of the length */
	uint64_t limit; /* units */
};

#define PV_ARGUMENT_VALUE 0
#define PV_ARGUMENT_READ 1 /* buffer that the host reads */
#define PV_ARGUMENT_WRITE 2 /* buffer that the host writes; the call's value is the number of units written */

/* What is checked of a call before its handler sees it (CALL-6). */
struct pv_declaration {
	const char *name; /* service_call, or NULL: no such function */
	uint8_t roads; /* PV_ROAD_ */
	uint8_t registers; /* that its arguments take */
	int8_t feature; /* bit of the service's features, or -1 */
	uint8_t count; /* of its arguments */
	struct pv_argument arguments[PV_LIMIT_ARGUMENTS];
};

/* ---- extension.c: services of vendors and experiments ---- */

/* A service beyond the standard's own; the caller's, and there as long as the machine. */
struct pv_extension {
	uint32_t service; /* PV_SERVICE_RANGE_VENDOR to 0xffff */
	uint32_t denied; /* functions that are switched off, a bit each */
	uint64_t offered; /* features */
	struct pv_declaration *calls; /* by function; pv_extension_add counts their registers */
	uint32_t call_count; /* at most 32 (BASE-7) */
	/* A call, already checked. Any thread that makes calls, several at once; statuses as in the standard. */
	int64_t (*call)(struct pv_vcpu *vcpu, void *opaque, uint32_t function, const uint64_t *args, uint64_t *value);
	void *opaque;
};

/* NULL, or what is wrong with the extension: it is then not offered. Before vCPUs run. */
const char *pv_extension_add(struct pv_machine *machine, struct pv_extension *extension);
/* Where the machine keeps a service that it offers: its number, or PV_SERVICES and up; -1: it offers no such. */
int pv_service_slot(const struct pv_machine *machine, uint64_t service);
/* Features offered, by slot. */
uint64_t pv_service_offers(const struct pv_machine *machine, uint32_t slot);

/* How the guest's life ended. */
struct pv_end {
	uint32_t kind; /* PV_END_ */
	uint64_t reason; /* of a shutdown: PV_SHUTDOWN_ */
	uint64_t status; /* of a shutdown: 0 is success */
	const struct pv_crash_report *report; /* of a crash, a copy; its text may be anything (SYS-2) */
};

#define PV_END_SHUTDOWN 1
#define PV_END_RESET 2 /* it is to begin anew, from the image (SYS-3) */
#define PV_END_CRASH 3
#define PV_END_WATCHDOG 4

/* What the surroundings do for the library. */
struct pv_machine_ops {
	/* Output of the guest's, a copy within its budget: OK, or a negative status if nothing was taken. NULL: lost. */
	int64_t (*console_write)(struct pv_machine *machine, const uint8_t *text, uint64_t size_bytes);
	/* Input that waits, up to so many bytes; how many. It does not wait for more (CON-3). NULL: there is none. */
	uint64_t (*console_read)(struct pv_machine *machine, uint8_t *text, uint64_t size_bytes);
	/* The guest's life ended; its vCPUs are stopped next. Any thread, once. */
	void (*end)(struct pv_machine *machine, const struct pv_end *end);
	/* A call that the library has no handler for, already checked. NULL: NOT_SUPPORTED. */
	int64_t (*call)(struct pv_vcpu *vcpu, uint32_t id, const uint64_t *args, uint64_t *value);
	/* Makes a vCPU that may be running take its upcall. */
	void (*upcall)(struct pv_vcpu *vcpu);
	/* The vCPU chose this vector (already checked) for its upcalls; a status. */
	int64_t (*upcall_vector)(struct pv_vcpu *vcpu, uint32_t vector);
	/* The caller starts the stopped target, which is to run in the caller's mode (VCPU-6); a status. */
	int64_t (*start)(struct pv_vcpu *caller, struct pv_vcpu *target);
	/* CR2 of the calling vCPU. */
	uint64_t (*fault_address)(struct pv_vcpu *vcpu);
	/* Makes a vCPU's thread notice vcpu->stop. */
	void (*kick)(struct pv_vcpu *vcpu);
};

struct pv_start {
	uint64_t entry_gpa;
	uint64_t stack_gpa;
	uint64_t argument;
};

/* One event of a trace; times in ns of CLOCK_MONOTONIC. */
struct pv_trace_event {
	uint64_t begin_ns;
	uint64_t end_ns;
	uint32_t kind; /* PV_TRACE_ */
	uint32_t id; /* call id, exit reason, queue, or length of text */
	int64_t status;
	uint64_t value;
	uint64_t args[6];
	char text[64];
};

#define PV_TRACE_CALL 1
#define PV_TRACE_EXIT 2
#define PV_TRACE_MARK 3
#define PV_TRACE_BEGIN 4
#define PV_TRACE_END 5
#define PV_TRACE_REQUEST 6
#define PV_TRACE_CHAIN 7 /* a chain that a back end in Python served; id: the queue, value: bytes written */

/* A track: one producer, one consumer, events lost are counted. */
struct pv_trace {
	struct pv_trace_event *events;
	uint32_t size; /* a power of two */
	uint32_t head; /* next to write */
	uint32_t tail; /* next to read */
	uint64_t lost;
};

struct pv_capture;
struct pv_recording;

struct pv_vcpu {
	struct pv_vcpu_saved state; /* what is saved */
	struct pv_machine *machine;
	struct pv_vcpu_page *page; /* in guest memory: write with care, believe nothing read */
	struct pv_start start;
	struct pv_trace *trace; /* NULL: off */
	struct pv_capture *capture; /* record.h; NULL: off */
	uint32_t index;
	uint32_t stop; /* leave the run loop as soon as possible */
	uint32_t blocked; /* waits on wake */
	uint32_t starting; /* somebody fills start in */
	uint32_t starts; /* times that it was started */
	uint32_t life; /* the start that its thread is at; the thread's own */
	uint32_t wake; /* futex; changes when there may be something to do */
	uint64_t calls;
	uint64_t exits;
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
	uint64_t console_budget; /* bytes of output (CON-2) */
	uint64_t trace_mark_budget; /* marks and ends of spans (TRC-1) */
	uint64_t doorbell_budget; /* doorbells by call or exit, per second and machine; 0: no bound */
	uint64_t doorbell_due_ns; /* when the budget is whole again */
	struct pv_time_page *time_page; /* in guest memory */
	struct pv_time_page time; /* the host's copy */
	uint64_t counter_offset; /* guest counter = host counter + offset */
	uint64_t counter_hz; /* 0: no usable counter */
	uint64_t started_ns; /* CLOCK_MONOTONIC at the guest's time zero */
	uint32_t timer; /* futex of the timer thread */
	uint64_t timer_due_ns; /* when it will wake by itself */
	uint32_t ending;
	uint32_t ended; /* ops.end was called */
	uint32_t running; /* vCPUs started and not stopped */
	void *opaque; /* Python's handle */
};

void pv_machine_init(struct pv_machine *machine);
/* Carries a call out; the result is complete, poison included. */
void pv_dispatch(struct pv_vcpu *vcpu, const struct pv_call *call, struct pv_result *result);
/* True if the call exists for this guest now (rules CALL-1 to CALL-3). */
bool pv_call_exists(const struct pv_machine *machine, uint32_t id);
/* Bit mask of the functions of a service that exist now. */
uint32_t pv_call_mask(const struct pv_machine *machine, uint32_t service);
uint64_t pv_random(struct pv_machine *machine);
/* service_call, as the standard declares it; NULL: no such call. */
const char *pv_call_name(uint32_t id);
/* What the declaration says of the n-th call; false past the end. */
bool pv_call_declared(uint32_t n, uint32_t *id, uint32_t *roads, uint32_t *registers);

/* ---- console.c, system.c ---- */

/* Takes output from the machine's budget, for a console of another kind; false: there is not so much left (CON-2). */
bool pv_console_spend(struct pv_machine *machine, uint64_t size_bytes);
/* Ends the guest's life, unless it has ended: ops.end, then pv_machine_end. Whether this was its end. Any thread. */
bool pv_machine_finish(struct pv_machine *machine, const struct pv_end *end);

/* ---- event.c ---- */

/* Raises a channel: pending bit, then upcall or wake-up (rule EVT-1). Any thread. */
void pv_event_raise(struct pv_machine *machine, uint32_t vcpu, uint32_t channel);
/* Waits until woken, or until deadline_ns (monotonic of the machine). */
void pv_vcpu_block(struct pv_vcpu *vcpu, uint64_t deadline_ns);
void pv_vcpu_wake(struct pv_vcpu *vcpu);
/* Waits for vcpu.start: true started, false the vCPU is to stop. */
bool pv_vcpu_wait_start(struct pv_vcpu *vcpu);
/* False once the start that was waited for is over: stopped, perhaps started again, or to stop. */
bool pv_vcpu_lives(const struct pv_vcpu *vcpu);
/* Has every vCPU leave its run loop and the timer thread return. Any thread. */
void pv_machine_end(struct pv_machine *machine);

/* ---- time.c ---- */

uint64_t pv_clock_ns(void); /* CLOCK_MONOTONIC of the host */
uint64_t pv_time_now(const struct pv_machine *machine); /* the guest's monotonic time, as its page tells it */
/* Writes the time page for the first time; counter_hz 0: no usable counter. */
void pv_time_start(struct pv_machine *machine, uint64_t counter_hz, uint64_t counter_offset);
/* Serves deadlines and refreshes the time page until the machine ends. A thread of its own. */
void pv_timer_run(struct pv_machine *machine);
void pv_timer_poke(struct pv_machine *machine);

/* ---- trace.c ---- */

void pv_trace_put(struct pv_trace *trace, const struct pv_trace_event *event);
/* Takes up to count events; how many. */
uint32_t pv_trace_take(struct pv_trace *trace, struct pv_trace_event *events, uint32_t count);

const char *pv_abi_digest(void);

#endif
