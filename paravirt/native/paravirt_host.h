/* SPDX-License-Identifier: BSD-2-Clause
 *
 * libparavirt_host: the host side of the paravirt hypercall ABI, for hypervisors.  It carries out calls
 * over every road, with the checks that the standard demands, keeps events, time and vCPU states, and is
 * the device side of virtio.  It knows no way to run a CPU (no KVM) and no Python.
 *
 * The life of a machine: pv_machine_create; pv_memory_add for its RAM; what it offers (pv_machine_offer,
 * pv_extension_add, pv_device_create); pv_boot, or pv_machine_pages for a layout of your own; pv_time_start
 * and a thread in pv_timer_run; a thread per vCPU that waits in pv_vcpu_wait_start, runs the guest while
 * pv_vcpu_lives, and hands traps to pv_trap; ops.end or pv_machine_end ends it; join the threads;
 * pv_machine_destroy; then the memory may go.
 *
 * Threads: a vCPU's traps come from its own thread, the calls over its ring from the one thread of
 * pv_callring_serve, at the same time.  A queue is walked by one thread at a time.  Where another thread may
 * call, it says so.  The guest is hostile: what lies in its memory is copied once and the copy is checked;
 * nothing that it does ends the process (CALL-12).
 */
#ifndef PARAVIRT_HOST_PUBLIC_H
#define PARAVIRT_HOST_PUBLIC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "paravirt_abi.h"

#ifdef __cplusplus
extern "C" {
#endif
#ifndef PV_HOST_PRIVATE
#pragma GCC visibility push(default)
#endif

/* Of this header, major << 16 | minor: the major number is in the library's name, a minor one only adds. */
#define PV_HOST_API 0x10000

#define PV_MAX_REGIONS 8
#define PV_MAX_VCPUS 64
#define PV_MAX_DEVICES 32
#define PV_MAX_QUEUES 8
#define PV_MAX_QUEUE_SIZE 256
#define PV_MAX_EXTENSIONS 16
#define PV_NO_CHANNEL 0xffffffff

struct pv_machine;
struct pv_vcpu;
struct pv_memory;
struct pv_device;
struct pv_queue;

/* PV_HOST_API of the library that runs, and the digest of the ABI that it was built for (PV_ABI_DIGEST). */
uint32_t pv_host_api(void);
const char *pv_abi_digest(void);

/* ---- guest memory: guest-physical ranges and their host addresses ---- */

/* 0, or -1 if there is no room, the range overlaps or wraps, or gpa and hva differ modulo 16. Before vCPUs run. */
int pv_memory_add(struct pv_memory *memory, uint64_t gpa, uint64_t size_bytes, void *hva);
/* Host address of a range that lies wholly inside one region, else NULL. Length 0: any address inside or at an end. */
void *pv_memory_at(const struct pv_memory *memory, uint64_t gpa, uint64_t size_bytes);
bool pv_memory_read(const struct pv_memory *memory, uint64_t gpa, void *to, uint64_t size_bytes);
bool pv_memory_write(const struct pv_memory *memory, uint64_t gpa, const void *from, uint64_t size_bytes);

/* ---- calls ---- */

struct pv_call {
	uint32_t id;
	uint32_t road; /* one of PV_ROAD_ */
	uint64_t args[6];
};

struct pv_result {
	int64_t status;
	uint64_t value;
};

/* Carries a call out; the result is complete, poison included. */
void pv_dispatch(struct pv_vcpu *vcpu, const struct pv_call *call, struct pv_result *result);
/* Registers of the x86-64 traps (chapter roads). */
struct pv_trap {
	uint64_t rax, rdx; /* call id; then status and value */
	uint64_t rdi, rsi, rcx, r8, r9, r10, r11;
};

/* A trap: the call that the registers ask for, and then what they hold (CALL-8, CALL-9). In the vCPU's thread. */
void pv_trap(struct pv_vcpu *vcpu, struct pv_trap *registers);
/*
 * An access to a port, one or several of `size_bytes` each, by a machine that pv_boot gave its ports: traps,
 * doorbells, and ports where nothing is (CALL-17). True: it was a trap, and the registers are to be loaded.
 */
bool pv_port(struct pv_vcpu *vcpu, bool out, uint16_t port, uint32_t size_bytes, uint32_t count, void *data,
	     struct pv_trap *registers);
/* True if the call exists for this guest now (rules CALL-1 to CALL-3). */
bool pv_call_exists(const struct pv_machine *machine, uint32_t id);
/* service_call, as the standard declares it; NULL: no such call. */
const char *pv_call_name(uint32_t id);

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

/* A service of a vendor or an experiment; the caller's, and there as long as the machine. */
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

/* ---- machines ---- */

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
	/* Makes a vCPU that may be running take its upcall. Any thread. */
	void (*upcall)(struct pv_vcpu *vcpu);
	/* The vCPU chose this vector (already checked) for its upcalls; a status. */
	int64_t (*upcall_vector)(struct pv_vcpu *vcpu, uint32_t vector);
	/* The caller starts the stopped target, which is to run in the caller's mode (VCPU-6); a status. */
	int64_t (*start)(struct pv_vcpu *caller, struct pv_vcpu *target);
	/* CR2 of the calling vCPU. */
	uint64_t (*fault_address)(struct pv_vcpu *vcpu);
	/* Puts off raising a channel (both are checked) until no guest code runs, then pv_event_raise_now. NULL: at once. */
	void (*defer)(struct pv_machine *machine, uint32_t vcpu, uint32_t channel);
	/* Has a vCPU's thread leave the guest, for pv_vcpu_lives has become false. Any thread, once; until it is done,
	 * pv_vcpu_wait_start does not answer false. */
	void (*kick)(struct pv_vcpu *vcpu);
	/* A call ring is about to be set up: a thread is in pv_callring_serve from now on, if none was. From a vCPU's
	 * thread; a status. NULL: the library makes that thread, which ends with the machine. */
	int64_t (*serve_callrings)(struct pv_vcpu *vcpu);
	/* For tests of guests: a call that is about to be carried out. True: it is answered, by *result. False: it is
	 * carried out with the arguments in *call, and where it answers OK, result->status is what the guest sees. */
	bool (*intercept)(struct pv_vcpu *vcpu, struct pv_call *call, struct pv_result *result);
};

