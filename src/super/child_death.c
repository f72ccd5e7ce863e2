/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * child_death.c: children that ended, and children that hang.
 *
 * Order after a worker's death: its last messages, its redo record and lock words, then its successor.
 * The kernel has it all by the time waitpid() returns.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "super_int.h"

#define HEARTBEAT_MS        3000
#define HEARTBEAT_OTHERS_MS 10000
#define TICK_LATE_MS                                                                                       \
	1000 /* a tick that came so much later: this process had no processor, and no child is judged by it */
#define STARVED_MS         500 /* of processor, without a heartbeat: more than any round takes */
#define FIRST_START_DEATHS 3

static void
recover_cross(struct super *s, const struct ledger_child *c)
{
	struct shard shards[SHARDS_MAX];
	unsigned n = regions_shards(&s->regions, shards), refused = 0;
	int err = cross_recover(&s->regions.cross_map, c->index, shards, n, &refused);

	if (err < 0)
		log_errx("worker %u: recovery of the shared tables: %s", c->index, strerror(-err));
	if (refused > 0)
		log_warnx("worker %u: %u operations of its redo record do not fit what it held: ignored",
		    c->index, refused);
}

static void
describe(const struct super *s, unsigned i, int status, char *out, size_t len)
{
	const struct child *c = &s->children.c[i];

	if (c->hung)
		snprintf(out, len, "no heartbeat: killed");
	else if (c->killed)
		snprintf(out, len, "killed by the supervisor");
	else if (WIFSIGNALED(status))
		snprintf(out, len, "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status) == 127)
		snprintf(out, len, "could not be executed");
	else
		snprintf(out, len, "exit status %d", WEXITSTATUS(status));
}

/* Last words come from a region that the child could write: copied and cut before use. */
static void
last_words(struct super *s, unsigned i)
{
	struct ledger_child *c = &s->ledger->child[i];
	const struct stats *st = regions_stat(&s->regions, c->role, c->index);
	char words[sizeof c->words];

	memset(words, 0, sizeof words);
	if (st != NULL && st->pid == c->pid)
		memcpy(words, st->words, sizeof words - 1);
	ledger_begin(s->ledger);
	text_escape(c->words, sizeof c->words, words, strnlen(words, sizeof words));
	ledger_end(s->ledger);
}

/* What children have said before there was turnpike-admin to write it. */
void
super_print_log(const struct super *s)
{
	struct log_rec r;
	ssize_t n;

	while ((n = recv(s->log_read, &r, sizeof r, MSG_DONTWAIT)) > 0)
		if ((size_t)n >= LOG_REC_HEAD && r.magic == LOG_REC_MAGIC &&
		    r.len <= (size_t)n - LOG_REC_HEAD && r.level <= LOG_L_WARN)
			log_warnx("%s %u: %.*s", proc_role_name(r.role), r.index, (int)r.len, r.text);
}

/* Before everything was ready once, a child that keeps dying means that this start has failed. */
static void
check_first_start(struct super *s, const struct ledger_child *c, int status)
{
	if (s->phase != SUPER_STARTING ||
	    (c->deaths < FIRST_START_DEATHS && !(WIFEXITED(status) && WEXITSTATUS(status) == 127)))
		return;
	log_sink_fd(-1);
	super_print_log(s);
	log_errx("%s %u does not start", proc_role_name(c->role), c->index);
	s->exit_code = EXIT_INTERNAL;
	super_stop(s);
}

static void
ended(struct super *s, unsigned i, int status)
{
	struct ledger_child *c = &s->ledger->child[i];
	struct child *priv = &s->children.c[i];
	bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0, asked = c->state == CHILD_STOPPING;
	char how[128];

	CRASH_POINT("super:death");
	super_drain_control(s, i, true);
	loop_del(s->loop, priv->control);
	int control = priv->control;
	priv->control = -1;
	close(control);
	super_out_clear(priv);
	/* The log queue outlives its reader: the next turnpike-admin writes what was said meanwhile. */
	if (c->role == ROLE_ADMIN && (s->phase == SUPER_STARTING || asked))
		log_sink_fd(-1);
	if (c->role == ROLE_WORKER) {
		recover_cross(s, c);
		for (unsigned k = 0; k < c->shard_count; k++)
			pool_forget(&s->pool, c->first_shard + k);
	}
	if (!asked || !clean) {
		last_words(s, i);
		describe(s, i, status, how, sizeof how);
		log_warnx("%s %u: ended (pid %d): %s%s%s", proc_role_name(c->role), c->index, (int)c->pid,
		    how, c->words[0] != '\0' ? ": " : "", c->words);
		stat_add(s->regions.super_map, STAT_CHILD_DEATHS, 1);
		if (c->role == ROLE_WORKER)
			super_poison_death(s, i, status);
		/* One that has not served has read nothing from the network, and what waits for it is
		 * kept. */
		if (c->role == ROLE_WORKER && c->state != CHILD_STARTING &&
		    super_died_of_its_work(priv, status))
			super_renew_shards(s, i);
	}
	priv->shot = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL &&
	    (!priv->killed || priv->outlived);
	(void)children_ended(&s->children, i, clean, clock_ms());
	if (c->role == ROLE_WORKER)
		super_locks_step(s);
	check_first_start(s, c, status);
	if (c->role == ROLE_WORKER)
		super_roll_step(s);
}

static void
one_death(struct super *s, pid_t pid, int status)
{
	int i;

	if (pid == s->conf_run.pid) {
		s->conf_run.pid = 0;
		return;
	}
	if (super_upgrade_reaped(s, pid, status) || stand_by_reaped(s, pid))
		return;
	i = children_by_pid(&s->children, pid);
	if (i >= 0)
		ended(s, (unsigned)i, status);
}

/*
 * The waiting process writes a death before it reaps: what the kernel then clears away (a name for each
 * of ten thousand descriptors that was looked at under /proc) took up to 5 ms, and a successor need not
 * wait for it.  A death counts as taken when its row says so: a supervisor that dies in between leaves it
 * to the next one.
 */
void
super_reap(struct super *s)
{
	struct waiting *w = s->waiting;
	uint64_t n = atomic_load(&w->taken);

	for (; n != atomic_load(&w->written); n++) {
		struct waiting_death d = w->death[n % WAITING_DEATHS];
		one_death(s, d.pid, d.status);
		CRASH_POINT("super:buried");
		atomic_store(&w->taken, n + 1);
	}
	children_tick(&s->children, clock_ms()); /* a first restart is due at once */
	super_stop_step(s);
	super_upgrade_step(s);
	super_rearm(s);
}

/* One at a time: a machine that is too slow for its workers must not lose all of them. */
static bool
one_is_being_replaced(const struct super *s)
{
	for (unsigned i = 0; i < s->ledger->child_count; i++)
		if (s->children.c[i].hung && s->ledger->child[i].state != CHILD_READY)
			return true;
	return false;
}

/* Was the supervisor itself stopped, suspended or starved?  Then no child is late. */
void
super_punctual(struct super *s, tp_ms now)
{
	if (s->tick_last != 0 && now - s->tick_last <= TICK_LATE_MS)
		return;
	if (s->tick_last != 0) {
		log_warnx(
		    "the supervisor did not run for %llu ms", (unsigned long long)(now - s->tick_last));
		children_shift(&s->children, now - s->tick_last);
	}
	s->tick_last = s->on_time_since = now;
}

/* R, S, D, T, t ... of proc(5); 0: not to be seen. */
static char
state_of(pid_t pid)
{
	char path[40], text[256];
	const char *p;
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof text - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	p = strrchr(text, ')');
	return p != NULL && p[1] == ' ' ? p[2] : 0;
}

/* Runnable, and given hardly any processor since it was found late: the machine hangs.  A child in an
 * endless loop uses all the time that it gets. */
static bool
is_starved(struct child *k, char state, pid_t pid, uint64_t beat)
{
	struct timespec t;
	clockid_t clock;
	uint64_t used;

	if (state != 'R' || clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) < 0)
		return false;
	used = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
	if (k->late_beat != beat) {
		k->late_beat = beat;
		k->late_used = used;
	}
	return used - k->late_used < STARVED_MS;
}

