// SPDX-License-Identifier: BSD-2-Clause
/*
 * A recording of calls: takes what goes into a call before it is carried out and what came out of it
 * afterwards, and writes both as one packet.  Which buffers a call has is the declaration's to say.
 */
#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "record.h"

#define ENHANCED_PACKET 6
#define BLOCK_OVERHEAD 32 /* bytes of the block around its packet */

struct packet_head {
	uint32_t type;
	uint32_t block_bytes;
	uint32_t interface;
	uint32_t time_high;
	uint32_t time_low;
	uint32_t captured_bytes;
	uint32_t original_bytes;
};

static uint64_t wall_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void pv_recording_init(struct pv_recording *recording, int fd, uint64_t most_bytes)
{
	memset(recording, 0, sizeof(*recording));
	recording->fd = fd;
	recording->left_bytes = most_bytes;
	recording->wall_offset_ns = wall_ns() - pv_clock_ns();
	pthread_mutex_init(&recording->lock, NULL);
}

static void flush(struct pv_recording *recording)
{
	for (uint32_t done = 0; done < recording->used && !recording->broken;) {
		ssize_t wrote = write(recording->fd, recording->buffer + done, recording->used - done);

		if (wrote > 0) {
			done += (uint32_t)wrote;
		} else if (wrote == 0 || errno != EINTR) { /* the kick is a signal */
			recording->error = wrote ? errno : EIO;
			recording->broken = 1;
		}
	}
	recording->used = 0;
}

int pv_recording_deinit(struct pv_recording *recording)
{
	flush(recording);
	pthread_mutex_destroy(&recording->lock);
	return recording->error;
}

static void append(struct pv_recording *recording, const void *bytes, uint64_t size_bytes)
{
	while (size_bytes && !recording->error) {
		uint64_t room = sizeof(recording->buffer) - recording->used;
		uint64_t now = size_bytes < room ? size_bytes : room;

		memcpy(recording->buffer + recording->used, bytes, now);
		recording->used += (uint32_t)now;
		bytes = (const uint8_t *)bytes + now;
		size_bytes -= now;
		if (recording->used == sizeof(recording->buffer))
			flush(recording);
	}
}

void pv_recording_put(struct pv_recording *recording, uint64_t at_ns, const struct iovec *parts, uint32_t count)
{
	static const uint8_t zeros[4];
	uint64_t wall = at_ns + recording->wall_offset_ns;
	uint32_t packet_bytes = 0;

	for (uint32_t i = 0; i < count; i++)
		packet_bytes += (uint32_t)parts[i].iov_len;
	uint32_t padding = -packet_bytes & 3;
	struct packet_head head = {
		.type = ENHANCED_PACKET,
		.block_bytes = packet_bytes + padding + BLOCK_OVERHEAD,
		.time_high = (uint32_t)(wall >> 32),
		.time_low = (uint32_t)wall,
		.captured_bytes = packet_bytes,
		.original_bytes = packet_bytes,
	};
	pthread_mutex_lock(&recording->lock);
	if (!recording->error && head.block_bytes > recording->left_bytes)
		recording->error = EFBIG;
	if (!recording->error) {
		recording->left_bytes -= head.block_bytes;
		append(recording, &head, sizeof(head));
		for (uint32_t i = 0; i < count; i++)
			append(recording, parts[i].iov_base, parts[i].iov_len);
		append(recording, zeros, padding);
		append(recording, &head.block_bytes, sizeof(head.block_bytes));
	}
	pthread_mutex_unlock(&recording->lock);
}

/* Input is copied, once, to where no other vCPU can reach it; what there is no room for is left out. */
static void take_input(const struct pv_machine *machine, struct pv_capture *capture, struct pv_record *record,
		       uint32_t index, uint64_t gpa)
{
	struct pv_recorded_buffer *buffer = &record->buffers[index];
	uint64_t room = sizeof(capture->bytes) - capture->used;
	uint64_t size = buffer->length_bytes < room ? buffer->length_bytes : room;

	record->bytes[index] = capture->bytes + capture->used;
	if (pv_memory_read(&machine->memory, gpa, capture->bytes + capture->used, size)) {
		buffer->bytes = (uint32_t)size;
		capture->used += (uint32_t)size;
	}
}

