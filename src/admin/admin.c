/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * admin.c: the process.  Writes logs, answers turnpikectl, serves metrics.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "admin_int.h"
#include "tp/child.h"

#define TICK_MS       1000
#define RECORDS       256 /* per wake-up, so that commands get their turn in a flood of records */
#define EXIT_INTERNAL 70

struct admin {
	struct child_proc proc;
	struct view view;
	struct intake intake;
	struct target target;
	struct control *control;
	struct control_ops ops;
	struct http *http;
	bool reopens;         /* it may make the file of the log again by itself */
	char log_target[256]; /* of the configuration that it was started with */
	uint32_t last_request;
};

/* ---- logs ------------------------------------------------------------------------------------------ */

/* At most `most` records; everything that is still in the queue at the end. */
static void
write_records(struct admin *s, unsigned most)
{
	struct log_rec r;
	int n;

	while (most-- > 0 && (n = intake_next(&s->intake, &r)) >= 0)
		if (n == 1)
			target_write(&s->target, &r);
}

static void
on_log(void *arg, int fd, uint32_t events)
{
	(void)fd;
	(void)events;
	write_records(arg, RECORDS);
}

/* May the effective user make a file beside this one? */
static bool
may_make(const char *path)
{
	char dir[256];
	char *slash;

	if (path[0] != '/' || text_copy(dir, sizeof dir, path) >= sizeof dir)
		return true;
	slash = strrchr(dir, '/');
	slash[slash == dir] = '\0';
	return faccessat(AT_FDCWD, dir, W_OK | X_OK, AT_EACCESS) == 0;
}

/*
 * While this process is root: as its later user, which opens it again at a reload; in a directory of root
 * alone as root, for the group.  Root has no power over others' files here, and could not give one away.
 */
static int
open_as_root(struct admin *s, const char *name, bool json)
{
	const struct msg_start *m = &s->view.start;
	int err;

	if (setegid(m->gid) < 0 || seteuid(m->uid) < 0)
		child_give_up(&s->proc, errno, "privileges: cannot change user");
	err = target_open(&s->target, name, json, false);
	s->reopens = may_make(name);
	if (seteuid(0) < 0)
		child_give_up(&s->proc, errno, "privileges: cannot change user");
	if (err == -EACCES)
		err = target_open(&s->target, name, json, true);
	if (setegid(getgid()) < 0)
		child_give_up(&s->proc, errno, "privileges: cannot change group");
	return err;
}

/*
 * With each configuration: a file that was moved away is made again.  In a directory that is not this
 * user's only a process that starts as root can do that: the supervisor starts one with each reload.
 */
static void
open_target(struct admin *s, bool as_root)
{
	const struct conf *c = s->view.conf;
	const char *name = c != NULL ? c->log_target : "stderr";
	bool json = c != NULL && c->log_format == CONF_LOG_JSON;
	int err = as_root ? open_as_root(s, name, json) : target_open(&s->target, name, json, false);

	s->view.log_trouble[0] = '\0';
	s->view.admin->ready = s->reopens ? STAT_READY : STAT_READY_RENEW;
	if (err == 0)
		return;
	s->view.admin->ready = STAT_READY_RENEW; /* where it may write is settled at its start */
	snprintf(
	    s->view.log_trouble, sizeof s->view.log_trouble, "log target %.80s: %s", name, strerror(-err));
	if (s->target.fd < 0 && target_open(&s->target, "stderr", false, false) < 0)
		child_give_up(&s->proc, -err, "log: no target can be opened");
	log_errx("log: cannot open %s: %s: going on with %s", name, strerror(-err), s->target.name);
}

/* ---- questions to others --------------------------------------------------------------------- */

static uint32_t
next_request(struct admin *s)
{
	if (++s->last_request == 0)
		s->last_request = 1;
	return s->last_request;
}

static int
ask_super(void *arg, struct msg_command *m)
{
	struct admin *s = arg;

	m->h.generation = s->view.start.h.generation;
	m->request = next_request(s);
	return ipc_send(CHILD_FD_CONTROL, m, -1);
}

static int
ask_authd(void *arg, struct msg_cred_ask *m)
{
	struct admin *s = arg;

	m->h.generation = s->view.start.h.generation;
	m->request = next_request(s);
	return s->view.start.authd_fd < 0 ? -EPIPE : ipc_send(s->view.start.authd_fd, m, -1);
}

static int
ask_database(void *arg, struct msg_db_ask *m)
{
	struct admin *s = arg;

	m->h.generation = s->view.start.h.generation;
	m->request = next_request(s);
	return s->view.start.authd_fd < 0 ? -EPIPE : ipc_send(s->view.start.authd_fd, m, -1);
}

static void
on_answer(struct control *control, const union msg *m)
{
	if (m->h.type == MSG_DB_ANSWER)
		control_database(control, &m->msg_db_answer);
	else
		control_credential(control, &m->msg_cred_answer);
}

