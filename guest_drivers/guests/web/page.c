/* SPDX-License-Identifier: 0BSD
 *
 * A web server of one page, which says what is known about this machine and its network, and asks for itself again.
 */
#include "services.h"

#include "link.h"
#include "lwip/ip4_addr.h"
#include "paravirt/format.h"
#include "paravirt/guest.h"
#include "paravirt/string.h"

#define PAGE_MOST 4096

struct page {
	char method[5], path[2]; /* as far as they matter */
	uint32_t field; /* of the first line: method, path, the rest */
	uint32_t length; /* of that field so far */
	uint32_t ends; /* of lines, one after the other */
	bool answered;
};

static uint64_t answers;

static const char HEAD[] =
	"<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=2>"
	"<meta name=viewport content='width=device-width'><title>A guest of paravirt</title><style>"
	"body{font:16px/1.5 system-ui,sans-serif;max-width:34em;margin:3em auto;padding:0 1em;color:#223}"
	"table{border-collapse:collapse;width:100%%}td{padding:.3em 0;border-bottom:1px solid #dde}"
	"td+td{text-align:right;font-variant-numeric:tabular-nums}</style>"
	"<h1>Hello from inside a virtual machine</h1>"
	"<p>No operating system is in it: a C program of its own, the paravirt guest drivers, and lwIP.</p><table>";

/* Appends a row; what does not fit is left out. */
static size_t __attribute__((format(printf, 4, 5)))
row(char *page, size_t at, const char *name, const char *format, ...)
{
	va_list arguments;
	size_t begin = at;

	at += pv_format(page + at, PAGE_MOST - at, "<tr><td>%s<td>", name);
	if (at < PAGE_MOST) {
		va_start(arguments, format);
		at += pv_vformat(page + at, PAGE_MOST - at, format, arguments);
		va_end(arguments);
	}
	return at < PAGE_MOST ? at : begin;
}

static size_t write_page(char *page)
{
	const struct link_counts *l = &link_counts;
	uint64_t s = pv_now_ns() / 1000000000;
	const uint8_t *mac = link_netif.hwaddr;
	char address[IP4ADDR_STRLEN_MAX];
	size_t at = pv_format(page, PAGE_MOST, HEAD);

	ip4addr_ntoa_r(netif_ip4_addr(&link_netif), address, sizeof(address));
	at = row(page, at, "Up for", "%lu:%02lu:%02lu", s / 3600, s / 60 % 60, s % 60);
	at = row(page, at, "vCPUs", "%u", pv_guest.cpus);
	at = row(page, at, "Memory left", "%lu MiB", pv_left_bytes() >> 20);
	at = row(page, at, "Address", "%s", address);
	at = row(page, at, "Ethernet address", "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
		 mac[5]);
	at = row(page, at, "MTU", "%u", link_netif.mtu);
	at = row(page, at, "Checksums by the host", "%s", link_completes() ? "yes" : "no");
	at = row(page, at, "Large segments", "%s", link_merges() ? "yes" : "no");
	at = row(page, at, "Frames in", "%lu (%lu KiB, %lu in several buffers)", l->received_frames,
		 l->received_bytes >> 10, l->merged_frames);
	at = row(page, at, "Frames out", "%lu (%lu KiB, %lu uncopied)", l->sent_frames, l->sent_bytes >> 10,
		 l->in_pieces);
	at = row(page, at, "Frames dropped", "%lu", l->dropped_frames);
	at = row(page, at, "Connections", "%lu, %u open", stream_counts.connections, stream_counts.open);
	at = row(page, at, "This page, shown", "%lu times", answers + 1);
	return at;
}

static const char *judge(const struct page *page)
{
	if (strcmp(page->method, "GET") && strcmp(page->method, "HEAD"))
		return "405 Method Not Allowed";
	return strcmp(page->path, "/") ? "404 Not Found" : "200 OK";
}

static void answer(struct stream *stream)
{
	static char text[PAGE_MOST], head[256];
	struct page *page = stream->state;

	if (!page->answered)
		return;
	const char *status = judge(page);
	size_t size_bytes = *status == '2' ? write_page(text) : pv_format(text, sizeof(text), "%s\n", status);
	size_t head_bytes = pv_format(head, sizeof(head),
				      "HTTP/1.1 %s\r\nContent-Type: text/%s; charset=utf-8\r\nContent-Length: %lu\r\n"
				      "Cache-Control: no-store\r\n%sConnection: close\r\n\r\n",
				      status, *status == '2' ? "html" : "plain", size_bytes,
				      status[2] == '5' ? "Allow: GET, HEAD\r\n" : "");
	if (!strcmp(page->method, "HEAD"))
		size_bytes = 0;
	if (tcp_sndbuf(stream->pcb) < head_bytes + size_bytes ||
	    !stream_write(stream, head, (uint32_t)head_bytes)) /* all or nothing, to be tried again */
		return;
	answers += *status == '2';
	if (size_bytes && !stream_write(stream, text, (uint32_t)size_bytes))
		pv_print("web: a page was cut\n"); /* there is no memory at all; its length tells the browser */
	stream_close(stream);
}

/* The first line is `METHOD PATH VERSION`; of the others, however many, only their end matters: an empty line. */
static void take_byte(struct page *page, char c)
{
	const size_t rooms[] = { sizeof(page->method), sizeof(page->path) };
	char *fields[] = { page->method, page->path };

	if (c == '\n') {
		page->ends++;
		page->field = 2;
	} else if (c != '\r') {
		page->ends = 0;
	}
	if (page->field < 2 && (c == ' ' || (c == '?' && page->field == 1))) {
		page->field = c == '?' ? 2 : page->field + 1;
		page->length = 0;
	} else if (page->field < 2 && page->length < rooms[page->field]) {
		fields[page->field][page->length++] = c;
		if (page->length == rooms[page->field]) /* too long for any that is known */
			fields[page->field][0] = fields[page->field][--page->length] = 0;
	}
	page->answered = page->ends == 2;
}

static bool take_page(struct stream *stream, const uint8_t *bytes, uint32_t size_bytes)
{
	struct page *page = stream->state;

	for (uint32_t i = 0; i < size_bytes && !page->answered; i++)
		take_byte(page, (char)bytes[i]);
	answer(stream);
	return true;
}

static void end_page(struct stream *stream)
{
	struct page *page = stream->state;

	if (!page->answered) /* a request that is none */
		stream_close(stream);
}

const struct service page_service = {
	.port = PAGE_PORT,
	.state_bytes = sizeof(struct page),
	.take = take_page,
	.end = end_page,
	.more = answer,
};