struct pv_machine_config {
	uint32_t api; /* PV_HOST_API: what the caller was compiled for */
	uint32_t vcpus;
	uint32_t poison; /* 1: scramble whatever the standard calls undefined, to find guests that rely on it */
	uint64_t console_bytes; /* budgets of the machine; 0: no bound (CON-2, TRC-1) */
	uint64_t trace_marks;
	uint64_t doorbells_per_second; /* that are exits or calls */
	struct pv_machine_ops ops;
	void *opaque;
};

/* A machine that offers the service base. NULL, with *wrong in words: another library, too many vCPUs, no memory. */
struct pv_machine *pv_machine_create(const struct pv_machine_config *config, const char **wrong);
/* Its threads have ended. Extensions and guest memory are the caller's. */
void pv_machine_destroy(struct pv_machine *machine);
void *pv_machine_opaque(const struct pv_machine *machine);
struct pv_memory *pv_machine_memory(struct pv_machine *machine);
/* Offers a service of the standard with features that the library or ops.call serves; false: there is no such. */
bool pv_machine_offer(struct pv_machine *machine, uint32_t service, uint64_t features);
/* Offers every service of the standard, with the features that the library serves by itself. */
void pv_machine_offer_all(struct pv_machine *machine);
/* Switches a call of the standard off, but none of base; false: there is no such (CALL-2). Before vCPUs run. */
bool pv_machine_deny(struct pv_machine *machine, uint32_t id);
/* Where the pages lie that the boot information names, a page each per vCPU; false: not in memory. Before vCPUs run. */
bool pv_machine_pages(struct pv_machine *machine, uint64_t time_gpa, uint64_t vcpu_gpa);
/* Where the page of the service continuity lies, if there is to be one; false: not in memory. Before vCPUs run. */
bool pv_machine_continuity(struct pv_machine *machine, uint64_t continuity_gpa);
/* What base.boot_info copies; the caller's, and there as long as the machine. */
void pv_machine_boot_info(struct pv_machine *machine, const void *info, uint32_t size_bytes);
/* Has every vCPU leave its run loop and the timer thread return. Any thread. */
void pv_machine_end(struct pv_machine *machine);
/* Ends the guest's life, unless it has ended: ops.end, then pv_machine_end. Whether this was its end. Any thread. */
bool pv_machine_finish(struct pv_machine *machine, const struct pv_end *end);
/* Takes output from the machine's budget, for a console of another kind; false: there is not so much left (CON-2). */
bool pv_console_spend(struct pv_machine *machine, uint64_t size_bytes);
/* A write to the doorbell that no eventfd took: device << 16 | queue. What names nothing is ignored (DEV-8). */
void pv_doorbell(struct pv_machine *machine, uint32_t value);

