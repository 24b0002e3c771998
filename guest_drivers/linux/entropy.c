// SPDX-License-Identifier: 0BSD
/*
 * Service entropy: /dev/hwrng, from which the kernel's own generator is fed, too.
 */
#include <linux/hw_random.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "paravirt.h"

static u8 *buffer;
static DEFINE_MUTEX(buffer_lock);

static int read_bytes(struct hwrng *rng, void *data, size_t room, bool wait)
{
	size_t count = min_t(size_t, room, PV_LIMIT_ENTROPY_BYTES);
	struct pv_answer answer;

	if (wait)
		mutex_lock(&buffer_lock);
	else if (!mutex_trylock(&buffer_lock))
		return 0;
	answer = pv_call2(PV_CALL_ENTROPY_FILL, paravirt_gpa(buffer), count);
	if (answer.status >= 0)
		memcpy(data, buffer, count); /* all of it (ENT-1) */
	memzero_explicit(buffer, count);
	mutex_unlock(&buffer_lock);
	return answer.status < 0 ? paravirt_error(answer.status) : (int)count;
}

static struct hwrng generator = { .name = "paravirt", .read = read_bytes, .quality = 1000 };

int paravirt_entropy_init(void)
{
	u64 features;
	int error;

	if (!paravirt_offered(PV_SERVICE_ENTROPY, &features))
		return 0;
	buffer = kmalloc(PV_LIMIT_ENTROPY_BYTES, GFP_KERNEL);
	error = buffer ? hwrng_register(&generator) : -ENOMEM;
	if (error) {
		kfree(buffer);
		buffer = NULL;
	}
	return error;
}

void paravirt_entropy_exit(void)
{
	if (!buffer)
		return;
	hwrng_unregister(&generator);
	kfree(buffer);
	buffer = NULL;
}
