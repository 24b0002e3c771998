/* SPDX-License-Identifier: 0BSD
 *
 * Sends or receives frames on the network `lan` as fast as it goes, looking for them all the time, on any host that
 * it boots on.  Words of the command line:
 *	op=send|receive bytes=N frames=N
 * bytes are those of a frame to send, its Ethernet header among them.  It says `net: ready` before it begins, and
 * then tells one line, time by the guest's clock:
 *	bench: frames=N bytes=N ns=N exits=N
 * exits are those to the host's user space, doorbells that end in the kernel not among them; 0 where none are counted.
 */
#include "paravirt/net.h"
#include "paravirt/notes.h"
#include "paravirt/vcpu.h"
#include "words.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_EVENT, 0), PV_NEED(PV_SERVICE_TIME, 0),
	   PV_NEED(PV_SERVICE_VCPU, 0), PV_NEED(PV_SERVICE_DEVICE, 0), PV_NEED(PV_SERVICE_SYSTEM, 0));
PV_MANIFEST(PV_WANT("lan", PV_DEVICE_TYPE_NET, 0));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

/* What the machine's status says. */
enum { DONE, WRONG_WORD, NO_NETWORK, FAILED };

#define QUEUE_SIZE 256
#define BATCH 64u /* frames between two submissions */
#define WARM_UP 10 /* one part in so many more is not counted */

static struct pv_virtio device;
static struct pv_net net;
static struct pv_net_pair pair;
static uint8_t memory[PV_NET_PAIR_BYTES(QUEUE_SIZE)] __attribute__((aligned(64)));
static struct pv_net_buffer buffers[QUEUE_SIZE];
static uint64_t bytes_passed;

_Noreturn static void fail(int status, const char *what, int64_t detail)
{
	pv_print("bench: %s (%s)\n", what, pv_status_name(detail));
	pv_exit(status);
}

static void init(void)
{
	int64_t status = pv_device(&device, PV_DEVICE_TYPE_NET, "lan");

	if (status < 0) /* names are not known everywhere: the first network will do */
		status = pv_device(&device, PV_DEVICE_TYPE_NET, NULL);
	device.channel = PV_NO_CHANNEL;
	if (status >= 0)
		status = pv_net_init(&net, &device, 0);
	if (status >= 0)
		status = pv_net_pair_init(&net, &pair, 0, QUEUE_SIZE, memory);
	if (status >= 0)
		status = pv_net_start(&net);
	if (status < 0)
		fail(NO_NETWORK, "there is no network `lan` that works", status);
}

/* To a station that is not there, of a protocol for experiments: nobody's work but the link's. */
static void fill(struct pv_net_buffer *buffer, uint32_t size_bytes)
{
	static const uint8_t to[] = { 2, 0, 0, 0, 0, 0x99 }, protocol[] = { 0x88, 0xb5 };

	memset(&buffer->header, 0, sizeof(buffer->header));
	memset(buffer->data, 0, size_bytes);
	memcpy(buffer->data, to, sizeof(to));
	memcpy(buffer->data + 6, net.mac, 6);
	memcpy(buffer->data + 12, protocol, sizeof(protocol));
	buffer->size_bytes = size_bytes;
}

static void check(void)
{
	if (pair.send.broken || pair.receive.broken)
		fail(FAILED, "the network is gone", PV_STATUS_FAILED);
}

/* Sends `count` frames; all of them have come back then. */
static void send(uint64_t count)
{
	static struct pv_net_buffer *idle[QUEUE_SIZE];
	uint32_t idle_count = 0, depth = pair.send.memory.size;
	uint64_t added = 0, done = 0;
	struct pv_net_buffer *buffer;

	for (uint32_t i = 0; i < depth; i++)
		idle[idle_count++] = &buffers[i];
	while (done < count) {
		for (uint32_t n = 0; n < BATCH && idle_count && added < count; n++, added++)
			if (pv_net_send(&pair, idle[--idle_count]) < 0)
				fail(FAILED, "a frame was refused", PV_STATUS_FAILED);
		pv_net_submit(&pair);
		while ((buffer = pv_net_sent(&pair))) {
			bytes_passed += buffer->size_bytes;
			idle[idle_count++] = buffer;
			done++;
		}
		check();
		pv_relax();
	}
}

static void receive(uint64_t count)
{
	struct pv_net_frame frame;
	uint64_t done = 0;

	while (done < count) {
		uint32_t batch = 0;

		while (batch < BATCH && pv_net_receive(&pair, &frame) > 0) {
			bytes_passed += frame.size_bytes;
			for (uint32_t i = 0; i < frame.count; i++)
				pv_net_give(&pair, frame.buffers[i]);
			batch++;
		}
		if (batch)
			pv_net_submit(&pair);
		done += batch;
		check();
		pv_relax();
	}
}

static uint64_t exits(void)
{
	return __atomic_load_n(&pv_this_cpu()->page->exits, __ATOMIC_RELAXED);
}

int pv_main(void)
{
	bool sends = word_is("op", "send", true);
	uint64_t frames = word_number("frames", 100000, 1000000000, WRONG_WORD);
	uint32_t size_bytes = (uint32_t)word_number("bytes", 64, PV_NET_DATA_BYTES, WRONG_WORD);

	init();
	for (uint32_t i = 0; i < QUEUE_SIZE; i++)
		fill(&buffers[i], size_bytes);
	for (uint32_t i = 0; !sends && i < pair.receive.memory.size; i++)
		pv_net_give(&pair, &buffers[i]);
	pv_net_submit(&pair);
	pv_print("net: ready\n");
	(sends ? send : receive)(frames / WARM_UP + 1);
	bytes_passed = 0;
	uint64_t exits_before = exits(), begin_ns = pv_now_ns();
	(sends ? send : receive)(frames);
	uint64_t ns = pv_now_ns() - begin_ns;

	pv_net_deinit(&net);
	pv_print("bench: frames=%lu bytes=%lu ns=%lu exits=%lu\n", frames, bytes_passed, ns, exits() - exits_before);
	return DONE;
}
