/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reload.c: the configuration, at first start and later.  Checked whole by the conf child; applied as a
 * whole or not at all; each changed option is reported with what came of it.
 */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "super_int.h"

/* The sealed copy that all processes get; the old one goes. */
int
super_conf_publish(struct super *s, const struct conf *c)
{
	int fd = conf_seal("turnpike-conf", c, sizeof *c), was = s->conf_fd;

	if (fd < 0)
		return fd;
	CRASH_POINT("super:publish");
	s->conf_fd = fd; /* first: a supervisor that dies here leaves a whole one */
	if (was >= 0)
		close(was);
	if (c != &s->conf)
		s->conf = *c;
	ledger_begin(s->ledger);
	s->ledger->conf_generation = c->generation;
	ledger_end(s->ledger);
	return fd;
}

static void
take_users(struct super *s, struct conf_run *r)
{
	int users = s->users_fd, certs = s->certs_fd;

	s->users_fd = r->users_fd;
	s->users_size = r->users_size;
	r->users_fd = -1;
	s->certs_fd = r->certs_fd;
	s->certs_size = r->certs_size;
	r->certs_fd = -1;
	if (users >= 0)
		close(users);
	if (certs >= 0)
		close(certs);
}

int
super_conf_first(struct super *s)
{
	struct conf_run *r = &s->conf_run;
	struct conf *c = malloc(sizeof *c);
	int e = c == NULL ? -ENOMEM : conf_run_start(r, s->o, s->binary[ROLE_CONF], 1, s->foreground, true);

	if (e == 0)
		e = conf_run_wait(r);
	if (e == 0)
		e = conf_run_conf(r, c);
	for (unsigned i = 0; i < r->line_count; i++) {
		if (r->line[i].level == LOG_L_ERROR)
			log_errx("%s", r->line[i].text);
		else if (e != 0 || strcmp(c->log_target, "stderr") != 0)
			log_warnx("%s", r->line[i].text); /* else the log says it: super_conf_warnings() */
		s->warnings += r->line[i].level == LOG_L_WARN;
	}
	if (e == 0) {
		c->generation = 1;
		e = super_conf_publish(s, c);
		if (e >= 0)
			take_users(s, r);
	} else if (e != -EINVAL || r->errors == 0) {
		log_errx("turnpike-conf in %s gave no configuration: %s", s->o->libexec_dir, strerror(-e));
	}
	conf_run_end(r);
	free(c);
	return e < 0 ? EXIT_CONF : 0;
}

/* To the log, in its own format, once there is one: turnpike-admin writes what waits in the queue. */
void
super_conf_warnings(const struct super *s)
{
	for (uint32_t i = 0; i < s->conf.warning_count; i++)
		log_warnx("%s", s->conf.warning[i]);
}

#define ANSWER_MS 30000 /* turnpike-conf may wait for files on a network */

/* ---- a reload ---------------------------------------------------------------------------------- */

struct change {
	struct super *s;
	struct requester who;
	unsigned now, workers, restart;
	const struct conf *was, *is;
	const struct option_row *list; /* whose entries are being told */
	unsigned told, untold;
};

static void TP_PRINTF(3, 4) report(struct super *s, struct requester who, const char *fmt, ...)
{
	char text[MSG_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	log_info("reload: %s", text);
	super_reply(s, who, 0, true, "%s", text);
}

#define ENTRIES_MAX 20 /* of one list that are told */

static void
entry(void *arg, bool added, const char *text)
{
	struct change *c = arg;

	if (c->told == ENTRIES_MAX) {
		c->untold++;
		return;
	}
	c->told++;
	report(c->s, c->who, "%s: %s %.600s", c->list->path, added ? "added" : "removed", text);
}

/* What came and what went, not two long lists.  False: neither, or there is no entry to show. */
static bool
changed_list(struct change *c, const struct option_row *o)
{
	c->list = o;
	c->told = c->untold = 0;
	(void)conf_list_diff(c->was, c->is, o, entry, c);
	if (c->untold > 0)
		report(c->s, c->who, "%s: and %u more", o->path, c->untold);
	return c->told > 0;
}

static void
changed(void *arg, const struct option_row *o, const char *was, const char *is)
{
	static const char *const what[] = {
		[OPT_NOW] = "applied now",
		[OPT_WORKERS] = "applied by new workers",
		[OPT_RESTART] = "waits for a restart",
	};
	struct change *c = arg;

	c->now += o->cls == OPT_NOW;
	c->workers += o->cls == OPT_WORKERS;
	c->restart += o->cls == OPT_RESTART;
	if (o->type == OPT_LIST && changed_list(c, o))
		report(c->s, c->who, "%s: %s", o->path, what[o->cls]);
	else
		report(c->s, c->who, "%s: was %.300s, is %.300s: %s", o->path, was, is, what[o->cls]);
}

static void
fail(struct super *s, struct requester who, const char *why)
{
	conf_run_end(&s->conf_run); /* a requester that has the answer finds nothing under way */
	log_errx("reload: %s: the configuration stays as it was", why);
	stat_add(s->regions.super_map, STAT_RELOADS_FAILED, 1);
	s->regions.super_map->counter[STAT_RELOAD_GOOD] = 0;
	super_reply(s, who, 1, false, "%s: the configuration stays as it was", why);
}

static unsigned
workers_of(const struct super *s, const struct conf *c)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned n = c->workers != 0 ? (unsigned)c->workers : cpus > 0 ? (unsigned)cpus : 1;

	return c->workers == 0 && n > s->regions.shards ? s->regions.shards : n;
}

