/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * steward.c: the process.  Writes logs, answers turnpikectl, serves metrics.
 */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "ctl_int.h"

#define TICK_MS 1000
#define RECORDS 256			/* per wake-up, so that commands get their turn in a flood of records */
#define EXIT_INTERNAL 70

struct steward {
	struct loop *loop;
	struct view view;
	struct target target;
	struct control *control;
	struct control_ops ops;
	struct http *http;
	bool started, serving;
	int parent;
	uint32_t last_request;
};

/* Before the log target is open nobody but stderr and the last words hears us. */
static void __attribute__((noreturn))
give_up(struct steward *s, int err, const char *what)
{
	if (s->view.steward != NULL)
		stat_words(s->view.steward, "%s: %s", what, strerror(err));
	log_sink_fd(-1);
	errno = err;
	fatal(EXIT_INTERNAL, "%s", what);
}

/* ---- logs ------------------------------------------------------------------------------------------ */

static void
on_log(void *arg, int fd, uint32_t events)
{
	struct steward *s = arg;
	struct log_rec r;

	(void)events;
	for (unsigned i = 0; i < RECORDS; i++) {
		ssize_t n = recv(fd, &r, sizeof r, MSG_DONTWAIT | MSG_TRUNC);

		if (n < 0)
			return;
		if (logline_check(&r, (size_t)n))
			target_write(&s->target, &r);
		else
			stat_add(s->view.steward, STAT_MSG_BAD, 1);
	}
}

/* Everything that is still in the queue: at the end. */
static void
drain_log(struct steward *s)
{
	struct log_rec r;
	ssize_t n;

	for (unsigned i = 0; i < 64 * RECORDS && s->view.start.log_fd >= 0; i++) {
		n = recv(s->view.start.log_fd, &r, sizeof r, MSG_DONTWAIT | MSG_TRUNC);
		if (n < 0)
			return;
		if (logline_check(&r, (size_t)n))
			target_write(&s->target, &r);
	}
}

/*
 * While we are root: as the user that we shall be, who opens it anew later; in a directory that is root's alone as root,
 * for the group.  Root has no power over others' files here, and could not give one away.
 */
static int
open_as_root(struct steward *s, const char *name, bool json)
{
	const struct msg_start *m = &s->view.start;
	int err;

	if (setegid(m->gid) < 0 || seteuid(m->uid) < 0)
		give_up(s, errno, "privileges: cannot change user");
	err = target_open(&s->target, name, json, false);
	if (seteuid(0) < 0)
		give_up(s, errno, "privileges: cannot change user");
	if (err == -EACCES)
		err = target_open(&s->target, name, json, true);
	if (setegid(getgid()) < 0)
		give_up(s, errno, "privileges: cannot change group");
	return err;
}

/* With each configuration: a file that was moved away is made anew. */
static void
open_target(struct steward *s, bool as_root)
{
	const struct conf *c = s->view.conf;
	const char *name = c != NULL ? c->log_target : "stderr";
	bool json = c != NULL && c->log_format == CONF_LOG_JSON;
	int err = as_root ? open_as_root(s, name, json) : target_open(&s->target, name, json, false);

	s->view.log_trouble[0] = '\0';
	if (err == 0)
		return;
	snprintf(s->view.log_trouble, sizeof s->view.log_trouble, "log target %.80s: %s", name, strerror(-err));
	if (s->target.fd < 0 && target_open(&s->target, "stderr", false, false) < 0)
		give_up(s, -err, "log: no target can be opened");
	log_errx("log: cannot open %s: %s: going on with %s", name, strerror(-err), s->target.name);
}

/* ---- questions to others ------------------------------------------------------------------------------ */

static uint32_t
next_request(struct steward *s)
{
	if (++s->last_request == 0)
		s->last_request = 1;
	return s->last_request;
}

static int
ask_super(void *arg, struct msg_command *m)
{
	struct steward *s = arg;

	m->h.generation = s->view.start.h.generation;
	m->request = next_request(s);
	return ipc_send(CHILD_FD_CONTROL, m, -1);
}

static int
ask_keeper(void *arg, struct msg_cred_ask *m)
{
	struct steward *s = arg;

	m->h.generation = s->view.start.h.generation;
	m->request = next_request(s);
	return s->view.start.keeper_fd < 0 ? -EPIPE : ipc_send(s->view.start.keeper_fd, m, -1);
}

static void
on_keeper(void *arg, int sock, uint32_t events)
{
	struct steward *s = arg;
	union msg m;
	int fd, n;

	(void)events;
	while ((n = ipc_recv(sock, ROLE_KEEPER, ROLE_STEWARD, &m, &fd)) == 1)
		/* Not what a predecessor asked for. */
		if (s->control != NULL && m.h.generation == s->view.start.h.generation)
			control_credential(s->control, &m.msg_cred_answer);
	if (n == -EPROTO)
		stat_add(s->view.steward, STAT_MSG_BAD, 1);
	else if (n < 0)
		loop_del(s->loop, sock);
}

/* ---- life ------------------------------------------------------------------------------------------------ */

static void
on_tick(void *arg)
{
	struct steward *s = arg;
	struct stats *st = s->view.steward;
	tp_ms now = clock_ms();

	atomic_store_explicit(&st->heartbeat_ms, now, memory_order_relaxed);
	atomic_fetch_add_explicit(&st->ticks, 1, memory_order_relaxed);
	stat_add(st, STAT_LOG_LOST, log_lost() - st->counter[STAT_LOG_LOST]);
	view_tick(&s->view, now);
	loop_after(s->loop, TICK_MS, on_tick, s);
}

