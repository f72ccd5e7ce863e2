/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * daemon.c: standard descriptors, and going to the background in such a way that the caller learns the
 * outcome.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "super_int.h"

/* Takes the lowest number that is free.  A container may have no /dev/null, or one for root only: then a
 * descriptor that can be neither read nor written. */
static int
open_null(int flags)
{
	int fd = open("/dev/null", O_RDWR | flags);

	return fd >= 0 ? fd : open("/", O_PATH | flags);
}

int
daemon_stdio(void)
{
	int fd;

	umask(022);
	for (fd = 0; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open_null(0) != fd)
			return -errno;
	/* What the caller's shell left open is not ours, and would sit in the way of our numbers. */
	for (fd = 3; fd < 1024; fd++)
		close(fd);
	(void)close_range(1024, ~0u, 0);
	return daemon_low();
}

int
daemon_low(void)
{
	int fd;

	for (fd = CHILD_FD_CONTROL; fd <= CHILD_FD_LOG; fd++)
		if (open_null(O_CLOEXEC) != fd)
			return -errno;
	if (dup2(CHILD_FD_CONTROL, STDIN_FILENO) < 0 || dup2(CHILD_FD_CONTROL, STDOUT_FILENO) < 0)
		return -errno;
	return 0;
}

static void __attribute__((noreturn)) wait_for(int fd, pid_t pid)
{
	unsigned char code;
	int status;

	while (read(fd, &code, 1) < 0 && errno == EINTR)
		;
	if (read(fd, &code, 0) == 0 && waitpid(pid, &status, WNOHANG) == 0)
		_exit(code);
	_exit(EXIT_INTERNAL);
}

int
daemon_fork(void)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid > 0) {
		close(fds[1]);
		wait_for(fds[0], pid);
	}
	close(fds[0]);
	if (setsid() < 0 || chdir("/") < 0)
		return -errno;
	return fds[1];
}

void
daemon_done(int fd, int code)
{
	unsigned char byte = (unsigned char)code;

	if (write(fd, &byte, 1) < 0)
		return; /* the caller does not wait any more */
	close(fd);
	if (code == 0)
		(void)dup2(STDOUT_FILENO, STDERR_FILENO);
}
