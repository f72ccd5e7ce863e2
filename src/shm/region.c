/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * region.c: sealed memfds, and their mapping between guard pages.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tp/shm.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3 */
#endif

static size_t
page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static int
open_memfd(const char *name)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	return fd;
}

int
region_make(const char *name, size_t size, int *fd_rw, int *fd_ro)
{
	char path[40];
	int rw = -1, ro = -1, err;

	if (size == 0 || size > (size_t)INT64_MAX || size % page_size() != 0)
		return -EINVAL;
	if ((rw = open_memfd(name)) < 0)
		return -errno;
	snprintf(path, sizeof path, "/proc/self/fd/%d", rw);
	/* The mode first: it is what keeps another user from re-opening the read-only one for writing. */
	if (fchmod(rw, 0600) != 0 || ftruncate(rw, (off_t)size) != 0 ||
	    fcntl(rw, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0 ||
	    (ro = open(path, O_RDONLY | O_CLOEXEC)) < 0) {
		err = -errno;
		close(rw);
		return err;
	}
	*fd_rw = rw;
	*fd_ro = ro;
	return 0;
}

/* A descriptor that could still be shrunk would let its owner kill us with SIGBUS. */
static int
check_fd(int fd, size_t size)
{
	struct stat st;
	int seals;

	if (fstat(fd, &st) != 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size < 0 || (uintmax_t)st.st_size < size)
		return -EINVAL;
	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0)
		return -errno;
	return seals & F_SEAL_SHRINK ? 0 : -EPERM;
}

void *
region_map(int fd, size_t size, bool write, bool secret)
{
	size_t page = page_size(), span = size + 2 * page;
	uint8_t *base;
	int err;

	if (size == 0 || size % page != 0 || span < size) {
		errno = EINVAL;
		return NULL;
	}
	if ((err = check_fd(fd, size)) != 0) {
		errno = -err;
		return NULL;
	}
	base = mmap(NULL, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		return NULL;
	if (mmap(base + page, size, write ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED | MAP_FIXED, fd,
		0) == MAP_FAILED ||
	    (secret && madvise(base + page, size, MADV_DONTDUMP) != 0)) {
		err = errno;
		munmap(base, span);
		errno = err;
		return NULL;
	}
	return base + page;
}

void
region_unmap(void *base, size_t size)
{
	size_t page = page_size();

	if (base != NULL)
		munmap((uint8_t *)base - page, size + 2 * page);
}
