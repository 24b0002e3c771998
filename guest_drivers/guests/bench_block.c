/* SPDX-License-Identifier: 0BSD
 *
 * Reads or writes the disk `disk` as fast as it goes, on any host that it boots on.  Words of the command line:
 *	op=read|write order=random|sequential wait=poll|event bytes=N depth=N requests=N queues=N
 * Each queue has a vCPU, the depth, and its part of the requests; sequential ones begin at its part of the disk.
 * It tells one line, times by the guest's clock, latencies from a request's submission until it is seen complete:
 *	bench: requests=N bytes=N ns=N median_ns=N p99_ns=N exits=N
 * exits are those to the host's user space, doorbells that end in the kernel not among them; 0 where none are counted.
 */
#include "paravirt/block.h"
#include "paravirt/guest.h"
#include "paravirt/notes.h"
#include "paravirt/time.h"
#include "paravirt/vcpu.h"
#include "sort.h"
#include "words.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_EVENT, 0), PV_NEED(PV_SERVICE_TIME, 0),
	   PV_NEED(PV_SERVICE_VCPU, 0), PV_NEED(PV_SERVICE_DEVICE, 0), PV_NEED(PV_SERVICE_SYSTEM, 0));
PV_MANIFEST(PV_WANT("disk", PV_DEVICE_TYPE_BLOCK, 0));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

/* What the machine's status says. */
enum { DONE, WRONG_WORD, NO_DISK, FAILED, NO_MEMORY };

#define QUEUE_SIZE 128
#define WARM_UP 10 /* one part in so many more is not counted */

struct slot {
	struct pv_block_request request;
	uint64_t begin;
};

/* A queue, its vCPU's. */
struct lane {
	struct slot slots[QUEUE_SIZE];
	uint64_t place; /* of the next request: its number, or what the random one was made of */
	uint64_t *ticks;
	uint64_t exits;
	uint32_t state; /* how far it came: its vCPU's word, but for GO, which is the first one's */
};

enum { STARTING, WARM, GO, FINISHED };

static struct {
	uint64_t bytes, depth, requests, queues;
	bool write, random, poll;
} wanted = { .bytes = 4096, .depth = 32, .requests = 100000, .queues = 1, .random = true, .poll = true };

static struct pv_virtio device;
static struct pv_block disks[PV_LIMIT_DEVICE_QUEUES];
static uint8_t queues[PV_LIMIT_DEVICE_QUEUES * PV_BLOCK_QUEUE_STRIDE(QUEUE_SIZE)] __attribute__((aligned(64)));
static struct lane lanes[PV_LIMIT_DEVICE_QUEUES];

_Noreturn static void fail(int status, const char *what, int64_t detail)
{
	pv_print("bench: %s (%s)\n", what, pv_status_name(detail));
	pv_exit(status);
}

static void read_words(void)
{
	wanted.write = word_is("op", "write", false);
	wanted.random = word_is("order", "random", true);
	wanted.poll = word_is("wait", "poll", true);
	wanted.bytes = word_number("bytes", wanted.bytes, 4u << 20, WRONG_WORD);
	wanted.depth = word_number("depth", wanted.depth, QUEUE_SIZE, WRONG_WORD);
	wanted.requests = word_number("requests", wanted.requests, 4000000, WRONG_WORD);
	wanted.queues = word_number("queues", wanted.queues, PV_LIMIT_DEVICE_QUEUES, WRONG_WORD);
	if (wanted.bytes % PV_SECTOR_BYTES) {
		pv_print("bench: bytes must be whole sectors of %u\n", PV_SECTOR_BYTES);
		pv_exit(WRONG_WORD);
	}
}

/* Marsaglia's, 64 bits. */
static uint64_t next_random(uint64_t *place)
{
	*place ^= *place << 13;
	*place ^= *place >> 7;
	*place ^= *place << 17;
	return *place;
}

static struct pv_block *disk_of(const struct lane *lane)
{
	return &disks[lane - lanes];
}

static void add(struct lane *lane, struct slot *slot)
{
	struct pv_block *disk = disk_of(lane);
	uint64_t sectors = wanted.bytes / PV_SECTOR_BYTES, places = disk->capacity_sectors / sectors;
	struct pv_block_request *request = &slot->request;

	request->type = wanted.write ? PV_BLOCK_REQUEST_WRITE : PV_BLOCK_REQUEST_READ;
	request->size_bytes = (uint32_t)wanted.bytes;
	request->sector = (wanted.random ? next_random(&lane->place) : lane->place++) % places * sectors;
	slot->begin = pv_counter();
	int64_t status = pv_block_add(disk, request);
	if (status < 0)
		fail(FAILED, "a request was refused", status);
}

static int64_t take(struct pv_block *disk, struct pv_block_request **request)
{
	int64_t status;

	if (!wanted.poll)
		return pv_block_wait(disk, request);
	while ((status = pv_block_get(disk, request)) == PV_STATUS_NOT_FOUND)
		pv_relax();
	return status;
}

/* `count` requests from the first to the last answer; their ticks go to `to`, unless it is NULL. */
static void run(struct lane *lane, uint64_t count, uint64_t *to)
{
	struct pv_block *disk = disk_of(lane);
	uint64_t added = 0, done = 0;
	struct pv_block_request *request;

	for (; added < wanted.depth && added < count; added++)
		add(lane, &lane->slots[added]);
	while (done < count) {
		pv_block_submit(disk);
		int64_t status = take(disk, &request);
		/* all that is complete is taken before the next submission */
		for (; status == PV_STATUS_OK; status = pv_block_get(disk, &request)) {
			struct slot *slot = (struct slot *)request;

			if (request->result < 0)
				fail(FAILED, "a request failed", request->result);
			if (to)
				to[done] = pv_counter() - slot->begin;
			done++;
			if (added < count) {
				add(lane, slot);
				added++;
			}
		}
		if (status != PV_STATUS_NOT_FOUND)
			fail(FAILED, "the disk is gone", status);
	}
}