void pv_record_begin(struct pv_vcpu *vcpu, struct pv_capture *capture, const struct pv_declaration *declared,
		     const struct pv_call *call, struct pv_record *record)
{
	struct pv_machine *machine = vcpu->machine;

	record->begin_ns = pv_clock_ns();
	record->mark = capture->used;
	record->count = 0;
	for (uint16_t i = 0, r = 0; declared && i < declared->count; i++) {
		const struct pv_argument *a = &declared->arguments[i];
		uint64_t length = a->fixed ? 1 : call->args[(r + 1) % PV_LIMIT_ARGUMENTS];
		uint8_t *hva = NULL;

		if (a->kind != PV_ARGUMENT_VALUE && length && length <= a->limit &&
		    length <= PV_RECORD_LENGTH_MOST / a->unit)
			hva = pv_memory_at(&machine->memory, call->args[r], length * a->unit);
		if (hva) {
			uint32_t n = record->count++;

			record->buffers[n] = (struct pv_recorded_buffer){
				.argument = r,
				.access = a->kind == PV_ARGUMENT_READ ? PV_RECORDED_ACCESS_READ
								      : PV_RECORDED_ACCESS_WRITE,
				.length_bytes = length * a->unit,
			};
			record->bytes[n] = hva;
			record->units[n] = a->fixed ? 0 : a->unit;
			if (a->kind == PV_ARGUMENT_READ)
				take_input(machine, capture, record, n, call->args[r]);
		}
		r = (uint16_t)(r + (a->kind == PV_ARGUMENT_VALUE || a->fixed ? 1 : 2));
	}
}

/* What the call defines of its output (CALL-10, CALL-11); what there is no room for is left out. */
static void count_output(struct pv_record *record, const struct pv_result *result)
{
	uint64_t room = PV_RECORD_OUTPUT_BYTES;

	for (uint32_t i = 0; i < record->count; i++) {
		struct pv_recorded_buffer *buffer = &record->buffers[i];
		uint64_t unit = record->units[i], size = buffer->length_bytes;

		if (buffer->access != PV_RECORDED_ACCESS_WRITE || result->status < 0)
			continue;
		if (unit && result->value < size / unit)
			size = result->value * unit;
		buffer->bytes = (uint32_t)(size < room ? size : room);
		room -= buffer->bytes;
	}
}

void pv_record_end(struct pv_vcpu *vcpu, struct pv_capture *capture, const struct pv_call *call,
		   const struct pv_result *result, struct pv_record *record)
{
	const struct pv_machine *machine = vcpu->machine;
	uint64_t now = pv_clock_ns();
	struct pv_recorded_call head = {
		.kind = PV_RECORDED_CALL,
		.road = (uint16_t)call->road,
		.vcpu = vcpu->index,
		.call = call->id,
		.buffers = record->count,
		.status = result->status,
		.value = result->value,
		.begin_ns = record->begin_ns - machine->started_ns,
		.end_ns = now - machine->started_ns,
	};
	struct iovec parts[2 + PV_LIMIT_ARGUMENTS] = {
		{ &head, sizeof(head) },
		{ record->buffers, record->count * sizeof(record->buffers[0]) },
	};

	memcpy(head.args, call->args, sizeof(head.args));
	count_output(record, result);
	for (uint32_t i = 0; i < record->count; i++)
		parts[2 + i] = (struct iovec){ (void *)(uintptr_t)record->bytes[i], record->buffers[i].bytes };
	pv_recording_put(machine->recording, now, parts, 2 + record->count);
	capture->used = record->mark;
}

void pv_record_moment(struct pv_machine *machine, uint16_t kind, uint32_t vcpu, uint64_t number)
{
	if (!machine->recording)
		return;
	uint64_t now = pv_clock_ns();
	struct pv_recorded_moment moment = {
		.kind = kind,
		.vcpu = vcpu,
		.at_ns = now - machine->started_ns,
		.number = number,
	};

	pv_recording_put(machine->recording, now, &(struct iovec){ &moment, sizeof(moment) }, 1);
}

void pv_record_start(struct pv_vcpu *vcpu, uint64_t entry_gpa)
{
	if (!vcpu->capture)
		return;
	vcpu->capture->running = 1;
	pv_record_moment(vcpu->machine, PV_RECORDED_VCPU_START, vcpu->index, entry_gpa);
}

void pv_record_stop(struct pv_vcpu *vcpu)
{
	if (!vcpu->capture || !vcpu->capture->running)
		return;
	vcpu->capture->running = 0;
	pv_record_moment(vcpu->machine, PV_RECORDED_VCPU_STOP, vcpu->index, 0);
}
