// SPDX-License-Identifier: BSD-2-Clause
/*
 * A copy with one instruction that may fault, and a handler that knows that instruction: it goes on behind it, and
 * the count that is left is the answer.  Nothing is prepared for a copy, so a small one costs no more.
 * The handler is one for the process: it asks peer_memory.c, too.
 */
#define _GNU_SOURCE
#include "fault_copy.h"

#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <ucontext.h>

#include "peer_memory.h"

extern const char pv_fault_copy_at[] __attribute__((visibility("hidden")));
extern const char pv_fault_copy_after[] __attribute__((visibility("hidden")));

__asm__(".pushsection .text\n"
	".globl pv_fault_copy, pv_fault_copy_at, pv_fault_copy_after\n"
	".hidden pv_fault_copy, pv_fault_copy_at, pv_fault_copy_after\n"
	".type pv_fault_copy, @function\n"
	"pv_fault_copy:\n"
	"	movq %rdx, %rcx\n"
	"pv_fault_copy_at:\n"
	"	rep movsb\n"
	"pv_fault_copy_after:\n"
	"	movq %rcx, %rax\n"
	"	ret\n"
	".size pv_fault_copy, . - pv_fault_copy\n"
	".popsection\n");

static struct sigaction before;

/* As if this handler were not there. */
static void pass_on(int number, siginfo_t *info, void *context)
{
	if (before.sa_flags & SA_SIGINFO) {
		before.sa_sigaction(number, info, context);
	} else if (before.sa_handler == SIG_DFL || (before.sa_handler == SIG_IGN && info->si_code > 0)) {
		/* A fault that is ignored would come again for ever; the kernel does not ignore it either. */
		signal(number, SIG_DFL);
		raise(number);
	} else if (before.sa_handler != SIG_IGN) {
		before.sa_handler(number);
	}
}

static void on_bus_error(int number, siginfo_t *info, void *context)
{
	greg_t *next = &((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];

	/* Sent by someone it may find us anywhere, here too. */
	if (info->si_code > 0 && *next == (greg_t)(uintptr_t)pv_fault_copy_at)
		*next = (greg_t)(uintptr_t)pv_fault_copy_after;
	else if (info->si_code <= 0 || !pv_peer_memory_mend(info->si_addr))
		pass_on(number, info, context);
}

static void install(void)
{
	struct sigaction action = { .sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	sigemptyset(&action.sa_mask);
	sigaction(SIGBUS, &action, &before);
}

bool pv_fault_copy_guard(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct sigaction now;

	pthread_once(&once, install);
	return sigaction(SIGBUS, NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_bus_error;
}
