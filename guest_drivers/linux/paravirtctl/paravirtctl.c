/* SPDX-License-Identifier: 0BSD
 *
 * paravirtctl: what a program of a Linux guest can ask of its host and tell it, by /dev/paravirt.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/random.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "paravirt_abi.h"
#include "paravirt_user.h"

#define PAGE 4096ul
#define SEED_BYTES 64

static int file = -1;

_Noreturn static void fail(const char *what)
{
	fprintf(stderr, "paravirtctl: %s: %s\n", what, strerror(errno));
	exit(1);
}

static const char *status_name(int64_t status)
{
	static const char *const names[] = { "OK",	  "FAILED", "NOT_SUPPORTED", "INVALID",	  "BAD_ADDRESS",
					     "UNALIGNED", "LIMIT",  "WRONG_ROAD",    "BAD_STATE", "NOT_FOUND",
					     "QUOTA",	  "IO",	    "NO_MEMORY" };

	return status > 0 ? "CONTINUE" : status >= PV_STATUS_NO_MEMORY ? names[-status] : "FAILED";
}

static uint64_t at(const void *object)
{
	return (uint64_t)(uintptr_t)object;
}

/* A call that programs may make; its value.  Ends the program if the host refuses. */
static uint64_t call(const char *what, uint32_t id, const uint64_t *arguments, size_t count)
{
	struct paravirt_user_call one = { .id = id };

	for (size_t i = 0; i < count && i < 6; i++)
		one.arguments[i] = arguments[i];
	if (ioctl(file, PARAVIRT_CALL, &one) < 0)
		fail(what);
	if (one.status < 0) {
		fprintf(stderr, "paravirtctl: %s: the host answers %s\n", what, status_name(one.status));
		exit(1);
	}
	return one.value;
}

#define CALL(what, id, ...) call(what, id, (uint64_t[]){ __VA_ARGS__ }, sizeof((uint64_t[]){ __VA_ARGS__ }) / 8)

static const void *map(uint64_t page)
{
	void *mapped = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, (off_t)(page * PAGE));

	if (mapped == MAP_FAILED)
		fail("a page of the host's");
	return mapped;
}

static uint64_t number(const char *text)
{
	char *end;

	errno = 0;
	uint64_t value = strtoull(text, &end, 0);
	if (errno || end == text || *end) {
		fprintf(stderr, "paravirtctl: %s is no number\n", text);
		exit(2);
	}
	return value;
}

static void show_info(char **words)
{
	uint64_t version = CALL("version", PV_CALL_BASE_VERSION, 0);

	(void)words;
	printf("version\t%" PRIu64 ".%" PRIu64 "\n", version >> 32, version & 0xffffffff);
	printf("vcpus\t%ld\n", sysconf(_SC_NPROCESSORS_CONF));
}

static void show_services(char **words)
{
	struct pv_service_info list[PV_LIMIT_SERVICES_BYTES / sizeof(struct pv_service_info)];
	uint64_t bytes = CALL("services", PV_CALL_BASE_SERVICES, at(list), sizeof(list));

	(void)words;
	puts("service\tcalls\toffered\taccepted");
	for (size_t i = 0; i < bytes / sizeof(list[0]); i++)
		printf("%#" PRIx32 "\t%#" PRIx32 "\t%#" PRIx64 "\t%#" PRIx64 "\n", list[i].service, list[i].calls,
		       list[i].offered, list[i].accepted);
}

static void show_devices(char **words)
{
	struct pv_device_info list[PV_LIMIT_DEVICES] = { 0 };
	uint64_t bytes = CALL("devices", PV_CALL_DEVICE_LIST, at(list), sizeof(list));

	(void)words;
	puts("device\ttype\tqueues\tstatus\tname");
	for (size_t i = 0; i < bytes / sizeof(list[0]); i++)
		printf("%" PRIu32 "\t%" PRIu32 "\t%u\t%#" PRIx64 "\t%.*s\n", list[i].device, list[i].type,
		       list[i].queues, CALL("status", PV_CALL_DEVICE_STATUS, list[i].device), (int)sizeof(list[i].name),
		       list[i].name);
}

static void show_time(char **words)
{
	const struct pv_time_page *page = map(PARAVIRT_PAGE_TIME);
	uint32_t before, low, high;
	uint64_t ns, offset, counter;

	(void)words;
	do { /* TIME-6 */
		before = __atomic_load_n(&page->sequence, __ATOMIC_ACQUIRE);
		__asm__ volatile("lfence; rdtsc; lfence" : "=a"(low), "=d"(high) : : "memory");
		counter = (uint64_t)high << 32 | low;
		ns = page->base_ns;
		if (page->flags & PV_TIME_FLAG_COUNTER && counter > page->base_counter)
			ns += (uint64_t)((unsigned __int128)(counter - page->base_counter) * page->multiplier >>
					 (page->shift & 63));
		offset = page->wall_offset_ns;
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
	} while (before & 1 || before != __atomic_load_n(&page->sequence, __ATOMIC_RELAXED));
	printf("monotonic_ns\t%" PRIu64 "\nwall_ns\t%" PRIu64 "\ngeneration\t%" PRIu32 "\n", ns, ns + offset,
	       page->generation);
}

