/* SPDX-License-Identifier: 0BSD
 *
 * Driver of virtio network cards (virtio 5.1).
 */
#include "paravirt/net.h"
#include "paravirt/string.h"
#include "paravirt/vcpu.h"

#define WANTED                                                                                          \
	(PV_VIRTIO_RING_FEATURES | PV_NET_F_MAC | PV_NET_F_MTU | PV_NET_F_STATUS | PV_NET_F_MRG_RXBUF | \
	 PV_NET_F_CTRL_VQ | PV_NET_F_MQ)
#define MTU 1500

_Static_assert(sizeof(struct pv_net_buffer) == PV_NET_BUFFER_BYTES, "buffers are of a power of two");

static bool agreed(const struct pv_net *net, uint64_t feature)
{
	return net->device->features & feature;
}

int64_t pv_net_init(struct pv_net *net, struct pv_virtio *device, uint64_t wanted)
{
	struct pv_net_config config = { .pairs = 1 };
	int64_t status = pv_virtio_agree(device, 0, WANTED | wanted);

	if (status < 0)
		return status;
	*net = (struct pv_net){ .device = device, .pairs = 1, .mtu = MTU };
	/* As far as what was agreed on says that there is something. */
	uint32_t known = agreed(net, PV_NET_F_MTU)   ? (uint32_t)sizeof(config)
			 : agreed(net, PV_NET_F_MQ)  ? (uint32_t)offsetof(struct pv_net_config, mtu)
			 : agreed(net, PV_NET_F_MAC) ? (uint32_t)sizeof(config.mac)
						     : 0;
	if (known)
		status = pv_virtio_config(device, &config, known);
	if (status < 0)
		return status;
	if (agreed(net, PV_NET_F_MAC))
		memcpy(net->mac, config.mac, sizeof(net->mac));
	if (agreed(net, PV_NET_F_MTU))
		net->mtu = config.mtu;
	if (agreed(net, PV_NET_F_MQ) && config.pairs)
		net->pairs = config.pairs;
	if (!agreed(net, PV_NET_F_CTRL_VQ))
		return PV_STATUS_OK;
	return pv_virtio_queue(device, &net->control, (uint16_t)(agreed(net, PV_NET_F_MQ) ? 2 * net->pairs : 2),
			       PV_NET_CONTROL_SIZE, net->control_memory);
}

int64_t pv_net_pair_init(struct pv_net *net, struct pv_net_pair *pair, uint16_t index, uint16_t size, void *memory)
{
	uint8_t *at = memory;

	*pair = (struct pv_net_pair){
		.net = net,
		.receive_index = (uint16_t)(2 * index),
		.send_index = (uint16_t)(2 * index + 1),
	};
	if (index >= net->pairs)
		return PV_STATUS_NOT_FOUND;
	uint16_t receive = pv_virtio_queue_size(net->device, pair->receive_index, size);
	uint16_t send = pv_virtio_queue_size(net->device, pair->send_index, size);
	if (!receive || !send)
		return PV_STATUS_NOT_SUPPORTED;
	int64_t status = pv_virtio_queue(net->device, &pair->receive, pair->receive_index, receive, at);
	if (status < 0)
		return status;
	return pv_virtio_queue(net->device, &pair->send, pair->send_index, send, at + PV_NET_QUEUE_BYTES(size));
}

int64_t pv_net_start(struct pv_net *net)
{
	return pv_virtio_start(net->device);
}

void pv_net_deinit(struct pv_net *net)
{
	pv_virtio_reset(net->device);
}

bool pv_net_is_up(struct pv_net *net)
{
	struct pv_net_config config;

	if (!agreed(net, PV_NET_F_STATUS))
		return true;
	int64_t status = pv_virtio_config(net->device, &config, (uint32_t)offsetof(struct pv_net_config, pairs));
	return status >= 0 && config.status & PV_NET_STATUS_LINK_UP;
}

int64_t pv_net_use_pairs(struct pv_net *net, uint16_t count)
{
	struct pv_virtq_buffer buffers[] = {
		{ pv_gpa(&net->request), sizeof(net->request) + sizeof(net->request_pairs), false },
		{ pv_gpa(&net->request_status), sizeof(net->request_status), true },
	};
	struct pv_virtq_completion done;

	_Static_assert(offsetof(struct pv_net, request_pairs) ==
			       offsetof(struct pv_net, request) + sizeof(struct pv_net_control_header),
		       "a request is one buffer");
	if (!agreed(net, PV_NET_F_MQ) || !agreed(net, PV_NET_F_CTRL_VQ))
		return count == 1 ? PV_STATUS_OK : PV_STATUS_NOT_SUPPORTED;
	net->request = (struct pv_net_control_header){ .kind = PV_NET_CONTROL_MQ };
	net->request_pairs[0] = (uint8_t)count;
	net->request_pairs[1] = (uint8_t)(count >> 8);
	net->request_status = PV_NET_CONTROL_STATUS_ERROR;
	int64_t status = pv_virtio_do(net->device, &net->control, (uint16_t)(2 * net->pairs), buffers, 2, &done);
	if (status < 0)
		return status;
	uint8_t answer = __atomic_load_n(&net->request_status, __ATOMIC_RELAXED);
	return answer == PV_NET_CONTROL_STATUS_OK ? PV_STATUS_OK : PV_STATUS_NOT_SUPPORTED;
}