/* Asks a guest that accepted BALLOON for so much memory, whole pages and at most all; false: it is not that. Any
 * thread. What it gives comes back by itself: its pages are taken out of the file or mapping that pv_memory_add names. */
bool pv_machine_balloon(struct pv_machine *machine, uint64_t target_bytes);
/* What the guest says that it has given. */
uint64_t pv_machine_balloon_bytes(const struct pv_machine *machine);

/* ---- vCPUs, events ---- */

/* With what a vCPU begins. */
struct pv_start {
	uint64_t entry_gpa;
	uint64_t stack_gpa;
	uint64_t argument;
};

/* NULL: there is no such. */
struct pv_vcpu *pv_machine_vcpu(const struct pv_machine *machine, uint32_t index);
struct pv_machine *pv_vcpu_machine(const struct pv_vcpu *vcpu);
uint32_t pv_vcpu_index(const struct pv_vcpu *vcpu);
/* The caller's own word about a vCPU. */
void *pv_vcpu_opaque(const struct pv_vcpu *vcpu);
void pv_vcpu_set_opaque(struct pv_vcpu *vcpu, void *opaque);
/* Has the boot vCPU begin as soon as its thread waits for it. */
void pv_vcpu_boot(struct pv_vcpu *vcpu, const struct pv_start *start);
/* What the vCPU that pv_vcpu_wait_start let go begins with. */
const struct pv_start *pv_vcpu_begins(const struct pv_vcpu *vcpu);
/* Counts an exit, for the vCPU's page. */
void pv_vcpu_exited(struct pv_vcpu *vcpu);
/* Time that the vCPU was ready to run and did not, for its page. */
void pv_vcpu_stolen(struct pv_vcpu *vcpu, uint64_t steal_ns);
/* Raises a channel: pending bit, then upcall or wake-up (rule EVT-1). Any thread. */
void pv_event_raise(struct pv_machine *machine, uint32_t vcpu, uint32_t channel);
/* The same at once, for who has ops.defer. */
void pv_event_raise_now(struct pv_machine *machine, uint32_t vcpu, uint32_t channel);
/* Waits until the vCPU is started: true, or false: it is to stop. */
bool pv_vcpu_wait_start(struct pv_vcpu *vcpu);
/* False once the start that was waited for is over: stopped, perhaps started again, or to stop. */
bool pv_vcpu_lives(const struct pv_vcpu *vcpu);

/* ---- time ---- */

