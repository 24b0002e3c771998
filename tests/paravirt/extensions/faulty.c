// SPDX-License-Identifier: BSD-2-Clause
/*
 * A module that goes wrong: its functions when they are called, itself as -DWRONG says when it is loaded.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "paravirt_module.h"

#ifndef WRONG
#define WRONG 0
#endif

enum { CRASH, HANG, GARBAGE, LEAVE, BEYOND, EVENTS, OVERRUN, SLOW, RAISE, FUNCTIONS };

static const struct pv_module_host *host;

static int init(const struct pv_module_host *given, const char *options, void **instance)
{
	host = given;
	*instance = NULL;
	return atoi(options);
}

static int64_t beyond(struct pv_module_call *call)
{
	char byte = 1;

	call->value = host->read(host->host, UINT64_MAX - 1, &byte, 8) ||
		      host->write(host->host, 1ull << 50, &byte, 1) ||
		      host->write(host->host, call->args[0], &byte, UINT64_MAX);
	return call->value || byte != 1 ? -1 : 0;
}

static int64_t events(struct pv_module_call *call)
{
	uint64_t taken = 0;

	for (uint32_t i = 0; i < 40; i++)
		taken += host->raise(host->host, i < 20 ? 0 : 1000, i % 2 ? 20 : 1u << 30);
	call->value = taken;
	return 0;
}

static int64_t call(void *instance, struct pv_module_call *call)
{
	char small[8];

	(void)instance;
	switch (call->function) {
	case CRASH:
		raise(SIGSEGV);
		return 0;
	case HANG:
		for (;;)
			pause();
	case GARBAGE:
		call->value = 1;
		return (int64_t)call->args[0];
	case LEAVE:
		_exit(0);
	case BEYOND:
		return beyond(call);
	case EVENTS:
		return events(call);
	case OVERRUN:
		memset(small, 7, 8);
		*(volatile char *)0x10 = small[0];
		return 0;
	case SLOW:
		usleep((useconds_t)call->args[0]);
		return 0;
	case RAISE:
		raise(SIGRTMIN + 6);
	}
	return 0;
}

static void deinit(void *instance)
{
	(void)instance;
}

static uint64_t save(void *instance, void *to, uint64_t room)
{
	(void)instance, (void)to, (void)room;
	return UINT64_MAX;
}

static int load(void *instance, uint32_t version, const void *from, uint64_t size_bytes)
{
	(void)instance, (void)version, (void)from, (void)size_bytes;
	return -1;
}

static const struct pv_module_function functions[FUNCTIONS] = {
	[CRASH] = { .name = "crash" },
	[HANG] = { .name = "hang" },
	[GARBAGE] = { .name = WRONG == 1 ? "Not A Name" : "garbage", .argument_count = 1 },
	[LEAVE] = { .name = "leave" },
	[BEYOND] = { .name = "beyond", .argument_count = WRONG == 2 ? 7 : 1 },
	[EVENTS] = { .name = "events", .roads = WRONG == 3 ? 8 : 0 },
	[OVERRUN] = { .name = "overrun", .feature = WRONG == 4 ? 2 : 0 },
	[SLOW] = { .name = "slow", .argument_count = 1 },
	[RAISE] = { .name = "raise" },
};

static const struct pv_module module = {
	.interface = WRONG == 5 ? 2 : PV_MODULE_INTERFACE,
	.size_bytes = WRONG == 6 ? 8 : sizeof(module),
	.abi_major = WRONG == 7 ? 2 : 1,
	.abi_minor = WRONG == 8 ? 99 : 0,
	.service = WRONG == 9 ? 3 : 0xc00f,
	.name = WRONG == 10   ? ""
		: WRONG == 18 ? "console"
			      : "faulty",
	.functions = WRONG == 11 ? NULL : functions,
	.function_count = WRONG == 12 ? 33 : FUNCTIONS,
	.init = WRONG == 13 ? NULL : init,
	.call = call,
	.save = save,
	.load = WRONG == 14 ? NULL : load,
	.deinit = deinit,
};

#if WRONG != 15
const struct pv_module *pv_module(void)
{
	if (WRONG == 16)
		abort();
	return WRONG == 17 ? NULL : &module;
}
#endif