static uint64_t requests_of(const struct lane *lane)
{
	uint64_t part = wanted.requests / wanted.queues;

	return lane == lanes ? wanted.requests - part * (wanted.queues - 1) : part;
}

static uint64_t exits(void)
{
	return __atomic_load_n(&pv_this_cpu()->page->exits, __ATOMIC_RELAXED);
}

static void say(struct lane *lane, uint32_t state)
{
	__atomic_store_n(&lane->state, state, __ATOMIC_RELEASE);
}

static void await(struct lane *lane, uint32_t state)
{
	while (__atomic_load_n(&lane->state, __ATOMIC_ACQUIRE) != state)
		pv_relax();
}

/* The life of the vCPU of a queue but the first, which tells it when to go. */
static void work(void *argument)
{
	struct lane *lane = argument;

	run(lane, requests_of(lane) / WARM_UP + 1, NULL);
	say(lane, WARM);
	await(lane, GO);
	uint64_t before = exits();
	run(lane, requests_of(lane), lane->ticks);
	lane->exits = exits() - before;
	say(lane, FINISHED);
}

static void init(void)
{
	/* Names are not known everywhere: the first disk will do. */
	int64_t status = pv_device(&device, PV_DEVICE_TYPE_BLOCK, pv_guest.paravirt ? "disk" : NULL);

	if (status < 0)
		fail(NO_DISK, "there is no disk `disk`", status);
	if (wanted.poll)
		device.channel = PV_NO_CHANNEL;
	status = pv_block_init_queues(disks, (uint16_t)wanted.queues, &device, QUEUE_SIZE, queues);
	if (status < 0)
		fail(NO_DISK, "the disk does not work", status);
	if ((uint64_t)status < wanted.queues || pv_guest.cpus < wanted.queues) {
		pv_print("bench: the disk has %u queues, the machine %u vCPUs\n", (unsigned)status, pv_guest.cpus);
		pv_exit(WRONG_WORD);
	}
	if (wanted.depth > disks[0].depth) {
		pv_print("bench: depth must be from 1 to %u here\n", disks[0].depth);
		pv_exit(WRONG_WORD);
	}
	if (disks[0].capacity_sectors * PV_SECTOR_BYTES < wanted.bytes) {
		pv_print("bench: the disk is smaller than one request\n");
		pv_exit(NO_DISK);
	}
}

/* The lanes' ticks lie behind one another, to be sorted together. */
static uint64_t *init_lanes(void)
{
	uint64_t *ticks = pv_take(wanted.requests * sizeof(*ticks), 64), *at = ticks;
	uint64_t places = disks[0].capacity_sectors * PV_SECTOR_BYTES / wanted.bytes;

	for (uint64_t n = 0; n < wanted.queues; n++) {
		struct lane *lane = &lanes[n];

		lane->ticks = at;
		at += requests_of(lane);
		lane->place = wanted.random ? 0x9e3779b97f4a7c15u * (n + 1) : places / wanted.queues * n;
		for (uint64_t i = 0; i < wanted.depth; i++) {
			lane->slots[i].request.data = pv_take(wanted.bytes, 4096);
			if (!lane->slots[i].request.data || !ticks)
				fail(NO_MEMORY, "give it more memory", PV_STATUS_NO_MEMORY);
			memset(lane->slots[i].request.data, (int)i, wanted.bytes);
		}
	}
	return ticks;
}

static void start_others(void)
{
	for (uint32_t n = 1; n < wanted.queues; n++) {
		int64_t status = pv_cpu_start(n, work, &lanes[n]);

		if (status < 0)
			fail(FAILED, "a vCPU does not start", status);
	}
}

int pv_main(void)
{
	read_words();
	init();
	uint64_t *ticks = init_lanes(), exited = 0;

	start_others();
	/* What work does, but that it starts the others, too, and takes the time. */
	run(lanes, requests_of(lanes) / WARM_UP + 1, NULL);
	for (uint64_t n = 1; n < wanted.queues; n++)
		await(&lanes[n], WARM);
	uint64_t exits_before = exits(), counter = pv_counter(), begin_ns = pv_now_ns();
	for (uint64_t n = 1; n < wanted.queues; n++)
		say(&lanes[n], GO);
	run(lanes, requests_of(lanes), lanes[0].ticks);
	for (uint64_t n = 1; n < wanted.queues; n++) {
		await(&lanes[n], FINISHED);
		exited += lanes[n].exits;
	}
	uint64_t ns = pv_now_ns() - begin_ns, passed = pv_counter() - counter;
	uint64_t per_ms = passed * 1000000 / ns; /* ticks; a run of some hundred seconds does not overflow */

	exited += exits() - exits_before;
	pv_block_deinit(&disks[0]);
	sort(ticks, wanted.requests);
	pv_print("bench: requests=%lu bytes=%lu ns=%lu median_ns=%lu p99_ns=%lu exits=%lu\n", wanted.requests,
		 wanted.requests * wanted.bytes, ns, ticks[wanted.requests / 2] * 1000000 / per_ms,
		 ticks[wanted.requests - wanted.requests / 100 - 1] * 1000000 / per_ms, exited);
	return DONE;
}
