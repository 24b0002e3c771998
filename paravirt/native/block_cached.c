// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the page cache has of a file is learnt in two ways: mincore(2), once for each piece, and from the transfers
 * that the engine did.  It may lose pages again, which nobody tells: touching one of them waits for the disk and keeps
 * the other requests of the queue waiting.  That is seen, and everything is forgotten, to be learnt anew.
 */
#define _GNU_SOURCE
#include "block_cached.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fault_copy.h"

#define PAGE_BYTES 4096u
#define PIECE_PAGES 512u
/*
 * Pieces that are ever touched, 64 GiB of a disk.  Each costs a page of the kernel's tables, which stays while the file
 * is mapped, and one of ours: a guest that looks into all of a large sparse file would have the host pay for that.
 */
#define MOST_PIECES 32768u
/* A larger read would keep a thread that is to end from it. */
#define MOST_BYTES (4u << 20)
/* A copy takes less than a tick of the counter for a byte; some 30 µs more, and it may have waited. */
#define SLOW_TICKS 100000u
/* How long a look at the process's handler of SIGBUS holds, some 100 µs: each copy would pay a system call for its own. */
#define GUARD_TICKS 300000u

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14; older C libraries do not name it */
#endif

struct pv_block_cached {
	const uint8_t *hva;
	uint64_t page_count; /* whole ones */
	uint64_t table_bytes;
	uint8_t *pages; /* the round in which a page was last known to be there; any thread writes it */
	uint8_t *pieces; /* the round in which mincore was asked; behind the pages. 0: not admitted */
	uint32_t admitted; /* pieces; atomic */
	uint8_t round; /* never 0 */
	uint64_t guarded; /* when the handler was last looked at, in ticks; any thread writes it */
	bool is_regular;
	int fd;
};

/* mincore tells all pages of who may not write a file, and does not own it, as there. */
static bool is_told(int fd)
{
	char path[32];
	struct stat status;

	if (fstat(fd, &status) < 0)
		return false;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return status.st_uid == geteuid() || access(path, W_OK) == 0;
}

struct pv_block_cached *pv_block_cached_create(int fd, uint64_t size_bytes)
{
	uint64_t count = size_bytes / PAGE_BYTES, piece_count = (count + PIECE_PAGES - 1) / PIECE_PAGES;
	struct pv_block_cached *cached;
	struct stat status;
	void *hva, *table;

	if (!count || sysconf(_SC_PAGESIZE) != PAGE_BYTES || !is_told(fd) || !pv_fault_copy_guard())
		return NULL;
	hva = mmap(NULL, count * PAGE_BYTES, PROT_READ, MAP_SHARED, fd, 0);
	if (hva == MAP_FAILED)
		return NULL;
	/* Zeros, and no memory, until something is learnt. */
	table = mmap(NULL, count + piece_count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		     0);
	cached = table == MAP_FAILED ? NULL : malloc(sizeof(*cached));
	if (!cached) {
		if (table != MAP_FAILED)
			munmap(table, count + piece_count);
		munmap(hva, count * PAGE_BYTES);
		return NULL;
	}
	*cached = (struct pv_block_cached){
		.hva = hva,
		.page_count = count,
		.table_bytes = count + piece_count,
		.pages = table,
		.pieces = (uint8_t *)table + count,
		.round = 1,
		.is_regular = fstat(fd, &status) == 0 && S_ISREG(status.st_mode),
		.fd = fd,
	};
	return cached;
}

void pv_block_cached_destroy(struct pv_block_cached *cached)
{
	if (!cached)
		return;
	munmap(cached->pages, cached->table_bytes);
	munmap((void *)(uintptr_t)cached->hva, cached->page_count * PAGE_BYTES);
	free(cached);
}

static uint8_t round_now(const struct pv_block_cached *cached)
{
	return __atomic_load_n(&cached->round, __ATOMIC_RELAXED);
}

static void mark(struct pv_block_cached *cached, uint64_t page)
{
	__atomic_store_n(&cached->pages[page], round_now(cached), __ATOMIC_RELAXED);
}

static uint8_t asked_in(const struct pv_block_cached *cached, uint64_t page)
{
	return __atomic_load_n(&cached->pieces[page / PIECE_PAGES], __ATOMIC_RELAXED);
}

/* Whether the piece that a page lies in may be touched: once it was, it always may. */
static bool admit(struct pv_block_cached *cached, uint64_t page)
{
	if (asked_in(cached, page))
		return true;
	if (__atomic_load_n(&cached->admitted, __ATOMIC_RELAXED) >= MOST_PIECES)
		return false;
	__atomic_fetch_add(&cached->admitted, 1, __ATOMIC_RELAXED);
	return true;
}

