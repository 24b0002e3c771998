/* SPDX-License-Identifier: 0BSD
 *
 * A stream to a program of the host's at port 5000, as fast as it goes, looking all the time.  Words of the command line:
 *	op=send|receive|echo bytes=N size=N
 * send: N bytes in pieces of that size, and the host's byte that says it has them; receive: N bytes, for which the
 * guest asks by a byte; echo: messages of that size, one at a time, until N bytes were there and back.  It tells one
 * line, time by the guest's clock, per message of an echo in median_ns and p99_ns:
 *	bench: bytes=N ns=N median_ns=N p99_ns=N exits=N
 */
#include "paravirt/guest.h"
#include "paravirt/notes.h"
#include "paravirt/time.h"
#include "paravirt/vsock.h"
#include "sort.h"
#include "words.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_TIME, 0), PV_NEED(PV_SERVICE_DEVICE, 0),
	   PV_NEED(PV_SERVICE_SYSTEM, 0));
PV_MANIFEST(PV_WANT("socks", PV_DEVICE_TYPE_VSOCK, 0));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

#define PORT 5000
#define WRONG_WORD 1
#define FAILED 2
#define MOST_BYTES (4ull << 30)
#define MOST_SIZE (64u << 10)
#define WARM_UP 10 /* one part in so many more is not counted */

static struct pv_virtio device;
static struct pv_vsock vsock;
static struct pv_vsock_connection connection;
static uint8_t data[MOST_SIZE], room[128 << 10];

static void need(int64_t status, const char *what)
{
	if (status >= 0)
		return;
	pv_print("bench: %s (%s)\n", what, pv_status_name(status));
	pv_exit(FAILED);
}

static void send(const void *from, uint32_t size_bytes)
{
	need(pv_vsock_send_all(&vsock, &connection, from, size_bytes), "the host takes no more");
}

/* Takes so many bytes. */
static void receive(uint64_t bytes)
{
	while (bytes) {
		uint32_t most = bytes < sizeof(data) ? (uint32_t)bytes : (uint32_t)sizeof(data);
		int64_t size = pv_vsock_receive_some(&vsock, &connection, data, most);

		need(size > 0 ? size : PV_STATUS_FAILED, "the host sends no more");
		bytes -= (uint64_t)size;
	}
}

static void stream(uint64_t bytes, uint32_t size_bytes, bool sends)
{
	if (!sends) {
		send(data, 1);
		receive(bytes);
		return;
	}
	for (uint64_t left = bytes, part; left; left -= part) {
		part = left < size_bytes ? left : size_bytes;
		send(data, (uint32_t)part);
	}
	receive(1);
}

static void echo(uint64_t count, uint32_t size_bytes, uint64_t *ticks)
{
	for (uint64_t i = 0; i < count; i++) {
		uint64_t before = pv_counter();

		send(data, size_bytes);
		receive(size_bytes);
		if (ticks)
			ticks[i] = pv_counter() - before;
	}
}

static void init(void)
{
	need(pv_device(&device, PV_DEVICE_TYPE_VSOCK, "socks"), "there is no vsock");
	device.channel = PV_NO_CHANNEL; /* it looks */
	need(pv_vsock_init(&vsock, &device), "the vsock does not work");
	connection.buffer = room;
	connection.buffer_bytes = sizeof(room);
	need(pv_vsock_connect(&vsock, &connection, PORT), "nobody of the host's listens at port 5000");
}

int pv_main(void)
{
	bool echoes = word_is("op", "echo", false), sends = word_is("op", "send", true);
	uint64_t bytes = word_number("bytes", 256u << 20, MOST_BYTES, WRONG_WORD);
	uint32_t size_bytes = (uint32_t)word_number("size", echoes ? 64 : 4096, MOST_SIZE, WRONG_WORD);
	uint64_t count = echoes ? (bytes + size_bytes - 1) / size_bytes : 1;
	uint64_t *ticks = pv_take(count * sizeof(*ticks), 64);

	need(ticks ? PV_STATUS_OK : PV_STATUS_NO_MEMORY, "give it more memory");
	init();
	if (echoes)
		echo(count / WARM_UP + 1, size_bytes, NULL);
	uint64_t exits = pv_this_cpu()->page->exits, counter = pv_counter(), begin_ns = pv_now_ns();
	if (echoes)
		echo(count, size_bytes, ticks);
	else
		stream(bytes, size_bytes, sends);
	uint64_t ns = pv_now_ns() - begin_ns, passed = pv_counter() - counter;
	if (!echoes)
		ticks[0] = passed;
	exits = pv_this_cpu()->page->exits - exits;
	uint64_t per_ms = passed * 1000000 / ns;

	sort(ticks, count);
	pv_print("bench: bytes=%lu ns=%lu median_ns=%lu p99_ns=%lu exits=%lu\n", bytes, ns,
		 ticks[count / 2] * 1000000 / per_ms, ticks[count - count / 100 - 1] * 1000000 / per_ms, exits);
	pv_vsock_close(&vsock, &connection);
	return 0;
}
