// SPDX-License-Identifier: BSD-2-Clause
/*
 * Services of vendors and experiments: the table of them, and what dispatch and negotiation ask of it.
 *
 * They are declared as the standard's calls are and checked by the same code (dispatch.c).  Like guest
 * memory the table is filled before vCPUs run and never changes afterwards, so looking at it takes no lock.
 */
#include "handlers.h"

#define LAST_SERVICE 0xffff

static struct pv_extension *extension_of(const struct pv_machine *machine, uint32_t service, uint32_t *slot)
{
	for (uint32_t i = 0; i < machine->extension_count; i++) {
		if (machine->extensions[i]->service == service) {
			*slot = PV_SERVICES + i;
			return machine->extensions[i];
		}
	}
	return NULL;
}

/* Counts the registers of a call; NULL, or what is wrong with its declaration. */
static const char *check_declaration(struct pv_declaration *d)
{
	uint32_t registers = 0;

	if (!d->roads || d->roads & ~(PV_ROAD_TRAP | PV_ROAD_BATCH | PV_ROAD_RING))
		return "a call declares no road, or one that does not exist";
	if (d->feature < -1 || d->feature > 63)
		return "a call's feature is not a bit from 0 to 63, nor -1";
	if (d->count > PV_LIMIT_ARGUMENTS)
		return "a call has more than 6 arguments";
	for (uint32_t i = 0; i < d->count; i++) {
		const struct pv_argument *a = &d->arguments[i];

		registers += a->kind == PV_ARGUMENT_VALUE || a->fixed ? 1 : 2;
		if (a->kind == PV_ARGUMENT_VALUE)
			continue;
		if (a->kind > PV_ARGUMENT_WRITE)
			return "an argument is of no known kind";
		if (!a->align || a->align & (a->align - 1))
			return "a buffer's alignment is not a power of two";
		if (!a->unit || a->limit > UINT64_MAX / a->unit || (a->fixed && a->limit != 1))
			return "a buffer has no unit, a limit beyond 2^64 bytes, or is a record and has a limit but 1";
	}
	if (registers > PV_LIMIT_ARGUMENTS)
		return "a call's arguments take more than 6 registers";
	d->registers = (uint8_t)registers;
	return NULL;
}

const char *pv_extension_add(struct pv_machine *machine, struct pv_extension *extension)
{
	uint32_t at = machine->extension_count, slot;

	if (extension->service < PV_SERVICE_RANGE_VENDOR || extension->service > LAST_SERVICE)
		return "its service number is not from 0x8000 to 0xffff";
	if (extension_of(machine, extension->service, &slot))
		return "its service number is taken";
	if (at == PV_MAX_EXTENSIONS)
		return "there are 16 others already";
	if (!extension->call || !extension->calls || extension->call_count > 32)
		return "it has no handler, no calls, or more than 32";
	for (uint32_t i = 0; i < extension->call_count; i++) {
		const char *wrong = extension->calls[i].name ? check_declaration(&extension->calls[i]) : NULL;

		if (wrong)
			return wrong;
	}
	for (; at && machine->extensions[at - 1]->service > extension->service; at--) /* BASE-4 */
		machine->extensions[at] = machine->extensions[at - 1];
	machine->extensions[at] = extension;
	machine->extension_count++;
	return NULL;
}

const struct pv_declaration *pv_extension_find(const struct pv_machine *machine, uint32_t id)
{
	uint32_t function = id & 0xffff, slot;
	const struct pv_extension *extension = extension_of(machine, id >> 16, &slot);

	if (!extension || function >= extension->call_count || extension->denied >> function & 1)
		return NULL;
	const struct pv_declaration *d = &extension->calls[function];
	return d->name && pv_feature_accepted(machine, slot, d->feature) ? d : NULL;
}

int64_t pv_extension_call(struct pv_vcpu *vcpu, uint32_t id, const uint64_t *args, uint64_t *value)
{
	uint32_t slot;
	const struct pv_extension *extension = extension_of(vcpu->machine, id >> 16, &slot);

	return extension->call(vcpu, extension->opaque, id & 0xffff, args, value);
}

int pv_service_slot(const struct pv_machine *machine, uint64_t service)
{
	uint32_t slot;

	if (service < PV_SERVICES)
		return machine->services >> service & 1 ? (int)service : -1;
	return service <= LAST_SERVICE && extension_of(machine, (uint32_t)service, &slot) ? (int)slot : -1;
}

uint64_t pv_service_offers(const struct pv_machine *machine, uint32_t slot)
{
	return slot < PV_SERVICES ? machine->offered[slot] : machine->extensions[slot - PV_SERVICES]->offered;
}