/* Asks what the page cache has of the piece that a page lies in; false if that was done, or may not be. */
static bool ask(struct pv_block_cached *cached, uint64_t page)
{
	uint8_t there[PIECE_PAGES], *asked = &cached->pieces[page / PIECE_PAGES];
	uint64_t first = page / PIECE_PAGES * PIECE_PAGES, count = cached->page_count - first, found = 0;
	void *hva = (void *)(uintptr_t)(cached->hva + first * PAGE_BYTES);

	if (!admit(cached, page) ||
	    __atomic_exchange_n(asked, round_now(cached), __ATOMIC_RELAXED) == round_now(cached))
		return false;
	if (count > PIECE_PAGES)
		count = PIECE_PAGES;
	if (mincore(hva, count * PAGE_BYTES, there) < 0)
		return false;
	for (uint64_t i = 0; i < count; i++) {
		if (there[i] & 1) {
			mark(cached, first + i);
			found++;
		}
	}
	/* All at once rather than fault by fault; what is missing would be read from the disk. */
	if (found == count)
		madvise(hva, count * PAGE_BYTES, MADV_POPULATE_READ);
	return true;
}

static bool is_there(struct pv_block_cached *cached, uint64_t page)
{
	return __atomic_load_n(&cached->pages[page], __ATOMIC_RELAXED) == round_now(cached);
}

static bool are_there(struct pv_block_cached *cached, uint64_t offset_bytes, uint64_t size_bytes)
{
	uint64_t end = (offset_bytes + size_bytes + PAGE_BYTES - 1) / PAGE_BYTES;

	if (end > cached->page_count)
		return false;
	for (uint64_t page = offset_bytes / PAGE_BYTES; page < end; page++) {
		if (!is_there(cached, page) && !(ask(cached, page) && is_there(cached, page)))
			return false;
	}
	return true;
}

static void forget(struct pv_block_cached *cached)
{
	uint8_t next = (uint8_t)(round_now(cached) + 1);

	/* Marks of a round that comes again would be believed; pieces stay admitted, and are asked about or not. */
	if (!next) {
		uint64_t whole = cached->page_count / PAGE_BYTES * PAGE_BYTES;

		madvise(cached->pages, whole, MADV_DONTNEED);
		memset(cached->pages + whole, 0, cached->page_count - whole);
		next = 1;
	}
	__atomic_store_n(&cached->round, next, __ATOMIC_RELAXED);
}

/* A slow copy waited for the disk, or for the CPU. */
static bool was_read(void)
{
	static _Thread_local long before;
	struct rusage usage;
	long now = getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_majflt : before;
	bool more = now != before;

	before = now;
	return more;
}

/*
 * Whether the file ends before the data that was copied does, whose last byte this is.  Behind a page that is no more
 * there is a fault; the rest of the last one is zeros.
 */
static bool is_cut(const struct pv_block_cached *cached, const struct pv_aio_request *io, const uint8_t *last)
{
	struct stat status;

	return cached->is_regular && !*(const volatile uint8_t *)last &&
	       (fstat(cached->fd, &status) < 0 || (uint64_t)status.st_size < io->offset_bytes + io->size_bytes);
}

/*
 * Whether a fault would come to us.  The handler is the process's, and a module that is switched on while the guest runs
 * may put its own there, or back what it found before us: then there are no copies.  Ours is not put over theirs, for
 * they may hand a signal back to us that we would hand to them.
 */
static bool is_guarded(struct pv_block_cached *cached, uint64_t now)
{
	if (now - __atomic_load_n(&cached->guarded, __ATOMIC_RELAXED) < GUARD_TICKS)
		return true;
	if (!pv_fault_copy_guard())
		return false;
	__atomic_store_n(&cached->guarded, now, __ATOMIC_RELAXED);
	return true;
}

bool pv_block_cached_read(struct pv_block_cached *cached, const struct pv_aio_request *io)
{
	const uint8_t *from = cached->hva + io->offset_bytes, *last = NULL;
	uint64_t left = io->size_bytes, begin = __builtin_ia32_rdtsc();

	if (left > MOST_BYTES || !is_guarded(cached, begin) || !are_there(cached, io->offset_bytes, left))
		return false;
	for (uint32_t i = 0; i < io->segment_count; i++) {
		const struct iovec *to = &io->segments[i];

		/* The engine meets the same, and says what it is. */
		if (pv_fault_copy(to->iov_base, from, to->iov_len)) {
			forget(cached);
			return false;
		}
		from += to->iov_len;
		last = (const uint8_t *)to->iov_base + to->iov_len - 1;
	}
	if (!last || is_cut(cached, io, last))
		return false;
	if (__builtin_ia32_rdtsc() - begin > SLOW_TICKS + io->size_bytes && was_read())
		forget(cached);
	return true;
}

void pv_block_cached_passed(struct pv_block_cached *cached, uint64_t offset_bytes, uint64_t size_bytes)
{
	uint64_t end = (offset_bytes + size_bytes + PAGE_BYTES - 1) / PAGE_BYTES;

	if (end > cached->page_count)
		end = cached->page_count;
	/* Of a piece that was never read mincore tells when it is. */
	for (uint64_t page = offset_bytes / PAGE_BYTES; page < end; page++) {
		if (asked_in(cached, page))
			mark(cached, page);
	}
}