static bool
http_moved(const struct conf *a, const struct conf *b)
{
	return strcmp(a->metrics_address, b->metrics_address) != 0 || a->metrics_port != b->metrics_port;
}

/* Binds what is new.  All of it or nothing: what was bound goes when a later one fails. */
static int
bind_new(struct super *s, const struct conf *c, int *http, char *why, size_t len)
{
	struct opened done = { .granted = SIZE_MAX };
	int err = 0;

	for (unsigned row = 0; row < c->listener_count && err == 0; row++)
		err = listener_open(s->ledger, &s->win, c, row, &done, why, len);
	if (err == 0 && http_moved(&s->conf, c))
		err = super_http(c, http, why, len);
	for (unsigned row = 0; row < LISTENERS_MAX && err < 0; row++) {
		if (done.datagram[row])
			listener_close(s->ledger, &s->win, row, false);
		if (done.stream[row])
			listener_close(s->ledger, &s->win, row, true);
	}
	return err;
}

int
super_conf_again(struct super *s, char *why, size_t len)
{
	struct conf_run *r = &s->conf_run;
	struct conf *c = malloc(sizeof *c);
	int e = c == NULL ? -ENOMEM
			  : conf_run_start(r, s->o, s->binary[ROLE_CONF], s->conf.generation + 1,
				s->foreground, s->foreground);

	snprintf(why, len, "the configuration cannot be compiled by the new version");
	if (e == 0)
		e = conf_run_wait(r);
	if (e == -EINVAL && r->line_count > 0)
		snprintf(why, len, "configuration: %.300s", r->line[0].text);
	if (e == 0 && (e = conf_run_conf(r, c)) == 0)
		external_keep(&s->conf, c);
	if (e == 0 && (e = conf_keep_rows(&s->conf, c, s->regions.ports_map)) == 0) {
		/* Of the old one only the rows are known: the HTTP port stays where it is. */
		text_copy(s->conf.metrics_address, sizeof s->conf.metrics_address, c->metrics_address);
		s->conf.metrics_port = c->metrics_port;
		e = bind_new(s, c, &s->http_fd, why, len);
	}
	if (e == 0) {
		c->generation = s->conf.generation + 1;
		e = super_conf_publish(s, c);
		if (e >= 0) {
			take_users(s, r);
			listeners_inherit(s->ledger, &s->win, &s->conf);
		}
	}
	conf_run_end(r);
	free(c);
	return e < 0 ? e : 0;
}

/* No client shall connect where connections are not served any more; those that are up have sockets of
 * their own. */
void
super_close_old(struct super *s)
{
	for (unsigned row = 0; row < s->conf.listener_count; row++)
		if (s->conf.listeners[row].retired ||
		    (s->conf.listeners[row].transports & TRANSPORT_STREAMS) == 0)
			listener_close(s->ledger, &s->win, row, true);
}

static void
set_buffers(struct super *s)
{
	int in = (int)s->conf.receive_buffer, out = (int)s->conf.send_buffer;

	for (int fd = (int)s->win.first; fd < (int)s->ledger->fd_max; fd++) {
		if (s->ledger->fd[fd].kind != LEDGER_LISTENER || s->ledger->fd[fd].stream)
			continue;
		if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &in, sizeof in) < 0)
			(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &in, sizeof in);
		if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &out, sizeof out) < 0)
			(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &out, sizeof out);
	}
	(void)super_buffers(s);
}

/*
 * turnpike-admin with another metrics port, or that may write elsewhere, is a new turnpike-admin; it is
 * replaced after it has passed the answer on.
 */
