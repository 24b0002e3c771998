// SPDX-License-Identifier: BSD-2-Clause
/*
 * The host's half of the software vCPUs: a thread per vCPU that serves its exits as run.c does those of KVM, and one
 * that serves rests.
 *
 * The engine's locked instructions are not atomic, so channels are not raised where it is asked for, but at a rest:
 * who raises sets a bit, then kicks; the engine rests, and the bits become pending words, wake-ups and upcalls.  The
 * engine hears control records that were sent before an entry before it heeds the entry, so a channel that a call
 * raises is pending when the call returns.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "handlers.h"
#include "pmem.h"
#include "software.h"

#define CALIBRATION_NS 20000000ull
#define SAMPLES 32
/* Numbers of <linux/kvm.h>, which traces name exits by. */
#define EXIT_REASON_IO 2
#define EXIT_REASON_MMIO 6

static bool tell(const struct pv_software *software, uint32_t kind, uint32_t vcpu, uint64_t value)
{
	struct pv_software_control record = { kind, vcpu, value };

	return send(software->control_fd, &record, sizeof(record), MSG_NOSIGNAL) == sizeof(record);
}

static void kick(struct pv_software *software)
{
	if (!__atomic_exchange_n(&software->kicked, 1, __ATOMIC_SEQ_CST))
		tell(software, PV_SOFTWARE_KICK, 0, 0);
}

static struct pv_software *of(const struct pv_vcpu *vcpu)
{
	return vcpu->machine->accelerator;
}

static struct pv_software_vcpu *own(const struct pv_vcpu *vcpu)
{
	return &of(vcpu)->vcpus[vcpu->index];
}

/* ---- what the library asks for ---- */

static void defer(struct pv_machine *machine, uint32_t vcpu, uint32_t channel)
{
	struct pv_software *software = machine->accelerator;

	__atomic_fetch_or(&software->vcpus[vcpu].deferred[channel / 64], 1ull << channel % 64, __ATOMIC_SEQ_CST);
	kick(software);
}

static void upcall(struct pv_vcpu *vcpu)
{
	__atomic_store_n(&own(vcpu)->upcall, 1, __ATOMIC_SEQ_CST);
	kick(of(vcpu));
}

static int64_t upcall_vector(struct pv_vcpu *vcpu, uint32_t vector)
{
	uint64_t eoi_gpa = pv_event_eoi_gpa(vcpu, vector);

	__atomic_store_n(&own(vcpu)->interrupt, eoi_gpa << 8 | vector, __ATOMIC_SEQ_CST);
	return PV_STATUS_OK;
}

/* The caller is at a trap, where the engine finds its mode; it hears this before the caller's entry. */
static int64_t start(struct pv_vcpu *caller, struct pv_vcpu *target)
{
	return tell(of(caller), PV_SOFTWARE_MODE, target->index, caller->index) ? PV_STATUS_OK : PV_STATUS_FAILED;
}

static uint64_t fault_address(struct pv_vcpu *vcpu)
{
	return own(vcpu)->cr2;
}

/*
 * Only ever because the machine ends: the thread finds its socket closed.  The control socket too: an engine that
 * does not listen would hold whoever has something to tell it, and is waited for.
 */
static void stop(struct pv_vcpu *vcpu)
{
	shutdown(own(vcpu)->fd, SHUT_RDWR);
	shutdown(of(vcpu)->control_fd, SHUT_RDWR);
}

static uint64_t counter(void)
{
#ifdef __x86_64__
	return __builtin_ia32_rdtsc();
#else
	return 0;
#endif
}

/* Both at one moment: of several tries the one that was not interrupted between the two. */
static void sample(uint64_t *ticks, uint64_t *at_ns)
{
	uint64_t shortest = UINT64_MAX;

	for (uint32_t i = 0; i < SAMPLES; i++) {
		uint64_t before = counter(), now_ns = pv_clock_ns(), took = counter() - before;

		if (took < shortest) {
			shortest = took;
			*ticks = before + took / 2;
			*at_ns = now_ns;
		}
	}
}

