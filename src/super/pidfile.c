/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pidfile.c: the runtime directory is locked by its pid file; a stale file locks nothing.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "super_int.h"

#define PIDFILE "turnpiked.pid"
#define ENDING_TRIES                                                                                       \
	250 /* of ENDING_WAIT: how long a daemon whose waiting process is dead may take to end */
static const struct timespec ENDING_WAIT = { .tv_nsec = 20000000 };

static pid_t
read_pid(int fd)
{
	char text[24] = "";
	ssize_t n = pread(fd, text, sizeof text - 1, 0);

	return n > 0 ? (pid_t)atol(text) : 0;
}

/* The file that is locked must still be the one that has the name: its last holder may have removed it. */
static bool
is_named(int fd, const char *path)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

static int
open_locked(const char *path, pid_t *holder)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600), err;

	if (fd < 0)
		return -errno;
	/* flock() needs no right to write: any process that can open the file could hold the lock, and
	 * keep a start waiting. */
	(void)fchmod(fd, 0600);
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return fd;
	err = -errno;
	*holder = read_pid(fd);
	close(fd);
	return err;
}

int
pidfile_lock(const char *runtime_dir, pid_t *holder)
{
	char path[PATH_MAX];
	int fd;

	*holder = 0;
	if (snprintf(path, sizeof path, "%s/" PIDFILE, runtime_dir) >= (int)sizeof path)
		return -ENAMETOOLONG;
	if (mkdir(runtime_dir, 0755) == 0)
		(void)chmod(runtime_dir, 0755); /* whatever the umask */
	else if (errno != EEXIST)
		return -errno;
	for (int i = 0; i < ENDING_TRIES; i++) {
		fd = open_locked(path, holder);
		if (fd >= 0 && is_named(fd, path))
			return fd;
		if (fd >= 0) {
			close(fd);
			continue;
		}
		/* The supervisor of a waiting process that was killed holds the lock until it has ended. */
		if (fd != -EWOULDBLOCK || *holder <= 0 || kill(*holder, 0) == 0 || errno != ESRCH)
			return fd;
		(void)nanosleep(&ENDING_WAIT, NULL);
	}
	return -EWOULDBLOCK;
}

int
pidfile_write(int fd, pid_t pid)
{
	char text[24];
	int n = snprintf(text, sizeof text, "%ld\n", (long)pid);

	if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)n, 0) != n)
		return -errno;
	return 0;
}

void
pidfile_remove(const char *runtime_dir)
{
	char path[PATH_MAX];

	snprintf(path, sizeof path, "%s/" PIDFILE, runtime_dir);
	(void)unlink(path);
}
