/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What a plain guest (no notes of ours) finds at ports beside the trap and the doorbell: a serial port, and the
 * registers by which ACPI ends or resets a machine.  Read by cffi too.
 */
#ifndef PARAVIRT_PLATFORM_H
#define PARAVIRT_PLATFORM_H

#include "serial.h"

#define PV_SERIAL_PORT 0x3f8 /* COM1 */
#define PV_SERIAL_LINE 4
#define PV_GENERATION_LINE 3 /* the generation id has changed */
/* ACPI's sleep control, sleep status and reset registers, a byte each. */
#define PV_SLEEP_CONTROL_PORT 0x5058
#define PV_SLEEP_STATUS_PORT 0x5059
#define PV_RESET_PORT 0x505a
#define PV_SLEEP_TYPE_OFF 5 /* the type of \_S5_ */
#define PV_RESET_VALUE 1

struct pv_platform {
	struct pv_machine *machine;
	struct pv_serial serial;
};

/* The access of `size_bytes`, `count` times, to a port from a vCPU's thread. What nobody has reads as ones. */
void pv_platform_port(struct pv_platform *platform, bool out, uint16_t port, uint32_t size_bytes, uint32_t count,
		      uint8_t *data);

#endif
