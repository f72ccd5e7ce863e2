/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stand_by.c: successors of workers that are replaced on purpose.  They get ready before the workers stop.
 *
 *   started --PREPARED--> the worker is told to stop --its end--> the stand-by takes its row
 *
 * A stand-by inherits the descriptors of the moment in which it is started.  What changes in the windows
 * of its shards is told when it takes its row (ledger_watch()).  When anything else changes that it was
 * told, it is ended, and the worker is replaced without it.  A supervisor that dies loses it: the socket
 * between them closes, and it ends.
 */
#include "config.h"

#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "super_int.h"

static void
let_go(struct super *s, struct stand_by *b)
{
	if (b->control < 0)
		return;
	loop_del(s->loop, b->control);
	close(b->control);
	b->control = -1;
}

static void
end(struct super *s, struct stand_by *b)
{
	let_go(s, b);
	(void)kill(b->pid, SIGKILL);
}

bool
stand_by_exists(const struct super *s)
{
	for (unsigned i = 0; i < SHARDS_MAX; i++)
		if (s->stand_by[i].pid != 0)
			return true;
	return false;
}

static void
go_when_prepared(struct super *s)
{
	for (unsigned i = 0; i < SHARDS_MAX; i++)
		if (s->stand_by[i].pid != 0 && !s->stand_by[i].prepared)
			return;
	super_roll_go(s);
}

static void
on_control(void *arg, int fd, uint32_t events)
{
	struct super *s = arg;
	struct stand_by *b = s->stand_by;
	union msg m;
	int n, other;

	(void)events;
	while (b->pid == 0 || b->control != fd)
		b++;
	n = ipc_recv(fd, ROLE_WORKER, ROLE_SUPER, &m, &other);
	if (n == 1 && other >= 0)
		close(other);
	if (n == 0)
		return;
	if (n != 1 || m.h.type != MSG_PREPARED || m.h.generation != b->generation || b->prepared) {
		end(s, b);
		return;
	}
	b->prepared = true;
	CRASH_POINT("super:prepared");
	go_when_prepared(s);
}

bool
stand_by_start(struct super *s, unsigned index, uint32_t first_shard, uint32_t shard_count)
{
	struct stand_by *b = &s->stand_by[index];
	int i = children_row(&s->children, ROLE_WORKER, index), pid;

	if (i < 0 || b->pid != 0)
		return false;
	struct ledger_child c = s->ledger->child[i];
	c.first_shard = first_shard;
	c.shard_count = shard_count;
	if (!stand_by_exists(s))
		ledger_watch();
	pid = super_launch(s, &c, &b->control, NULL);
	if (pid < 0)
		return false;
	b->pid = pid;
	b->prepared = false;
	b->child = (uint32_t)i;
	b->generation = c.generation + 1;
	b->first_shard = first_shard;
	b->shard_count = shard_count;
	(void)loop_add(s->loop, b->control, EPOLLIN, on_control, s);
	if (super_tell_stand_by(s, b) < 0)
		end(s, b);
	return true;
}

int
stand_by_take(struct super *s, unsigned i)
{
	const struct ledger_child *c = &s->ledger->child[i];
	struct child *priv = &s->children.c[i];
	struct stand_by *b;
	int pid;

	if (c->role != ROLE_WORKER)
		return 0;
	b = &s->stand_by[c->index];
	if (b->pid == 0 || b->control < 0)
		return 0;
	if (b->generation != c->generation || b->first_shard != c->first_shard ||
	    b->shard_count != c->shard_count) {
		end(s, b);
		return 0;
	}
	loop_del(s->loop, b->control);
	/* In this order: a supervisor that comes next ends the process by this number. */
	pid = priv->born = b->pid;
	priv->control = b->control;
	CRASH_POINT("super:taken");
	b->pid = 0;
	(void)loop_add(s->loop, priv->control, EPOLLIN, super_control_event, s);
	return pid;
}

void
stand_by_end(struct super *s)
{
	for (unsigned i = 0; i < SHARDS_MAX; i++)
		if (s->stand_by[i].pid != 0)
			end(s, &s->stand_by[i]);
}

bool
stand_by_reaped(struct super *s, pid_t pid)
{
	struct stand_by *b = s->stand_by, *last = b + SHARDS_MAX;

	while (b < last && (b->pid == 0 || b->pid != pid))
		b++;
	if (b == last)
		return false;
	let_go(s, b);
	b->pid = 0;
	go_when_prepared(s);
	return true;
}

void
stand_by_deadline(struct super *s, tp_ms now)
{
	if (!s->roll.preparing || now < s->roll.prepared_by)
		return;
	for (unsigned i = 0; i < SHARDS_MAX; i++)
		if (s->stand_by[i].pid != 0 && !s->stand_by[i].prepared)
			end(s, &s->stand_by[i]);
}