void pv_software_init(struct pv_software *software, struct pv_machine *machine)
{
	memset(software, 0, sizeof(*software));
	software->machine = machine;
	software->control_fd = -1;
	sample(&software->sampled_counter, &software->sampled_ns);
	machine->accelerator = software;
	machine->memory.unfenced = 1;
	machine->ops.defer = defer;
	machine->ops.upcall = upcall;
	machine->ops.upcall_vector = upcall_vector;
	machine->ops.start = start;
	machine->ops.fault_address = fault_address;
	machine->ops.kick = stop;
}

void pv_software_add_vcpu(struct pv_software *software, struct pv_vcpu *vcpu, int fd)
{
	software->vcpus[vcpu->index].fd = fd;
}

uint64_t pv_software_counter_hz(const struct pv_software *software)
{
	uint64_t passed_ns = pv_clock_ns() - software->sampled_ns;

	if (passed_ns < CALIBRATION_NS) {
		struct timespec left = { .tv_nsec = (long)(CALIBRATION_NS - passed_ns) };

		nanosleep(&left, NULL);
	}
	uint64_t ticks = 0, now_ns = 0;
	sample(&ticks, &now_ns);
	return (uint64_t)((unsigned __int128)(ticks - software->sampled_counter) * 1000000000 /
			  (now_ns - software->sampled_ns));
}

/* ---- rests ---- */

static void raise_deferred(struct pv_software *software, uint32_t index)
{
	struct pv_software_vcpu *vcpu = &software->vcpus[index];

	for (uint32_t word = 0; word < PV_LIMIT_CHANNELS / 64; word++) {
		uint64_t bits = __atomic_exchange_n(&vcpu->deferred[word], 0, __ATOMIC_SEQ_CST);

		for (; bits; bits &= bits - 1)
			pv_event_raise_now(software->machine, index, word * 64 + (uint32_t)__builtin_ctzll(bits));
	}
}

static bool rest(struct pv_software *software)
{
	/* Before the bits are looked at: who sets one afterwards kicks again. */
	__atomic_store_n(&software->kicked, 0, __ATOMIC_SEQ_CST);
	for (uint32_t i = 0; i < software->machine->vcpu_count; i++) {
		struct pv_software_vcpu *vcpu = &software->vcpus[i];

		raise_deferred(software, i);
		uint64_t interrupt = __atomic_load_n(&vcpu->interrupt, __ATOMIC_SEQ_CST);
		/* One that is on its way while the guest chooses OFF ends here. */
		if (__atomic_exchange_n(&vcpu->upcall, 0, __ATOMIC_SEQ_CST) && interrupt != PV_UPCALL_OFF &&
		    !tell(software, PV_SOFTWARE_UPCALL, i, interrupt))
			return false;
	}
	return tell(software, PV_SOFTWARE_GO, 0, 0);
}

void pv_software_serve(struct pv_software *software)
{
	struct pv_software_control record;

	for (;;) {
		ssize_t got = recv(software->control_fd, &record, sizeof(record), 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got != sizeof(record) || !rest(software))
			return;
	}
}

/* ---- exits ---- */

static void trap(struct pv_vcpu *vcpu, const struct pv_software_exit *from, struct pv_software_entry *to)
{
	struct pv_machine *machine = vcpu->machine;
	struct pv_call call = { .id = (uint32_t)from->rax, .road = PV_ROAD_TRAP };
	struct pv_result result;

	memcpy(call.args, from->args, sizeof(call.args));
	if (from->rax >> 32) /* CALL-8 */
		call.id = UINT32_MAX;
	pv_dispatch(vcpu, &call, &result);
	to->kind = machine->poison ? PV_SOFTWARE_RESUME_POISONED : PV_SOFTWARE_RESUME;
	to->rax = (uint64_t)result.status;
	to->rdx = result.value;
	for (uint32_t i = 0; i < 5 && machine->poison; i++) /* CALL-9 */
		to->poison[i] = pv_random(machine);
}

/* The engine serves other ports itself. */
static uint32_t reason(uint32_t kind)
{
	switch (kind) {
	case PV_SOFTWARE_TRAP:
		return PV_REASON_TRAP;
	case PV_SOFTWARE_DOORBELL:
		return PV_REASON_DOORBELL;
	case PV_SOFTWARE_READ:
	case PV_SOFTWARE_WRITE:
		return PV_REASON_MMIO;
	default:
		return PV_REASON_OTHER;
	}
}

