/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * resume.c: the new image of an upgrade.  Takes over what the old one carried, then replaces the children
 * one by one:  workers, turnpike-auth and turnpike-tls processes, turnpike-admin.  What fails before the
 * first of them is touched, or because they do not come up, leads back to the old image.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "carry.h"
#include "super_int.h"

#define FAILED_STARTS 2 /* no back-off yet: calls do not wait for it */

static void
close_on_exec(void *arg, int fd)
{
	(void)arg;
	if (fd >= 0)
		(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
}

/* ---- take over ---------------------------------------------------------------------------------- */

/* The compiled configuration, when this build reads it; else its sources are compiled again under the
 * same rows. */
static int
take_conf(struct super *s, char *why, size_t len)
{
	const struct conf *p = MAP_FAILED;
	int err = -EPROTO;

	if (s->upgrade.conf_size == sizeof *p)
		p = mmap(NULL, sizeof *p, PROT_READ, MAP_SHARED, s->conf_fd, 0);
	if (p != MAP_FAILED) {
		err = conf_validate(p, sizeof *p);
		if (err == 0)
			s->conf = *p;
		munmap((void *)(uintptr_t)p, sizeof *p);
	}
	if (err < 0)
		err = super_conf_again(s, why, len);
	s->ledger->conf_generation = s->conf.generation;
	return err;
}

/* Which programs are ours: those on disk, or, on the way back, those that were kept. */
static int
take_programs(struct super *s)
{
	struct upgrade *u = &s->upgrade;

	if (u->failed[0] == '\0')
		return super_find_binaries(s) == 0 ? 0 : -ENOENT;
	close(s->exe_fd);
	s->exe_fd = u->back_exe;
	u->back_exe = -1;
	for (unsigned i = 0; i < ROLES; i++) {
		s->binary[i] = u->back_binary[i];
		u->back_binary[i] = -1;
	}
	return 0;
}

static int
take_all(struct super *s, int state_fd, char *why, size_t len)
{
	const char *what = "";
	int err;

	if (take_programs(s) < 0) {
		snprintf(why, len, "a program is missing in %s", s->o->libexec_dir);
		return -ENOENT;
	}
	if (s->upgrade.other_stats && (err = regions_carry_stats(&s->regions, state_fd)) < 0) {
		snprintf(why, len, "counters: %s", strerror(-err));
		return err;
	}
	if ((err = regions_resume(&s->regions, false, &what)) < 0) {
		snprintf(why, len, "the %s region cannot be used: %s", what, strerror(-err));
		return err;
	}
	if ((err = pool_ports(&s->pool, s->regions.ports_map)) < 0 || (err = take_conf(s, why, len)) < 0)
		return err;
	for (unsigned i = 0; s->tlsd_count == 0 && i < s->regions.shards; i++)
		for (unsigned k = 0; k < s->conf.tls_processes; k++)
			if ((err = ipc_pair(s->tlsd_pair[i][k])) < 0)
				return err;
	if (s->tlsd_count == 0)
		s->tlsd_count = (uint32_t)s->conf.tls_processes;
	if (caps_reduce() < 0) {
		snprintf(why, len, "cannot give up capabilities");
		return -EPERM;
	}
	if ((err = super_watch(s)) < 0)
		snprintf(why, len, "no memory or descriptors");
	return err;
}

static void
take_children(struct super *s)
{
	tp_ms now = clock_ms();

	for (unsigned i = 0; i < s->ledger->child_count; i++) {
		struct ledger_child *c = &s->ledger->child[i];
		struct child *priv = &s->children.c[i];
		if (priv->control >= 0)
			(void)loop_add(s->loop, priv->control, EPOLLIN, super_control_event, s);
		if (c->state == CHILD_BACKOFF)
			priv->due = now; /* that was another program */
		if (priv->foreign && c->state == CHILD_STARTING)
			children_kill(&s->children, i); /* its READY would not be understood */
	}
	s->ledger->ready = children_all_ready(&s->children);
}

static void
go_on(struct super *s)
{
	log_level_set((enum log_level)s->conf.log_level);
	pool_rows(&s->pool, &s->conf);
	s->ledger->pid = (int32_t)getppid();
	stat_init(s->regions.super_map, ROLE_SUPER, 0, 1, clock_ms());
	take_children(s);
	if (s->filter_fd < 0)
		s->filter_fd = sock_filter_program(); /* of an image that had none */
	super_tlsds(s, true);
	super_tick_start(s);
	if (s->upgrade.failed[0] != '\0')
		log_errx("upgrade: %s: version " PACKAGE_VERSION " goes on", s->upgrade.failed);
	else
		log_info(
		    "upgrade: version " PACKAGE_VERSION " has taken over; the processes follow one by one");
	super_reap(s);
	super_roll(s, ROLL_ONE_BY_ONE, s->ledger->worker_count, (struct requester){ .used = false });
	s->upgrade.state = UPGRADE_WORKERS; /* not before: its end is that no roll runs */
	super_rearm(s);
}

int
super_resume(struct super *s, int state_fd, const char *failed)
{
	char why[WHY_MAX] = "no memory";
	int err = -ENOMEM, again;

	s->ledger = ledger_new(&s->ledger_rw, &s->ledger_ro);
	if (s->ledger != NULL) {
		children_init(&s->children, s->ledger, &super_children_ops, s);
		pool_init(&s->pool, s->ledger, &s->win, super_pool_send, s);
		err = carry_load(s, state_fd, why, sizeof why);
		s->pool.win = s->win;
		held_each(s, true, close_on_exec, NULL);
		close_on_exec(NULL, state_fd);
	}
	if (err == 0) {
		text_copy(s->upgrade.failed, sizeof s->upgrade.failed, failed != NULL ? failed : "");
		log_sink_fd(s->log_write);
		err = take_all(s, state_fd, why, sizeof why);
		if (err < 0 && (again = carry_save(s)) >= 0)
			state_fd = again; /* descriptors may be others by now */
	}
	if (err < 0) {
		if (failed == NULL && s->ledger != NULL)
			super_go_back(s, state_fd, why);
		log_errx("upgrade: %s", why);
		return EXIT_INTERNAL;
	}
	if (s->waiting->exec_error != 0)
		text_copy(
		    s->upgrade.failed, sizeof s->upgrade.failed, "the new version cannot be executed");
	super_prepared(s);
	go_on(s);
	super_can_be_adopted(s);
	s->waiting->back.count = 0;
	s->waiting->failed[0] = '\0';
	atomic_store(&s->waiting->state_fd, 0);
	close(state_fd);
	super_signals_again(s);
	return 0;
}

/* ---- one by one ----------------------------------------------------------------------------------- */

static void
replace_one(struct super *s, unsigned i)
{
	struct msg_stop stop = { .h.type = MSG_STOP };

	s->upgrade.old_generation[i] = s->ledger->child[i].generation;
	(void)super_send(s, i, &stop, -1);
	children_stopping(&s->children, i, clock_ms(), CHILD_STOP_MS, true);
}

/* turnpike-tls processes with turnpike-auth: what they have is handshakes, which clients begin again. */
static bool
belongs(const struct super *s, unsigned i, unsigned role)
{
	return s->ledger->child[i].role == role ||
	    (role == ROLE_AUTHD && s->ledger->child[i].role == ROLE_TLSD);
}

static void
replace(struct super *s, unsigned role, enum upgrade_state state)
{
	s->upgrade.state = state;
	for (unsigned i = 0; i < s->ledger->child_count; i++)
		if (belongs(s, i, role))
			replace_one(s, i);
	super_rearm(s);
}

static bool
is_replaced(const struct super *s, unsigned role)
{
	for (unsigned i = 0; i < s->ledger->child_count; i++)
		if (belongs(s, i, role) &&
		    (s->ledger->child[i].state != CHILD_READY ||
			s->ledger->child[i].generation == s->upgrade.old_generation[i]))
			return false;
	return true;
}

/* A process of the new version that does not come up: the old image takes over again, with what there
 * is. */
static void
check_starts(struct super *s)
{
	char why[WHY_MAX];
	int fd;

	for (unsigned i = 0; i < s->ledger->child_count; i++) {
		const struct ledger_child *c = &s->ledger->child[i];
		if (s->upgrade.failed[0] != '\0' || s->upgrade.back_exe < 0 ||
		    s->children.c[i].streak < FAILED_STARTS)
			continue;
		snprintf(why, sizeof why, "%s %u of the new version does not start%s%s",
		    proc_role_name(c->role), c->index, c->words[0] != '\0' ? ": " : "", c->words);
		for (unsigned k = 0; k < s->ledger->child_count; k++)
			if (s->children.c[k].out_head != NULL) /* what waits for it would be lost */
				children_kill(&s->children, k);
		fd = carry_save(s);
		if (fd < 0)
			return;
		super_go_back(s, fd, why);
		close(fd);
		s->upgrade.back_exe = -1; /* tried without success: with back-off, as always */
		return;
	}
}

static void
done(struct super *s)
{
	struct upgrade *u = &s->upgrade;

	u->state = UPGRADE_NONE;
	u->who.used = false;
	if (u->back_exe >= 0)
		close(u->back_exe);
	u->back_exe = -1;
	for (unsigned i = 0; i < ROLES; i++) {
		if (u->back_binary[i] >= 0)
			close(u->back_binary[i]);
		u->back_binary[i] = -1;
	}
	u->failed[0] = '\0';
	log_info("upgrade: every process is of version " PACKAGE_VERSION);
}

void
super_resume_step(struct super *s)
{
	struct upgrade *u = &s->upgrade;

	check_starts(s);
	if (u->state == UPGRADE_WORKERS && s->roll.mode == ROLL_NONE) {
		replace(s, ROLE_AUTHD, UPGRADE_AUTHD);
	} else if (u->state == UPGRADE_AUTHD && is_replaced(s, ROLE_AUTHD)) {
		/* turnpike-admin passes this on, then it is its turn. */
		if (u->failed[0] != '\0')
			super_reply(
			    s, u->who, 1, false, "%s: version " PACKAGE_VERSION " goes on", u->failed);
		else
			super_reply(s, u->who, 0, false, "upgraded: version " PACKAGE_VERSION);
		replace(s, ROLE_ADMIN, UPGRADE_ADMIN);
	} else if (u->state == UPGRADE_ADMIN && is_replaced(s, ROLE_ADMIN)) {
		done(s);
	}
}

/* ---- the probe's side ------------------------------------------------------------------------ */

static int
answer(const char *text)
{
	ssize_t n = write(CHILD_FD_CONTROL, text, strlen(text));

	return n == (ssize_t)strlen(text) ? 0 : -EIO;
}

int
super_probe(const struct super_options *o, const struct super_program *programs, unsigned n, int state_fd)
{
	struct super *s = calloc(1, sizeof *s);
	char why[WHY_MAX] = "no memory", path[PATH_MAX];
	const char *what = "";
	int err = -ENOMEM;

	if (s != NULL && (s->ledger = ledger_new(&s->ledger_rw, &s->ledger_ro)) != NULL) {
		s->o = o;
		children_init(&s->children, s->ledger, &super_children_ops, s);
		pool_init(&s->pool, s->ledger, &s->win, super_pool_send, s);
		err = carry_load(s, state_fd, why, sizeof why);
	}
	if (err == 0 && (err = regions_resume(&s->regions, true, &what)) < 0)
		snprintf(why, sizeof why, "the %s region does not fit version " PACKAGE_VERSION ": %s",
		    what, strerror(-err));
	for (unsigned i = 0; err == 0 && i < n; i++) {
		snprintf(path, sizeof path, "%s/%s", o->libexec_dir, programs[i].binary);
		if (access(path, X_OK) < 0) {
			err = -ENOENT;
			snprintf(why, sizeof why, "%.300s is not an executable program", path);
		}
	}
	return answer(err == 0 ? "ok\n" : why) < 0 || err < 0 ? EXIT_INTERNAL : 0;
}
