/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * successor.c: a supervisor goes on where another one died, at whatever point that was.
 *
 * Descriptors and children are still there; what the dead one knew is in struct super and the ledger,
 * both shared memory.  Half-done things are settled as those of workers are: a message in hand is dealt
 * with once more, a process that was being told something is replaced, an operation begins again, a
 * descriptor that nothing names is closed.
 */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "super_int.h"

/* ---- is it sound? -------------------------------------------------------------------------------- */

static bool
windows_are_sound(const struct super *s)
{
	const struct windows *w = &s->win;

	return w->shards > 0 && w->shards <= SHARDS_MAX && w->first >= 8 && w->span > 0 &&
	    (uint64_t)w->first + (uint64_t)w->span * w->shards <= LEDGER_FDS &&
	    s->regions.shards == w->shards;
}

static bool
ledger_is_sound(const struct ledger *l, unsigned shards)
{
	if (l->magic != LEDGER_MAGIC || l->child_count > LEDGER_CHILDREN || l->fd_max > LEDGER_FDS ||
	    l->worker_count == 0 || l->worker_count > shards)
		return false;
	for (unsigned i = 0; i < l->child_count; i++) {
		const struct ledger_child *c = &l->child[i];
		if (c->role >= ROLES || c->state > CHILD_PARKED || c->shard_count > shards ||
		    c->first_shard > shards - c->shard_count)
			return false;
	}
	for (uint32_t fd = 0; fd < l->fd_max; fd++)
		if (l->fd[fd].kind > LEDGER_OFFERED ||
		    (l->fd[fd].kind != LEDGER_FREE && l->fd[fd].shard >= shards))
			return false;
	return true;
}

static bool
is_sound(const struct super *s)
{
	return s->magic == SUPER_MAGIC && s->size == sizeof *s && windows_are_sound(s) &&
	    s->phase <= SUPER_ENDING && s->tlsd_count <= MSG_TLSDS_MAX &&
	    s->upgrade.state <= UPGRADE_ADMIN && s->roll.mode <= ROLL_RESIZE &&
	    s->pool.wait_next < POOL_WAITS && s->conf_fd >= 0 && s->log_write >= 0;
}

/* ---- descriptors ----------------------------------------------------------------------------------- */

struct kept {
	uint8_t *by_number;
	uint32_t max;
};

static void
keep(void *arg, int fd)
{
	struct kept *k = arg;

	if (fd >= 0 && (uint32_t)fd < k->max)
		k->by_number[fd] = 1;
}

/* A process that was about to be started has no use for its message socket. */
static void
forget_sockets(struct super *s)
{
	for (unsigned i = 0; i < LEDGER_CHILDREN; i++)
		if (i >= s->ledger->child_count ||
		    (!child_is_running(&s->ledger->child[i]) && s->children.c[i].born == 0))
			s->children.c[i].control = -1;
}

/* Closes what nothing names: a socket that was being made, the dead supervisor's event queue. */
static int
close_strays(struct super *s)
{
	struct kept k = { .by_number = calloc(s->win.first, 1), .max = s->win.first };
	uint32_t from = s->win.first;

	if (k.by_number == NULL)
		return -ENOMEM;
	for (int fd = 0; fd <= CHILD_FD_LOG; fd++)
		keep(&k, fd);
	keep(&k, s->in_hand.m.h.type == MSG_NONE ? -1 : s->in_hand.fd);
	held_each(s, false, keep, &k);
	for (uint32_t fd = 0; fd < k.max; fd++)
		if (!k.by_number[fd])
			(void)close((int)fd);
	free(k.by_number);
	/* In the windows: runs of numbers that are free. */
	for (uint32_t fd = s->win.first; fd <= s->ledger->fd_max; fd++)
		if (fd == s->ledger->fd_max || s->ledger->fd[fd].kind != LEDGER_FREE) {
			if (fd > from)
				(void)syscall(SYS_close_range, from, fd - 1, 0);
			from = fd + 1;
		}
	(void)syscall(SYS_close_range, s->ledger->fd_max, ~0u, 0);
	return 0;
}

/* Listeners of a configuration that did not come into force. */
static void
close_unknown_listeners(struct super *s)
{
	for (uint32_t fd = s->win.first; fd < s->ledger->fd_max; fd++) {
		const struct ledger_fd *e = &s->ledger->fd[fd];
		unsigned kinds = e->stream ? TRANSPORT_STREAMS : ~(unsigned)TRANSPORT_STREAMS;
		if (e->kind == LEDGER_LISTENER &&
		    (e->row >= s->conf.listener_count ||
			(!e->stream && (s->conf.listeners[e->row].transports & kinds) == 0)))
			ledger_close(s->ledger, (int)fd);
	}
}

/* ---- what was going on ----------------------------------------------------------------------------- */

static int
take_conf(struct super *s)
{
	const struct conf *p = mmap(NULL, sizeof *p, PROT_READ, MAP_SHARED, s->conf_fd, 0);
	int err;

	if (p == MAP_FAILED)
		return -errno;
	err = conf_validate(p, sizeof *p);
	if (err == 0)
		s->conf = *p;
	munmap((void *)(uintptr_t)p, sizeof *p);
	return err;
}

