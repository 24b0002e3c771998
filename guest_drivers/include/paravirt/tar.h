/* SPDX-License-Identifier: 0BSD
 *
 * Walking a tar archive in memory: ustar with its name prefix, PAX headers ('x': path and size) and
 * GNU long names ('L').  Only regular files are reported.  The archive is not trusted: every length is
 * checked against what is left.
 */
#ifndef PARAVIRT_TAR_H
#define PARAVIRT_TAR_H

#include <stddef.h>
#include <stdint.h>

#define PV_TAR_BLOCK_BYTES 512
#define PV_TAR_NAME_BYTES 1024

struct pv_tar {
	const uint8_t *archive;
	uint64_t size_bytes;
	uint64_t offset; /* of the next header */
};

struct pv_tar_entry {
	char name[PV_TAR_NAME_BYTES]; /* with a NUL */
	const uint8_t *data;
	uint64_t size_bytes;
};

#define PV_TAR_FILE 1
#define PV_TAR_END 0
#define PV_TAR_MALFORMED (-1) /* bad checksum, number or length, or a name that is too long */

void pv_tar_init(struct pv_tar *tar, const void *archive, uint64_t size_bytes);
/* The next regular file; one of PV_TAR_. */
int pv_tar_next(struct pv_tar *tar, struct pv_tar_entry *entry);

#endif
