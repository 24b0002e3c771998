/* SPDX-License-Identifier: 0BSD
 *
 * What vsock.c and vsock_packet.c know together.
 */
#ifndef PARAVIRT_LIB_VSOCK_H
#define PARAVIRT_LIB_VSOCK_H

#include "paravirt/vsock.h"

#define PV_VSOCK_ENDED 0u
#define PV_VSOCK_CONNECTING 1u
#define PV_VSOCK_OPEN 2u

/*
 * A packet of a connection, with a copy of the data; waits for room in the queue, not for credit.  The host sees it
 * after pv_vsock_packet_submit, once for several.
 */
int64_t pv_vsock_packet_add(struct pv_vsock *vsock, struct pv_vsock_connection *connection, uint32_t operation,
			    uint32_t flags, const uint8_t *data, uint32_t size_bytes);
void pv_vsock_packet_submit(struct pv_vsock *vsock);
/* Answers a packet by a RESET, at once. */
void pv_vsock_packet_refuse(struct pv_vsock *vsock, const struct pv_vsock_header *header);

/* vsock.c: a packet, of which the header is a copy and the data has the size that it says. */
void pv_vsock_packet_came(struct pv_vsock *vsock, const struct pv_vsock_header *header, const uint8_t *data);
/* vsock.c: all connections are gone and the CID may be another. */
void pv_vsock_transport_came(struct pv_vsock *vsock);

#endif
