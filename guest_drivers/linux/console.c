// SPDX-License-Identifier: 0BSD
/*
 * Service console: ttyPV0, a terminal and, with console=ttyPV0, where the kernel's messages go.
 */
#include <linux/console.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/tty.h>
#include <linux/tty_driver.h>
#include <linux/tty_flip.h>
#include <linux/workqueue.h>

#include "paravirt.h"

#define LOOK_JIFFIES (HZ / 10)

static struct tty_driver *driver;
static struct tty_port port;
static bool told; /* of input, by the channel: there is no need to look */
static bool open; /* somebody has the terminal */
static u8 *output, *input; /* of CONSOLE_BYTES each; calls do not reach the stack or a module's data */
static DEFINE_RAW_SPINLOCK(output_lock);

/* How much the host took of it: all or, beyond a budget of the machine's, nothing (CON-2). */
static int write_bytes(const u8 *bytes, size_t count)
{
	struct pv_answer answer;
	unsigned long flags;

	count = min_t(size_t, count, PV_LIMIT_CONSOLE_BYTES);
	/* In a crash the lock may be held for ever, by a CPU that was stopped. */
	if (oops_in_progress) {
		if (!raw_spin_trylock_irqsave(&output_lock, flags))
			return 0;
	} else {
		raw_spin_lock_irqsave(&output_lock, flags);
	}
	memcpy(output, bytes, count);
	answer = pv_call2(PV_CALL_CONSOLE_WRITE, paravirt_gpa(output), count);
	raw_spin_unlock_irqrestore(&output_lock, flags);
	return answer.status < 0 ? paravirt_error(answer.status) : (int)count;
}

static int terminal_open(struct tty_struct *tty, struct file *file)
{
	return tty_port_open(&port, tty, file);
}

static void terminal_close(struct tty_struct *tty, struct file *file)
{
	tty_port_close(&port, tty, file);
}

static void terminal_hangup(struct tty_struct *tty)
{
	tty_port_hangup(&port);
}

static int terminal_write(struct tty_struct *tty, const unsigned char *bytes, int count)
{
	int written = count > 0 ? write_bytes(bytes, count) : 0;

	return written == -EDQUOT ? count : written; /* lost, as the kernel's messages are: no program ends by it */
}

static unsigned int terminal_room(struct tty_struct *tty)
{
	return PV_LIMIT_CONSOLE_BYTES; /* it goes at once */
}

static const struct tty_operations terminal_operations = {
	.open = terminal_open,
	.close = terminal_close,
	.hangup = terminal_hangup,
	.write = terminal_write,
	.write_room = terminal_room,
};

static void receive(struct work_struct *work);
static DECLARE_DELAYED_WORK(receive_work, receive);

static void receive(struct work_struct *work)
{
	struct pv_answer answer;
	int room;

	if (!READ_ONCE(open))
		return; /* input waits for who opens the terminal next */
	do {
		room = tty_buffer_request_room(&port, PV_LIMIT_CONSOLE_BYTES);
		if (room <= 0)
			break; /* who has it open does not read */
		answer = pv_call2(PV_CALL_CONSOLE_READ, paravirt_gpa(input), room);
		if (answer.status < 0)
			break;
		tty_insert_flip_string(&port, input, min_t(u64, answer.value, room));
		tty_flip_buffer_push(&port);
	} while (answer.value == room); /* less: the channel tells of more (CON-4) */
	if (!told || room <= 0)
		schedule_delayed_work(&receive_work, LOOK_JIFFIES);
}

static void waiting(void *data)
{
	mod_delayed_work(system_wq, &receive_work, 0);
}

static int activate(struct tty_port *of, struct tty_struct *tty)
{
	WRITE_ONCE(open, true);
	mod_delayed_work(system_wq, &receive_work, 0); /* what came before somebody listened */
	return 0;
}

static void deactivate(struct tty_port *of)
{
	WRITE_ONCE(open, false);
}

static const struct tty_port_operations port_operations = { .activate = activate, .shutdown = deactivate };

static void message(struct console *console, const char *text, unsigned int count)
{
	while (count) {
		unsigned int some = min_t(unsigned int, count, PV_LIMIT_CONSOLE_BYTES);

		if (write_bytes((const u8 *)text, some) <= 0)
			return;
		text += some;
		count -= some;
	}
}

static struct tty_driver *console_driver(struct console *console, int *index)
{
	*index = 0;
	return driver;
}

static struct console console = {
	.name = "ttyPV",
	.write = message,
	.device = console_driver,
	.flags = CON_PRINTBUFFER,
	.index = -1,
};

static int make_terminal(void)
{
	int error;

	driver = tty_alloc_driver(1, TTY_DRIVER_REAL_RAW | TTY_DRIVER_RESET_TERMIOS);
	if (IS_ERR(driver)) {
		error = PTR_ERR(driver);
		driver = NULL;
		return error;
	}
	driver->driver_name = "paravirt_console";
	driver->name = "ttyPV";
	driver->type = TTY_DRIVER_TYPE_SYSTEM;
	driver->subtype = SYSTEM_TYPE_CONSOLE;
	driver->init_termios = tty_std_termios;
	driver->init_termios.c_oflag |= ONLCR;
	tty_set_operations(driver, &terminal_operations);
	tty_port_init(&port);
	port.ops = &port_operations;
	tty_port_link_device(&port, driver, 0);
	error = tty_register_driver(driver);
	if (error) {
		tty_driver_kref_put(driver);
		tty_port_destroy(&port);
		driver = NULL;
	}
	return error;
}

int paravirt_console_init(void)
{
	u64 features;
	int error;

	if (!paravirt_offered(PV_SERVICE_CONSOLE, &features))
		return 0;
	output = kmalloc(PV_LIMIT_CONSOLE_BYTES, GFP_KERNEL);
	input = kmalloc(PV_LIMIT_CONSOLE_BYTES, GFP_KERNEL);
	error = output && input ? make_terminal() : -ENOMEM;
	if (!error) {
		error = paravirt_event_bind(0, PV_CHANNEL_CONSOLE, waiting, NULL);
		error = min(error, 0);
		told = !error && paravirt_accept(PV_SERVICE_CONSOLE, PV_CONSOLE_FEATURE_INPUT);
	}
	if (error) {
		paravirt_console_exit();
		return error;
	}
	register_console(&console);
	return 0;
}

void paravirt_console_exit(void)
{
	if (driver) {
		unregister_console(&console);
		paravirt_event_unbind(0, PV_CHANNEL_CONSOLE);
		cancel_delayed_work_sync(&receive_work);
		tty_unregister_driver(driver);
		tty_driver_kref_put(driver);
		tty_port_destroy(&port);
		driver = NULL;
	}
	kfree(input);
	kfree(output);
	input = output = NULL;
}
