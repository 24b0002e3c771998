/* SPDX-License-Identifier: 0BSD
 *
 * /dev/paravirt, for programs of a Linux guest.
 *
 *   ioctl PARAVIRT_CALL   a call, with addresses of the program's own in place of guest-physical ones
 *   mmap                  pages that the host writes, to be read: time, then continuity, then one for each vCPU
 *   read, poll            a paravirt_continuity_event for each that came since the file was opened, or the last of them
 */
#ifndef PARAVIRT_USER_H
#define PARAVIRT_USER_H

#include <linux/ioctl.h>
#include <linux/types.h>

struct paravirt_user_call {
	__u32 id; /* PV_CALL_ */
	__u32 reserved; /* zero */
	__u64 arguments[6]; /* those that it does not have are zero */
	__s64 status; /* out */
	__u64 value; /* out */
};

/* EPERM: not without CAP_SYS_ADMIN. EACCES: a call that is the kernel's own. EMSGSIZE: a buffer above the limit. */
#define PARAVIRT_CALL _IOWR('V', 0xa0, struct paravirt_user_call)

/* Pages of mmap(), as offsets in units of the page size. */
#define PARAVIRT_PAGE_TIME 0
#define PARAVIRT_PAGE_CONTINUITY 1
#define PARAVIRT_PAGE_VCPU 2 /* and the index of the vCPU */

struct paravirt_continuity_event {
	__u64 counter; /* 0: none yet */
	__u64 clock_jump_ns;
	__u32 event; /* PV_CONTINUITY_EVENT_ */
	__u32 reserved;
	__u8 generation[16];
};

#endif