static void
confine(struct steward *s)
{
	const struct msg_start *m = &s->view.start;
	int err = m->drop_privileges ? sandbox_become(m->uid, m->gid) : 0;

	if (err == 0)
		err = sandbox_harden(s->parent);
	if (err < 0)
		give_up(s, -err, "privileges: cannot give them up");
}

/* The log file is opened while we may; every map is made before we become somebody else. */
static void
on_start(struct steward *s, const struct msg_start *m)
{
	int err;

	if (s->started || m->role != ROLE_STEWARD)
		give_up(s, EPROTO, "start: told to be another process");
	s->started = true;
	if ((err = view_start(&s->view, m)) < 0)
		give_up(s, -err, "start: cannot map what is to be shown");
	stat_init(s->view.steward, ROLE_STEWARD, m->index, m->h.generation, clock_ms());
	if (m->conf_fd >= 0 && (err = view_conf(&s->view, m->conf_fd)) < 0)
		give_up(s, -err, "start: configuration refused");
	if (s->view.conf != NULL)
		log_level_set((enum log_level)s->view.conf->log_level);
	if (m->log_fd >= 0)
		log_sink_fd(CHILD_FD_LOG);
	open_target(s, m->drop_privileges);
	host_counts_open(s->view.host_fd);
	s->view.target = &s->target;
	if (m->http_fd >= 0 && !http_is_built)
		give_up(s, ENOSYS, "metrics: this build has no HTTP (it was made without libmicrohttpd); leave metrics.address empty");
	confine(s);
}

static void
on_go(struct steward *s)
{
	const struct msg_start *m = &s->view.start;
	struct msg_ready ready = { .h = { .type = MSG_READY, .generation = m->h.generation } };

	if (!s->started || s->serving)
		give_up(s, EPROTO, "start: GO out of turn");
	s->serving = true;
	s->ops = (struct control_ops){ .ask_super = ask_super, .ask_keeper = ask_keeper, .arg = s };
	if (m->log_fd >= 0 && loop_add(s->loop, m->log_fd, EPOLLIN, on_log, s) < 0)
		give_up(s, errno, "start: cannot watch the log");
	if (m->keeper_fd >= 0)
		loop_add(s->loop, m->keeper_fd, EPOLLIN, on_keeper, s);
	if (m->control_fd >= 0 && (s->control = control_new(s->loop, &s->view, &s->ops, m->control_fd)) == NULL)
		give_up(s, errno, "start: cannot serve the control socket");
	if (m->http_fd >= 0 && http_start(&s->http, s->loop, &s->view, m->http_fd) < 0)
		log_errx("metrics: cannot serve HTTP");
	on_tick(s);
	s->view.steward->ready = 1;
	if (ipc_send(CHILD_FD_CONTROL, &ready, -1) < 0)
		give_up(s, errno, "start: cannot answer READY");
	if (!m->foreground)
		(void)dup2(STDOUT_FILENO, STDERR_FILENO);	/* whoever started us waits for the end of that pipe */
}

static void
on_conf(struct steward *s, int fd)
{
	int err = view_conf(&s->view, fd);

	if (err < 0) {
		log_errx("configuration: refused, the old one stays: %s", strerror(-err));
		return;
	}
	log_level_set((enum log_level)s->view.conf->log_level);
	open_target(s, false);
}

static void
handle_control(struct steward *s, const union msg *m, int fd)
{
	if (m->h.type != MSG_START && m->h.type != MSG_STOP && !s->started)
		give_up(s, EPROTO, "control: a message before START");
	switch (m->h.type) {
	case MSG_START:
		on_start(s, &m->msg_start);
		break;
	case MSG_SHARD:
		if (view_shard(&s->view, &m->msg_shard) < 0)
			log_warnx("start: shard %u cannot be shown", m->msg_shard.shard);
		break;
	case MSG_GO:
		on_go(s);
		break;
	case MSG_CONF:
		on_conf(s, fd);
		break;
	case MSG_REPLY:
		if (s->control != NULL)
			control_reply(s->control, &m->msg_reply);
		break;
	case MSG_STOP:
		loop_stop(s->loop, 0);
		break;
	default:
		log_warnx("control: unexpected %s", msg_name(m->h.type));
		if (fd >= 0)
			close(fd);
	}
}

static void
on_control(void *arg, int sock, uint32_t events)
{
	struct steward *s = arg;
	union msg m;
	int fd, n;

	(void)events;
	while ((n = ipc_recv(sock, ROLE_SUPER, ROLE_STEWARD, &m, &fd)) == 1)
		handle_control(s, &m, fd);
	if (n == -EPIPE)
		loop_stop(s->loop, 0);
	else if (n < 0)
		give_up(s, -n, "control: bad message of the supervisor");
}

int
steward_main(int argc, char **argv)
{
	struct steward *s = calloc(1, sizeof *s);
	int code;

	if (s == NULL || argc != 2 || sodium_init() < 0)
		return EXIT_INTERNAL;
	s->parent = getppid();
	s->target.fd = -1;
	log_init("steward", ROLE_STEWARD, (unsigned)strtoul(argv[1], NULL, 10), LOG_L_INFO);
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	s->loop = loop_new();
	if (s->loop == NULL || loop_add(s->loop, CHILD_FD_CONTROL, EPOLLIN, on_control, s) < 0)
		fatal(EXIT_INTERNAL, "start: no control socket (turnpike-steward is started by turnpiked)");
	code = loop_run(s->loop);
	drain_log(s);
	control_free(s->control);
	http_stop(s->http);
	target_close(&s->target);
	loop_free(s->loop);
	free(s);
	return code;
}
