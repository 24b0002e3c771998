/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The host's side of binary modules (paravirt_module.h): in this process, or in one of their own.  Read by cffi too.
 */
#ifndef PARAVIRT_MODULE_HOST_H
#define PARAVIRT_MODULE_HOST_H

#include "host.h"

#define PV_MODULE_TEXT 200
#define PV_MODULE_CALLS 32
#define PV_MODULE_EVENTS 16
#define PV_MODULE_STATE_MOST 1048576 /* bytes; PV_MODULE_STATE_BYTES of paravirt_module.h */

/* What a module says of itself, copied and checked: nothing here is the module's memory. */
struct pv_module_description {
	char wrong[PV_MODULE_TEXT]; /* why it is none; empty: it is one */
	char name[32];
	char vendor[64];
	char version[32];
	uint32_t service;
	uint32_t state_version;
	uint64_t features;
	uint32_t call_count;
	struct pv_declaration calls[PV_MODULE_CALLS]; /* their names lie elsewhere: see pv_module_name_calls */
	char names[PV_MODULE_CALLS][80]; /* service_call; empty: no such function */
};

/* Points the calls at the names beside them; after a description was copied. */
void pv_module_name_calls(struct pv_module_description *description);

/* ---- module.c: a module in this process ---- */

struct pv_module_instance;

/* NULL: description->wrong says why. */
struct pv_module_instance *pv_module_open(const char *path, struct pv_module_description *description);
/* Gives it guest memory and has it begin; 0 or the module's error. Once. */
int pv_module_start(struct pv_module_instance *instance, const struct pv_memory *memory, const char *options);
/* A call; the events that it raised are in `raised`, channel above vCPU; their number is the return of *count. */
int64_t pv_module_call(struct pv_module_instance *instance, uint32_t function, uint32_t vcpu, const uint64_t *args,
		       uint64_t time_ns, uint64_t *value, uint64_t *raised, uint32_t *count);
/* Bytes of state; written to `to` if there is room. */
uint64_t pv_module_save(struct pv_module_instance *instance, void *to, uint64_t room);
int pv_module_load(struct pv_module_instance *instance, uint32_t version, const void *from, uint64_t size_bytes);
void pv_module_reset(struct pv_module_instance *instance, const struct pv_memory *memory);
void pv_module_close(struct pv_module_instance *instance);

/* Handler of struct pv_extension for it; opaque is the instance. */
int64_t pv_module_handler(struct pv_vcpu *vcpu, void *opaque, uint32_t function, const uint64_t *args, uint64_t *value);

/* ---- module_process.c: a module in a process of its own, both ends of the socket between ---- */

#define PV_MODULE_START 1 /* text: options; fd: guest memory; regions */
#define PV_MODULE_CALL 2
#define PV_MODULE_SAVE 3 /* answered with an fd that has `value` bytes */
#define PV_MODULE_LOAD 4 /* fd with `value` bytes; `number`: the version */
#define PV_MODULE_RESET 5 /* fd: guest memory, new; regions */

/* A request and its answer; one packet each. */
struct pv_module_message {
	uint32_t kind;
	uint32_t number; /* function, or version of state */
	uint32_t vcpu;
	uint32_t count; /* of regions, of events raised */
	uint64_t args[6];
	uint64_t time_ns;
	int64_t status;
	uint64_t value;
	uint64_t places[16]; /* gpa and size of each region in order, of the memory's file; or events */
	char text[1024];
};

/* The end in the parent: what its handler needs. */
struct pv_module_remote {
	int fd; /* SOCK_SEQPACKET */
	uint32_t failed; /* PV_MODULE_FAILED_ */
	uint64_t timeout_ns;
	pthread_mutex_t lock;
};

#define PV_MODULE_FAILED_GONE 1 /* the process ended */
#define PV_MODULE_FAILED_TIME 2 /* it did not answer in time */
#define PV_MODULE_FAILED_ANSWER 3 /* its answer was none */
#define PV_MODULE_FAILED_END 4 /* the machine ended first */

void pv_module_remote_init(struct pv_module_remote *remote, int fd, uint64_t timeout_ns);
void pv_module_remote_deinit(struct pv_module_remote *remote);
/* Handler of struct pv_extension; opaque is the remote. FAILED for good once the module failed (VND-2). */
int64_t pv_module_remote_handler(struct pv_vcpu *vcpu, void *opaque, uint32_t function, const uint64_t *args,
				 uint64_t *value);
/* The process of the module: sends its description, then serves requests until the socket closes. */
void pv_module_serve(const char *path, int fd);

#endif