/* Others than workers: their work has no session waiting for it, and may be long (verify, a database
 * that is slow). */
static tp_ms
patience(unsigned role)
{
	return role == ROLE_WORKER ? HEARTBEAT_MS : HEARTBEAT_OTHERS_MS;
}

static void
heartbeat(struct super *s, unsigned i, tp_ms now)
{
	const struct ledger_child *c = &s->ledger->child[i];
	const struct stats *st = regions_stat(&s->regions, c->role, c->index);
	struct child *priv = &s->children.c[i];
	uint64_t beat = st != NULL ? atomic_load_explicit(&st->heartbeat_ms, memory_order_relaxed) : now;
	char state;

	if (beat + HEARTBEAT_MS >= now) {
		children_late(&s->children, i, false);
		return;
	}
	if (!priv->late)
		log_warnx("%s %u: no heartbeat for %llu ms: not ready", proc_role_name(c->role), c->index,
		    (unsigned long long)(now - beat));
	children_late(&s->children, i, true);
	if (beat + patience(c->role) >= now || priv->killed ||
	    (c->role == ROLE_WORKER && one_is_being_replaced(s)))
		return;
	state = state_of(c->pid);
	if (is_starved(priv, state, c->pid, beat))
		return;
	priv->hung = true;
	priv->paused = state == 'T' || state == 't'; /* SIGSTOP, a debugger */
	children_kill(&s->children, i);
	if (priv->killed)
		log_warnx("%s %u: no heartbeat for %llu ms: killed", proc_role_name(c->role), c->index,
		    (unsigned long long)(now - beat));
}

void
super_heartbeats(struct super *s, tp_ms now)
{
	if (now - s->on_time_since < HEARTBEAT_MS || s->phase == SUPER_STOPPING || s->phase == SUPER_ENDING)
		return;
	for (unsigned i = 0; i < s->ledger->child_count; i++)
		if (s->ledger->child[i].state == CHILD_READY &&
		    now - s->ledger->child[i].since_ms >= HEARTBEAT_MS)
			heartbeat(s, i, now);
}

/* ---- lock words ------------------------------------------------------------------------------------ */

void
super_locks_step(struct super *s)
{
	bool runs[SHARDS_MAX] = { false };
	unsigned freed;

	for (unsigned i = 0; i < s->ledger->child_count; i++) {
		const struct ledger_child *c = &s->ledger->child[i];
		/* One that has died and is not dealt with counts: its redo record comes before its
		 * words. */
		if (c->role == ROLE_WORKER && c->index < SHARDS_MAX && child_is_running(c))
			runs[c->index] = true;
	}
	freed = cross_free_words(&s->regions.cross_map, runs);
	if (freed > 0)
		log_errx("shared tables: %u locks named a worker that does not run: freed", freed);
}
