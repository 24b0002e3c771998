/* SPDX-License-Identifier: 0BSD
 *
 * The main job: reads the disk `input`, a tar, as a whole, hashes its files on all vCPUs, lists them on
 * the console and on the disk `report`, and says what it cost.  Lines: "<sha256>  <size>  <name>".
 * On a host without our services the same is done by one vCPU.
 */
#include "paravirt/base.h"
#include "paravirt/block.h"
#include "paravirt/entropy.h"
#include "paravirt/format.h"
#include "paravirt/guest.h"
#include "paravirt/notes.h"
#include "paravirt/sha256.h"
#include "paravirt/string.h"
#include "paravirt/tar.h"
#include "paravirt/trace.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_EVENT, 0), PV_NEED(PV_SERVICE_TIME, 0),
	   PV_NEED(PV_SERVICE_VCPU, 0), PV_NEED(PV_SERVICE_DEVICE, 0), PV_NEED(PV_SERVICE_SYSTEM, 0),
	   PV_NEED(PV_SERVICE_ENTROPY, 0));
PV_MANIFEST(PV_WANT("input", PV_DEVICE_TYPE_BLOCK, PV_DEVICE_FLAG_READ_ONLY),
	    PV_WANT("report", PV_DEVICE_TYPE_BLOCK, 0));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

/* What the machine's status says. */
enum { DONE, NO_AGREEMENT, NO_DISK, READ_FAILED, NOT_A_TAR, NO_VCPU, REPORT_FAILED, NO_MEMORY };

#define CHANNEL_DISK PV_CHANNEL_FIRST_FREE
#define CHANNEL_HASHED (PV_CHANNEL_FIRST_FREE + 1)
#define QUEUE_SIZE 128
#define REQUEST_BYTES 65536u
#define ENTROPY_BYTES 16

struct file {
	const uint8_t *data;
	uint64_t size_bytes;
	char *name;
	uint8_t digest[PV_SHA256_BYTES];
};

struct disk {
	struct pv_virtio device;
	struct pv_block block;
	uint8_t queue[PV_VIRTIO_QUEUE_BYTES(QUEUE_SIZE)] __attribute__((aligned(64)));
};

static struct disk input, report;
static struct pv_block_request requests[QUEUE_SIZE];

static struct {
	struct file *files;
	uint32_t count;
	uint32_t next; /* claimed by vCPUs */
	uint32_t helpers; /* vCPUs that still hash */
} job;

/* Spans for the host's timeline. Where nobody traces, or there is no such service, nothing comes of it. */
static void begin(const char *name)
{
	if (pv_guest.paravirt)
		pv_trace_begin(name);
}

static void end(void)
{
	if (pv_guest.paravirt)
		pv_trace_end();
}

/* The detail is a status if it is negative, and a number that says where or how much if not. */
_Noreturn static void fail(int status, const char *what, int64_t detail)
{
	if (detail < 0)
		pv_print("demo: %s (%s)\n", what, pv_status_name(detail));
	else
		pv_print("demo: %s (%ld)\n", what, detail);
	pv_exit(status);
}

static void *take(uint64_t size_bytes)
{
	void *memory = pv_take(size_bytes, 64);

	if (!memory)
		fail(NO_MEMORY, "not enough memory", (int64_t)pv_left_bytes());
	return memory;
}

static void negotiate(void)
{
	struct pv_wish wishes[] = {
		{ .service = PV_SERVICE_BASE },
		{ .service = PV_SERVICE_CONSOLE },
		{ .service = PV_SERVICE_EVENT },
		{ .service = PV_SERVICE_TIME },
		{ .service = PV_SERVICE_VCPU },
		{ .service = PV_SERVICE_DEVICE },
		{ .service = PV_SERVICE_SYSTEM },
		{ .service = PV_SERVICE_ENTROPY },
		{ .service = PV_SERVICE_TRACE, .optional = 1 },
	};
	const uint32_t count = sizeof(wishes) / sizeof(wishes[0]);
	uint32_t agreed = 0;

	if (!pv_guest.paravirt) {
		pv_print("demo: no paravirt host; one vCPU, virtio-mmio, polling\n");
		return;
	}
	int64_t status = pv_negotiate(wishes, count);
	if (status < 0)
		fail(NO_AGREEMENT, "the host does not offer what this needs", status);
	for (uint32_t i = 0; i < count; i++)
		agreed += wishes[i].calls != 0;
	status = pv_upcalls_on();
	if (status < 0)
		fail(NO_AGREEMENT, "no upcalls", status);
	pv_print("demo: ABI %lu.%lu, %u services agreed, %u vCPUs, entered at CPL %u\n", pv_version().value >> 32,
		 pv_version().value & 0xffffffff, agreed, pv_guest.cpus,
		 pv_guest.boot.abi->privilege == PV_PRIVILEGE_USER ? 3 : 0);
}

