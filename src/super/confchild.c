/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * confchild.c: runs turnpike-conf and takes what it compiled.  The supervisor parses nothing: it checks
 * the compiled form as every process does, keeps the numbers of rows that sessions refer to, and seals
 * the result.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "super_int.h"

#define CONF_FIRST_MS 30000
#define SETS_MAX      64
#define SEALS         (F_SEAL_SHRINK | F_SEAL_WRITE)

static const char *const pass_env[] = { "CREDENTIALS_DIRECTORY", NULL };

static int
run(struct conf_run *r, int binary, const char *path, const char *const *argv, const int *keep,
    unsigned kept, bool keep_stderr)
{
	int pair[2], err;

	memset(r, 0, sizeof *r);
	r->fd = r->conf_fd = r->users_fd = r->certs_fd = -1;
	if ((err = ipc_pair(pair)) < 0)
		return err;
	struct spawn s = { .path = path,
		.argv = (char *const *)argv,
		.control = pair[1],
		.log = -1,
		.keep = keep,
		.authd_count = kept,
		.binary = binary,
		.reduce = true,
		.keep_stderr = keep_stderr,
		.pass_env = pass_env,
		.sibling = true };
	r->pid = spawn_child(&s);
	close(pair[1]);
	if (r->pid < 0) {
		err = r->pid;
		r->pid = 0;
		close(pair[0]);
		return err;
	}
	r->fd = pair[0];
	return 0;
}

int
conf_run_files(struct conf_run *r, const struct super_options *o, int binary, int conf_fd)
{
	char path[PATH_MAX], number[16];
	const char *argv[] = { "turnpike-conf", "--fd", "3", "--files", number, NULL };

	snprintf(path, sizeof path, "%s/turnpike-conf", o->libexec_dir);
	snprintf(number, sizeof number, "%d", conf_fd);
	return run(r, binary, path, argv, &conf_fd, 1, false);
}

int
conf_run_start(struct conf_run *r, const struct super_options *o, int binary, uint64_t generation,
    bool foreground, bool keep_stderr)
{
	const char *argv[16 + 2 * SETS_MAX];
	char path[PATH_MAX], number[24];
	int n = 0;

	snprintf(path, sizeof path, "%s/turnpike-conf", o->libexec_dir);
	snprintf(number, sizeof number, "%llu", (unsigned long long)generation);
	argv[n++] = "turnpike-conf";
	argv[n++] = "--fd";
	argv[n++] = "3";
	argv[n++] = "--generation";
	argv[n++] = number;
	argv[n++] = "--state-dir";
	argv[n++] = o->state_dir;
	if (foreground)
		argv[n++] = "--foreground";
	for (unsigned i = 0; i < o->set_count && i < SETS_MAX; i++) {
		argv[n++] = "--set";
		argv[n++] = o->sets[i];
	}
	if (o->config != NULL) {
		argv[n++] = "--config";
		argv[n++] = o->config;
	}
	argv[n] = NULL;
	return run(r, binary, path, argv, NULL, 0, keep_stderr);
}

static void
take_blob(struct conf_run *r, const struct msg_conf_blob *m, int fd)
{
	int *where = m->blob == BLOB_CONF ? &r->conf_fd
	    : m->blob == BLOB_USERS       ? &r->users_fd
	    : m->blob == BLOB_CERTS       ? &r->certs_fd
					  : NULL;

	if (where == NULL || *where >= 0) {
		close(fd);
		return;
	}
	*where = fd;
	if (m->blob == BLOB_CONF)
		r->conf_size = m->size;
	else if (m->blob == BLOB_USERS)
		r->users_size = m->size;
	else
		r->certs_size = m->size;
}

int
conf_run_read(struct conf_run *r)
{
	union msg m;
	int err, fd;

	while ((err = ipc_recv(r->fd, ROLE_CONF, ROLE_SUPER, &m, &fd)) == 1) {
		switch (m.h.type) {
		case MSG_CONF_TEXT:
			if (r->line_count < CONF_LINES) {
				struct conf_line *l = &r->line[r->line_count++];
				l->level = m.msg_conf_text.level;
				m.msg_conf_text.text[MSG_TEXT_MAX - 1] = '\0';
				text_copy(l->text, sizeof l->text, m.msg_conf_text.text);
			}
			break;
		case MSG_CONF_BLOB:
			take_blob(r, &m.msg_conf_blob, fd);
			break;
		case MSG_CONF_DONE:
			r->done = true;
			r->ok = m.msg_conf_done.ok && r->conf_fd >= 0 && r->users_fd >= 0 &&
			    r->certs_fd >= 0;
			r->errors = m.msg_conf_done.errors;
			return 1;
		default:
			return -EPROTO;
		}
	}
	return err;
}

void
conf_run_end(struct conf_run *r)
{
	int *fds[] = { &r->fd, &r->conf_fd, &r->users_fd, &r->certs_fd };

	for (unsigned i = 0; i < TP_COUNT(fds); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
}

int
conf_run_wait(struct conf_run *r)
{
	tp_ms end = clock_ms() + CONF_FIRST_MS, now;
	int err = 0;

	while ((now = clock_ms()) < end && (err = conf_run_read(r)) == 0) {
		struct pollfd p = { .fd = r->fd, .events = POLLIN };
		(void)poll(&p, 1, (int)(end - now));
	}
	(void)kill(r->pid, SIGKILL); /* it has nothing left to say */
	if (err == 0)
		err = -ETIMEDOUT;
	r->pid = 0;
	if (err < 0)
		return err;
	return r->ok ? 0 : -EINVAL;
}

/* A copy of the compiled form, checked. */
int
conf_run_conf(const struct conf_run *r, struct conf *c)
{
	const struct conf *p;
	int err;

	if (r->conf_size != sizeof *c || (fcntl(r->conf_fd, F_GET_SEALS) & SEALS) != SEALS)
		return -EPROTO;
	p = mmap(NULL, sizeof *c, PROT_READ, MAP_SHARED, r->conf_fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	memcpy(c, p, sizeof *c);
	munmap((void *)(uintptr_t)p, sizeof *c);
	err = conf_validate(c, sizeof *c);
	if (err == 0)
		(void)super_addresses_mark(c);
	return err;
}

int
conf_seal(const char *name, const void *bytes, size_t len)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING), e;
	const char *p = bytes;

	if (fd < 0)
		return -errno;
	while (len > 0) {
		ssize_t n = write(fd, p, len);
		if (n <= 0)
			goto fail;
		p += n;
		len -= (size_t)n;
	}
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == 0)
		return fd;
fail:
	e = errno;
	close(fd);
	return -e;
}
