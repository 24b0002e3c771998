// SPDX-License-Identifier: 0BSD
/*
 * The module's life: the machine as its boot information describes it, then the services, one after the other.
 * What a service means to Linux is in the file that is called like it.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/ioport.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "paravirt.h"

struct paravirt_machine paravirt;
EXPORT_SYMBOL_GPL(paravirt);

bool paravirt_offered(u32 service, u64 *features)
{
	struct pv_service_info *list = kzalloc(PV_LIMIT_SERVICES_BYTES, GFP_KERNEL);
	struct pv_answer answer = { PV_STATUS_NO_MEMORY, 0 };
	bool found = false;
	u32 i;

	if (list)
		answer = pv_call2(PV_CALL_BASE_SERVICES, paravirt_gpa(list), PV_LIMIT_SERVICES_BYTES);
	for (i = 0; answer.status >= 0 && i < min_t(u64, answer.value, PV_LIMIT_SERVICES_BYTES) / sizeof(*list); i++)
		if (list[i].service == service) {
			*features = list[i].offered;
			found = true;
		}
	kfree(list);
	return found;
}

u64 paravirt_accept(u32 service, u64 features)
{
	u64 offered;

	if (!paravirt_offered(service, &offered) || !(offered & features))
		return 0;
	offered &= features;
	return pv_call2(PV_CALL_BASE_ACCEPT, service, offered).status < 0 ? 0 : offered;
}
EXPORT_SYMBOL_GPL(paravirt_accept);

/* Copies a record's payload, or as much of it as there is of the part that we know (BOOT-7). */
static bool take(void *to, size_t room, const u8 *payload, u32 size_bytes)
{
	memcpy(to, payload, min_t(size_t, room, size_bytes));
	return size_bytes >= room;
}

/* Those records that matter to a kernel that has booted long ago.  -EPROTO: not what the ABI says. */
static int read_records(const u8 *info, u32 size_bytes)
{
	const struct pv_boot_info *head = (const struct pv_boot_info *)info;
	u64 at = sizeof(*head);
	bool pages = false;
	u32 i;

	if (size_bytes < sizeof(*head) || head->magic != PV_BOOT_MAGIC || head->size_bytes > size_bytes)
		return -EPROTO;
	for (i = 0; i < head->records; i++) {
		const struct pv_boot_header *record = (const struct pv_boot_header *)(info + at);

		if (at + sizeof(*record) > head->size_bytes)
			return -EPROTO;
		at += sizeof(*record);
		if (record->size_bytes > head->size_bytes - at)
			return -EPROTO;
		if (record->type == PV_BOOT_RECORD_PAGES)
			pages = take(&paravirt.pages, sizeof(paravirt.pages), info + at, record->size_bytes);
		else if (record->type == PV_BOOT_RECORD_MACHINE)
			take(&paravirt.identity, sizeof(paravirt.identity), info + at, record->size_bytes);
		at += ALIGN((u64)record->size_bytes, 8);
	}
	return pages ? 0 : -EPROTO;
}

static int read_boot_info(void)
{
	u8 *info = kzalloc(PV_LIMIT_BOOT_INFO_BYTES, GFP_KERNEL);
	struct pv_answer answer;
	int error;

	if (!info)
		return -ENOMEM;
	answer = pv_call2(PV_CALL_BASE_BOOT_INFO, paravirt_gpa(info), PV_LIMIT_BOOT_INFO_BYTES);
	error = paravirt_error(answer.status);
	if (!error)
		error = read_records(info, min_t(u64, answer.value, PV_LIMIT_BOOT_INFO_BYTES));
	kfree(info);
	return error;
}

static void unmap_pages(void)
{
	u32 i;

	for (i = 0; paravirt.vcpu && i < paravirt.vcpus; i++)
		if (paravirt.vcpu[i])
			memunmap(paravirt.vcpu[i]);
	kfree(paravirt.vcpu);
	if (paravirt.continuity)
		memunmap((void *)paravirt.continuity);
	if (paravirt.time)
		memunmap((void *)paravirt.time);
	paravirt.vcpu = NULL;
	paravirt.continuity = NULL;
	paravirt.time = NULL;
}

/* They lie in memory that the host's map calls its own, so nothing else of the kernel's does. */
static int map_pages(void)
{
	const struct pv_boot_pages *pages = &paravirt.pages;
	u32 i;

	paravirt.vcpu = kcalloc(paravirt.vcpus, sizeof(*paravirt.vcpu), GFP_KERNEL);
	paravirt.time = memremap(pages->time_gpa, PAGE_SIZE, MEMREMAP_WB);
	if (pages->continuity_gpa)
		paravirt.continuity = memremap(pages->continuity_gpa, PAGE_SIZE, MEMREMAP_WB);
	if (!paravirt.vcpu || !paravirt.time || (pages->continuity_gpa && !paravirt.continuity))
		return -ENOMEM;
	for (i = 0; i < paravirt.vcpus; i++) {
		paravirt.vcpu[i] = memremap(pages->vcpu_gpa + i * pages->vcpu_stride_bytes, PAGE_SIZE, MEMREMAP_WB);
		if (!paravirt.vcpu[i])
			return -ENOMEM;
	}
	return 0;
}

static const struct service {
	const char *name;
	int (*init)(void);
	void (*exit)(void);
} services[] = {
	{ "events", paravirt_event_init, paravirt_event_exit },
	{ "clock", paravirt_clock_init, paravirt_clock_exit },
	{ "console", paravirt_console_init, paravirt_console_exit },
	{ "entropy", paravirt_entropy_init, paravirt_entropy_exit },
	{ "crash report", paravirt_crash_init, paravirt_crash_exit },
	{ "device for programs", paravirt_user_init, paravirt_user_exit },
	{ "continuity", paravirt_continuity_init, paravirt_continuity_exit },
};

static void stop_services(size_t count)
{
	while (count--)
		services[count].exit();
}

static int __init paravirt_init(void)
{
	size_t i;
	int error = paravirt_discover();

	if (error)
		return error;
	error = read_boot_info();
	if (error) {
		pr_err("the host's boot information cannot be used (%d)\n", error);
		return error;
	}
	error = map_pages();
	for (i = 0; !error && i < ARRAY_SIZE(services); i++) {
		error = services[i].init();
		if (error) {
			pr_err("%s: error %d\n", services[i].name, error);
			stop_services(i);
		}
	}
	if (error)
		unmap_pages();
	else
		pr_info("version %u.%u of the hypercall ABI, %u vCPUs, machine %.*s\n", paravirt.version >> 16,
			paravirt.version & 0xffff, paravirt.vcpus, (int)sizeof(paravirt.identity.name),
			paravirt.identity.name);
	return error;
}

static void __exit paravirt_exit(void)
{
	stop_services(ARRAY_SIZE(services));
	unmap_pages();
}

module_init(paravirt_init);
module_exit(paravirt_exit);

MODULE_DESCRIPTION("Services of a host that speaks the paravirt hypercall ABI");
MODULE_LICENSE("Dual BSD/GPL");
MODULE_ALIAS("acpi*:PVRT0001:*");
