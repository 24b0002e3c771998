/* SPDX-License-Identifier: 0BSD
 *
 * The modules' own contract: what core, services and the transport offer each other.  Layouts, call ids and rules
 * are in paravirt_abi.h, what user space sees in paravirt_user.h.
 */
#ifndef PARAVIRT_LINUX_H
#define PARAVIRT_LINUX_H

#include <linux/io.h>
#include <linux/types.h>

#include "paravirt_abi.h"

/* ---- calls (call.c) ---- */

struct pv_answer {
	s64 status; /* PV_STATUS_; unknown negative ones are already FAILED (ERR-1) */
	u64 value; /* undefined when the status is negative (CALL-10) */
};

/* Arguments that a call does not have must be zero (CALL-5). */
struct pv_answer paravirt_call(u32 id, u64 a0, u64 a1, u64 a2, u64 a3, u64 a4, u64 a5);
/* The error number for a status; 0 for those that are none. */
int paravirt_error(s64 status);
/* Rings the doorbell: what it means is in the word (DEV-8). */
void paravirt_ring(u32 word);
/* Whether the CPUID leaves are there and are of a version and a trap that we know; sets the call's ports. */
int paravirt_discover(void);

#define pv_call0(id) paravirt_call(id, 0, 0, 0, 0, 0, 0)
#define pv_call1(id, a) paravirt_call(id, a, 0, 0, 0, 0, 0)
#define pv_call2(id, a, b) paravirt_call(id, a, b, 0, 0, 0, 0)
#define pv_call3(id, a, b, c) paravirt_call(id, a, b, c, 0, 0, 0)
#define pv_call4(id, a, b, c, d) paravirt_call(id, a, b, c, d, 0, 0)

/* The GPA of memory of kmalloc()'s or of whole pages: neither of the stack's nor of a module's own. */
static inline u64 paravirt_gpa(void *object)
{
	return virt_to_phys(object);
}

/* ---- the machine (core.c) ---- */

struct paravirt_machine {
	u32 version; /* major << 16 | minor */
	u32 vcpus;
	struct pv_boot_pages pages; /* where they lie */
	struct pv_boot_machine identity; /* zeros if the host told none */
	const struct pv_time_page *time;
	const struct pv_continuity_page *continuity; /* NULL if there is none */
	struct pv_vcpu_page **vcpu; /* by index */
};

extern struct paravirt_machine paravirt;

/* Whether the host has a service, and which features of it. */
bool paravirt_offered(u32 service, u64 *features);
/* Accepts those features of a service that the host offers; afterwards, or before, the same set only. */
u64 paravirt_accept(u32 service, u64 features);

/* ---- events (event.c) ---- */

/* In the interrupt of the vCPU whose channel it is. */
typedef void paravirt_event_fn(void *data);

int paravirt_event_init(void);
void paravirt_event_exit(void);
/* Takes a free channel of `vcpu`, or `channel` if that is one with a fixed meaning; its number, or an error. */
int paravirt_event_bind(u32 vcpu, int channel, paravirt_event_fn *handler, void *data);
/* Afterwards the handler does not run. */
void paravirt_event_unbind(u32 vcpu, int channel);
/* Waits for handlers that run. */
void paravirt_event_synchronize(u32 vcpu);
/* A vCPU whose events somebody hears, the n-th of them in turn. */
u32 paravirt_event_vcpu(u32 n);

#define PARAVIRT_ANY_CHANNEL (-1)

/* ---- services; of one that the host does not offer Linux sees nothing, which is no error ---- */

int paravirt_clock_init(void);
void paravirt_clock_exit(void);
int paravirt_console_init(void);
void paravirt_console_exit(void);
int paravirt_entropy_init(void);
void paravirt_entropy_exit(void);
int paravirt_crash_init(void);
void paravirt_crash_exit(void);
int paravirt_continuity_init(void);
void paravirt_continuity_exit(void);
int paravirt_user_init(void);
void paravirt_user_exit(void);

/* For user.c: the last event, those that wait for one, and the news to user space. */
struct wait_queue_head;
struct poll_table_struct;
struct paravirt_continuity_event;
extern struct wait_queue_head paravirt_continuity_wait;
void paravirt_continuity_last(struct paravirt_continuity_event *event);
void paravirt_user_tell(const struct paravirt_continuity_event *event);
/* One call for a program, of those that programs may make; user_call.c. */
struct paravirt_user_call;
int paravirt_user_call(struct paravirt_user_call *call);

#endif
