/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A 16550A serial port, whose text is the machine's console: for kernels that have no driver of ours yet, or none.
 * Read by cffi too.
 */
#ifndef PARAVIRT_SERIAL_H
#define PARAVIRT_SERIAL_H

#include "host.h"

#define PV_SERIAL_PORTS 8
#define PV_SERIAL_FIFO_BYTES 16
#define PV_SERIAL_LINE_BYTES 256

struct pv_serial {
	struct pv_machine *machine;
	pthread_mutex_t lock; /* of the registers: several vCPUs may use the port */
	int interrupt_fd; /* eventfd of the interrupt line */
	int wanted_fd; /* eventfd: the guest waits for input, pv_serial_receive is to be called */
	int flush_fd; /* timerfd: what was sent and ends no line is due, pv_serial_flush is to be called */
	uint8_t interrupts; /* the register IER, and so on */
	uint8_t fifo_control;
	uint8_t line_control;
	uint8_t modem_control;
	uint8_t scratch;
	uint16_t divisor;
	bool sent; /* the transmitter has become empty, and the guest has not been told */
	bool raised; /* the line */
	bool wanting; /* wanted_fd was signalled, and nothing has come since */
	uint64_t looked_ns; /* for input, last */
	uint32_t first, count; /* of what was received */
	uint8_t received[PV_SERIAL_FIFO_BYTES];
	uint32_t sent_bytes; /* that the console has not yet */
	uint8_t line[PV_SERIAL_LINE_BYTES];
};

/* As after a reset, with descriptors of its own: 0 or -errno. */
int pv_serial_init(struct pv_serial *serial, struct pv_machine *machine);
void pv_serial_deinit(struct pv_serial *serial);
/* One access of a byte to register 0 to 7. Any vCPU's thread. */
uint8_t pv_serial_read(struct pv_serial *serial, uint32_t offset);
void pv_serial_write(struct pv_serial *serial, uint32_t offset, uint8_t value);
/*
 * Takes input that waits (ops.console_read), if the guest wants to be told of it and there is room; false: there was
 * none, it still wants some. Any thread.
 */
bool pv_serial_receive(struct pv_serial *serial);
/* Hands on what was sent so far. Any thread. */
void pv_serial_flush(struct pv_serial *serial);

#endif
