// SPDX-License-Identifier: 0BSD
/*
 * /dev/paravirt: what paravirt_user.h promises programs, but for the calls themselves (user_call.c).
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/wait.h>

#include "paravirt.h"
#include "paravirt_user.h"

/* What a program that has the file open was told. */
struct reader {
	u64 counter;
};

static int open_file(struct inode *inode, struct file *file)
{
	struct paravirt_continuity_event event;
	struct reader *reader = kzalloc(sizeof(*reader), GFP_KERNEL);

	if (!reader)
		return -ENOMEM;
	paravirt_continuity_last(&event);
	reader->counter = event.counter;
	file->private_data = reader;
	return stream_open(inode, file);
}

static int release_file(struct inode *inode, struct file *file)
{
	kfree(file->private_data);
	return 0;
}

static bool is_news(const struct reader *reader, struct paravirt_continuity_event *event)
{
	paravirt_continuity_last(event);
	return event->counter != READ_ONCE(reader->counter);
}

static ssize_t read_event(struct file *file, char __user *to, size_t room, loff_t *offset)
{
	struct reader *reader = file->private_data;
	struct paravirt_continuity_event event;

	if (room < sizeof(event))
		return -EINVAL;
	while (!is_news(reader, &event)) {
		if (file->f_flags & O_NONBLOCK)
			return -EAGAIN;
		if (wait_event_interruptible(paravirt_continuity_wait, is_news(reader, &event)))
			return -ERESTARTSYS;
	}
	if (copy_to_user(to, &event, sizeof(event)))
		return -EFAULT;
	WRITE_ONCE(reader->counter, event.counter);
	return sizeof(event);
}

static __poll_t poll_event(struct file *file, struct poll_table_struct *table)
{
	struct paravirt_continuity_event event;

	poll_wait(file, &paravirt_continuity_wait, table);
	return is_news(file->private_data, &event) ? EPOLLIN | EPOLLRDNORM : 0;
}

static long control(struct file *file, unsigned int command, unsigned long argument)
{
	struct paravirt_user_call __user *user = (struct paravirt_user_call __user *)argument;
	struct paravirt_user_call call;
	int error;

	if (command != PARAVIRT_CALL)
		return -ENOTTY;
	if (copy_from_user(&call, user, sizeof(call)))
		return -EFAULT;
	error = paravirt_user_call(&call);
	if (!error && copy_to_user(user, &call, sizeof(call)))
		error = -EFAULT;
	return error;
}

/* A page of those that the host writes, for reading. */
static int map_page(struct file *file, struct vm_area_struct *area)
{
	const struct pv_boot_pages *pages = &paravirt.pages;
	unsigned long page = area->vm_pgoff;
	u64 gpa;

	if (area->vm_end - area->vm_start != PAGE_SIZE)
		return -EINVAL;
	if (area->vm_flags & (VM_WRITE | VM_EXEC))
		return -EPERM;
	if (page == PARAVIRT_PAGE_TIME)
		gpa = pages->time_gpa;
	else if (page == PARAVIRT_PAGE_CONTINUITY)
		gpa = pages->continuity_gpa;
	else if (page - PARAVIRT_PAGE_VCPU < paravirt.vcpus)
		gpa = pages->vcpu_gpa + (page - PARAVIRT_PAGE_VCPU) * pages->vcpu_stride_bytes;
	else
		return -ENXIO;
	if (page == PARAVIRT_PAGE_CONTINUITY && (!gpa || !capable(CAP_SYS_ADMIN)))
		return gpa ? -EPERM : -ENXIO; /* a seed is there */
	area->vm_flags &= ~(VM_MAYWRITE | VM_MAYEXEC);
	return remap_pfn_range(area, area->vm_start, gpa >> PAGE_SHIFT, PAGE_SIZE, area->vm_page_prot);
}

static const struct file_operations operations = {
	.owner = THIS_MODULE,
	.open = open_file,
	.release = release_file,
	.read = read_event,
	.poll = poll_event,
	.unlocked_ioctl = control,
	.mmap = map_page,
	.llseek = no_llseek,
};

/* Everybody may open it: what takes a capability is said where it is done. */
static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "paravirt",
	.mode = 0666,
	.fops = &operations,
};

void paravirt_user_tell(const struct paravirt_continuity_event *event)
{
	char number[32], counter[32], generation[64];
	char *words[] = { number, counter, generation, NULL };

	snprintf(number, sizeof(number), "EVENT=%u", event->event);
	snprintf(counter, sizeof(counter), "COUNTER=%llu", event->counter);
	snprintf(generation, sizeof(generation), "GENERATION=%16phN", event->generation);
	kobject_uevent_env(&device.this_device->kobj, KOBJ_CHANGE, words);
}

int paravirt_user_init(void)
{
	return misc_register(&device);
}

void paravirt_user_exit(void)
{
	misc_deregister(&device);
}