uint64_t pv_clock_ns(void); /* CLOCK_MONOTONIC of the host */
uint64_t pv_time_now(const struct pv_machine *machine); /* the guest's monotonic time, as its page tells it */
/* Writes the time page for the first time; counter_hz 0: no usable counter. */
void pv_time_start(struct pv_machine *machine, uint64_t counter_hz, uint64_t counter_offset);
/* Serves deadlines and the watchdog and refreshes the time page until the machine ends. A thread of its own. */
void pv_timer_run(struct pv_machine *machine);

/* The guest's time stands still, or goes on: no vCPU runs meanwhile. The wall-clock time in between, in ns. Any thread. */
void pv_time_stop(struct pv_machine *machine);
uint64_t pv_time_go(struct pv_machine *machine);
/* The guest's clock is another than it was, which its page says from now on (TIME-7). Any thread. */
void pv_time_jumped(struct pv_machine *machine);

/* ---- continuity ---- */

/* What happens or happened to the machine. */
struct pv_announcement {
	uint32_t event; /* PV_CONTINUITY_EVENT_ */
	uint8_t generation[16];
	uint8_t seed[32]; /* fit for keys, and given to nobody else (ENT-2) */
	uint64_t clock_jump_ns;
};

/*
 * Writes the page and has the guest that subscribed told of it; the event's counter, or zero if there is no page.  One
 * thread at a time.  What happened while no vCPU ran is announced before one does (CONT-3).
 */
uint64_t pv_continuity_announce(struct pv_machine *machine, const struct pv_announcement *announcement);
/* Whether somebody in the guest is told of events. */
bool pv_continuity_heard(const struct pv_machine *machine);
/* Waits up to timeout_ns for the event to be acknowledged: true, or false: it was not, or the machine ends. */
bool pv_continuity_wait(struct pv_machine *machine, uint64_t counter, uint64_t timeout_ns);

/* ---- call rings ---- */

/*
 * Where the feature RING of the service base is offered: serves all rings of the machine until it ends.  A
 * thread of its own, which polls while there is work, then sleeps on the eventfd.  The doorbell signals this one
 * (for every vCPU, PV_RING_DOORBELL << 16 | vCPU) where the hypervisor can tie them, or goes to pv_doorbell.
 */
void pv_callring_serve(struct pv_machine *machine);
/* The eventfd, the caller's; before pv_callring_serve. */
void pv_callring_sleep_on(struct pv_machine *machine, int eventfd);

/* ---- virtio devices ---- */

/* A back end. Called from a vCPU's thread with the device locked; reset returns when no I/O is in flight. */
struct pv_device_ops {
	void (*activate)(struct pv_device *device); /* DRIVER_OK was set */
	void (*reset)(struct pv_device *device); /* was active, is to stop */
	void (*notify)(struct pv_device *device, uint32_t queue); /* a doorbell that came as a call */
	void (*config_written)(struct pv_device *device, uint32_t offset, uint32_t size_bytes);
	/* A queue of an active device was enabled, or is to stop; NULL: the device does not offer RING_RESET. */
	void (*queue_changed)(struct pv_device *device, uint32_t queue, bool enabled);
	/* FEATURES_OK was set: the configuration may be made to fit, and what an earlier driver wrote there forgotten. */
	void (*agreed)(struct pv_device *device);
};

/* A descriptor chain, copied and checked: device-readable segments first, then device-writable ones. */
struct pv_chain {
	uint16_t head; /* what names it: its first descriptor; in a packed queue the buffer id */
	uint16_t readable; /* segments */
	uint16_t writable; /* segments */
	uint64_t readable_bytes;
	uint64_t writable_bytes;
	struct iovec segments[PV_MAX_QUEUE_SIZE];
};