static void
on_authd(void *arg, int sock, uint32_t events)
{
	struct admin *s = arg;
	union msg m;
	int fd, n;

	(void)events;
	while ((n = ipc_recv(sock, ROLE_AUTHD, ROLE_ADMIN, &m, &fd)) == 1)
		/* Not what a predecessor asked for. */
		if (s->control != NULL && m.h.generation == s->view.start.h.generation)
			on_answer(s->control, &m);
	if (n == -EPROTO)
		stat_add(s->view.admin, STAT_MSG_BAD, 1);
	else if (n < 0)
		loop_del(s->proc.loop, sock);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void
on_tick(void *arg)
{
	struct admin *s = arg;

	child_beat(&s->proc);
	view_tick(&s->view, clock_ms());
	intake_learn(&s->intake);
	loop_after(s->proc.loop, TICK_MS, on_tick, s);
}

/* The directory of the log file, where a reload makes it again after a rotation; -1: there is none. */
static int
log_directory(const struct admin *s)
{
	char dir[sizeof s->log_target];
	char *slash;

	if (s->log_target[0] != '/')
		return -1;
	text_copy(dir, sizeof dir, s->log_target);
	slash = strrchr(dir, '/');
	slash[slash == dir] = '\0';
	return open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* With another log target the supervisor makes another turnpike-admin. */
static void
confine(struct admin *s)
{
	int log_dir = log_directory(s);

	/* reads /etc/localtime, which is out of reach afterwards: syslog's lines have local time */
	tzset();
	child_confine(&s->proc, log_dir);
	if (log_dir >= 0)
		close(log_dir);
}

/* The log file is opened and every map is made before the process changes its user. */
static void
on_start(void *arg, const struct msg_start *m)
{
	struct admin *s = arg;
	int err;

	if ((err = view_start(&s->view, m, s->proc.stat)) < 0)
		child_give_up(&s->proc, -err, "start: cannot map what is to be shown");
	if (m->conf_fd >= 0 && (err = view_conf(&s->view, m->conf_fd)) < 0)
		child_give_up(&s->proc, -err, "start: configuration refused");
	if (s->view.conf != NULL)
		log_level_set((enum log_level)s->view.conf->log_level);
	if (m->log_fd >= 0)
		log_sink_fd(CHILD_FD_LOG);
	text_copy(s->log_target, sizeof s->log_target,
	    s->view.conf != NULL ? s->view.conf->log_target : "stderr");
	open_target(s, m->drop_privileges);
	host_counts_open(s->view.host_fd);
	if ((err = intake_init(&s->intake, &s->view, m->log_fd)) < 0)
		child_give_up(&s->proc, -err, "log: cannot ask for the senders of records");
	s->view.target = &s->target;
	if (m->http_fd >= 0 && !http_is_built)
		child_give_up(&s->proc, ENOSYS,
		    "metrics: this build has no HTTP (it was made without libmicrohttpd); leave "
		    "metrics.address empty");
	confine(s);
}

static void
on_go(void *arg)
{
	struct admin *s = arg;
	const struct msg_start *m = &s->view.start;

	s->ops = (struct control_ops){
		.ask_super = ask_super, .ask_authd = ask_authd, .ask_database = ask_database, .arg = s
	};
	if (m->log_fd >= 0 && loop_add(s->proc.loop, m->log_fd, EPOLLIN, on_log, s) < 0)
		child_give_up(&s->proc, errno, "start: cannot watch the log");
	if (m->authd_fd >= 0)
		loop_add(s->proc.loop, m->authd_fd, EPOLLIN, on_authd, s);
	if (m->control_fd >= 0 &&
	    (s->control = control_new(s->proc.loop, &s->view, &s->ops, m->control_fd)) == NULL)
		child_give_up(&s->proc, errno, "start: cannot serve the control socket");
	if (m->http_fd >= 0 && http_start(&s->http, s->proc.loop, &s->view, m->http_fd) < 0)
		log_errx("metrics: cannot serve HTTP");
	on_tick(s);
	if (!m->foreground)
		(void)dup2(
		    STDOUT_FILENO, STDERR_FILENO); /* the starting process waits for the end of that pipe */
}

static void
on_conf(struct admin *s, int fd)
{
	int err = view_conf(&s->view, fd);

	if (err < 0) {
		log_errx("configuration: refused, the old one stays: %s", strerror(-err));
		return;
	}
	log_level_set((enum log_level)s->view.conf->log_level);
	/* Else the supervisor replaces this process. */
	if (strcmp(s->view.conf->log_target, s->log_target) == 0 &&
	    s->view.admin->ready != STAT_READY_RENEW)
		open_target(s, false);
}

static void
on_message(void *arg, const union msg *m, int fd)
{
	struct admin *s = arg;

	switch (m->h.type) {
	case MSG_SHARD:
		if (view_shard(&s->view, &m->msg_shard) < 0)
			log_warnx("start: shard %u cannot be shown", m->msg_shard.shard);
		break;
	case MSG_CONF:
		on_conf(s, fd);
		break;
	case MSG_REPLY:
		if (s->control != NULL)
			control_reply(s->control, &m->msg_reply);
		break;
	default:
		log_warnx("control: unexpected %s", msg_name(m->h.type));
		if (fd >= 0)
			close(fd);
	}
}

int
admin_main(int argc, char **argv)
{
	static const struct child_role role = { .role = ROLE_ADMIN,
		.writes_log = true,
		.start = on_start,
		.go = on_go,
		.message = on_message };
	struct admin *s = calloc(1, sizeof *s);
	int code;

	if (s == NULL)
		return EXIT_INTERNAL;
	s->target.fd = -1;
	s->reopens = true;
	if ((code = child_begin(&s->proc, &role, s, argc, argv)) != 0)
		return code;
	code = child_run(&s->proc);
	if (s->view.start.log_fd >= 0)
		write_records(s, 64 * RECORDS);
	control_free(s->control);
	http_stop(s->http);
	target_close(&s->target);
	child_end(&s->proc);
	free(s);
	return code;
}