void
super_renew_step(struct super *s)
{
	int i = children_find(&s->children, ROLE_ADMIN, 0);
	struct msg_stop stop = { .h.type = MSG_STOP };

	/* The requester of the reload hears of its end first. */
	if (!s->renew_admin || s->reloading || s->roll.mode != ROLL_NONE)
		return;
	s->renew_admin = false;
	if (i >= 0 && super_send(s, (unsigned)i, &stop, -1) == 0)
		children_stopping(&s->children, (unsigned)i, clock_ms(), CHILD_STOP_MS, true);
}

/* An option that waits for a restart keeps its value in the children's copy, so that all processes agree
 * on it. */
static void
keep_restart_options(const struct conf *was, struct conf *is)
{
	memcpy(is->user, was->user, sizeof is->user);
	is->shards = was->shards;
	is->tls_processes = was->tls_processes;
}

static void
apply(struct super *s, struct conf *c, struct change *ch, int http)
{
	unsigned workers = workers_of(s, c);
	bool moved = http_moved(&s->conf, c), resize = workers != super_roll_workers(s);
	bool renew = moved || strcmp(s->conf.log_target, c->log_target) != 0 ||
	    s->regions.admin_map->ready == STAT_READY_RENEW;

	keep_restart_options(&s->conf, c);
	if (super_conf_publish(s, c) < 0) {
		if (moved && http >= 0)
			close(http);
		fail(s, ch->who, "no memory for the configuration");
		return;
	}
	take_users(s, &s->conf_run);
	conf_run_end(&s->conf_run);
	log_level_set((enum log_level)s->conf.log_level);
	pool_rows(&s->pool, &s->conf);
	listeners_inherit(s->ledger, &s->win, &s->conf);
	super_close_old(s);
	set_buffers(s);
	super_tell_conf(s);
	super_tlsds(s, true);
	ledger_begin(s->ledger);
	s->ledger->reloads++;
	s->ledger->last_reload_ms = clock_ms();
	stat_add(s->regions.super_map, STAT_RELOADS_OK, 1);
	s->regions.super_map->counter[STAT_RELOAD_GOOD] = 1;
	s->regions.super_map->counter[STAT_RELOAD_TIME] = (uint64_t)clock_unix();
	ledger_end(s->ledger);
	log_info("reload: generation %llu: %u applied now, %u by new workers, %u wait for a restart",
	    (unsigned long long)s->conf.generation, ch->now, ch->workers, ch->restart);
	if (resize)
		super_roll(s, ROLL_RESIZE, workers, ch->who);
	else if (ch->workers > 0)
		super_roll(s, ROLL_ONE_BY_ONE, workers, ch->who);
	else
		super_reply(s, ch->who, 0, false, "reloaded: %u changed now, %u wait for a restart",
		    ch->now, ch->restart);
	if (moved) {
		int was = s->http_fd;
		s->http_fd = http;
		if (was >= 0)
			close(was);
	}
	s->renew_admin |= renew;
}

/* Everything that can fail, before anything is applied. */
static void
check_and_apply(struct super *s, struct conf *c, struct requester who)
{
	struct change ch = { .s = s, .who = who };
	struct conf *was = malloc(sizeof *was), *is = malloc(sizeof *is);
	char why[WHY_MAX];
	int http = -1;

	if (was == NULL || is == NULL) {
		fail(s, who, "no memory");
		goto out;
	}
	external_keep(&s->conf, c);
	*was = s->conf;
	*is = *c;
	conf_strip_rows(was);
	ch.was = was;
	ch.is = is;
	if (workers_of(s, c) > s->regions.shards) {
		snprintf(why, sizeof why,
		    "process.workers is %u, but this daemon was started with %u shards and cannot have "
		    "more workers than that without a full restart",
		    workers_of(s, c), s->regions.shards);
		fail(s, who, why);
		goto out;
	}
	if (conf_keep_rows(&s->conf, c, s->regions.ports_map) < 0) {
		fail(s, who,
		    "too many listeners or relay addresses were added and removed since the start; a restart is needed");
		goto out;
	}
	if (bind_new(s, c, &http, why, sizeof why) < 0) {
		fail(s, who, why);
		goto out;
	}
	conf_diff(was, is, changed, &ch);
	apply(s, c, &ch, http);
out:
	free(was);
	free(is);
}

