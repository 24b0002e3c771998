// SPDX-License-Identifier: BSD-2-Clause
/*
 * A binary module in this process: loaded, its description copied and checked, its functions called.
 *
 * The module is trusted with the process, its words are not: whatever it declares is checked like a guest's.
 */
#include "paravirt_module.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "module_host.h"

struct pv_module_instance {
	const struct pv_module *module;
	void *object;
	void *own; /* the module's */
	bool started;
	struct pv_module_host host;
	const struct pv_memory *memory;
	pthread_mutex_t lock; /* one call at a time */
	uint64_t raised[PV_MODULE_EVENTS];
	uint32_t raised_count;
};

static bool host_read(void *host, uint64_t gpa, void *to, uint64_t size_bytes)
{
	return pv_memory_read(((struct pv_module_instance *)host)->memory, gpa, to, size_bytes);
}

static bool host_write(void *host, uint64_t gpa, const void *from, uint64_t size_bytes)
{
	return pv_memory_write(((struct pv_module_instance *)host)->memory, gpa, from, size_bytes);
}

static bool host_raise(void *host, uint32_t vcpu, uint32_t channel)
{
	struct pv_module_instance *instance = host;

	if (instance->raised_count == PV_MODULE_EVENTS)
		return false;
	instance->raised[instance->raised_count++] = (uint64_t)channel << 32 | vcpu;
	return true;
}

/* Lower case, digits and _, a letter first; it becomes part of names in headers and traces. */
static bool good_name(const char *name, size_t room)
{
	if (!name || !(*name >= 'a' && *name <= 'z') || strlen(name) >= room)
		return false;
	for (; *name; name++)
		if (!(*name >= 'a' && *name <= 'z') && !(*name >= '0' && *name <= '9') && *name != '_')
			return false;
	return true;
}

static void copy_text(char *to, size_t room, const char *from)
{
	snprintf(to, room, "%s", from ? from : "");
}

/* NULL, or what is wrong. The rest is checked by pv_extension_add. */
static const char *describe_function(const struct pv_module_function *f, uint32_t n, struct pv_module_description *to)
{
	struct pv_declaration *d = &to->calls[n];

	if (!f->name)
		return NULL;
	if (!good_name(f->name, 40))
		return "a function's name is not 1 to 39 of a-z, 0-9 and _";
	if (f->argument_count > PV_MODULE_ARGUMENTS)
		return "a function has more than 6 arguments";
	if (f->feature & (f->feature - 1) || (f->feature && !(f->feature & to->features)))
		return "a function's feature is not one that the module offers";
	snprintf(to->names[n], sizeof(to->names[n]), "%s_%s", to->name, f->name);
	d->roads = (uint8_t)(f->roads ? f->roads : PV_ROAD_TRAP | PV_ROAD_BATCH | PV_ROAD_RING);
	if (f->roads > UINT8_MAX)
		return "a function declares a road that does not exist";
	d->feature = f->feature ? (int8_t)__builtin_ctzll(f->feature) : -1;
	d->count = (uint8_t)f->argument_count;
	for (uint32_t i = 0; i < f->argument_count; i++) {
		const struct pv_module_argument *a = &f->arguments[i];

		d->arguments[i] = (struct pv_argument){
			.kind = a->kind,
			.fixed = a->fixed != 0,
			.align = a->align ? a->align : 1,
			.unit = a->unit ? a->unit : 1,
			.limit = a->fixed ? 1 : a->limit,
		};
	}
	return NULL;
}

static const char *describe(const struct pv_module *m, struct pv_module_description *to)
{
	const char *wrong = NULL;

	if (!m || m->interface != PV_MODULE_INTERFACE || m->size_bytes < sizeof(*m))
		return "it has another interface than this host's (PV_MODULE_INTERFACE 1)";
	if (m->abi_major != PV_ABI_MAJOR || m->abi_minor > PV_ABI_MINOR)
		return "it needs another version of the ABI";
	if (!good_name(m->name, sizeof(to->name)))
		return "its name is not 1 to 31 of a-z, 0-9 and _";
	if (m->service < PV_SERVICE_RANGE_VENDOR || m->service > UINT16_MAX)
		return "its service number is not from 0x8000 to 0xffff";
	if (!m->functions || !m->function_count || m->function_count > PV_MODULE_FUNCTIONS)
		return "it has no functions, or more than 32";
	if (!m->init || !m->call || !m->deinit)
		return "it lacks init, call or deinit";
	if (!m->save != !m->load)
		return "it has only one of save and load";
	copy_text(to->name, sizeof(to->name), m->name);
	copy_text(to->vendor, sizeof(to->vendor), m->vendor);
	copy_text(to->version, sizeof(to->version), m->version);
	to->service = m->service;
	to->features = m->features;
	to->state_version = m->state_version;
	to->call_count = m->function_count;
	for (uint32_t n = 0; n < m->function_count && !wrong; n++)
		wrong = describe_function(&m->functions[n], n, to);
	return wrong;
}

