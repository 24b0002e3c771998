/* SPDX-License-Identifier: 0BSD
 *
 * The life of a TCP connection; what its service says is the service's.
 */
#include "streams.h"

#include "lwip/mem.h"
#include "paravirt/string.h"

#define POLL_TURNS 1 /* of half a second: when what found no room is tried again */

struct stream_counts stream_counts;

static void forget(struct stream *stream)
{
	stream_counts.open--;
	mem_free(stream);
}

/* Counts bytes as read, as many at a time as lwIP can say. */
static void pay(struct stream *stream, uint32_t size_bytes)
{
	stream->owed -= size_bytes;
	for (uint32_t part; size_bytes; size_bytes -= part) {
		part = size_bytes < UINT16_MAX ? size_bytes : UINT16_MAX;
		tcp_recved(stream->pcb, (u16_t)part);
	}
}

/* The connection is lwIP's from here. */
static err_t finish(struct stream *stream)
{
	struct tcp_pcb *pcb = stream->pcb;

	/*
	 * Whatever of the window is missing counts as not read, which lwIP answers by a reset: what is owed, and the
	 * peer's end, if that came with what we close upon, for lwIP takes it off again only when it tells of it.
	 */
	stream->owed = TCP_WND_MAX(pcb) - pcb->rcv_wnd;
	pay(stream, stream->owed);
	tcp_arg(pcb, NULL);
	tcp_recv(pcb, NULL);
	tcp_sent(pcb, NULL);
	tcp_err(pcb, NULL);
	tcp_poll(pcb, NULL, 0);
	forget(stream);
	if (tcp_close(pcb) == ERR_OK)
		return ERR_OK;
	tcp_abort(pcb);
	return ERR_ABRT;
}

/* After everything that a service did: the stream is not there any more if it closes. */
static err_t settle(struct stream *stream)
{
	if (stream->closing)
		return finish(stream);
	tcp_output(stream->pcb);
	return ERR_OK;
}

bool stream_write(struct stream *stream, const void *bytes, uint32_t size_bytes)
{
	return size_bytes <= tcp_sndbuf(stream->pcb) &&
	       tcp_write(stream->pcb, bytes, (u16_t)size_bytes, TCP_WRITE_FLAG_COPY) == ERR_OK;
}

void stream_close(struct stream *stream)
{
	stream->closing = true;
}

/* Whether the service took all of it. */
static bool offer(struct stream *stream, const struct pbuf *p)
{
	uint32_t skip = stream->taken;

	for (; p && !stream->closing; p = p->next) {
		if (skip >= p->len) {
			skip -= p->len;
			continue;
		}
		if (!stream->service->take(stream, (const uint8_t *)p->payload + skip, p->len - skip))
			return false;
		stream->taken += p->len - skip;
		if (stream->service->echoes) /* at once: what is written may arrive before the rest is taken */
			stream->owed += p->len - skip;
		skip = 0;
	}
	return true;
}

static err_t on_received(void *argument, struct tcp_pcb *pcb, struct pbuf *p, err_t error)
{
	struct stream *stream = argument;

	(void)error;
	if (!p) {
		if (stream->service->end)
			stream->service->end(stream);
		else
			stream_close(stream);
		return settle(stream);
	}
	if (!offer(stream, p)) {
		tcp_output(pcb);
		return ERR_MEM; /* lwIP offers it again */
	}
	if (!stream->service->echoes)
		tcp_recved(pcb, p->tot_len);
	stream->taken = 0;
	pbuf_free(p);
	return settle(stream);
}

static err_t on_sent(void *argument, struct tcp_pcb *pcb, u16_t size_bytes)
{
	struct stream *stream = argument;

	(void)pcb;
	pay(stream, size_bytes < stream->owed ? size_bytes : stream->owed);
	if (stream->service->more && !stream->closing)
		stream->service->more(stream);
	return settle(stream);
}

static err_t on_poll(void *argument, struct tcp_pcb *pcb)
{
	struct stream *stream = argument;

	(void)pcb;
	if (stream->service->more && !stream->closing)
		stream->service->more(stream);
	return settle(stream);
}

/* lwIP has let go of the connection already. */
static void on_error(void *argument, err_t error)
{
	stream_counts.resets += error == ERR_RST;
	forget(argument);
}

static err_t on_accepted(void *argument, struct tcp_pcb *pcb, err_t error)
{
	const struct service *service = argument;
	struct stream *stream;

	if (error != ERR_OK || !pcb)
		return ERR_VAL;
	stream = mem_calloc(1, (mem_size_t)(sizeof(*stream) + service->state_bytes));
	if (!stream)
		return ERR_MEM;
	stream->service = service;
	stream->pcb = pcb;
	stream->state = stream + 1;
	stream_counts.connections++;
	stream_counts.open++;
	tcp_arg(pcb, stream);
	tcp_recv(pcb, on_received);
	tcp_sent(pcb, on_sent);
	tcp_err(pcb, on_error);
	tcp_poll(pcb, on_poll, POLL_TURNS);
	return ERR_OK;
}

bool stream_listen(const struct service *service)
{
	struct tcp_pcb *pcb = tcp_new(), *listening;

	if (!pcb || tcp_bind(pcb, IP_ADDR_ANY, service->port) != ERR_OK)
		return false;
	listening = tcp_listen(pcb);
	if (!listening)
		return false;
	tcp_arg(listening, (void *)(uintptr_t)service);
	tcp_accept(listening, on_accepted);
	return true;
}
