// SPDX-License-Identifier: BSD-2-Clause
/*
 * A 16550A serial port, as PC16550D describes it: eight registers, an interrupt, FIFOs of 16 bytes.  It sends at
 * once, so its transmitter is always empty; speed, parity and modem lines are remembered and mean nothing.
 *
 * The interrupt line is an edge: it is raised when there is a cause where there was none, so a driver has to serve
 * causes until IIR names none, as all do.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "eventfd.h"
#include "serial.h"

/* Registers; 0 and 1 are the divisor's while DLAB is set. */
#define DATA 0
#define INTERRUPTS 1
#define IDENTIFICATION 2 /* read; written it is the FIFO control */
#define LINE_CONTROL 3
#define MODEM_CONTROL 4
#define LINE_STATUS 5
#define MODEM_STATUS 6
#define SCRATCH 7

#define ON_RECEIVED 0x01 /* of INTERRUPTS */
#define ON_SENT 0x02
#define FIFO_ON 0x01
#define FIFO_CLEAR 0x02
#define DIVISOR_ACCESS 0x80 /* DLAB */
#define LOOP 0x10
#define OUT2 0x08 /* lets the interrupt out of the chip */
#define DATA_READY 0x01
#define IDLE 0x60 /* of LINE_STATUS: nothing is being sent */
#define CONNECTED 0xb0 /* of MODEM_STATUS: clear to send, data set ready, carrier */
#define CAUSE_NONE 0x01
#define CAUSE_SENT 0x02
#define CAUSE_RECEIVED 0x04
#define FIFO_THERE 0xc0

#define FLUSH_NS 5000000
#define LOOK_NS 5000000 /* between looks for input by a guest that asks again and again */

int pv_serial_init(struct pv_serial *serial, struct pv_machine *machine)
{
	memset(serial, 0, sizeof(*serial));
	pthread_mutex_init(&serial->lock, NULL);
	serial->machine = machine;
	serial->interrupt_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	serial->wanted_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	serial->flush_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	serial->divisor = 1;
	if (serial->interrupt_fd >= 0 && serial->wanted_fd >= 0 && serial->flush_fd >= 0)
		return 0;
	int result = -errno;
	pv_serial_deinit(serial);
	return result;
}

void pv_serial_deinit(struct pv_serial *serial)
{
	const int own[] = { serial->interrupt_fd, serial->wanted_fd, serial->flush_fd };

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		if (own[i] >= 0)
			close(own[i]);
	pthread_mutex_destroy(&serial->lock);
}

static uint8_t cause(const struct pv_serial *serial)
{
	if (serial->interrupts & ON_RECEIVED && serial->count)
		return CAUSE_RECEIVED;
	return serial->interrupts & ON_SENT && serial->sent ? CAUSE_SENT : CAUSE_NONE;
}

static bool listens(const struct pv_serial *serial)
{
	return serial->interrupts & ON_RECEIVED && !(serial->modem_control & LOOP);
}

/* After whatever may have changed a cause. */
static void settle(struct pv_serial *serial)
{
	bool raised = cause(serial) != CAUSE_NONE && serial->modem_control & OUT2;

	if (raised && !serial->raised)
		pv_eventfd_signal(serial->interrupt_fd);
	serial->raised = raised;
	if (listens(serial) && !serial->count && !serial->wanting) {
		serial->wanting = true;
		pv_eventfd_signal(serial->wanted_fd);
	}
}

static uint32_t room(const struct pv_serial *serial)
{
	uint32_t size = serial->fifo_control & FIFO_ON ? PV_SERIAL_FIFO_BYTES : 1;

	return serial->count < size ? size - serial->count : 0;
}

static void put(struct pv_serial *serial, uint8_t byte)
{
	serial->received[(serial->first + serial->count++) % PV_SERIAL_FIFO_BYTES] = byte;
}

static uint8_t take(struct pv_serial *serial)
{
	if (!serial->count)
		return 0;
	serial->count--;
	return serial->received[serial->first++ % PV_SERIAL_FIFO_BYTES];
}

static bool look(struct pv_serial *serial)
{
	struct pv_machine *machine = serial->machine;
	uint8_t text[PV_SERIAL_FIFO_BYTES];
	uint32_t most = room(serial);

	serial->looked_ns = pv_clock_ns();
	if (!most || !machine->ops.console_read || serial->modem_control & LOOP)
		return false;
	uint64_t got = machine->ops.console_read(machine, text, most);
	for (uint32_t i = 0; i < got && i < most; i++)
		put(serial, text[i]);
	if (got)
		serial->wanting = false;
	return got > 0;
}

bool pv_serial_receive(struct pv_serial *serial)
{
	pthread_mutex_lock(&serial->lock);
	/* What is not waited for any more is left to the machine's other consoles; a guest that reads is asked again. */
	if (!listens(serial) || !room(serial))
		serial->wanting = false;
	else
		look(serial);
	bool waits = serial->wanting;
	settle(serial);
	pthread_mutex_unlock(&serial->lock);
	return !waits;
}

