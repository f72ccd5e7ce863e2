/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stop.c: drain and end.
 */
#include "config.h"

#include <limits.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "super_int.h"

#define STOP_CHILD_MS 100
#define STOP_ADMIN_MS 50
#define STOP_LAST_MS  1000 /* a process that SIGKILL does not end is not waited for */

static void
tell_stop(struct super *s, bool admin)
{
	struct msg_stop stop = { .h.type = MSG_STOP };

	for (unsigned i = 0; i < s->ledger->child_count; i++) {
		if ((s->ledger->child[i].role == ROLE_ADMIN) != admin)
			continue;
		(void)super_send(s, i, &stop, -1);
		children_stopping(
		    &s->children, i, clock_ms(), admin ? STOP_ADMIN_MS : STOP_CHILD_MS, false);
	}
}

void
super_stop_again(struct super *s)
{
	if (s->phase == SUPER_STOPPING || s->phase == SUPER_ENDING)
		tell_stop(s, s->phase == SUPER_ENDING);
	super_stop_step(s);
}

static void
stop_now(struct super *s)
{
	if (s->phase == SUPER_STOPPING || s->phase == SUPER_ENDING)
		return;
	super_upgrade_cancel(s, "the daemon ends");
	super_reload_cancel(s, "the daemon ends");
	super_roll_cancel(s, "the daemon ends");
	s->phase = SUPER_STOPPING;
	s->deadline = clock_ms() + STOP_LAST_MS;
	notify_send("STOPPING=1");
	log_info("stopping");
	tell_stop(s, false); /* turnpike-admin last: it writes what the others log */
	super_stop_step(s);
	super_rearm(s);
}

void
super_stop(struct super *s)
{
	bool again = s->terminated;

	s->terminated = true;
	if (!again && (s->phase == SUPER_RUNNING || s->phase == SUPER_DRAINING) &&
	    s->conf.shutdown_grace > 0) {
		log_info("draining: up to %llu s for live sessions; a second signal ends at once",
		    (unsigned long long)(s->conf.shutdown_grace / 1000));
		super_drain(s, true, s->conf.shutdown_grace);
		return;
	}
	stop_now(s);
}

uint32_t
super_drain_flags(const struct super *s)
{
	return (s->ledger->draining ? MSG_DRAIN_ASKED : 0u) | (s->memory_short ? MSG_DRAIN_MEMORY : 0u);
}

void
super_tell_drain(struct super *s)
{
	struct msg_drain m = { .h.type = MSG_DRAIN, .on = super_drain_flags(s) };

	stand_by_end(s);
	for (unsigned i = 0; i < s->ledger->child_count; i++)
		if (s->ledger->child[i].role == ROLE_WORKER && child_is_running(&s->ledger->child[i]))
			(void)super_send(s, i, &m, -1);
}

void
super_drain(struct super *s, bool on, tp_ms span)
{
	if (s->phase != SUPER_RUNNING && s->phase != SUPER_DRAINING)
		return;
	s->phase = on ? SUPER_DRAINING : SUPER_RUNNING;
	s->terminated = s->terminated && on;
	s->deadline = on && span > 0 ? clock_ms() + span : 0;
	ledger_begin(s->ledger);
	s->ledger->draining = on;
	ledger_end(s->ledger);
	super_tell_drain(s);
}

void
super_drain_step(struct super *s, tp_ms now)
{
	struct shard shards[SHARDS_MAX];
	uint64_t live = 0;
	unsigned n;

	if (s->phase != SUPER_DRAINING)
		return;
	n = regions_shards(&s->regions, shards);
	for (unsigned i = 0; i < n; i++)
		live += shard_live(&shards[i]);
	if (live > 0 && (s->deadline == 0 || now < s->deadline))
		return;
	log_info("drained: %llu sessions left", (unsigned long long)live);
	stop_now(s);
}

static bool
running(const struct super *s, bool admin)
{
	for (unsigned i = 0; i < s->ledger->child_count; i++)
		if ((s->ledger->child[i].role == ROLE_ADMIN) == admin &&
		    child_is_running(&s->ledger->child[i]))
			return true;
	return false;
}

void
super_stop_step(struct super *s)
{
	if (s->phase != SUPER_STOPPING && s->phase != SUPER_ENDING)
		return;
	if (s->phase == SUPER_STOPPING && !running(s, false)) {
		s->phase = SUPER_ENDING;
		log_info("stopped");
		tell_stop(s, true);
	}
	if ((s->phase == SUPER_ENDING && !running(s, true)) || clock_ms() >= s->deadline)
		loop_stop(s->loop, s->exit_code);
}

void
super_cleanup(struct super *s)
{
	char path[PATH_MAX];

	/* By name only while we hold the lock: files of another daemon are not removed. */
	snprintf(path, sizeof path, "%s/control", s->o->runtime_dir);
	(void)unlink(path);
	/* The pid file goes last: when it has gone every port is free, also after the time that 100,000
	 * sockets take. */
	if (s->http_fd >= 0)
		close(s->http_fd);
	if (s->win.first > 0)
		(void)syscall(SYS_close_range, s->win.first, ~0u, 0);
	pidfile_remove(s->o->runtime_dir);
}