static void
take_children(struct super *s)
{
	struct msg_drain drain = { .h.type = MSG_DRAIN, .on = super_drain_flags(s) };
	struct msg_stop stop = { .h.type = MSG_STOP };

	for (unsigned i = 0; i < s->ledger->child_count; i++)
		if (s->children.c[i].control >= 0)
			(void)loop_add(s->loop, s->children.c[i].control, EPOLLIN, super_control_event, s);
	super_in_hand_again(s);
	super_reap(s);
	for (unsigned i = 0; i < s->ledger->child_count; i++) {
		/* The predecessor may have died with its STOP: without this one the child is waited for
		 * until a deadline. */
		if (s->ledger->child[i].state == CHILD_STOPPING)
			(void)super_send(s, i, &stop, -1);
		if (s->ledger->child[i].role == ROLE_WORKER && s->ledger->child[i].state == CHILD_READY) {
			(void)super_send(s, i, &drain, -1);
			super_poison_tell(s, i);
		}
	}
}

/* Rows whose process was about to be started. */
static void
start_missing(struct super *s)
{
	bool resize = s->roll.mode == ROLL_RESIZE && !s->roll.waiting;

	if (s->phase == SUPER_STOPPING || s->phase == SUPER_ENDING)
		return;
	for (unsigned i = 0; i < s->ledger->child_count; i++) {
		const struct ledger_child *c = &s->ledger->child[i];
		if (c->state == CHILD_NONE && (c->role != ROLE_WORKER || (c->shard_count > 0 && !resize)))
			children_start(&s->children, i, clock_ms());
	}
}

static void
end_helper(pid_t pid)
{
	if (pid > 1)
		(void)kill(pid, SIGKILL);
}

static void
go_on(struct super *s)
{
	start_missing(s);
	super_roll_again(s);
	super_stop_again(s);
	super_tell_conf(s);
	if (s->phase == SUPER_RUNNING || s->phase == SUPER_DRAINING)
		super_tlsds(s, true);
	if (s->upgrade.state == UPGRADE_QUIET || s->upgrade.state == UPGRADE_PROBE)
		super_upgrade_again(s);
	if (s->reloading && !s->looking) {
		s->reloading = false;
		super_reload(s, s->reload_who);
	}
	super_check_ready(s);
	super_signals_again(s);
	super_rearm(s);
}

static void
tell(const struct super *s)
{
	const struct waiting *w = s->waiting;
	unsigned long long gap = clock_ms() - w->died_ms;

	if (WIFSIGNALED(w->status))
		log_warnx(
		    "supervisor: the one before ended by signal %d (%s): sessions and processes go on under this one, "
		    "after %llu ms; %u such ends since the start",
		    WTERMSIG(w->status), strsignal(WTERMSIG(w->status)), gap, w->deaths);
	else
		log_warnx(
		    "supervisor: the one before ended with status %d: sessions and processes go on under this one, "
		    "after %llu ms; %u such ends since the start",
		    WEXITSTATUS(w->status), gap, w->deaths);
	if (w->streak + 1 >= WAITING_STREAK_MAX)
		log_errx(
		    "supervisor: %u ended in a row, each soon after its start: at the next one the daemon ends",
		    w->streak);
}

int
super_adopt(struct super *s)
{
	const char *what = "supervisor";
	tp_ms now = clock_ms();
	int err = 0;

	if (is_sound(s) && (s->ledger = ledger_map(s->ledger_rw)) != NULL &&
	    ledger_is_sound(s->ledger, s->win.shards)) {
		log_sink_fd(s->log_write);
		ledger_repair(s->ledger);
		forget_sockets(s);
		err = close_strays(s);
	} else {
		err = -EPROTO;
	}
	if (err == 0 && (err = take_conf(s)) == 0)
		err = regions_resume(&s->regions, false, &what);
	if (err == 0) {
		pool_adopt(&s->pool, s->ledger, super_pool_send, s);
		err = pool_ports(&s->pool, s->regions.ports_map);
	}
	if (err == 0)
		err = super_watch(s);
	if (err < 0) {
		log_errx(
		    "supervisor: the state of the one that ended cannot be used (%s: %s): the daemon ends",
		    what, strerror(-err));
		return EXIT_INTERNAL;
	}
	log_level_set((enum log_level)s->conf.log_level);
	if (s->looking) /* its own turn comes again */
	{
		s->reloading = false;
		s->looking = LOOK_NOT;
	}
	end_helper(s->conf_run.pid);
	memset(&s->conf_run, 0, sizeof s->conf_run);
	s->conf_run.fd = s->conf_run.conf_fd = s->conf_run.users_fd = s->conf_run.certs_fd = -1;
	tell(s);
	CRASH_POINT("super:adopt");
	close_unknown_listeners(s);
	listeners_inherit(s->ledger, &s->win, &s->conf);
	super_close_old(s);
	pool_rows(&s->pool, &s->conf);
	children_adopt(&s->children, s->ledger, &super_children_ops, s, now);
	stat_init(s->regions.super_map, ROLE_SUPER, 0, 1, now);
	take_children(s);
	pool_offer_again(&s->pool);
	CRASH_POINT("super:adopted");
	super_tick_start(s);
	go_on(s);
	return 0;
}
