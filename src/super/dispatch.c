/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dispatch.c: messages of the children.  Each is hostile until proven otherwise: io has checked length,
 * type and direction; here it is checked that a worker speaks only of its own shards and sockets.
 */
#include "config.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "super_int.h"

#define BURST 256 /* messages per wake-up: one child cannot keep the others waiting */

static bool
owns(const struct ledger_child *c, uint32_t shard)
{
	return shard >= c->first_shard && shard - c->first_shard < c->shard_count;
}

static void
refuse(struct super *s, unsigned i, const union msg *m)
{
	static struct log_class class;
	const struct ledger_child *c = &s->ledger->child[i];

	stat_add(s->regions.super_map, STAT_MSG_BAD, 1);
	log_limited(&class, 5, LOG_L_WARN, "%s %u: refused a %s message", proc_role_name(c->role), c->index,
	    msg_name(m->h.type));
}

static void
on_ready(struct super *s, unsigned i, const struct msg_ready *m)
{
	const struct ledger_child *c = &s->ledger->child[i];

	if (c->state != CHILD_STARTING)
		return;
	children_ready(&s->children, i, clock_ms());
	log_debug("%s %u: ready, generation %u, adopted %u, dropped %u", proc_role_name(c->role), c->index,
	    c->generation, m->adopted, m->dropped);
	if (c->role == ROLE_ADMIN)
		log_sink_fd(s->log_write);
	super_check_ready(s);
	if (c->role == ROLE_WORKER) {
		super_poison_ready(s, i);
		super_roll_step(s);
	}
	super_upgrade_step(s);
}

/* A connection gets its number, even of a worker that died meanwhile: its successor finds it. */
static void
take_stream(struct super *s, unsigned i, const struct msg_stream *m, int fd, bool dead)
{
	struct ledger_fd e = { .kind = LEDGER_STREAM, .row = (uint8_t)m->row };
	struct msg_stream_at at = { .h.type = MSG_STREAM_AT, .shard = m->shard, .request = m->request };
	int n = s->in_hand.result; /* of a supervisor that died here */

	if (n <= 0) {
		n = fd < 0 ? -EBADF : ledger_move(s->ledger, &s->win, m->shard, fd, e);
		s->in_hand.result = n;
	} else if (fd >= 0) {
		close(fd);
	}
	CRASH_POINT("super:stream");
	at.fd = n < 0 ? -1 : n;
	if (!dead)
		(void)super_send(s, i, &at, -1);
}

static bool
release(struct super *s, const struct msg_release *m, tp_ms now)
{
	if (m->fd == -1 && m->reservation != 0)
		return pool_release(&s->pool, m, now) == 0;
	if (m->fd < 0 || (uint32_t)m->fd >= s->ledger->fd_max)
		return false;
	const struct ledger_fd *e = &s->ledger->fd[m->fd];
	if (e->kind != LEDGER_STREAM)
		return pool_release(&s->pool, m, now) == 0;
	if (e->shard != m->shard)
		return false;
	ledger_close(s->ledger, m->fd);
	return true;
}

/* What a worker says; of a dead one only what it gives back still counts. */
static bool
worker_message(struct super *s, const struct ledger_child *c, const union msg *m, bool dead)
{
	tp_ms now = clock_ms();

	switch (m->h.type) {
	case MSG_RELEASE:
		return owns(c, m->msg_release.shard) && release(s, &m->msg_release, now);
	case MSG_WANT:
		if (!owns(c, m->msg_want.shard))
			return false;
		if (!dead)
			pool_want(&s->pool, &m->msg_want, now);
		return true;
	case MSG_RELAY:
		if (!owns(c, m->msg_relay.shard))
			return false;
		if (!dead)
			pool_relay(&s->pool, &m->msg_relay, now);
		return true;
	case MSG_CLOSED:
		super_closed(s, &m->msg_closed);
		return true;
	default:
		return false;
	}
}

