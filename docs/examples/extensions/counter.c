// SPDX-License-Identifier: 0BSD
/*
 * A binary module: a counter that the guest adds to, and whose history it reads back.
 *
 *   cc -shared -fPIC $(paravirt extension cflags) -o counter.so counter.c
 */
#include <stdlib.h>
#include <string.h>

#include "paravirt_abi.h"
#include "paravirt_module.h"

#define HISTORY 64

enum { ADD, HISTORY_READ, FUNCTIONS };

struct counter {
	const struct pv_module_host *host;
	uint64_t total;
	uint64_t count; /* of additions; the last HISTORY are kept */
	uint64_t history[HISTORY];
};

static int init(const struct pv_module_host *host, const char *options, void **instance)
{
	struct counter *counter = calloc(1, sizeof(*counter));

	if (!counter)
		return -1;
	counter->host = host;
	counter->total = strtoull(options, NULL, 10); /* where to begin */
	*instance = counter;
	return 0;
}

/* add(number, vcpu, channel): the value is the new total; the event says that there is one. */
static int64_t add(struct counter *counter, struct pv_module_call *call)
{
	counter->total += call->args[0];
	counter->history[counter->count++ % HISTORY] = counter->total;
	counter->host->raise(counter->host->host, (uint32_t)call->args[1], (uint32_t)call->args[2]);
	call->value = counter->total;
	return PV_STATUS_OK;
}

/* history(buffer, entries): the totals so far, the oldest first; the value is how many. */
static int64_t history(struct counter *counter, struct pv_module_call *call)
{
	uint64_t kept = counter->count < HISTORY ? counter->count : HISTORY;

	if (kept > call->args[1])
		kept = call->args[1];
	for (uint64_t i = 0; i < kept; i++) {
		uint64_t total = counter->history[(counter->count - kept + i) % HISTORY];

		if (!counter->host->write(counter->host->host, call->args[0] + 8 * i, &total, sizeof(total)))
			return PV_STATUS_BAD_ADDRESS;
	}
	call->value = kept;
	return PV_STATUS_OK;
}

static int64_t call(void *instance, struct pv_module_call *call)
{
	return call->function == ADD ? add(instance, call) : history(instance, call);
}

/* What follows the pointer to the host is state, and the same on every machine that this module is made for. */
#define STATE(counter) (&(counter)->total)
#define STATE_BYTES (sizeof(struct counter) - offsetof(struct counter, total))

static uint64_t save(void *instance, void *to, uint64_t room)
{
	if (room >= STATE_BYTES)
		memcpy(to, STATE((struct counter *)instance), STATE_BYTES);
	return STATE_BYTES;
}

static int load(void *instance, uint32_t version, const void *from, uint64_t size_bytes)
{
	if (version != 1 || size_bytes != STATE_BYTES)
		return -1;
	memcpy(STATE((struct counter *)instance), from, STATE_BYTES);
	return 0;
}

static void reset(void *instance)
{
	memset(STATE((struct counter *)instance), 0, STATE_BYTES);
}

static const struct pv_module_function functions[FUNCTIONS] = {
	[ADD] = { .name = "add", .argument_count = 3 },
	[HISTORY_READ] = { .name = "history",
			   .argument_count = 1,
			   .arguments = { { .kind = PV_MODULE_WRITE, .align = 8, .unit = 8, .limit = HISTORY } } },
};

static const struct pv_module module = {
	.interface = PV_MODULE_INTERFACE,
	.size_bytes = sizeof(module),
	.abi_major = 1,
	.service = 0x8001,
	.name = "counter",
	.vendor = "paravirt examples",
	.version = "1",
	.functions = functions,
	.function_count = FUNCTIONS,
	.state_version = 1,
	.init = init,
	.call = call,
	.save = save,
	.load = load,
	.reset = reset,
	.deinit = free,
};

const struct pv_module *pv_module(void)
{
	return &module;
}