static void flush(struct pv_serial *serial)
{
	struct pv_machine *machine = serial->machine;
	uint32_t size = serial->sent_bytes;

	serial->sent_bytes = 0;
	if (size && machine->ops.console_write && pv_console_spend(machine, size)) /* CON-2 */
		machine->ops.console_write(machine, serial->line, size);
}

void pv_serial_flush(struct pv_serial *serial)
{
	pthread_mutex_lock(&serial->lock);
	flush(serial);
	pthread_mutex_unlock(&serial->lock);
}

/* Kept until its line ends, or until nothing has ended it for a while: whoever reads it costs more than the byte. */
static void keep(struct pv_serial *serial, uint8_t byte)
{
	const struct itimerspec due = { .it_value = { .tv_nsec = FLUSH_NS } };

	serial->line[serial->sent_bytes++] = byte;
	if (byte == '\n' || serial->sent_bytes == PV_SERIAL_LINE_BYTES)
		flush(serial);
	else if (serial->sent_bytes == 1 && timerfd_settime(serial->flush_fd, 0, &due, NULL) < 0)
		flush(serial);
}

static void send_byte(struct pv_serial *serial, uint8_t byte)
{
	if (serial->modem_control & LOOP) {
		if (room(serial))
			put(serial, byte);
	} else {
		keep(serial, byte);
	}
	serial->sent = true;
}

/* A guest that polls has no other way to get input than to ask for it here. */
static uint8_t line_status(struct pv_serial *serial)
{
	if (!serial->count && !(serial->interrupts & ON_RECEIVED) && pv_clock_ns() - serial->looked_ns >= LOOK_NS)
		look(serial);
	return IDLE | (serial->count ? DATA_READY : 0);
}

static uint8_t identification(struct pv_serial *serial)
{
	uint8_t found = cause(serial);

	if (found == CAUSE_SENT)
		serial->sent = false; /* it has been told */
	return found | (serial->fifo_control & FIFO_ON ? FIFO_THERE : 0);
}

/* In a loop the outputs are the inputs: RTS, DTR, OUT1, OUT2 as CTS, DSR, RI, DCD. */
static uint8_t modem_status(const struct pv_serial *serial)
{
	uint8_t out = serial->modem_control;

	if (!(out & LOOP))
		return CONNECTED;
	return (uint8_t)((out & 0x02) << 3 | (out & 0x01) << 5 | (out & 0x0c) << 4);
}

static uint8_t read_register(struct pv_serial *serial, uint32_t offset)
{
	bool divisor = serial->line_control & DIVISOR_ACCESS;

	switch (offset) {
	case DATA:
		return divisor ? (uint8_t)serial->divisor : take(serial);
	case INTERRUPTS:
		return divisor ? (uint8_t)(serial->divisor >> 8) : serial->interrupts;
	case IDENTIFICATION:
		return identification(serial);
	case LINE_CONTROL:
		return serial->line_control;
	case MODEM_CONTROL:
		return serial->modem_control;
	case LINE_STATUS:
		return line_status(serial);
	case MODEM_STATUS:
		return modem_status(serial);
	default:
		return serial->scratch;
	}
}

static void write_interrupts(struct pv_serial *serial, uint8_t value)
{
	if (value & ON_SENT && !(serial->interrupts & ON_SENT))
		serial->sent = true; /* the transmitter is empty: whoever asks is told at once */
	serial->interrupts = value & 0x0f;
}

static void write_register(struct pv_serial *serial, uint32_t offset, uint8_t value)
{
	bool divisor = serial->line_control & DIVISOR_ACCESS;

	switch (offset) {
	case DATA:
		if (divisor)
			serial->divisor = (uint16_t)((serial->divisor & 0xff00) | value);
		else
			send_byte(serial, value);
		break;
	case INTERRUPTS:
		if (divisor)
			serial->divisor = (uint16_t)((serial->divisor & 0x00ff) | value << 8);
		else
			write_interrupts(serial, value);
		break;
	case IDENTIFICATION:
		if (value & FIFO_CLEAR || (value ^ serial->fifo_control) & FIFO_ON)
			serial->count = 0;
		serial->fifo_control = value;
		break;
	case LINE_CONTROL:
		serial->line_control = value;
		break;
	case MODEM_CONTROL:
		serial->modem_control = value & 0x1f;
		break;
	case SCRATCH:
		serial->scratch = value;
		break;
	default: /* the status registers are read-only */
		break;
	}
}

uint8_t pv_serial_read(struct pv_serial *serial, uint32_t offset)
{
	pthread_mutex_lock(&serial->lock);
	uint8_t value = read_register(serial, offset);
	settle(serial);
	pthread_mutex_unlock(&serial->lock);
	return value;
}

void pv_serial_write(struct pv_serial *serial, uint32_t offset, uint8_t value)
{
	pthread_mutex_lock(&serial->lock);
	write_register(serial, offset, value);
	settle(serial);
	pthread_mutex_unlock(&serial->lock);
}