static void
message(struct super *s, unsigned i, const union msg *m, int fd, bool dead)
{
	const struct ledger_child *c = &s->ledger->child[i];
	bool ok = false;

	if (m->h.type == MSG_STREAM && (fd >= 0 || s->in_hand.again) && m->h.generation == c->generation &&
	    owns(c, m->msg_stream.shard) && m->msg_stream.row < LISTENERS_MAX) {
		take_stream(s, i, &m->msg_stream, fd, dead);
		return;
	}
	if (fd >= 0)
		close(fd);
	if (m->h.generation != c->generation)
		;
	else if (m->h.type == MSG_READY) {
		if (!dead)
			on_ready(s, i, &m->msg_ready);
		ok = true;
	} else if (m->h.type == MSG_PREPARED) {
		ok = true; /* it took its row before it had said so */
	} else if (c->role == ROLE_WORKER) {
		ok = worker_message(s, c, m, dead);
	} else if (m->h.type == MSG_COMMAND) {
		if (!dead)
			super_command(s, i, &m->msg_command);
		ok = true;
	}
	if (!ok && !s->in_hand.again) /* else it was done before */
		refuse(s, i, m);
}

/*
 * One message, which is in the shared region until it is dealt with: the kernel writes it there, so a
 * supervisor that dies with it has not lost it.  The next one deals with it once more; what was done
 * already does no harm.
 */
static int
one(struct super *s, unsigned i, bool dead)
{
	struct in_hand *h = &s->in_hand;
	int e;

	h->fd = -1;
	h->result = 0;
	h->again = false;
	h->child = i;
	h->generation = s->ledger->child[i].generation;
	e = ipc_recv(s->children.c[i].control, s->ledger->child[i].role, ROLE_SUPER, &h->m, &h->fd);
	CRASH_POINT("super:in_hand");
	if (e == 1)
		message(s, i, &h->m, h->fd, dead);
	CRASH_POINT("super:done");
	h->m.h.type = MSG_NONE;
	return e;
}

void
super_in_hand_again(struct super *s)
{
	struct in_hand *h = &s->in_hand;
	unsigned i = h->child;

	h->again = true;
	if (h->m.h.type != MSG_NONE && i < s->ledger->child_count &&
	    h->generation == s->ledger->child[i].generation &&
	    msg_may(h->m.h.type, s->ledger->child[i].role, ROLE_SUPER))
		message(s, i, &h->m, h->fd, false);
	else if (h->fd >= 0)
		close(h->fd);
	h->m.h.type = MSG_NONE;
	h->again = false;
}

void
super_drain_control(struct super *s, unsigned i, bool dead)
{
	const struct ledger_child *pub = &s->ledger->child[i];
	struct child *c = &s->children.c[i];
	int e = 0;

	if (c->foreign) { /* what it gave back, its successor finds */
		if (c->control >= 0 && !dead)
			loop_del(s->loop, c->control);
		return;
	}

	for (unsigned n = 0; c->control >= 0 && (dead || n < BURST); n++) {
		e = one(s, i, dead);
		if (e != 1)
			break;
	}
	if (e == -EPIPE && c->control >= 0 && !dead)
		loop_del(s->loop, c->control); /* it is ending: SIGCHLD does the rest */
	if (e == -EPROTO && !dead) {
		log_warnx("%s %u: sent a malformed message: killed", proc_role_name(pub->role), pub->index);
		stat_add(s->regions.super_map, STAT_MSG_BAD, 1);
		children_kill(&s->children, i);
	}
}

void
super_control_event(void *arg, int fd, uint32_t events)
{
	struct super *s = arg;

	for (unsigned i = 0; i < s->ledger->child_count; i++) {
		if (s->children.c[i].control != fd)
			continue;
		if (events & EPOLLOUT)
			super_flush(s, i);
		if (events & ~(uint32_t)EPOLLOUT)
			super_drain_control(s, i, false);
		break;
	}
	super_rearm(s);
}
