/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A recording of calls: packets of a pcapng file, as docs/abi/recording.md lays them out.  Who opens the
 * file writes its first blocks; here are those that follow.  Read by cffi too.
 *
 * Threads: any.  A packet is put together and written under the recording's lock, so that the order of the
 * file is that in which things ended; nothing is dropped, whoever has a packet waits for the file.
 */
#ifndef PARAVIRT_RECORD_H
#define PARAVIRT_RECORD_H

#include "host.h"

#define PV_CAPTURE_BYTES 131072
#define PV_RECORDING_BUFFER_BYTES 65536
#define PV_RECORD_OUTPUT_BYTES 65536 /* of a call: what no call of the standard exceeds */
#define PV_RECORD_LENGTH_MOST (1u << 30) /* of a buffer: a reader takes no longer one */

/* Input of the calls that a vCPU, or the thread of call rings, has under way: a batch and one entry at most. */
struct pv_capture {
	uint32_t used;
	uint32_t running; /* a VCPU_START without its VCPU_STOP */
	uint8_t bytes[PV_CAPTURE_BYTES];
};

struct pv_recording {
	int fd; /* the caller's */
	int error; /* errno of what failed first, EFBIG past the bound; no packet is taken after it */
	uint32_t broken; /* a write failed: what is in the buffer is lost, too */
	uint64_t left_bytes;
	uint64_t wall_offset_ns; /* wall clock minus CLOCK_MONOTONIC */
	pthread_mutex_t lock;
	uint32_t used;
	uint8_t buffer[PV_RECORDING_BUFFER_BYTES];
};

/* A call under way. */
struct pv_record {
	uint64_t begin_ns;
	uint32_t mark; /* capture->used before it */
	uint32_t count;
	struct pv_recorded_buffer buffers[PV_LIMIT_ARGUMENTS];
	const uint8_t *bytes[PV_LIMIT_ARGUMENTS]; /* input: the copy; output: guest memory */
	uint32_t units[PV_LIMIT_ARGUMENTS]; /* bytes that a value of 1 stands for; 0: all of it is there */
};

void pv_recording_init(struct pv_recording *recording, int fd, uint64_t most_bytes);
/* Writes what is left; `error`. */
int pv_recording_deinit(struct pv_recording *recording);
/* A packet: at_ns is of CLOCK_MONOTONIC. */
void pv_recording_put(struct pv_recording *recording, uint64_t at_ns, const struct iovec *parts, uint32_t count);

/* Around a call of a vCPU, with its capture or that of call rings. `declared` may be NULL: no such call. */
void pv_record_begin(struct pv_vcpu *vcpu, struct pv_capture *capture, const struct pv_declaration *declared,
		     const struct pv_call *call, struct pv_record *record);
void pv_record_end(struct pv_vcpu *vcpu, struct pv_capture *capture, const struct pv_call *call,
		   const struct pv_result *result, struct pv_record *record);
/* What is not a call; nothing if the machine is not recorded. */
void pv_record_moment(struct pv_machine *machine, uint16_t kind, uint32_t vcpu, uint64_t number);
/* The vCPU begins (at `entry_gpa`), or has ended; the latter only after the former. In its own thread. */
void pv_record_start(struct pv_vcpu *vcpu, uint64_t entry_gpa);
void pv_record_stop(struct pv_vcpu *vcpu);

#endif
