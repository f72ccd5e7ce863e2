/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * roll.c: workers replaced on purpose: one by one (new binary, new listeners), or all at once with
 * another split of the shards.  A shard changes its owner only by one process ending and another
 * starting.
 */
#include "config.h"

#include "super_int.h"

#define STEP_MS 60000 /* a worker ends and its successor is ready, on any machine */

static void
stop_worker(struct super *s, unsigned i, bool again)
{
	struct msg_stop stop = { .h.type = MSG_STOP };

	(void)super_send(s, i, &stop, -1);
	children_stopping(&s->children, i, clock_ms(), CHILD_STOP_MS, again);
}

static void
finish(struct super *s)
{
	struct requester who = s->roll.who;
	enum roll_mode then = s->roll.then;
	uint32_t then_workers = s->roll.then_workers, workers = s->ledger->worker_count;

	memset(&s->roll, 0, sizeof s->roll);
	stand_by_end(s);
	log_info("workers: %u replaced", workers);
	super_reply(s, who, 0, false, "%u workers replaced", workers);
	if (then != ROLL_NONE)
		super_roll(s, then, then_workers, (struct requester){ .used = false });
}

/* All have ended: another split, then all start. */
static void
resplit(struct super *s)
{
	static const bool runs[SHARDS_MAX];
	struct shard shards[SHARDS_MAX];
	tp_ms now = clock_ms();
	unsigned n;

	for (unsigned i = 0; i < s->ledger->child_count; i++)
		if (s->ledger->child[i].role == ROLE_WORKER && child_is_running(&s->ledger->child[i]))
			return;
	/* No worker writes at this moment: counts that a worker left wrong are set right. */
	n = regions_shards(&s->regions, shards);
	cross_free_words(&s->regions.cross_map, runs);
	cross_recount(&s->regions.cross_map, shards, n);
	s->recount = false;
	ledger_begin(s->ledger);
	s->ledger->worker_count = s->roll.workers;
	for (unsigned i = 0; i < s->ledger->child_count; i++)
		if (s->ledger->child[i].role == ROLE_WORKER)
			s->ledger->child[i].first_shard = s->ledger->child[i].shard_count = 0;
	ledger_end(s->ledger);
	for (unsigned w = 0; w < s->roll.workers; w++) {
		int i = children_row(&s->children, ROLE_WORKER, w);
		if (i < 0)
			continue;
		ledger_begin(s->ledger);
		shards_split(s->regions.shards, s->roll.workers, w, &s->ledger->child[i].first_shard,
		    &s->ledger->child[i].shard_count);
		ledger_end(s->ledger);
		children_start(&s->children, (unsigned)i, now);
	}
	s->roll.waiting = true;
	s->roll.deadline = now + STEP_MS;
}

static bool
all_workers_ready(const struct super *s)
{
	for (unsigned i = 0; i < s->ledger->child_count; i++) {
		const struct ledger_child *c = &s->ledger->child[i];
		if (c->role == ROLE_WORKER && c->shard_count > 0 && c->state != CHILD_READY)
			return false;
	}
	return true;
}

static void
stop_all(struct super *s)
{
	for (unsigned i = 0; i < s->ledger->child_count; i++)
		if (s->ledger->child[i].role == ROLE_WORKER)
			stop_worker(s, i, false);
}

void
super_roll_go(struct super *s)
{
	int i;

	if (!s->roll.preparing)
		return;
	s->roll.preparing = false;
	if (s->roll.mode == ROLL_RESIZE) {
		stop_all(s);
	} else {
		i = children_find(&s->children, ROLE_WORKER, s->roll.next++);
		if (i >= 0)
			stop_worker(s, (unsigned)i, true);
	}
	super_roll_step(s); /* those that had ended by themselves are not waited for */
	super_rearm(s);
}