struct pv_device_config {
	uint32_t type; /* PV_DEVICE_TYPE_ */
	const char *name; /* logical name; 32 bytes of it count */
	uint64_t
		features; /* beside VERSION_1 and the ring's; IN_ORDER if it keeps to it; RING_RESET comes with ops.queue_changed */
	const void *config; /* the configuration space at first */
	uint32_t config_bytes; /* up to 256 */
	uint32_t config_writable_from; /* first byte that the driver may write */
	uint32_t config_writable_bytes; /* how many from there on; 0: all that follow */
	uint32_t queue_count;
	uint16_t queue_sizes[PV_MAX_QUEUES]; /* largest, powers of two */
	uint64_t mmio_gpa; /* of its virtio-mmio window; 0: it is reached by calls */
	int interrupt_fd; /* with a window: eventfd of its interrupt line */
	struct pv_device_ops ops;
	void *opaque;
};

/* A device of the machine, which destroys it; NULL: no room or memory, or the config is none. Before vCPUs run. */
struct pv_device *pv_device_create(struct pv_machine *machine, const struct pv_device_config *config);
/* One of entropy, reached by calls, that serves itself. As pv_device_create. */
struct pv_device *pv_entropy_create(struct pv_machine *machine, const char *name);
void *pv_device_opaque(const struct pv_device *device);
struct pv_queue *pv_device_queue(struct pv_device *device, uint32_t queue);
/* An eventfd that doorbells of the queue signal, in place of ops.notify. */
void pv_queue_set_doorbell(struct pv_queue *queue, int fd);
/* Next chain of an active device: 1 taken, 0 none waiting, -1 the driver broke a rule and must reset the device. */
int pv_device_pop(struct pv_device *device, uint32_t queue, struct pv_chain *chain);
/* Copy from the readable, to the writable part of a chain at a byte offset; bytes copied. */
uint64_t pv_chain_read(const struct pv_chain *chain, uint64_t offset, void *to, uint64_t size_bytes);
uint64_t pv_chain_write(const struct pv_chain *chain, uint64_t offset, const void *from, uint64_t size_bytes);
/* Gives a chain back with the number of bytes written. */
void pv_queue_push(struct pv_queue *queue, uint16_t head, uint32_t written_bytes);
/*
 * The same in two steps: chains that were staged are seen by the driver together, once they are published (or
 * another one is pushed, or the driver is asked whether it wants to be told). In the order in which they were
 * popped, if IN_ORDER was agreed; one entry of the ring may then stand for many.
 */
void pv_queue_stage(struct pv_queue *queue, uint16_t head, uint32_t written_bytes);
void pv_queue_publish(struct pv_queue *queue);
/* True if the driver wants to be told of what was pushed since it was last asked. One call per batch. */
bool pv_queue_wants_interrupt(struct pv_queue *queue);
/* Asks for doorbells; true if buffers came meanwhile, so look again. */
bool pv_queue_arm(struct pv_queue *queue);
void pv_queue_disarm(struct pv_queue *queue);
/* Tells the driver that queue used buffers: its channel, or the interrupt line. Any thread. */
void pv_device_interrupt(struct pv_device *device, uint32_t queue);
/* The driver broke a rule: NEEDS_RESET, told by a configuration event. Any thread; takes no lock; keeps `rule`. */
void pv_device_fault(struct pv_device *device, const char *rule);
/* New configuration bytes from the host: generation + 1, configuration event. Takes the lock: not from a thread
 * that the back end's reset waits for. */
void pv_device_set_config(struct pv_device *device, const void *config, uint32_t size_bytes);
/* The device whose virtio-mmio window a GPA is in, with its offset there, or NULL. */
struct pv_device *pv_mmio_window(const struct pv_machine *machine, uint64_t gpa, uint32_t *offset);
/* One access to a virtio-mmio window, at an offset. Sizes other than the register's read as zero and write nothing. */
uint64_t pv_mmio_read(struct pv_device *device, uint32_t offset, uint32_t size_bytes);
void pv_mmio_write(struct pv_device *device, uint32_t offset, uint32_t size_bytes, uint64_t value);

#ifndef PV_HOST_PRIVATE
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif

#include "paravirt_host_boot.h"

#endif