static void open_disk(struct disk *disk, const char *name)
{
	int64_t status = pv_device(&disk->device, PV_DEVICE_TYPE_BLOCK, name);

	if (status >= 0) {
		disk->device.channel = CHANNEL_DISK;
		status = pv_block_init(&disk->block, &disk->device, QUEUE_SIZE, disk->queue);
	}
	if (status < 0) {
		pv_print("demo: there is no disk %s that works (%s)\n", name, pv_status_name(status));
		pv_exit(NO_DISK);
	}
	pv_print("demo: disk %s, %lu sectors, queue of %u%s\n", name, disk->block.capacity_sectors,
		 disk->block.queue.memory.size, disk->block.read_only ? ", read only" : "");
}

/* Hands the next part of the transfer to the disk; how many bytes it has. */
static uint64_t add_part(struct pv_block *block, struct pv_block_request *request, uint32_t type, uint8_t *data,
			 uint64_t offset_bytes, uint64_t size_bytes)
{
	uint64_t left = size_bytes - offset_bytes;

	*request = (struct pv_block_request){
		.type = type,
		.size_bytes = (uint32_t)(left < REQUEST_BYTES ? left : REQUEST_BYTES),
		.sector = offset_bytes / PV_SECTOR_BYTES,
		.data = data + offset_bytes,
	};
	int64_t status = pv_block_add(block, request);
	if (status < 0)
		fail(NO_DISK, "the disk refuses a request", status);
	return request->size_bytes;
}

/* Keeps the queue full until all is done. */
static void transfer(struct pv_block *block, uint32_t type, uint8_t *data, uint64_t size_bytes, int failure)
{
	struct pv_block_request *free[QUEUE_SIZE], *request;
	uint32_t free_count = 0;
	uint64_t next = 0;

	while (free_count < block->depth) {
		free[free_count] = &requests[free_count];
		free_count++;
	}
	while (next < size_bytes || block->in_flight) {
		while (next < size_bytes && free_count)
			next += add_part(block, free[--free_count], type, data, next, size_bytes);
		pv_block_submit(block);
		int64_t status = pv_block_wait(block, &request);
		while (status == PV_STATUS_OK) {
			if (request->result < 0)
				fail(failure, "input or output failed", request->result);
			free[free_count++] = request;
			status = pv_block_get(block, &request);
		}
		if (status != PV_STATUS_NOT_FOUND)
			fail(failure, "the disk is gone", status);
	}
}

/* Two walks: one to count, one to keep. */
static void list_files(const uint8_t *archive, uint64_t size_bytes)
{
	static struct pv_tar_entry entry;
	struct pv_tar tar;
	int result;

	pv_tar_init(&tar, archive, size_bytes);
	while ((result = pv_tar_next(&tar, &entry)) == PV_TAR_FILE)
		job.count++;
	if (result == PV_TAR_MALFORMED || !job.count)
		fail(NOT_A_TAR, "the disk input holds no tar archive", (int64_t)tar.offset);
	job.files = take(job.count * sizeof(*job.files));
	pv_tar_init(&tar, archive, size_bytes);
	for (uint32_t i = 0; i < job.count && pv_tar_next(&tar, &entry) == PV_TAR_FILE; i++) {
		uint64_t name_bytes = strlen(entry.name) + 1;

		job.files[i] = (struct file){ entry.data, entry.size_bytes, take(name_bytes), { 0 } };
		memcpy(job.files[i].name, entry.name, name_bytes);
	}
}

static void hash_files(void)
{
	uint32_t i;

	begin("hash");
	while ((i = __atomic_fetch_add(&job.next, 1, __ATOMIC_SEQ_CST)) < job.count) {
		struct file *file = &job.files[i];
		struct pv_sha256 hash;

		pv_sha256_init(&hash);
		pv_sha256_update(&hash, file->data, file->size_bytes);
		pv_sha256_final(&hash, file->digest);
	}
	end();
}

