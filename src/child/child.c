/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * child.c: the life of a small process that turnpiked started.
 *
 * 	START -> start() -> GO -> go() -> READY -> messages -> STOP, or the supervisor is gone
 *
 * A worker is told more between START and GO, and has an event loop of its own: child_told() is its part
 * of this.  One that stands by for the end of its predecessor also gets PREPARE, and answers PREPARED.
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tp/child.h"

#define EXIT_INTERNAL 70
#define EXIT_USAGE    64
#define TOLD_WAIT_MS  30000

void
child_give_up(struct child_proc *c, int err, const char *what)
{
	if (c->stat != NULL)
		stat_words(c->stat, err != 0 ? "%s: %s" : "%s", what, strerror(err));
	if (c->role->writes_log)
		log_sink_fd(-1);
	errno = err;
	fatal(EXIT_INTERNAL, "%s", what);
}

void *
child_map(int fd, size_t least, size_t most, size_t *size)
{
	void *map = MAP_FAILED;
	struct stat st;

	*size = fstat(fd, &st) == 0 ? (size_t)st.st_size : 0;
	if (*size < least || *size > most)
		errno = EINVAL;
	else
		map = mmap(NULL, *size, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	return map == MAP_FAILED ? NULL : map;
}

int
child_conf(int fd, void (*take)(void *arg, const struct conf *c), void *arg)
{
	size_t size;
	struct conf *c = child_map(fd, sizeof *c, sizeof *c + 65536, &size);
	int err;

	if (c == NULL)
		return -errno;
	err = conf_validate(c, size);
	if (err == 0) {
		log_level_set((enum log_level)c->log_level);
		take(arg, c);
	}
	munmap(c, size);
	return err;
}

void
child_confine(struct child_proc *c, int log_dir)
{
	child_confine_reach(c, &(struct sandbox_reach){ .log_dir = log_dir }, c->role->role);
}

void
child_confine_reach(struct child_proc *c, const struct sandbox_reach *reach, unsigned role)
{
	int err;

	sandbox_spend_first();
	err = c->start.drop_privileges ? sandbox_become(c->start.uid, c->start.gid) : 0;
	if (err == 0)
		err = sandbox_harden(c->parent);
	if (err < 0)
		child_give_up(c, -err, "privileges: cannot give them up");
	/* A kernel without it is the supervisor's one warning; anything else is this process's own. */
	err = sandbox_landlock_reach(reach);
	if (err < 0 && err != -ENOSYS && err != -EOPNOTSUPP && err != -EPERM)
		log_warnx("landlock: files are not confined: %s", strerror(-err));
	if ((err = sandbox_seccomp(role)) < 0)
		child_give_up(c, -err, "system calls: cannot give them up");
}

void
child_beat(struct child_proc *c)
{
	atomic_store_explicit(&c->stat->heartbeat_ms, clock_ms(), memory_order_relaxed);
	atomic_fetch_add_explicit(&c->stat->ticks, 1, memory_order_relaxed);
	stat_add(c->stat, STAT_LOG_LOST, log_lost() - c->stat->counter[STAT_LOG_LOST]);
}

/* ---- messages of the supervisor ------------------------------------------------------------------- */

static void
on_start(struct child_proc *c, const struct msg_start *m)
{
	if (c->started || m->role != (unsigned)c->role->role || m->index != c->index)
		child_give_up(c, EPROTO, "start: told to be another process");
	c->started = true;
	c->start = *m;
	if (m->stand_by)
		c->stat = mmap(NULL, STAT_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	else
		c->stat = region_map(m->stat_fd, STAT_SIZE, true, false);
	if (c->stat == NULL || c->stat == MAP_FAILED)
		child_give_up(c, errno, "start: cannot map the counters");
	stat_init(c->stat, m->role, m->index, m->h.generation, clock_ms());
	c->role->start(c->arg, m);
}

#define USAGE_MS 5000
static void
on_usage(void *arg)
{
	struct child_proc *c = arg;

	stat_usage(c->stat, c->usage_fd);
	(void)loop_after(c->loop, USAGE_MS, on_usage, c);
}

static void
on_go(struct child_proc *c)
{
	struct msg_ready ready = { .h = { .type = MSG_READY, .generation = c->start.h.generation } };

	if (!c->started || c->serving)
		child_give_up(c, EPROTO, "start: GO out of turn");
	c->serving = true;
	on_usage(c);
	c->role->go(c->arg);
	if (c->stat->ready == 0)
		c->stat->ready = STAT_READY;
	if (ipc_send(CHILD_FD_CONTROL, &ready, -1) < 0)
		child_give_up(c, errno, "start: cannot answer READY");
}

static void
on_stop(struct child_proc *c)
{
	if (c->serving && c->role->stop != NULL)
		c->role->stop(c->arg);
	else
		loop_stop(c->loop, 0);
}

static void
handle(struct child_proc *c, const union msg *m, int fd)
{
	if (m->h.type != MSG_START && m->h.type != MSG_STOP && !c->started)
		child_give_up(c, EPROTO, "control: a message before START");
	switch (m->h.type) {
	case MSG_START:
		on_start(c, &m->msg_start);
		break;
	case MSG_GO:
		on_go(c);
		break;
	case MSG_STOP:
		on_stop(c);
		break;
	default:
		c->role->message(c->arg, m, fd);
	}
}

static void
on_control(void *arg, int sock, uint32_t events)
{
	struct child_proc *c = arg;
	union msg m;
	int fd, n;

	(void)events;
	while ((n = ipc_recv(sock, ROLE_SUPER, c->role->role, &m, &fd)) == 1)
		handle(c, &m, fd);
	if (n == -EPIPE)
		loop_stop(c->loop, 0); /* the supervisor is gone: so is our purpose */
	else if (n < 0)
		child_give_up(c, -n, "control: bad message of the supervisor");
}

/* One message; ends the process where there will be none. */
static void
await_message(struct child_proc *c, union msg *m, int *fd)
{
	struct pollfd p = { .fd = CHILD_FD_CONTROL, .events = POLLIN };

	for (;;) {
		int n = ipc_recv(CHILD_FD_CONTROL, ROLE_SUPER, c->role->role, m, fd);

		if (n == 1)
			return;
		if (n == -EPIPE)
			exit(0); /* the supervisor is gone */
		if (n < 0)
			child_give_up(c, -n, "control: bad message of the supervisor");
		if (poll(&p, 1, TOLD_WAIT_MS) == 0)
			child_give_up(c, ETIMEDOUT, "start: nothing comes from the supervisor");
	}
}

bool
child_told(struct child_proc *c)
{
	union msg m;
	int fd;

	for (;;) {
		await_message(c, &m, &fd);
		if (m.h.type == MSG_STOP)
			exit(0);
		if ((m.h.type == MSG_GO || m.h.type == MSG_PREPARE) && c->started)
			return m.h.type == MSG_GO;
		handle(c, &m, fd);
	}
}

void
child_prepared(struct child_proc *c)
{
	struct msg_prepared m = { .h = { .type = MSG_PREPARED, .generation = c->start.h.generation } };

	if (ipc_send(CHILD_FD_CONTROL, &m, -1) < 0)
		child_give_up(c, errno, "start: cannot answer PREPARED");
}

void
child_take_over(struct child_proc *c)
{
	if (mmap(c->stat, STAT_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, c->start.stat_fd, 0) ==
	    MAP_FAILED)
		child_give_up(c, errno, "start: cannot map the counters");
	stat_init(c->stat, c->role->role, c->index, c->start.h.generation, clock_ms());
}

/* ---- the process ------------------------------------------------------------------------------------ */

/* argv[1]: the index, as the supervisor writes it. */
static bool
take_index(struct child_proc *c, int argc, char **argv)
{
	char *end;
	unsigned long n;

	if (argc != 2 || argv[1][0] < '0' || argv[1][0] > '9')
		return false;
	n = strtoul(argv[1], &end, 10);
	c->index = (unsigned)n;
	return *end == '\0' && n < SHARDS_MAX;
}

int
child_begin(struct child_proc *c, const struct child_role *r, void *arg, int argc, char **argv)
{
	*c = (struct child_proc){
		.role = r, .arg = arg, .parent = getppid(), .usage_fd = stat_usage_open()
	};
	if (!take_index(c, argc, argv)) {
		fprintf(stderr, "turnpike-%s is started by turnpiked\n", proc_role_name(r->role));
		return EXIT_USAGE;
	}
	if (sodium_init() < 0)
		return EXIT_INTERNAL;
	log_init(proc_role_name(r->role), r->role, c->index, LOG_L_INFO);
	if (!r->writes_log)
		log_sink_fd(CHILD_FD_LOG);
	/* The terminal's ^C and the service manager's signal are for the supervisor, which then sends
	 * STOP. */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	if (r->own_loop)
		return 0;
	c->loop = loop_new();
	if (c->loop == NULL || loop_add(c->loop, CHILD_FD_CONTROL, EPOLLIN, on_control, c) < 0)
		fatal(EXIT_INTERNAL, "start: no control socket (turnpike-%s is started by turnpiked)",
		    proc_role_name(r->role));
	return 0;
}

int
child_run(struct child_proc *c)
{
	return loop_run(c->loop);
}

void
child_end(struct child_proc *c)
{
	loop_free(c->loop);
	c->loop = NULL;
}