int64_t pv_net_give(struct pv_net_pair *pair, struct pv_net_buffer *buffer)
{
	struct pv_virtq_buffer room = { pv_gpa(&buffer->header), sizeof(buffer->header) + sizeof(buffer->data), true };

	return pv_virtq_add(&pair->receive, &room, 1, pv_gpa(buffer));
}

static struct pv_virtq_buffer head_of(const struct pv_net_buffer *buffer)
{
	return (struct pv_virtq_buffer){ pv_gpa(&buffer->header), (uint32_t)sizeof(buffer->header) + buffer->size_bytes,
					 false };
}

int64_t pv_net_send(struct pv_net_pair *pair, struct pv_net_buffer *buffer)
{
	struct pv_virtq_buffer whole = head_of(buffer);

	if (!buffer->size_bytes || buffer->size_bytes > sizeof(buffer->data))
		return PV_STATUS_INVALID;
	return pv_virtq_add(&pair->send, &whole, 1, pv_gpa(buffer));
}

int64_t pv_net_send_pieces(struct pv_net_pair *pair, struct pv_net_buffer *buffer, const struct pv_virtq_buffer *pieces,
			   uint32_t count)
{
	struct pv_virtq_buffer all[1 + PV_NET_PIECES];

	if (!count || count > PV_NET_PIECES || buffer->size_bytes > sizeof(buffer->data))
		return PV_STATUS_INVALID;
	all[0] = head_of(buffer);
	for (uint32_t i = 0; i < count; i++)
		all[1 + i] = pieces[i];
	return pv_virtq_add(&pair->send, all, 1 + count, pv_gpa(buffer));
}

void pv_net_submit(struct pv_net_pair *pair)
{
	pv_virtio_publish(pair->net->device, &pair->receive, pair->receive_index);
	pv_virtio_publish(pair->net->device, &pair->send, pair->send_index);
}

/* One more piece of the frame that is coming in; false: no frame is like that. */
static bool add_piece(struct pv_net_pair *pair, const struct pv_virtq_completion *done)
{
	struct pv_net_frame *frame = &pair->partial;
	struct pv_net_buffer *buffer = pv_at(done->cookie);
	uint32_t head = 0;

	if (!pair->expected) {
		frame->header = buffer->header; /* once: what the device writes later is not looked at */
		__asm__ volatile("" : : "r"(&frame->header) : "memory");
		head = (uint32_t)sizeof(frame->header);
		pair->expected = pair->net->device->features & PV_NET_F_MRG_RXBUF ? frame->header.chains : 1;
		frame->count = frame->size_bytes = 0;
	}
	if (done->written_bytes < head || !pair->expected || pair->expected > PV_NET_MERGED)
		return false;
	frame->buffers[frame->count] = buffer;
	frame->pieces[frame->count] = (const uint8_t *)&buffer->header + head;
	frame->sizes[frame->count] = done->written_bytes - head;
	frame->size_bytes += done->written_bytes - head;
	frame->count++;
	return true;
}

int64_t pv_net_receive(struct pv_net_pair *pair, struct pv_net_frame *frame)
{
	struct pv_virtq_completion done;
	int taken;

	while ((taken = pv_virtq_get(&pair->receive, &done)) > 0) {
		if (!add_piece(pair, &done)) {
			pair->receive.broken = true;
			return PV_STATUS_FAILED;
		}
		if (pair->partial.count < pair->expected)
			continue;
		pair->expected = 0;
		frame->count = pair->partial.count;
		frame->size_bytes = pair->partial.size_bytes;
		frame->header = pair->partial.header;
		for (uint32_t i = 0; i < frame->count; i++) {
			frame->buffers[i] = pair->partial.buffers[i];
			frame->pieces[i] = pair->partial.pieces[i];
			frame->sizes[i] = pair->partial.sizes[i];
		}
		return 1;
	}
	return taken ? PV_STATUS_FAILED : 0;
}

struct pv_net_buffer *pv_net_sent(struct pv_net_pair *pair)
{
	struct pv_virtq_completion done;

	return pv_virtq_get(&pair->send, &done) > 0 ? pv_at(done.cookie) : NULL;
}

bool pv_net_wait(struct pv_net_pair *pair)
{
	struct pv_virtq *const queues[] = { &pair->receive, &pair->send };
	struct pv_virtio *device = pair->net->device;

	if (pair->receive.broken || pair->send.broken)
		return false;
	if (pv_virtio_sleeps(device))
		return pv_virtio_sleep(device, queues, 2);
	pv_relax();
	return ++pair->looks % pv_virtio_looks(device) || !pv_virtio_gone(device);
}

uint32_t pv_net_sum(const void *data, uint32_t size_bytes, uint32_t sum)
{
	const uint8_t *at = data;

	for (; size_bytes > 1; size_bytes -= 2, at += 2)
		sum += (uint32_t)at[0] << 8 | at[1];
	if (size_bytes)
		sum += (uint32_t)at[0] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

uint16_t pv_net_checksum(uint32_t sum)
{
	sum = ~sum & 0xffff;
	return (uint16_t)(sum << 8 | sum >> 8);
}