/* What the other vCPUs run. The last one to finish tells vCPU 0, which may sleep. */
static void help(void *argument)
{
	(void)argument;
	hash_files();
	if (__atomic_sub_fetch(&job.helpers, 1, __ATOMIC_SEQ_CST) == 0)
		pv_event_send(0, CHANNEL_HASHED);
}

static void hash_on_all(void)
{
	job.helpers = pv_guest.cpus - 1;
	for (uint32_t cpu = 1; cpu < pv_guest.cpus; cpu++) {
		int64_t status = pv_cpu_start(cpu, help, NULL);

		if (status < 0)
			fail(NO_VCPU, "a vCPU does not start", status);
	}
	hash_files();
	pv_hold();
	while (__atomic_load_n(&job.helpers, __ATOMIC_SEQ_CST))
		pv_idle(PV_DEADLINE_NEVER);
	pv_release();
}

/* The list, one line a file: on the console, and padded with zeros to whole sectors on the disk. */
static void write_report(void)
{
	uint64_t room = report.block.capacity_sectors * PV_SECTOR_BYTES, used = 0;
	char *text = take(room);

	for (uint32_t i = 0; i < job.count; i++) {
		const struct file *file = &job.files[i];
		char hex[2 * PV_SHA256_BYTES + 1];

		pv_sha256_hex(file->digest, hex);
		uint64_t length =
			pv_format(text + used, room - used, "%s  %lu  %s\n", hex, file->size_bytes, file->name);
		if (length >= room - used)
			fail(REPORT_FAILED, "the disk report is too small", (int64_t)room);
		used += length;
	}
	pv_write(text, used);
	uint64_t padding = (PV_SECTOR_BYTES - used % PV_SECTOR_BYTES) % PV_SECTOR_BYTES;
	memset(text + used, 0, padding);
	transfer(&report.block, PV_BLOCK_REQUEST_WRITE, (uint8_t *)text, used + padding, REPORT_FAILED);
	int64_t status = pv_block_flush(&report.block);
	if (status < 0)
		fail(REPORT_FAILED, "the disk report does not flush", status);
}

static void print_facts(uint64_t began_ns)
{
	uint8_t bytes[ENTROPY_BYTES];
	char hex[2 * ENTROPY_BYTES + 1];
	uint64_t calls = 0, exits = 0, upcalls = 0, steal_ns = 0;

	pv_print("demo: wall time %lu ns since 1970\n", pv_wall_ns());
	if (pv_guest.paravirt) {
		if (pv_entropy_fill(bytes, sizeof(bytes)) < 0)
			fail(NO_AGREEMENT, "no entropy", 0);
		for (uint32_t i = 0; i < sizeof(bytes); i++)
			pv_format(hex + 2 * i, 3, "%02x", bytes[i]);
		pv_print("demo: entropy %s\n", hex);
		for (uint32_t i = 0; i < pv_guest.cpus; i++) {
			const struct pv_vcpu_page *page =
				pv_at(pv_guest.boot.pages->vcpu_gpa + i * pv_guest.boot.pages->vcpu_stride_bytes);

			calls += __atomic_load_n(&page->calls, __ATOMIC_RELAXED);
			exits += __atomic_load_n(&page->exits, __ATOMIC_RELAXED);
			upcalls += __atomic_load_n(&page->upcalls, __ATOMIC_RELAXED);
			steal_ns += __atomic_load_n(&page->steal_ns, __ATOMIC_RELAXED);
		}
		pv_print("demo: %lu calls, %lu exits, %lu upcalls, %lu ns stolen\n", calls, exits, upcalls, steal_ns);
	}
	pv_print("demo: %u files in %lu ns\n", job.count, pv_now_ns() - began_ns);
}

int pv_main(void)
{
	uint64_t began_ns = pv_now_ns();

	negotiate();
	open_disk(&input, "input");
	open_disk(&report, "report");

	uint64_t size_bytes = input.block.capacity_sectors * PV_SECTOR_BYTES;
	uint8_t *archive = take(size_bytes);
	begin("read");
	transfer(&input.block, PV_BLOCK_REQUEST_READ, archive, size_bytes, READ_FAILED);
	end();
	list_files(archive, size_bytes);
	hash_on_all();
	begin("report");
	write_report();
	end();
	print_facts(began_ns);
	return DONE;
}