/* Serves one exit: true to go on, with the entry filled in; false with `out` filled in. */
static bool serve(struct pv_vcpu *vcpu, const struct pv_software_exit *from, struct pv_software_entry *to,
		  struct pv_exit *out)
{
	uint32_t offset, size = from->size_bytes <= 8 ? from->size_bytes : 8;
	struct pv_device *device;

	to->kind = PV_SOFTWARE_GO_ON;
	out->rip = from->rip;
	out->rsp = from->rsp;
	out->cr2 = from->cr2;
	vcpu->exits_for[reason(from->kind)]++;
	switch (from->kind) {
	case PV_SOFTWARE_TRAP:
		trap(vcpu, from, to);
		return true;
	case PV_SOFTWARE_DOORBELL:
		pv_doorbell(vcpu->machine, (uint32_t)from->value);
		return true;
	case PV_SOFTWARE_READ:
		device = pv_mmio_window(vcpu->machine, from->place, &offset);
		to->value = device ? pv_mmio_read(device, offset, size) : UINT64_MAX;
		return true;
	case PV_SOFTWARE_WRITE:
		device = pv_mmio_window(vcpu->machine, from->place, &offset);
		if (device)
			pv_mmio_write(device, offset, size, from->value);
		return device || pv_region_access(vcpu->machine, from->place, true, out);
	default:
		out->kind = from->kind == PV_SOFTWARE_TRIPLE_FAULT ? PV_EXIT_TRIPLE_FAULT : PV_EXIT_UNSUPPORTED;
		return false;
	}
}

static void trace_exit(struct pv_vcpu *vcpu, const struct pv_software_exit *from, uint64_t begin_ns)
{
	bool port = from->kind == PV_SOFTWARE_TRAP || from->kind == PV_SOFTWARE_DOORBELL;
	struct pv_trace_event event = {
		.begin_ns = begin_ns,
		.end_ns = pv_clock_ns(),
		.kind = PV_TRACE_EXIT,
		.id = port ? EXIT_REASON_IO : EXIT_REASON_MMIO,
	};

	pv_trace_put(vcpu->trace, &event);
}

static bool enter(const struct pv_vcpu *vcpu, const struct pv_software_entry *entry)
{
	return send(own(vcpu)->fd, entry, sizeof(*entry), MSG_NOSIGNAL) == sizeof(*entry);
}

/* The next exit; false if the engine is gone, or the machine is ending. */
static bool receive(const struct pv_vcpu *vcpu, struct pv_software_exit *exit)
{
	ssize_t got;

	do
		got = recv(own(vcpu)->fd, exit, sizeof(*exit), 0);
	while (got < 0 && errno == EINTR);
	return got == sizeof(*exit);
}

/* One life of the vCPU: false with `out` filled in if that was its last. */
static bool live(struct pv_vcpu *vcpu, struct pv_exit *out)
{
	struct pv_software_entry entry = { .kind = PV_SOFTWARE_START, .start = vcpu->start };
	struct pv_software_exit exit;

	while (pv_vcpu_lives(vcpu)) {
		if (!enter(vcpu, &entry) || !receive(vcpu, &exit)) {
			if (!pv_vcpu_lives(vcpu))
				break;
			out->kind = PV_EXIT_ENGINE;
			return false;
		}
		own(vcpu)->cr2 = exit.cr2;
		__atomic_store_n(&vcpu->page->exits, ++vcpu->exits, __ATOMIC_RELAXED);
		__atomic_store_n(&vcpu->page->steal_ns, exit.steal_ns, __ATOMIC_RELAXED);
		uint64_t begin_ns = vcpu->trace ? pv_clock_ns() : 0;
		memset(&entry, 0, sizeof(entry));
		if (!serve(vcpu, &exit, &entry, out)) {
			if (vcpu->machine->held)
				vcpu->machine->held(vcpu, PV_HELD_END, out->kind);
			return false;
		}
		if (vcpu->trace)
			trace_exit(vcpu, &exit, begin_ns);
	}
	return true;
}

void pv_software_run(struct pv_vcpu *vcpu, struct pv_exit *out)
{
	memset(out, 0, sizeof(*out));
	out->kind = PV_EXIT_STOPPED;
	while (pv_vcpu_wait_start(vcpu) && live(vcpu, out))
		;
}