/* Successors of the workers that are to stop get ready.  Without any, the workers stop at once. */
static void
prepare(struct super *s)
{
	uint32_t first, count;
	bool any = false;
	int i;

	s->roll.preparing = true;
	s->roll.prepared_by = clock_ms() + CHILD_READY_MS;
	if (s->roll.mode == ROLL_RESIZE) {
		for (unsigned w = 0; w < s->roll.workers; w++) {
			shards_split(s->regions.shards, s->roll.workers, w, &first, &count);
			any |= stand_by_start(s, w, first, count);
		}
	} else {
		i = children_find(&s->children, ROLE_WORKER, s->roll.next);
		any = i >= 0 &&
		    stand_by_start(
			s, s->roll.next, s->ledger->child[i].first_shard, s->ledger->child[i].shard_count);
	}
	if (!any)
		super_roll_go(s);
}

void
super_roll_step(struct super *s)
{
	if (s->roll.mode == ROLL_NONE || s->phase == SUPER_STOPPING || s->phase == SUPER_ENDING)
		return;
	if (s->roll.preparing) {
		/* A worker that died meanwhile has taken its own. */
		if (!stand_by_exists(s))
			super_roll_go(s);
		return;
	}
	if (s->roll.mode == ROLL_RESIZE && !s->roll.waiting) {
		resplit(s);
		return;
	}
	/* Never two at once: whatever else is being replaced comes first. */
	if (!all_workers_ready(s) || stand_by_exists(s))
		return;
	if (s->roll.mode == ROLL_RESIZE || s->roll.next >= s->ledger->worker_count) {
		finish(s);
		return;
	}
	s->roll.deadline = clock_ms() + STEP_MS;
	prepare(s);
	super_rearm(s);
}

void
super_roll_cancel(struct super *s, const char *why)
{
	if (s->roll.mode == ROLL_NONE)
		return;
	log_errx("workers: %s: their replacement is given up", why);
	super_reply(s, s->roll.who, 1, false, "%s: the replacement of workers is given up", why);
	memset(&s->roll, 0, sizeof s->roll);
	stand_by_end(s);
}

/* All of another split have to end first, and are killed in time; those of a roll may not come up. */
void
super_roll_deadline(struct super *s, tp_ms now)
{
	if (s->roll.mode != ROLL_NONE && (s->roll.mode == ROLL_ONE_BY_ONE || s->roll.waiting) &&
	    now >= s->roll.deadline)
		super_roll_cancel(s, "a new worker is not ready within 60 s");
}

void
super_roll_again(struct super *s)
{
	s->roll.preparing = false;
	if (s->roll.mode == ROLL_RESIZE && !s->roll.waiting)
		stop_all(s);
	super_roll_step(s);
}

static void
begin(struct super *s, enum roll_mode mode, unsigned workers, struct requester who)
{
	s->roll = (struct roll){
		.mode = mode, .workers = workers, .who = who, .deadline = clock_ms() + STEP_MS
	};
	super_rearm(s);
}

void
super_roll_force(struct super *s)
{
	struct requester who = s->roll.who;
	unsigned workers = super_roll_workers(s);

	if (s->phase == SUPER_STOPPING || s->phase == SUPER_ENDING)
		return;
	memset(&s->roll, 0, sizeof s->roll);
	stand_by_end(s);
	begin(s, ROLL_RESIZE, workers, who);
	stop_all(s);
	super_roll_step(s);
}

unsigned
super_roll_workers(const struct super *s)
{
	if (s->roll.then == ROLL_RESIZE)
		return s->roll.then_workers;
	return s->roll.mode == ROLL_RESIZE ? s->roll.workers : s->ledger->worker_count;
}

void
super_roll(struct super *s, enum roll_mode mode, unsigned workers, struct requester who)
{
	if (s->roll.mode != ROLL_NONE) {
		/* Another split replaces all of them, so it includes the other wish. */
		if (mode == ROLL_RESIZE || s->roll.then == ROLL_NONE) {
			s->roll.then = mode;
			s->roll.then_workers = workers;
		}
		super_reply(s, who, 0, false, "workers are being replaced already; they will be once more");
		return;
	}
	begin(s, mode, workers, who);
	if (mode == ROLL_RESIZE)
		prepare(s);
	super_roll_step(s);
	super_rearm(s);
}
