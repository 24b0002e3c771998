// SPDX-License-Identifier: 0BSD
/*
 * Service system: a panic ends the machine with a report of it, once Linux has told of the panic whoever wants to know
 * (notifiers, and those that keep the kernel's messages).  A crash kernel that is entered before that makes none; one
 * that is entered after it (crash_kexec_post_notifiers), and a delay (panic=), are not come to.
 */
#include <linux/kdebug.h>
#include <linux/kernel.h>
#include <linux/kmsg_dump.h>
#include <linux/moduleparam.h>
#include <linux/notifier.h>
#include <linux/panic_notifier.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>

#include <asm/irqflags.h>
#include <asm/processor.h>

#include "paravirt.h"

#define NO_VECTOR U32_MAX

static bool crash_report = true;
module_param(crash_report, bool, 0644);
MODULE_PARM_DESC(crash_report, "Whether a panic ends the machine with a report to the host");

static struct pv_crash_report *report;
static const struct task_struct *died_in; /* an exception, which the report then is about */
static bool filled; /* for a panic */

static void fill(const struct pt_regs *regs, u32 vector, u64 error_code, u64 fault_address)
{
	const u64 registers[] = {
		regs->ax, regs->bx, regs->cx,  regs->dx,  regs->si,  regs->di,	regs->bp,  regs->sp,
		regs->r8, regs->r9, regs->r10, regs->r11, regs->r12, regs->r13, regs->r14, regs->r15
	};

	BUILD_BUG_ON(sizeof(registers) != sizeof(report->registers));
	report->vcpu = cpu_data(raw_smp_processor_id()).apicid;
	report->vector = vector;
	report->error_code = error_code;
	report->fault_address = fault_address;
	memcpy(report->registers, registers, sizeof(registers));
	report->rip = regs->ip;
	report->rflags = regs->flags;
}

static int died(struct notifier_block *block, unsigned long event, void *data)
{
	const struct die_args *args = data;

	/* One CPU at a time: the kernel holds a lock meanwhile. */
	if (event == DIE_OOPS && args->regs) {
		fill(args->regs, args->trapnr, args->err, current->thread.cr2);
		died_in = current;
	}
	return NOTIFY_DONE;
}

static int panicked(struct notifier_block *block, unsigned long event, void *data)
{
	struct pt_regs regs = {};

	if (!crash_report)
		return NOTIFY_DONE;
	/* An exception of another task's, which the kernel lived on after, says nothing of this panic. */
	if (died_in != current) {
		regs.ip = _THIS_IP_;
		regs.sp = (unsigned long)&regs;
		regs.bp = (unsigned long)__builtin_frame_address(0);
		regs.flags = native_save_fl();
		fill(&regs, NO_VECTOR, 0, 0);
	}
	strscpy_pad(report->text, data, sizeof(report->text));
	filled = true;
	return NOTIFY_DONE;
}

/* After those that were there before this module, such as pstore's. Does not return, where the host takes it. */
static void end(struct kmsg_dumper *of, enum kmsg_dump_reason reason)
{
	if (reason == KMSG_DUMP_PANIC && filled)
		pv_call1(PV_CALL_SYSTEM_CRASH, paravirt_gpa(report));
}

static struct notifier_block die_block = { .notifier_call = died };
static struct notifier_block panic_block = { .notifier_call = panicked, .priority = INT_MIN };
static struct kmsg_dumper dumper = { .dump = end, .max_reason = KMSG_DUMP_PANIC };

int paravirt_crash_init(void)
{
	int error;

	report = kzalloc(sizeof(*report), GFP_KERNEL);
	error = report ? kmsg_dump_register(&dumper) : -ENOMEM;
	if (error) {
		kfree(report);
		return error;
	}
	register_die_notifier(&die_block);
	atomic_notifier_chain_register(&panic_notifier_list, &panic_block);
	return 0;
}

void paravirt_crash_exit(void)
{
	atomic_notifier_chain_unregister(&panic_notifier_list, &panic_block);
	unregister_die_notifier(&die_block);
	kmsg_dump_unregister(&dumper);
	kfree(report);
	report = NULL;
}
