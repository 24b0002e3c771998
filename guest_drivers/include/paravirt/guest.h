/* SPDX-License-Identifier: 0BSD
 *
 * What a small program gets from the runtime, on a Paravirt host and, with less, on any host that
 * boots PVH images: a console, a clock, memory, vCPUs, devices, and an end.  A kernel that has all
 * this itself takes the other headers and lib/ and leaves this one and runtime/ alone.
 */
#ifndef PARAVIRT_GUEST_H
#define PARAVIRT_GUEST_H

#include <stdarg.h>

#include "paravirt/boot.h"
#include "paravirt/event.h"
#include "paravirt/status.h"
#include "paravirt/virtio.h"

/* The program. What it returns is the machine's exit status. */
int pv_main(void);

/* Facts about the machine, complete when pv_main is called. */
struct pv_guest {
	bool paravirt; /* false: a PVH host without our services */
	uint32_t cpus;
	const char *command_line; /* never NULL */
	struct pv_boot boot; /* with paravirt */
};
extern struct pv_guest pv_guest;

/* At the foot of each vCPU's stack, which is aligned to its size: found from the stack pointer alone. */
#define PV_STACK_BYTES 16384u

struct pv_cpu {
	uint32_t index;
	struct pv_vcpu_page *page; /* never NULL; without paravirt nothing ever becomes pending in it */
	void (*run)(void *argument);
	void *argument;
};

static inline struct pv_cpu *pv_this_cpu(void)
{
	uint64_t rsp;

	__asm__("mov %%rsp, %0" : "=r"(rsp));
	return pv_at(rsp & ~(uint64_t)(PV_STACK_BYTES - 1));
}

/*
 * One write of at most 511 bytes, so that lines of several vCPUs do not mix.  Conversions (format.h): %d %i %u
 * %x %X %p %c %s %%, `-`, `0`, width and precision, `l`, `ll`, `z`.  No %f.
 */
void pv_print(const char *format, ...) __attribute__((format(printf, 1, 2)));
void pv_write(const char *text, uint64_t size_bytes);

/* Ends the machine: 0 is success. */
_Noreturn void pv_exit(int status);
/* Ends the machine with a crash report. */
_Noreturn void pv_panic(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Monotonic ns, and ns since 1970 (0 where the host does not tell). */
uint64_t pv_now_ns(void);
uint64_t pv_wall_ns(void);

/* Memory, not cleared, that is never given back; NULL if there is not that much. align is a power of two. */
void *pv_take(uint64_t size_bytes, uint64_t align);
uint64_t pv_left_bytes(void);

/* Runs run(argument) on a stopped vCPU, which stops when it returns. NOT_SUPPORTED without paravirt. */
int64_t pv_cpu_start(uint32_t index, void (*run)(void *argument), void *argument);

/*
 * Has events interrupt the calling vCPU from now on, by NMI or as the interrupt PV_UPCALL_VECTOR, which
 * costs an end-of-interrupt and asks for interrupts on.  Without, events are seen in pv_idle only.
 */
#define PV_UPCALL_VECTOR 64
int64_t pv_upcalls_by(uint32_t vector);

static inline int64_t pv_upcalls_on(void)
{
	return pv_upcalls_by(PV_UPCALL_NMI);
}

/* The waiting pattern of event.h, which also works where there are no events: there pv_idle returns at once. */
void pv_hold(void);
void pv_idle(uint64_t deadline_ns);
void pv_release(void);

/*
 * A device by type and logical name; NULL: the first of its type. Where names are not known (virtio-mmio)
 * a block device is known by its serial number, and other types are found with a NULL name only.
 *
 * By calls it raises a channel of the calling vCPU, the last but its index, and the driver waits on that vCPU.
 * Before the driver's init another vcpu and channel can be set; with PV_NO_CHANNEL the driver polls, on any vCPU.
 * With `virtio.wait=poll` on the command line that is so for all devices.
 * Features in `virtio.refuse=0xHEX` on the command line are not agreed on: 400000000 leaves rings split.
 */
int64_t pv_device(struct pv_virtio *device, uint32_t type, const char *name);

#endif