static void show_steal(char **words)
{
	long vcpus = sysconf(_SC_NPROCESSORS_CONF);

	(void)words;
	puts("vcpu\tsteal_ns\tcalls\texits\tupcalls");
	for (long i = 0; i < vcpus; i++) {
		const struct pv_vcpu_page *page = map(PARAVIRT_PAGE_VCPU + (uint64_t)i);

		printf("%ld\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\n", i, page->steal_ns, page->calls,
		       page->exits, page->upcalls);
	}
}

static void mark(char **words)
{
	uint64_t value = words[1] ? number(words[1]) : 0;

	CALL("mark", PV_CALL_TRACE_MARK, at(words[0]), strlen(words[0]), value);
}

static void arm_watchdog(char **words)
{
	CALL("watchdog", PV_CALL_SYSTEM_WATCHDOG, number(words[0]) * 1000000000);
}

static void any_call(char **words)
{
	uint64_t arguments[6] = { 0 };
	uint32_t id = (uint32_t)number(words[0]);

	for (size_t i = 0; i < 6 && words[i + 1]; i++)
		arguments[i] = number(words[i + 1]);
	printf("%#" PRIx64 "\n", call("call", id, arguments, 6));
}

/* Entropy of the host's own, so that two copies of a machine do not draw the same. */
static void reseed(void)
{
	struct {
		struct rand_pool_info head;
		uint8_t bytes[SEED_BYTES];
	} seed = { .head = { .entropy_count = SEED_BYTES * 8, .buf_size = SEED_BYTES } };
	int random = open("/dev/random", O_WRONLY | O_CLOEXEC);

	CALL("entropy", PV_CALL_ENTROPY_FILL, at(seed.head.buf), SEED_BYTES);
	if (random < 0 || ioctl(random, RNDADDENTROPY, &seed) < 0 || ioctl(random, RNDRESEEDCRNG) < 0)
		fail("/dev/random");
	close(random);
	explicit_bzero(&seed, sizeof(seed));
}

static void watch(char **words)
{
	static const char *const names[] = { "none", "before-pause", "resumed", "restored", "cloned", "migrated" };
	struct paravirt_continuity_event event;
	uint64_t left = words[0] ? number(words[0]) : UINT64_MAX;

	while (left-- && read(file, &event, sizeof(event)) == sizeof(event)) {
		if (event.event == PV_CONTINUITY_EVENT_RESTORED || event.event == PV_CONTINUITY_EVENT_CLONED)
			reseed();
		printf("%" PRIu64 "\t%s\t%" PRIu64 "\t", (uint64_t)event.counter,
		       event.event < 6 ? names[event.event] : "unknown", (uint64_t)event.clock_jump_ns);
		for (size_t i = 0; i < sizeof(event.generation); i++)
			printf("%02x", event.generation[i]);
		putchar('\n');
		fflush(stdout);
	}
}

static void reseed_now(char **words)
{
	(void)words;
	reseed();
}

static const struct command {
	const char *name, *arguments, *what;
	void (*run)(char **words);
	int least, most;
} commands[] = {
	{ "info", "", "version of the ABI and number of vCPUs", show_info, 0, 0 },
	{ "services", "", "services of the host, with their features", show_services, 0, 0 },
	{ "devices", "", "virtio devices that are reached by calls", show_devices, 0, 0 },
	{ "time", "", "the time page's clock", show_time, 0, 0 },
	{ "steal", "", "per vCPU: time stolen, calls, exits, upcalls", show_steal, 0, 0 },
	{ "watch", "[COUNT]", "pauses, restores, copies and moves as they come; reseeds /dev/random", watch, 0, 1 },
	{ "reseed", "", "fresh entropy from the host into /dev/random", reseed_now, 0, 0 },
	{ "mark", "TEXT [VALUE]", "a mark in the host's trace", mark, 1, 2 },
	{ "watchdog", "SECONDS", "the host ends the machine then; 0 disarms", arm_watchdog, 1, 1 },
	{ "call", "ID [ARGUMENT…]", "any call that takes no memory", any_call, 1, 7 },
};

static void show_usage(FILE *stream)
{
	fprintf(stream, "usage: paravirtctl COMMAND\n\n");
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		fprintf(stream, "  %-9s%-17s%s\n", commands[i].name, commands[i].arguments, commands[i].what);
}

int main(int argc, char **argv)
{
	if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		show_usage(stdout);
		return fflush(stdout) ? 1 : 0;
	}
	for (size_t i = 0; argc > 1 && i < sizeof(commands) / sizeof(commands[0]); i++) {
		const struct command *command = &commands[i];

		if (strcmp(argv[1], command->name) || argc - 2 < command->least || argc - 2 > command->most)
			continue;
		file = open("/dev/paravirt", O_RDONLY | O_CLOEXEC);
		if (file < 0)
			fail("/dev/paravirt (is the module paravirt loaded?)");
		command->run(argv + 2);
		return fflush(stdout) ? 1 : 0;
	}
	show_usage(stderr);
	return 2;
}
