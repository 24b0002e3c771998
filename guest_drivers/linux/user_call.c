// SPDX-License-Identifier: 0BSD
/*
 * Calls for programs: the shape of each is the declaration's, so buffers can be copied without knowing what they mean.
 *
 * A program may make those calls alone that name no guest memory but by such buffers and take nothing from the
 * kernel's own drivers.  Vendors' calls are in no table of ours and take registers only.
 */
#include <linux/capability.h>
#include <linux/errno.h>
#include <linux/overflow.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "paravirt.h"
#include "paravirt_user.h"

enum argument { ARGUMENT_NONE, ARGUMENT_REGISTER, ARGUMENT_READ, ARGUMENT_WRITE };

struct shape {
	u32 id;
	struct argument_shape {
		u8 kind;
		bool fixed; /* one record: its length is not among the arguments */
		u32 limit, unit; /* at most so many units of so many bytes */
	} arguments[6];
};

#define PV_NONE
#define PV_ARG { .kind = ARGUMENT_REGISTER },
#define PV_BUFFER(access, most, align, size, one) \
	{ .kind = ARGUMENT_##access, .fixed = one, .limit = most, .unit = size },
#define PV_CALL(service, function, name, roads, registers, feature, ...) \
	{ .id = (service) << 16 | (function), .arguments = { __VA_ARGS__ } },
static const struct shape shapes[] = {
#include "paravirt_abi_calls.h"
};
#undef PV_CALL

static const struct permission {
	u32 id;
	bool anybody;
} permitted[] = {
	{ PV_CALL_BASE_VERSION, true },	   { PV_CALL_BASE_SERVICES, true },	{ PV_CALL_BASE_LIMIT, true },
	{ PV_CALL_VCPU_STATE, true },	   { PV_CALL_DEVICE_LIST, true },	{ PV_CALL_DEVICE_FEATURES, true },
	{ PV_CALL_DEVICE_STATUS, true },   { PV_CALL_DEVICE_GENERATION, true }, { PV_CALL_DEVICE_QUEUE_SIZE, true },
	{ PV_CALL_BASE_BOOT_INFO, false }, { PV_CALL_CONSOLE_WRITE, false },	{ PV_CALL_DEVICE_CONFIG_READ, false },
	{ PV_CALL_ENTROPY_FILL, false },   { PV_CALL_SYSTEM_WATCHDOG, false },	{ PV_CALL_TRACE_MARK, false },
	{ PV_CALL_TRACE_BEGIN, false },	   { PV_CALL_TRACE_END, false },
};

static const struct shape vendors = {
	.arguments = { PV_ARG PV_ARG PV_ARG PV_ARG PV_ARG PV_ARG },
};

/* The shape of a call that the calling program may make, or an error. */
static const struct shape *find_shape(u32 id)
{
	size_t i, j;

	if (id >> 16 >= PV_SERVICE_RANGE_VENDOR)
		return capable(CAP_SYS_ADMIN) ? &vendors : ERR_PTR(-EPERM);
	for (i = 0; i < ARRAY_SIZE(permitted) && permitted[i].id != id; i++)
		;
	for (j = 0; j < ARRAY_SIZE(shapes) && shapes[j].id != id; j++)
		;
	if (i == ARRAY_SIZE(permitted) || j == ARRAY_SIZE(shapes))
		return ERR_PTR(j == ARRAY_SIZE(shapes) ? -EOPNOTSUPP : -EACCES);
	if (!permitted[i].anybody && !capable(CAP_SYS_ADMIN))
		return ERR_PTR(-EPERM);
	return &shapes[j];
}

/* The buffer of a call: no call that programs may make has two. */
struct bounce {
	void *data;
	size_t bytes;
	u64 user;
	bool back;
};

/* Copies the buffer that argument `at` is the address of, and puts the copy's address there. */
static int take_buffer(struct bounce *bounce, const struct argument_shape *shape, u64 *arguments, u32 at)
{
	u64 count = shape->fixed ? 1 : at < 5 ? arguments[at + 1] : 0;

	if (bounce->data)
		return -EACCES;
	if (count > shape->limit)
		return -EMSGSIZE;
	bounce->bytes = count * shape->unit;
	bounce->user = arguments[at];
	bounce->back = shape->kind == ARGUMENT_WRITE;
	bounce->data = kzalloc(max_t(size_t, bounce->bytes, 8), GFP_KERNEL);
	if (!bounce->data)
		return -ENOMEM;
	if (!bounce->back && copy_from_user(bounce->data, u64_to_user_ptr(bounce->user), bounce->bytes))
		return -EFAULT;
	arguments[at] = paravirt_gpa(bounce->data);
	return 0;
}

int paravirt_user_call(struct paravirt_user_call *call)
{
	const struct shape *shape = find_shape(call->id);
	u64 a[6];
	struct bounce bounce = {};
	struct pv_answer answer;
	u32 at = 0, i;
	int error = 0;

	if (IS_ERR(shape))
		return PTR_ERR(shape);
	if (call->reserved)
		return -EINVAL;
	memcpy(a, call->arguments, sizeof(a));
	for (i = 0; i < ARRAY_SIZE(a) && shape->arguments[i].kind != ARGUMENT_NONE && !error; i++) {
		const struct argument_shape *argument = &shape->arguments[i];

		if (argument->kind != ARGUMENT_REGISTER)
			error = take_buffer(&bounce, argument, a, at);
		at += argument->kind == ARGUMENT_REGISTER || argument->fixed ? 1 : 2;
	}
	if (!error) {
		answer = paravirt_call(call->id, a[0], a[1], a[2], a[3], a[4], a[5]);
		call->status = answer.status;
		call->value = answer.status < 0 ? 0 : answer.value;
		if (bounce.back && answer.status >= 0 &&
		    copy_to_user(u64_to_user_ptr(bounce.user), bounce.data, bounce.bytes))
			error = -EFAULT;
	}
	kfree_sensitive(bounce.data);
	return error;
}
