// SPDX-License-Identifier: 0BSD
/*
 * Virtio over calls: the devices of the host's device service, for Linux's own virtio drivers.  Each step of a
 * device's life is a call (docs/abi/device.md); queues are virtio_queues.c's.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpuhotplug.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <linux/workqueue.h>

#include "virtio.h"

static struct platform_device *parent;
static LIST_HEAD(devices);
static DEFINE_MUTEX(devices_lock); /* held while drivers probe and remove, which hold CPUs where they are */
static int hotplug_state;
static bool listens; /* for devices that arrive and leave */

static u64 value_or_zero(struct pv_answer answer)
{
	return answer.status < 0 ? 0 : answer.value;
}

/* ---- what a transport is to Linux ---- */

static void get_config(struct virtio_device *virtio, unsigned int offset, void *to, unsigned int count)
{
	struct pv_virtio *device = to_pv_virtio(virtio);
	struct pv_answer answer = { PV_STATUS_LIMIT, 0 };

	mutex_lock(&device->lock);
	if (count <= PV_LIMIT_CONFIG_BYTES)
		answer = pv_call4(PV_CALL_DEVICE_CONFIG_READ, device->index, offset, paravirt_gpa(device->buffer),
				  count);
	if (answer.status < 0)
		memset(to, 0, count); /* a field that this device does not have (DEV-6) */
	else
		memcpy(to, device->buffer, count);
	mutex_unlock(&device->lock);
}

static void set_config(struct virtio_device *virtio, unsigned int offset, const void *from, unsigned int count)
{
	struct pv_virtio *device = to_pv_virtio(virtio);

	if (count > PV_LIMIT_CONFIG_BYTES)
		return;
	mutex_lock(&device->lock);
	memcpy(device->buffer, from, count);
	pv_call4(PV_CALL_DEVICE_CONFIG_WRITE, device->index, offset, paravirt_gpa(device->buffer), count);
	mutex_unlock(&device->lock);
}

static u32 generation(struct virtio_device *virtio)
{
	return value_or_zero(pv_call1(PV_CALL_DEVICE_GENERATION, to_pv_virtio(virtio)->index));
}

static u8 get_status(struct virtio_device *virtio)
{
	return value_or_zero(pv_call1(PV_CALL_DEVICE_STATUS, to_pv_virtio(virtio)->index));
}

static void set_status(struct virtio_device *virtio, u8 status)
{
	/* Linux gives back what it read, NEEDS_RESET too, which is the device's to set (DEV-2). */
	pv_call2(PV_CALL_DEVICE_SET_STATUS, to_pv_virtio(virtio)->index, status & ~(u32)PV_VIRTIO_STATUS_NEEDS_RESET);
}

static void config_changed(void *data)
{
	virtio_config_changed(data);
}

static void unbind_config(struct pv_virtio *device)
{
	if (device->config_channel >= 0)
		paravirt_event_unbind(device->config_vcpu, device->config_channel);
	device->config_channel = -1;
}

static void bind_config(struct pv_virtio *device)
{
	unbind_config(device); /* of a driver that failed */
	device->config_vcpu = paravirt_event_vcpu(0);
	device->config_channel =
		paravirt_event_bind(device->config_vcpu, PARAVIRT_ANY_CHANNEL, config_changed, &device->virtio);
	if (device->config_channel >= 0)
		pv_call4(PV_CALL_DEVICE_BIND, device->index, PV_BINDING_CONFIG, device->config_vcpu,
			 device->config_channel);
}

/* Its answer comes once the device touches memory no more (DEV-15); what it raised before may be on its way. */
static void reset(struct virtio_device *virtio)
{
	set_status(virtio, 0);
	pv_virtio_synchronize(virtio);
	unbind_config(to_pv_virtio(virtio));
}

static u64 get_features(struct virtio_device *virtio)
{
	return value_or_zero(pv_call2(PV_CALL_DEVICE_FEATURES, to_pv_virtio(virtio)->index, 0));
}

static int finalize_features(struct virtio_device *virtio)
{
	struct pv_virtio *device = to_pv_virtio(virtio);

	vring_transport_features(virtio);
	if (!__virtio_test_bit(virtio, VIRTIO_F_VERSION_1)) {
		dev_err(&virtio->dev, "the host does not offer VIRTIO_F_VERSION_1, which DEV-3 asks for\n");
		return -EINVAL;
	}
	bind_config(device);
	return paravirt_error(pv_call3(PV_CALL_DEVICE_ACCEPT, device->index, 0, virtio->features).status);
}

static const char *bus_name(struct virtio_device *virtio)
{
	return to_pv_virtio(virtio)->name;
}

static const struct virtio_config_ops operations = {
	.get = get_config,
	.set = set_config,
	.generation = generation,
	.get_status = get_status,
	.set_status = set_status,
	.reset = reset,
	.find_vqs = pv_virtio_find_queues,
	.del_vqs = pv_virtio_delete_queues,
	.synchronize_cbs = pv_virtio_synchronize,
	.get_features = get_features,
	.finalize_features = finalize_features,
	.bus_name = bus_name,
	.set_vq_affinity = pv_virtio_set_affinity,
	.get_vq_affinity = pv_virtio_get_affinity,
};

/* ---- which devices there are ---- */

static ssize_t logical_name_show(struct device *dev, struct device_attribute *attribute, char *to)
{
	return sysfs_emit(to, "%s\n", to_pv_virtio(dev_to_virtio(dev))->name);
}
static DEVICE_ATTR_RO(logical_name);

