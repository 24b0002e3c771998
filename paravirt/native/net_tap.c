// SPDX-License-Identifier: BSD-2-Clause
/*
 * TAP devices: opened by name or taken over, with virtio's header before each frame, and told what the driver
 * at the other end can do.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "net_pair.h"

#define TUN "/dev/net/tun"

static int set_header(int fd)
{
	int bytes = (int)PV_NET_HEADER_BYTES, little_endian = 1;

	if (ioctl(fd, TUNSETVNETHDRSZ, &bytes) || ioctl(fd, TUNSETVNETLE, &little_endian))
		return -errno;
	return 0;
}

int pv_net_tap_open(const char *name, bool several)
{
	struct ifreq request = { .ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR) };
	int fd = open(TUN, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	int error;

	if (fd < 0)
		return -errno;
	if (several)
		request.ifr_flags |= (short)IFF_MULTI_QUEUE;
	strncpy(request.ifr_name, name, sizeof(request.ifr_name) - 1);
	error = ioctl(fd, TUNSETIFF, &request) ? -errno : set_header(fd);
	if (!error)
		return fd;
	close(fd);
	return error;
}

bool pv_net_tap_adopt(int fd)
{
	struct ifreq request;

	if (ioctl(fd, TUNGETIFF, &request))
		return false;
	return request.ifr_flags & IFF_TAP && request.ifr_flags & IFF_VNET_HDR && set_header(fd) == 0;
}

int pv_net_tap_set_features(int fd, uint64_t features)
{
	unsigned int offload = 0;

	if (features & PV_NET_F_GUEST_CSUM) {
		offload |= TUN_F_CSUM;
		if (features & PV_NET_F_GUEST_TSO4)
			offload |= TUN_F_TSO4;
		if (features & PV_NET_F_GUEST_TSO6)
			offload |= TUN_F_TSO6;
	}
	return ioctl(fd, TUNSETOFFLOAD, offload) ? -errno : 0;
}

int pv_net_tap_attach(int fd, bool attached)
{
	struct ifreq request = { .ifr_flags = (short)(attached ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE) };

	return ioctl(fd, TUNSETQUEUE, &request) ? -errno : 0;
}
