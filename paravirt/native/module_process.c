// SPDX-License-Identifier: BSD-2-Clause
/*
 * A binary module in a process of its own: a crash, a hang or a wild pointer of the module's ends that process
 * and no other.  A socket of packets lies between; guest memory is mapped on both sides.
 *
 * What the module's process sends is checked: it may be in any state.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "module_host.h"
#include "paravirt_module.h"

/* ---- the host's end ---- */

void pv_module_remote_init(struct pv_module_remote *remote, int fd, uint64_t timeout_ns)
{
	memset(remote, 0, sizeof(*remote));
	remote->fd = fd;
	remote->timeout_ns = timeout_ns;
	pthread_mutex_init(&remote->lock, NULL);
}

void pv_module_remote_deinit(struct pv_module_remote *remote)
{
	pthread_mutex_destroy(&remote->lock);
}

/* The answer to `message`, in its place; 0 or PV_MODULE_FAILED_. Also when the machine ends meanwhile. */
static uint32_t exchange(const struct pv_module_remote *remote, const struct pv_machine *machine,
			 struct pv_module_message *message)
{
	uint64_t until_ns = pv_clock_ns() + remote->timeout_ns;
	struct pollfd ready = { .fd = remote->fd, .events = POLLIN };

	/* There is room for one request: no room means that it answers what it does not read. */
	if (send(remote->fd, message, sizeof(*message), MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof(*message))
		return errno == EAGAIN ? PV_MODULE_FAILED_ANSWER : PV_MODULE_FAILED_GONE;
	for (;;) {
		int result = poll(&ready, 1, 100);

		if (result > 0)
			break;
		if (result < 0 && errno != EINTR)
			return PV_MODULE_FAILED_GONE;
		if (__atomic_load_n(&machine->ending, __ATOMIC_SEQ_CST))
			return PV_MODULE_FAILED_END;
		if (pv_clock_ns() >= until_ns)
			return PV_MODULE_FAILED_TIME;
	}
	ssize_t got = recv(remote->fd, message, sizeof(*message), MSG_DONTWAIT);
	if (got <= 0)
		return PV_MODULE_FAILED_GONE;
	return got != sizeof(*message) || message->count > PV_MODULE_EVENTS ? PV_MODULE_FAILED_ANSWER : 0;
}

int64_t pv_module_remote_handler(struct pv_vcpu *vcpu, void *opaque, uint32_t function, const uint64_t *args,
				 uint64_t *value)
{
	struct pv_module_remote *remote = opaque;
	struct pv_module_message message = {
		.kind = PV_MODULE_CALL,
		.number = function,
		.vcpu = vcpu->index,
		.time_ns = pv_time_now(vcpu->machine),
	};

	memcpy(message.args, args, sizeof(message.args));
	pthread_mutex_lock(&remote->lock);
	uint32_t failed = remote->failed;
	if (!failed) {
		failed = exchange(remote, vcpu->machine, &message);
		/* Also after a time-out: the late answer would be taken for that of the next call. */
		__atomic_store_n(&remote->failed, failed, __ATOMIC_SEQ_CST);
	}
	pthread_mutex_unlock(&remote->lock);
	if (failed) /* VND-2 */
		return PV_STATUS_FAILED;
	for (uint32_t i = 0; i < message.count; i++)
		pv_event_raise(vcpu->machine, (uint32_t)message.places[i], (uint32_t)(message.places[i] >> 32));
	*value = message.value;
	return message.status;
}

/* ---- the module's end ---- */

struct served {
	struct pv_module_instance *instance;
	struct pv_memory memory;
	void *map;
	size_t map_bytes;
};

/* Maps the file of guest memory, the regions one behind the other. */
static bool map_memory(struct served *served, const struct pv_module_message *message, int fd)
{
	struct stat what;

	if (served->map)
		munmap(served->map, served->map_bytes);
	served->memory.count = 0;
	served->map = NULL;
	if (fstat(fd, &what) < 0)
		return false;
	served->map_bytes = (size_t)what.st_size;
	void *map = mmap(NULL, served->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return false;
	served->map = map;
	uint64_t at = 0;
	for (uint32_t i = 0; i < message->count && i < PV_MAX_REGIONS; i++) {
		uint64_t gpa = message->places[2 * i], size = message->places[2 * i + 1];

		if (pv_memory_add(&served->memory, gpa, size, (uint8_t *)map + at))
			return false;
		at += size;
	}
	return true;
}

/* A file with the module's state; -1: none could be made. */
static int saved(struct served *served, uint64_t *size)
{
	void *copy = calloc(1, PV_MODULE_STATE_BYTES);
	int fd = memfd_create("module-state", MFD_CLOEXEC);

	*size = copy ? pv_module_save(served->instance, copy, PV_MODULE_STATE_BYTES) : UINT64_MAX;
	if (*size > PV_MODULE_STATE_BYTES || fd < 0 || write(fd, copy, *size) != (ssize_t)*size) {
		if (fd >= 0)
			close(fd);
		fd = -1;
	}
	free(copy);
	return fd;
}

static int64_t loaded(struct served *served, const struct pv_module_message *message, int fd)
{
	int64_t status = -1;
	void *copy = message->value <= PV_MODULE_STATE_BYTES ? malloc(message->value + 1) : NULL;

	if (copy && pread(fd, copy, message->value, 0) == (ssize_t)message->value)
		status = pv_module_load(served->instance, message->number, copy, message->value);
	free(copy);
	return status;
}

/* Carries a request out; the descriptor that goes with the answer, or -1. */
static int carry_out(struct served *served, struct pv_module_message *m, int fd)
{
	uint32_t count = 0;
	int answer = -1;

	m->text[sizeof(m->text) - 1] = '\0';
	switch (m->kind) {
	case PV_MODULE_START:
		m->status = map_memory(served, m, fd) ? pv_module_start(served->instance, &served->memory, m->text)
						      : -errno;
		break;
	case PV_MODULE_CALL:
		m->status = pv_module_call(served->instance, m->number, m->vcpu, m->args, m->time_ns, &m->value,
					   m->places, &count);
		break;
	case PV_MODULE_SAVE:
		answer = saved(served, &m->value);
		m->status = answer < 0 ? -1 : 0;
		break;
	case PV_MODULE_LOAD:
		m->status = loaded(served, m, fd);
		break;
	case PV_MODULE_RESET:
		m->status = map_memory(served, m, fd) ? 0 : -errno;
		if (!m->status)
			pv_module_reset(served->instance, &served->memory);
		break;
	}
	m->count = count;
	return answer;
}

union control {
	char room[CMSG_SPACE(sizeof(int))];
	struct cmsghdr align;
};

/* False: the host is gone. */
static bool receive(int fd, struct pv_module_message *m, int *passed)
{
	union control control;
	struct iovec whole = { m, sizeof(*m) };
	struct msghdr head = {
		.msg_iov = &whole, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};

	*passed = -1;
	if (recvmsg(fd, &head, MSG_CMSG_CLOEXEC) != sizeof(*m))
		return false;
	struct cmsghdr *c = CMSG_FIRSTHDR(&head);
	if (c && c->cmsg_type == SCM_RIGHTS)
		memcpy(passed, CMSG_DATA(c), sizeof(*passed));
	return true;
}

static bool answer(int fd, struct pv_module_message *m, int passed)
{
	union control control = { { 0 } };
	struct iovec whole = { m, sizeof(*m) };
	struct msghdr head = { .msg_iov = &whole, .msg_iovlen = 1 };

	if (passed >= 0) {
		head.msg_control = &control;
		head.msg_controllen = sizeof(control);
		struct cmsghdr *c = CMSG_FIRSTHDR(&head);
		*c = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
				       .cmsg_type = SCM_RIGHTS,
				       .cmsg_len = CMSG_LEN(sizeof(int)) };
		memcpy(CMSG_DATA(c), &passed, sizeof(passed));
	}
	return sendmsg(fd, &head, MSG_NOSIGNAL) == sizeof(*m);
}

/* A module that hangs does not see that its host is gone. */
static void *watch(void *argument)
{
	struct pollfd hung_up = { .fd = *(int *)argument };

	while (poll(&hung_up, 1, -1) < 0)
		;
	_exit(1);
}

void pv_module_serve(const char *path, int fd)
{
	struct pv_module_description description;
	struct pv_module_message message;
	struct served served = { 0 };
	pthread_t watcher;
	int passed;

	if (pthread_create(&watcher, NULL, watch, &fd))
		return;
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_DUMPABLE, 0);
	served.instance = pv_module_open(path, &description);
	if (send(fd, &description, sizeof(description), MSG_NOSIGNAL) < 0 || !served.instance)
		return;
	while (receive(fd, &message, &passed)) {
		int own = carry_out(&served, &message, passed);
		bool on = answer(fd, &message, own);

		if (passed >= 0)
			close(passed);
		if (own >= 0)
			close(own);
		if (!on)
			break;
	}
	pv_module_close(served.instance);
}