static void
finish(struct super *s, int e)
{
	struct conf_run *r = &s->conf_run;
	struct requester who = s->reload_who;
	struct conf *c = malloc(sizeof *c);
	enum look looking = s->looking;
	char changed_file[MSG_TEXT_MAX] = "";
	uint32_t mix = 0;

	loop_del(s->loop, r->fd);
	for (unsigned i = 0; i < r->line_count && !s->looking; i++) {
		if (r->line[i].level == LOG_L_ERROR)
			log_errx("reload: %s", r->line[i].text);
		else
			log_warnx("reload: %s", r->line[i].text);
		super_reply(s, who, 0, true, "%s", r->line[i].text);
	}
	if (s->looking == LOOK_EXTERNAL) {
		if (e == 1 && r->ok && c != NULL && conf_run_conf(r, c) == 0)
			external_take(s, c);
	} else if (s->looking == LOOK_FILES) {
		if (e == 1 && r->line_count > 0)
			text_copy(changed_file, sizeof changed_file, r->line[0].text);
		mix = e == 1 ? r->errors : 0;
	} else if (e == 1 && r->ok && c != NULL && conf_run_conf(r, c) == 0) {
		c->generation = s->conf.generation + 1;
		check_and_apply(s, c, who);
	} else {
		fail(s, who,
		    e == 1 && r->done ? "the new configuration has errors" : "turnpike-conf broke off");
	}
	conf_run_end(r);
	free(c);
	s->reload_who.used = false;
	s->reloading = false;
	if (!s->looking)
		notify_send("READY=1");
	s->looking = LOOK_NOT;
	if (looking == LOOK_FILES && !s->reload_again)
		super_watch_found(s, changed_file, mix);
	if (s->reload_again) {
		who = s->reload_next;
		s->reload_again = s->reload_next.used = false;
		super_reload(s, who);
	}
}

static void
conf_event(void *arg, int fd, uint32_t events)
{
	struct super *s = arg;
	int err = conf_run_read(&s->conf_run);

	(void)fd;
	if (err == 0 && (events & (EPOLLHUP | EPOLLERR)))
		err = -EPIPE;
	if (err != 0)
		finish(s, err);
	super_rearm(s);
}

/* Compiles and watches for the result.  0 or -errno. */
static int
compile(struct super *s, enum look what, bool keep_stderr)
{
	int err = what == LOOK_FILES ? conf_run_files(&s->conf_run, s->o, s->binary[ROLE_CONF], s->conf_fd)
				     : conf_run_start(&s->conf_run, s->o, s->binary[ROLE_CONF],
					   s->conf.generation + 1, s->foreground, keep_stderr);

	if (err == 0)
		err = loop_add(s->loop, s->conf_run.fd, EPOLLIN, conf_event, s);
	if (err < 0)
		conf_run_end(&s->conf_run);
	s->reload_deadline = clock_ms() + ANSWER_MS;
	s->reloading = err == 0;
	return err;
}

void
super_conf_look(struct super *s, enum look what)
{
	s->looking = compile(s, what, false) == 0 ? what : LOOK_NOT;
}

static void
break_off(struct super *s, const char *why)
{
	if (s->conf_run.pid > 1)
		(void)kill(s->conf_run.pid, SIGKILL);
	loop_del(s->loop, s->conf_run.fd);
	s->reloading = false;
	if (s->looking != LOOK_NOT) {
		conf_run_end(&s->conf_run);
		log_warnx("%s: %s",
		    s->looking == LOOK_FILES ? "the files of certificates and secrets"
					     : "external addresses",
		    why);
		s->looking = LOOK_NOT;
		return;
	}
	fail(s, s->reload_who, why);
	s->reload_who.used = false;
	notify_send("READY=1");
}

void
super_reload_step(struct super *s, tp_ms now)
{
	struct requester who = s->reload_next;

	if (!s->reloading || now < s->reload_deadline)
		return;
	break_off(s, "turnpike-conf gave no answer within 30 s and was killed");
	if (s->reload_again) {
		s->reload_again = s->reload_next.used = false;
		super_reload(s, who);
	}
}

void
super_reload_cancel(struct super *s, const char *why)
{
	if (s->reloading)
		break_off(s, why);
	if (s->reload_again)
		super_reply(s, s->reload_next, 1, false, "%s: the configuration stays as it was", why);
	s->reload_again = s->reload_next.used = false;
}

/* Any number of requests while one runs make one more. */
void
super_reload(struct super *s, struct requester who)
{
	char text[80];

	if (s->reloading) {
		/* The reload in progress may have read the file before it was changed: the requester waits
		 * for the next one. */
		s->reload_again = true;
		if (who.used && s->reload_next.used)
			super_reply(
			    s, who, 1, false, "a reload is running and another one waits: try again");
		else if (who.used)
			s->reload_next = who;
		return;
	}
	if (s->phase != SUPER_RUNNING && s->phase != SUPER_DRAINING) {
		s->reload_again = s->phase == SUPER_STARTING;
		super_reply(s, who, 1, false, "not now");
		return;
	}
	snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%llu000", (unsigned long long)clock_ms());
	notify_send(text);
	s->reload_who = who;
	if (compile(s, LOOK_NOT, s->foreground) < 0) {
		fail(s, who, "turnpike-conf cannot be started");
		notify_send("READY=1");
	}
}