static void release(struct device *dev)
{
	struct pv_virtio *device = to_pv_virtio(dev_to_virtio(dev));

	kfree(device->buffer);
	kfree(device);
}

static int add(const struct pv_device_info *info)
{
	struct pv_virtio *device = kzalloc(sizeof(*device), GFP_KERNEL);
	void *buffer = kmalloc(PV_LIMIT_CONFIG_BYTES, GFP_KERNEL);
	int error;

	if (!device || !buffer) {
		kfree(device);
		kfree(buffer);
		return -ENOMEM;
	}
	device->buffer = buffer;
	device->index = info->device;
	device->type = info->type;
	device->queues = info->queues;
	memcpy(device->name, info->name, sizeof(info->name));
	device->config_channel = -1;
	device->seen = true;
	mutex_init(&device->lock);
	device->virtio.id.device = info->type;
	device->virtio.id.vendor = VIRTIO_DEV_ANY_ID;
	device->virtio.config = &operations;
	device->virtio.dev.parent = &parent->dev;
	device->virtio.dev.release = release;
	error = register_virtio_device(&device->virtio);
	if (error) {
		put_device(&device->virtio.dev);
		return error;
	}
	if (device_create_file(&device->virtio.dev, &dev_attr_logical_name))
		dev_warn(&device->virtio.dev, "without the attribute logical_name\n");
	list_add_tail(&device->link, &devices);
	return 0;
}

static void remove(struct pv_virtio *device)
{
	list_del(&device->link);
	device_remove_file(&device->virtio.dev, &dev_attr_logical_name);
	get_device(&device->virtio.dev);
	unregister_virtio_device(&device->virtio);
	reset(&device->virtio); /* a driver that there is has done so: with the last reset it may leave (DEV-23) */
	put_device(&device->virtio.dev);
}

static struct pv_virtio *find(u32 index)
{
	struct pv_virtio *device;

	list_for_each_entry(device, &devices, link)
		if (device->index == index)
			return device;
	return NULL;
}

/* Adds what is new in the host's list, and removes what is there no more. */
static int compare(const struct pv_device_info *list, size_t count)
{
	struct pv_virtio *device, *next;
	int error = 0;
	size_t i;

	list_for_each_entry(device, &devices, link)
		device->seen = false;
	for (i = 0; i < count; i++) {
		device = find(list[i].device);
		if (device)
			device->seen = true;
		else
			error = add(&list[i]) ?: error;
	}
	list_for_each_entry_safe(device, next, &devices, link)
		if (!device->seen) {
			virtio_break_device(&device->virtio); /* it has given up: nothing that its driver wants comes */
			remove(device);
		}
	return error;
}

static int scan(void)
{
	struct pv_device_info *list = kzalloc(PV_LIMIT_DEVICE_LIST_BYTES, GFP_KERNEL);
	struct pv_answer answer;
	int error;

	if (!list)
		return -ENOMEM;
	mutex_lock(&devices_lock);
	answer = pv_call2(PV_CALL_DEVICE_LIST, paravirt_gpa(list), PV_LIMIT_DEVICE_LIST_BYTES);
	error = paravirt_error(answer.status);
	if (!error)
		error = compare(list, min_t(u64, answer.value, PV_LIMIT_DEVICE_LIST_BYTES) / sizeof(*list));
	mutex_unlock(&devices_lock);
	kfree(list);
	return error;
}

static void rescan(struct work_struct *work)
{
	int error = scan();

	if (error)
		pr_err("a device that arrived could not be added (%d)\n", error);
}

static DECLARE_WORK(scan_work, rescan);

static void list_changed(void *data)
{
	schedule_work(&scan_work);
}

static int __init paravirt_virtio_init(void)
{
	int error;

	/* Above the core's: a CPU is gone for queues before the core gives up its interrupt, and comes back later. */
	hotplug_state = cpuhp_setup_state(CPUHP_AP_ONLINE_DYN, "paravirt_virtio:online", pv_virtio_cpu_comes,
					  pv_virtio_cpu_leaves);
	if (hotplug_state < 0)
		return hotplug_state;
	parent = platform_device_register_simple("paravirt", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(parent)) {
		cpuhp_remove_state(hotplug_state);
		return PTR_ERR(parent);
	}
	if (paravirt_accept(PV_SERVICE_DEVICE, PV_DEVICE_FEATURE_HOTPLUG))
		listens = paravirt_event_bind(0, PV_CHANNEL_DEVICE, list_changed, NULL) >= 0;
	error = scan();
	if (error)
		pr_err("not all devices could be added (%d)\n", error);
	return 0; /* those that could are there */
}

static void __exit paravirt_virtio_exit(void)
{
	struct pv_virtio *device, *next;

	if (listens)
		paravirt_event_unbind(0, PV_CHANNEL_DEVICE);
	cancel_work_sync(&scan_work);
	list_for_each_entry_safe(device, next, &devices, link)
		remove(device);
	platform_device_unregister(parent);
	cpuhp_remove_state(hotplug_state); /* without queues there is nothing that moves */
}

module_init(paravirt_virtio_init);
module_exit(paravirt_virtio_exit);

MODULE_DESCRIPTION("Virtio over the paravirt hypercall ABI");
MODULE_LICENSE("Dual BSD/GPL");
