/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * children.c: the table of children: states, generations, back-off, deadlines.  A replacement has the
 * row, role and index of its predecessor and the next generation.  Time and what came to pass are
 * arguments.
 *
 *   NONE --start--> STARTING --ready--> READY --stopping--> STOPPING --ended--> NONE (or STARTING again)
 *                      |                  |
 *                      +------ended-------+--> BACKOFF --due--> STARTING
 */
#include "config.h"

#include <errno.h>

#include "super_int.h"

void
shards_split(unsigned shards, unsigned workers, unsigned w, uint32_t *first, uint32_t *count)
{
	*first = w * shards / workers;
	*count = (w + 1) * shards / workers - *first;
}

bool
child_is_running(const struct ledger_child *c)
{
	return c->state == CHILD_STARTING || c->state == CHILD_READY || c->state == CHILD_STOPPING;
}

void
children_init(struct children *t, struct ledger *l, const struct children_ops *ops, void *arg)
{
	memset(t, 0, sizeof *t);
	t->ledger = l;
	t->ops = ops;
	t->arg = arg;
	for (unsigned i = 0; i < LEDGER_CHILDREN; i++)
		t->c[i].control = -1;
}

static void
set_state(struct children *t, unsigned i, unsigned state, int32_t pid, tp_ms now)
{
	struct ledger_child *c = &t->ledger->child[i];

	ledger_begin(t->ledger);
	c->state = state;
	c->pid = pid;
	c->since_ms = now;
	t->ledger->ready = children_all_ready(t);
	ledger_end(t->ledger);
}

void
children_adopt(struct children *t, struct ledger *l, const struct children_ops *ops, void *arg, tp_ms now)
{
	t->ledger = l;
	t->ops = ops;
	t->arg = arg;
	for (unsigned i = 0; i < LEDGER_CHILDREN; i++)
		t->c[i].out_head = t->c[i].out_tail = NULL;
	for (unsigned i = 0; i < l->child_count; i++) {
		struct child *c = &t->c[i];
		bool half = l->child[i].state == CHILD_STARTING && !c->told;

		if (c->born != 0 && !child_is_running(&l->child[i])) {
			set_state(t, i, CHILD_STARTING, c->born, now);
			half = true;
		}
		c->born = 0;
		/* A kill that was noted may not have been sent. */
		if (half || c->out_count > 0 || c->killed) {
			c->out_count = 0;
			c->outlived = !c->killed;
			c->killed = false;
			children_kill(t, i);
		}
	}
}

int
children_find(const struct children *t, unsigned role, unsigned index)
{
	for (unsigned i = 0; i < t->ledger->child_count; i++)
		if (t->ledger->child[i].role == role && t->ledger->child[i].index == index)
			return (int)i;
	return -1;
}

int
children_by_pid(const struct children *t, pid_t pid)
{
	for (unsigned i = 0; i < t->ledger->child_count; i++)
		if (t->ledger->child[i].pid == pid && child_is_running(&t->ledger->child[i]))
			return (int)i;
	return -1;
}

int
children_owner(const struct children *t, unsigned shard)
{
	for (unsigned i = 0; i < t->ledger->child_count; i++) {
		const struct ledger_child *c = &t->ledger->child[i];
		if (c->role == ROLE_WORKER && shard >= c->first_shard &&
		    shard - c->first_shard < c->shard_count)
			return (int)i;
	}
	return -1;
}

int
children_row(struct children *t, unsigned role, unsigned index)
{
	int i = children_find(t, role, index);
	struct ledger_child *c;

	if (i >= 0)
		return i;
	if (t->ledger->child_count == LEDGER_CHILDREN)
		return -ENOSPC;
	ledger_begin(t->ledger);
	c = &t->ledger->child[t->ledger->child_count];
	memset(c, 0, sizeof *c);
	c->role = role;
	c->index = index;
	i = (int)t->ledger->child_count++;
	ledger_end(t->ledger);
	return i;
}

static tp_ms
backoff(const struct children *t, unsigned i)
{
	tp_ms cap = t->ledger->child[i].role == ROLE_WORKER ? CHILD_BACKOFF_WORKER_MS : CHILD_BACKOFF_MS,
	      span = 100;
	unsigned streak = t->c[i].streak;

	if (streak <= 1)
		return 0;
	for (; streak > 2 && span < cap; streak--)
		span *= 2;
	return span < cap ? span : cap;
}

