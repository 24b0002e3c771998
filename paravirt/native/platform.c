// SPDX-License-Identifier: BSD-2-Clause
/*
 * Ports of a plain guest's machine.  What they mean to the machine is system.c's, as if a call had been made; what
 * the text of the serial port means, ops.console_write's.
 */
#include "platform.h"

#include "handlers.h"

#define SLEEP_ENABLE 0x20
#define SLEEP_TYPE(value) ((value) >> 2 & 7)

/* The keyboard controller and the chip set, by which kernels without ACPI reset a PC. */
#define KEYBOARD_PORT 0x64
#define KEYBOARD_RESET 0xfe
#define CHIPSET_PORT 0xcf9
#define CHIPSET_RESET 0x04

static void write_byte(struct pv_platform *platform, uint16_t port, uint8_t value)
{
	const struct pv_end off = { .kind = PV_END_SHUTDOWN, .reason = PV_SHUTDOWN_POWEROFF };
	const struct pv_end reset = { .kind = PV_END_RESET };

	if (port >= PV_SERIAL_PORT && port < PV_SERIAL_PORT + PV_SERIAL_PORTS)
		pv_serial_write(&platform->serial, port - PV_SERIAL_PORT, value);
	else if (port == PV_SLEEP_CONTROL_PORT && value & SLEEP_ENABLE && SLEEP_TYPE(value) == PV_SLEEP_TYPE_OFF)
		pv_machine_finish(platform->machine, &off);
	else if ((port == PV_RESET_PORT && value == PV_RESET_VALUE) ||
		 (port == KEYBOARD_PORT && value == KEYBOARD_RESET) || (port == CHIPSET_PORT && value & CHIPSET_RESET))
		pv_machine_finish(platform->machine, &reset);
}

static uint8_t read_byte(struct pv_platform *platform, uint16_t port)
{
	if (port >= PV_SERIAL_PORT && port < PV_SERIAL_PORT + PV_SERIAL_PORTS)
		return pv_serial_read(&platform->serial, port - PV_SERIAL_PORT);
	return port == PV_SLEEP_CONTROL_PORT || port == PV_SLEEP_STATUS_PORT ? 0 : 0xff;
}

void pv_platform_port(struct pv_platform *platform, bool out, uint16_t port, uint32_t size_bytes, uint32_t count,
		      uint8_t *data)
{
	/* All there is are registers of a byte. A PC has others at the same ports: 0xcf8 is one of 32 bits. */
	for (uint32_t i = 0; i < size_bytes * count; i++) {
		if (!out)
			data[i] = size_bytes == 1 ? read_byte(platform, port) : 0xff;
		else if (size_bytes == 1)
			write_byte(platform, port, data[i]);
	}
}
