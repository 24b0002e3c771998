/* SPDX-License-Identifier: 0BSD
 *
 * The interface of a binary module: a vendor's service as a shared object.  This file is all that its maker needs,
 * beside the ABI's header; docs/howto/ship-an-extension.md tells the rest.
 *
 * A module exports one function, pv_module(), which says what the module is.  The host checks every call against
 * what it declares before `call` sees it, and makes one call at a time.  Strings are UTF-8, sizes are in bytes.
 */
#ifndef PARAVIRT_MODULE_H
#define PARAVIRT_MODULE_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PV_MODULE_INTERFACE 1
#define PV_MODULE_FUNCTIONS 32
#define PV_MODULE_ARGUMENTS 6
#define PV_MODULE_STATE_BYTES (1 << 20) /* of save, at most */

enum { PV_MODULE_VALUE, PV_MODULE_READ, PV_MODULE_WRITE }; /* the access is the host's */

/* A 64-bit number; or a buffer, which takes two registers: address and length in units, or one if `fixed`. */
struct pv_module_argument {
	uint8_t kind;
	uint8_t fixed; /* one unit exactly */
	uint16_t align; /* of the address, a power of two; 0: 1 */
	uint32_t unit; /* bytes per unit; 0: 1 */
	uint64_t limit; /* units, at most */
};

struct pv_module_function {
	const char *name; /* lower case, digits and _; NULL: there is none of this number */
	uint32_t roads; /* bits PV_ROAD_ of the ABI; 0: all */
	uint32_t argument_count;
	struct pv_module_argument arguments[PV_MODULE_ARGUMENTS];
	uint64_t feature; /* the feature's mask, or 0: none needed */
};

/* What the host does for a module. Valid from init to deinit, to be used within the module's functions alone. */
struct pv_module_host {
	void *host; /* the host's own; first argument of all */
	/* Copies; false, and nothing copied, unless the range lies wholly in guest memory. */
	bool (*read)(void *host, uint64_t gpa, void *to, uint64_t size_bytes);
	bool (*write)(void *host, uint64_t gpa, const void *from, uint64_t size_bytes);
	/* Raises an event channel of a vCPU when the function returns; false: 16 wait already. */
	bool (*raise)(void *host, uint32_t vcpu, uint32_t channel);
};

struct pv_module_call {
	uint32_t function;
	uint32_t vcpu; /* index of the caller */
	uint64_t args[PV_MODULE_ARGUMENTS];
	uint64_t time_ns; /* the guest's monotonic time */
	uint64_t value; /* the answer's; of a call that writes a buffer, the units written */
};

struct pv_module {
	uint32_t interface; /* PV_MODULE_INTERFACE */
	uint32_t size_bytes; /* of this structure */
	uint16_t abi_major; /* version of the ABI that it needs */
	uint16_t abi_minor;
	uint32_t service; /* number: registered, or from 0xc000 on for experiments */
	const char *name; /* of the service: lower case, digits and _ */
	const char *vendor;
	const char *version; /* of the module */
	uint64_t features; /* offered */
	const struct pv_module_function *functions; /* by number */
	uint32_t function_count;
	uint32_t state_version; /* of what save gives */
	/* 0, or an error (then nothing is to be undone). `options` is what the user gave, perhaps empty. */
	int (*init)(const struct pv_module_host *host, const char *options, void **instance);
	/* A status of the ABI; any other is made FAILED. */
	int64_t (*call)(void *instance, struct pv_module_call *call);
	/* Bytes of state, at most PV_MODULE_STATE_BYTES; written if `room` is enough. NULL: there is no state. */
	uint64_t (*save)(void *instance, void *to, uint64_t room);
	/* 0, or an error: the state is of another version, or wrong. */
	int (*load)(void *instance, uint32_t version, const void *from, uint64_t size_bytes);
	void (*reset)(void *instance); /* the machine was reset */
	void (*deinit)(void *instance);
};

#define PV_MODULE_EXPORT __attribute__((visibility("default")))

PV_MODULE_EXPORT const struct pv_module *pv_module(void);

#ifdef __cplusplus
}
#endif

#endif
