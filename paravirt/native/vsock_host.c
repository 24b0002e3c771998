// SPDX-License-Identifier: BSD-2-Clause
/*
 * The sockets of a vsock's connections.  The kernel tells of changes only (EPOLLET): what a socket had the
 * last time is remembered with the connection, so that one which nobody can serve now costs no wake-ups.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "vsock_state.h"

#define EVENTS 64 /* looked at in a turn */
#define LINE_BYTES 32 /* of "CONNECT <port>\n" */
#define TICK_NS 250000000 /* how late we may be to run out of patience */

static bool watch(struct pv_vsock *vsock, int fd, uint32_t events, void *what)
{
	struct epoll_event event = { .events = events, .data.ptr = what };

	return epoll_ctl(vsock->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

int host_init(struct pv_vsock *vsock)
{
	int error;

	vsock->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	vsock->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	vsock->may_accept = true;
	if (vsock->epoll_fd >= 0 && vsock->timer_fd >= 0 && watch(vsock, vsock->timer_fd, EPOLLIN, &vsock->timer_fd) &&
	    watch(vsock, vsock->options.listener_fd, EPOLLIN | EPOLLET, &vsock->options.listener_fd))
		return 0;
	error = errno;
	host_deinit(vsock);
	return error;
}

void host_deinit(struct pv_vsock *vsock)
{
	if (vsock->epoll_fd >= 0)
		close(vsock->epoll_fd);
	if (vsock->timer_fd >= 0)
		close(vsock->timer_fd);
	vsock->epoll_fd = vsock->timer_fd = -1;
}

bool host_watch(struct pv_vsock *vsock, struct connection *connection)
{
	return watch(vsock, connection->fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, connection);
}

void host_timer(struct pv_vsock *vsock, bool runs)
{
	const struct timespec tick = { .tv_nsec = runs ? TICK_NS : 0 };
	const struct itimerspec setting = { tick, tick };

	if (runs == vsock->timer_runs)
		return;
	timerfd_settime(vsock->timer_fd, 0, &setting, NULL);
	vsock->timer_runs = runs;
}

int host_connect(struct pv_vsock *vsock, uint32_t port)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int error;

	if (fd < 0)
		return -errno;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s_%u", vsock->options.path, port);
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	error = errno; /* EAGAIN as well: its backlog is full */
	close(fd);
	return -error;
}

bool host_say(const struct connection *connection, const char *format, ...)
{
	char line[128];
	va_list arguments;
	int size;

	va_start(arguments, format);
	size = vsnprintf(line, sizeof(line) - 1, format, arguments);
	va_end(arguments);
	line[size++] = '\n';
	return send(connection->fd, line, (size_t)size, MSG_NOSIGNAL | MSG_DONTWAIT) == size;
}

void host_forwarded(struct pv_vsock *vsock, struct connection *connection, uint32_t size_bytes)
{
	connection->forwarded_bytes += size_bytes;
	/* Half of the buffer is known to be free otherwise. */
	if (connection->forwarded_bytes != connection->told_bytes &&
	    connection->received_bytes - connection->told_bytes >= BUFFER_BYTES / 2)
		connection->owes |= OWES_CREDIT_UPDATE;
	if (connection_fill(connection))
		return;
	connection->buffer_at = 0;
	if (connection->state == DRAINING)
		connection_destroy(vsock, connection);
	else if (connection->guest_shut == SHUT_BOTH)
		connection_reset(vsock, connection, &vsock->statistics.resets_ended);
	else if (connection->guest_shut & SHUT_SEND)
		shutdown(connection->fd, SHUT_WR);
}

void host_throw_away(struct pv_vsock *vsock, struct connection *connection)
{
	connection->deaf = true;
	host_forwarded(vsock, connection, connection_fill(connection));
}

uint32_t host_send(struct pv_vsock *vsock, struct connection *connection, struct iovec *pieces, uint32_t count)
{
	struct msghdr message = { .msg_iov = pieces, .msg_iovlen = count };
	ssize_t sent = sendmsg(connection->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (sent >= 0)
		return (uint32_t)sent;
	if (errno == ENOBUFS || errno == ENOMEM) {
		connection->starved = true; /* it has room, the kernel has not: nobody tells when that changes */
		host_timer(vsock, true);
	} else if (errno != EAGAIN && errno != EINTR) {
		connection->deaf = true;
	}
	return 0;
}

uint32_t host_buffer_pieces(struct pv_vsock *vsock, const struct connection *connection, uint32_t at,
			    uint32_t size_bytes)
{
	uint8_t *buffer = connection_buffer(vsock, connection);
	uint32_t first = size_bytes < BUFFER_BYTES - at ? size_bytes : BUFFER_BYTES - at;

	vsock->pieces[0] = (struct iovec){ buffer + at, first };
	vsock->pieces[1] = (struct iovec){ buffer, size_bytes - first };
	return first < size_bytes ? 2 : 1;
}

static void flush(struct pv_vsock *vsock, struct connection *connection)
{
	uint32_t fill = connection_fill(connection);
	uint32_t pieces = host_buffer_pieces(vsock, connection, connection->buffer_at, fill);
	uint32_t sent = host_send(vsock, connection, vsock->pieces, pieces);

	if (connection->deaf) {
		host_throw_away(vsock, connection);
	} else {
		connection->buffer_at = (connection->buffer_at + sent) % BUFFER_BYTES;
		host_forwarded(vsock, connection, sent);
	}
}

void host_shut(struct pv_vsock *vsock, struct connection *connection)
{
	if (connection->guest_shut & SHUT_RECEIVE)
		shutdown(connection->fd, SHUT_RD);
	host_forwarded(vsock, connection, 0);
}

size_t host_receive(struct pv_vsock *vsock, struct connection *connection, uint32_t pieces)
{
	struct msghdr message = { .msg_iov = vsock->pieces, .msg_iovlen = pieces };
	ssize_t received = recvmsg(connection->fd, &message, MSG_DONTWAIT);

	if (received > 0)
		return (size_t)received;
	connection->readable = false;
	if (received == 0 || (errno != EAGAIN && errno != EINTR))
		connection->ended = true;
	return 0;
}

void host_accepted(struct pv_vsock *vsock, struct connection *connection)
{
	if (!host_say(connection, "OK %u", connection->host_port))
		host_throw_away(vsock, connection);
}

/* ---- programs of the host's that connect ---- */

/* "CONNECT <port>" with its end cut off. */
static bool parse_line(char *line, uint32_t *port)
{
	static const char word[] = "CONNECT ";
	char *end;
	unsigned long long number;

	if (strncmp(line, word, sizeof(word) - 1) || line[sizeof(word) - 1] < '0' || line[sizeof(word) - 1] > '9')
		return false;
	number = strtoull(line + sizeof(word) - 1, &end, 10);
	*port = (uint32_t)number;
	return !*end && number < PV_VSOCK_CID_ANY;
}

/* Reads the line and nothing behind it; `ended`: nothing follows what is there. */
static void greet(struct pv_vsock *vsock, struct connection *connection, bool ended)
{
	char line[LINE_BYTES + 1];
	ssize_t there = recv(connection->fd, line, LINE_BYTES, MSG_PEEK | MSG_DONTWAIT);
	char *end = there > 0 ? memchr(line, '\n', (size_t)there) : NULL;
	uint32_t port;

	if (there < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (!end && there > 0 && there < LINE_BYTES && !ended)
		return; /* the rest is on its way */
	if (end && recv(connection->fd, line, (size_t)(end - line) + 1, MSG_DONTWAIT) != end - line + 1)
		end = NULL;
	if (end)
		*end = '\0';
	if (!end || !parse_line(line, &port)) {
		if (there > 0)
			host_say(connection, "ERROR write CONNECT, a space, a port and a line feed");
		connection_destroy(vsock, connection);
		return;
	}
	connection_name(vsock, connection, port, connection_port(vsock, port));
	connection->state = REQUESTED;
	connection->owes = OWES_REQUEST;
	connection_hurry(vsock, connection);
	connection_schedule(vsock, connection);
}

static bool accept_those_who_wait(struct pv_vsock *vsock)
{
	bool any = false;

	while (vsock->may_accept && vsock->free) {
		int fd = accept4(vsock->options.listener_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0) {
			vsock->may_accept = false;
			/* Descriptors may be had again later, and nobody would tell us. */
			if (errno != EAGAIN)
				host_timer(vsock, true);
		} else if (!connection_create(vsock, fd)) {
			close(fd);
		}
		any |= fd >= 0;
	}
	return any;
}

static void changed(struct pv_vsock *vsock, struct connection *connection, uint32_t events)
{
	if (connection->fd < 0)
		return; /* a tick of the same look has ended it */
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		connection->readable = true;
	if (events & (EPOLLHUP | EPOLLERR))
		connection->hung_up = true;
	if (connection->state == GREETING) {
		if (connection->readable)
			greet(vsock, connection, events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
		return;
	}
	if (connection->hung_up && !connection->deaf)
		host_throw_away(vsock, connection);
	else if (connection_fill(connection))
		flush(vsock, connection);
	if (connection->state != FREE)
		connection_schedule(vsock, connection);
}

/* Tries again what the kernel had no memory for. */
static void feed(struct pv_vsock *vsock, struct connection *connection)
{
	connection->starved = false;
	if (connection_fill(connection))
		flush(vsock, connection);
	if (connection->state != FREE)
		connection_schedule(vsock, connection);
}

/* Who waits for the guest in vain, and whom nothing else wakes. */
static void tick(struct pv_vsock *vsock)
{
	uint64_t now_ns = pv_clock_ns(), count;
	bool some = false;

	(void)!read(vsock->timer_fd, &count, sizeof(count)); /* the count does not matter */
	for (uint32_t i = 0; i < PV_VSOCK_CONNECTIONS; i++) {
		struct connection *connection = &vsock->connections[i];

		if (connection->due_ns && connection->due_ns <= now_ns) {
			if (connection->state == REQUESTED)
				host_say(connection, "ERROR the guest does not answer");
			connection_reset(vsock, connection, &vsock->statistics.resets_late);
		}
		if (connection->starved && connection->fd >= 0)
			feed(vsock, connection);
		some |= connection->due_ns || (connection->starved && connection->fd >= 0);
	}
	host_timer(vsock, some);
	vsock->may_accept = true;
}

bool host_look(struct pv_vsock *vsock)
{
	struct epoll_event events[EVENTS];
	int count = epoll_wait(vsock->epoll_fd, events, EVENTS, 0);

	for (int i = 0; i < count; i++) {
		void *what = events[i].data.ptr;

		if (what == &vsock->timer_fd)
			tick(vsock);
		else if (what == &vsock->options.listener_fd)
			vsock->may_accept = true;
		else
			changed(vsock, what, events[i].events);
	}
	return accept_those_who_wait(vsock) || count > 0;
}