void pv_module_name_calls(struct pv_module_description *description)
{
	for (uint32_t n = 0; n < PV_MODULE_CALLS; n++)
		description->calls[n].name = description->names[n][0] ? description->names[n] : NULL;
}

struct pv_module_instance *pv_module_open(const char *path, struct pv_module_description *description)
{
	const struct pv_module *(*entry)(void) = NULL;
	struct pv_module_instance *instance;

	memset(description, 0, sizeof(*description));
	void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	void *symbol = object ? dlsym(object, "pv_module") : NULL;
	if (!symbol) {
		copy_text(description->wrong, sizeof(description->wrong), dlerror());
		if (object)
			dlclose(object);
		return NULL;
	}
	memcpy(&entry, &symbol, sizeof(entry)); /* what POSIX wants, and ISO C has no cast for */
	const struct pv_module *module = entry();
	const char *wrong = describe(module, description);
	instance = wrong ? NULL : calloc(1, sizeof(*instance));
	if (!instance) {
		copy_text(description->wrong, sizeof(description->wrong), wrong ? wrong : "no memory");
		dlclose(object);
		return NULL;
	}
	pv_module_name_calls(description);
	instance->module = module;
	instance->object = object;
	pthread_mutex_init(&instance->lock, NULL);
	instance->host = (struct pv_module_host){ instance, host_read, host_write, host_raise };
	return instance;
}

int pv_module_start(struct pv_module_instance *instance, const struct pv_memory *memory, const char *options)
{
	instance->memory = memory;
	int result = instance->module->init(&instance->host, options, &instance->own);

	instance->started = !result;
	return result;
}

int64_t pv_module_call(struct pv_module_instance *instance, uint32_t function, uint32_t vcpu, const uint64_t *args,
		       uint64_t time_ns, uint64_t *value, uint64_t *raised, uint32_t *count)
{
	struct pv_module_call call = { .function = function, .vcpu = vcpu, .time_ns = time_ns };

	memcpy(call.args, args, sizeof(call.args));
	pthread_mutex_lock(&instance->lock);
	instance->raised_count = 0;
	int64_t status = instance->module->call(instance->own, &call);
	*count = instance->raised_count;
	memcpy(raised, instance->raised, *count * sizeof(*raised));
	pthread_mutex_unlock(&instance->lock);
	*value = call.value;
	return status;
}

int64_t pv_module_handler(struct pv_vcpu *vcpu, void *opaque, uint32_t function, const uint64_t *args, uint64_t *value)
{
	uint64_t raised[PV_MODULE_EVENTS];
	uint32_t count;
	int64_t status =
		pv_module_call(opaque, function, vcpu->index, args, pv_time_now(vcpu->machine), value, raised, &count);

	for (uint32_t i = 0; i < count; i++)
		pv_event_raise(vcpu->machine, (uint32_t)raised[i], (uint32_t)(raised[i] >> 32));
	return status;
}

uint64_t pv_module_save(struct pv_module_instance *instance, void *to, uint64_t room)
{
	return instance->module->save ? instance->module->save(instance->own, to, room) : 0;
}

int pv_module_load(struct pv_module_instance *instance, uint32_t version, const void *from, uint64_t size_bytes)
{
	return instance->module->load ? instance->module->load(instance->own, version, from, size_bytes) : 0;
}

void pv_module_reset(struct pv_module_instance *instance, const struct pv_memory *memory)
{
	instance->memory = memory;
	if (instance->module->reset)
		instance->module->reset(instance->own);
}

void pv_module_close(struct pv_module_instance *instance)
{
	if (instance->started)
		instance->module->deinit(instance->own);
	dlclose(instance->object);
	pthread_mutex_destroy(&instance->lock);
	free(instance);
}