static void
died(struct children *t, unsigned i, tp_ms now)
{
	const struct ledger_child *pub = &t->ledger->child[i];
	struct child *c = &t->c[i];
	bool served = pub->state == CHILD_READY && now - pub->since_ms >= CHILD_STABLE_MS;

	/* One that served is replaced at once, however often: only what does not come up must not spin. */
	if (served || !c->shot)
		c->streak = served ? 0 : c->streak + 1;
	c->due = now + (c->shot && !served ? CHILD_SHOT_MS : backoff(t, i));
	if (c->due == 0)
		c->due = 1;
	set_state(t, i, CHILD_BACKOFF, 0, now);
}

void
children_start(struct children *t, unsigned i, tp_ms now)
{
	struct ledger_child *pub = &t->ledger->child[i];
	struct child *c = &t->c[i];
	int pid;

	assert(!child_is_running(pub));
	ledger_begin(t->ledger);
	pub->generation++;
	pub->starts++;
	ledger_end(t->ledger);
	c->foreign = false;
	c->late = false;
	c->shot = c->killed = c->hung = c->paused = c->again = c->told = c->outlived = false;
	c->born = 0;
	c->started = now;
	c->due = now + CHILD_READY_MS;
	pid = t->ops->spawn(t->arg, i);
	if (pid < 0)
		died(t, i, now);
	else
		set_state(t, i, CHILD_STARTING, pid, now);
	c->born = 0;
}

void
children_ready(struct children *t, unsigned i, tp_ms now)
{
	if (t->ledger->child[i].state != CHILD_STARTING)
		return;
	t->c[i].due = 0;
	set_state(t, i, CHILD_READY, t->ledger->child[i].pid, now);
}

void
children_stopping(struct children *t, unsigned i, tp_ms now, tp_ms within, bool again)
{
	struct ledger_child *pub = &t->ledger->child[i];

	t->c[i].again = again;
	if (child_is_running(pub)) {
		t->c[i].due = now + within;
		set_state(t, i, CHILD_STOPPING, pub->pid, now);
	} else if (pub->state == CHILD_BACKOFF) {
		t->c[i].due = again ? now : 0;
		set_state(t, i, again ? CHILD_BACKOFF : CHILD_NONE, 0, now);
	}
}

void
children_kill(struct children *t, unsigned i)
{
	if (!child_is_running(&t->ledger->child[i]) || t->c[i].killed)
		return;
	tp_ms due = t->c[i].due;
	t->c[i].killed = true;
	t->c[i].due = 0;
	if (t->ops->kill(t->arg, i) < 0) {
		t->c[i].killed = false;
		t->c[i].due = due != 0 ? due + CHILD_KILL_MS : 0;
	}
}

void
children_late(struct children *t, unsigned i, bool late)
{
	if (t->c[i].late == late)
		return;
	t->c[i].late = late;
	ledger_begin(t->ledger);
	t->ledger->ready = children_all_ready(t);
	ledger_end(t->ledger);
}

bool
children_ended(struct children *t, unsigned i, bool clean, tp_ms now)
{
	struct ledger_child *pub = &t->ledger->child[i];
	struct child *c = &t->c[i];
	bool asked = pub->state == CHILD_STOPPING, again = c->again;

	if (!asked || !clean) {
		ledger_begin(t->ledger);
		pub->deaths++;
		ledger_end(t->ledger);
	}
	if (!asked) {
		died(t, i, now);
		return true;
	}
	c->due = 0;
	set_state(t, i, CHILD_NONE, 0, now);
	if (again)
		children_start(t, i, now);
	return !clean;
}

void
children_tick(struct children *t, tp_ms now)
{
	for (unsigned i = 0; i < t->ledger->child_count; i++) {
		if (t->c[i].due == 0 || t->c[i].due > now)
			continue;
		if (t->ledger->child[i].state == CHILD_BACKOFF)
			children_start(t, i, now);
		else
			children_kill(t, i);
	}
}

tp_ms
children_due(const struct children *t)
{
	tp_ms due = 0;

	for (unsigned i = 0; i < t->ledger->child_count; i++)
		if (t->c[i].due != 0 && (due == 0 || t->c[i].due < due))
			due = t->c[i].due;
	return due;
}

void
children_shift(struct children *t, tp_ms gap)
{
	for (unsigned i = 0; i < t->ledger->child_count; i++)
		if (t->c[i].due != 0 && child_is_running(&t->ledger->child[i]))
			t->c[i].due += gap;
}

bool
children_all_ready(const struct children *t)
{
	for (unsigned i = 0; i < t->ledger->child_count; i++) {
		const struct ledger_child *c = &t->ledger->child[i];
		bool needed = c->role != ROLE_WORKER || c->shard_count > 0;
		if (needed && (c->state != CHILD_READY || t->c[i].late))
			return false;
	}
	return t->ledger->child_count > 0;
}
