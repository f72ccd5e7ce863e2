/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * log_target.c: stderr, a file, syslog or journald.  None of them is ever waited for.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tp/admin.h"

static const struct {
	const char *name, *path;
} sockets[] = {
	[TARGET_SYSLOG] = { "syslog", "/dev/log" },
	[TARGET_JOURNALD] = { "journald", "/run/systemd/journal/socket" },
};

static int
open_file(const char *path, bool shared)
{
	const int flags = O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	int fd = open(path, flags | O_CREAT | O_EXCL, 0640);

	if (fd >= 0) {
		if (shared && fchmod(fd, 0660) < 0)
			log_warn("log: %s cannot be opened again at a reload", path);
		return fd;
	}
	if (errno != EEXIST)
		return -errno;
	fd = open(path, flags);
	return fd < 0 ? -errno : fd;
}

int
target_open(struct target *t, const char *name, bool json, bool shared)
{
	struct target new = { .kind = TARGET_FILE, .json = json, .lost = t->lost };

	if (text_copy(new.name, sizeof new.name, name) >= sizeof new.name)
		return -ENAMETOOLONG;
	if (strcmp(name, "stderr") == 0) {
		new.kind = TARGET_STDERR;
		new.fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	} else if (name[0] == '/') {
		new.fd = open_file(name, shared);
	} else {
		new.kind = strcmp(name, "journald") == 0 ? TARGET_JOURNALD : TARGET_SYSLOG;
		if (strcmp(name, sockets[new.kind].name) != 0)
			return -EINVAL;
		new.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	}
	if (new.fd < 0)
		return new.kind == TARGET_FILE ? new.fd : -errno;
	target_close(t);
	*t = new;
	return 0;
}

void
target_close(struct target *t)
{
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
}

/* The address each time: the daemon behind the socket may be restarted. */
static bool
send_line(const struct target *t, const char *line, size_t n)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };

	text_copy(to.sun_path, sizeof to.sun_path, sockets[t->kind].path);
	return sendto(t->fd, line, n, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&to, sizeof to) ==
	    (ssize_t)n;
}

/*
 * stderr may be a pipe or terminal that others share, so it cannot be made non-blocking.  A pipe that
 * polls writable has room for PIPE_BUF bytes, and no line is longer.
 */
static bool
write_line(const struct target *t, const char *line, size_t n)
{
	struct pollfd p = { .fd = t->fd, .events = POLLOUT };

	if (t->kind == TARGET_STDERR && (poll(&p, 1, 0) != 1 || (p.revents & POLLOUT) == 0))
		return false;
	return write(t->fd, line, n) == (ssize_t)n;
}

void
target_write(struct target *t, const struct log_rec *r)
{
	char line[LOGLINE_MAX];
	bool done = false;

	if (t->kind == TARGET_SYSLOG)
		done = send_line(t, line, logline_syslog(r, line));
	else if (t->kind == TARGET_JOURNALD)
		done = send_line(t, line, logline_journal(r, line));
	else if (t->json)
		done = write_line(t, line, logline_json(r, line));
	else
		done = write_line(t, line, logline_text(r, line));
	if (!done)
		t->lost++;
}
