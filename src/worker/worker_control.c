/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * worker_control: messages of the supervisor and turnpike-auth, and what is said to the supervisor.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#include "worker_int.h"

#define MESSAGES_MAX 64			/* of one socket per round: packets get their turn */
#define OUTBOX_MAX   (64u << 20)

struct lane *
worker_lane(struct worker *w, uint32_t shard)
{
	for (unsigned i = 0; i < w->lane_count; i++)
		if (w->lane[i].told.shard == shard)
			return &w->lane[i];
	return NULL;
}

/* ---- to the supervisor --------------------------------------------------------------------------- */

static void
outbox_put(struct worker *w, const void *msg, size_t size)
{
	struct outbox *o = &w->outbox;

	if (o->head > 0 && o->tail + size > o->max) {
		memmove(o->bytes, o->bytes + o->head, o->tail - o->head);
		o->tail -= o->head;
		o->head = 0;
	}
	while (o->tail + size > o->max) {
		size_t max = o->max == 0 ? 65536 : o->max * 2;
		uint8_t *grown = max <= OUTBOX_MAX ? realloc(o->bytes, max) : NULL;
		if (grown == NULL) {
			/* A successor finds what is left to release; going on with a lost message would not. */
			stat_words(w->stat, "the supervisor does not read");
			fatal(EX_SOFTWARE, "control: too many messages wait for the supervisor");
		}
		o->bytes = grown;
		o->max = max;
	}
	memcpy(o->bytes + o->tail, msg, size);
	o->tail += size;
}

/* Once per round: each message alone would wake the supervisor, who takes this processor as often as not. */
void
control_send(struct worker *w, void *msg)
{
	struct msg_head *h = msg;

	h->generation = w->start.h.generation;
	outbox_put(w, msg, msg_size(h->type));
}

/* False: the socket is full. */
static bool
send_out(struct worker *w)
{
	struct outbox *o = &w->outbox;

	while (o->head < o->tail) {
		int rc = ipc_send_run(w->control, o->bytes + o->head, o->tail - o->head);
		if (rc == -EAGAIN)
			return false;
		if (rc < 0) {
			w->stop = true;		/* the supervisor is gone */
			return true;
		}
		o->head += (size_t)rc;
	}
	o->head = o->tail = 0;
	return true;
}

void
control_flush(struct worker *w)
{
	if (w->outbox.head == w->outbox.tail || w->outbox.full || send_out(w))
		return;
	w->outbox.full = true;
	events_control(w, true);
}

bool
control_send_fd(struct worker *w, void *msg, int fd)
{
	struct msg_head *h = msg;

	h->generation = w->start.h.generation;
	control_flush(w);		/* it may not overtake */
	if (w->outbox.full || w->stop)
		return false;
	int rc = ipc_send(w->control, msg, fd);
	if (rc < 0 && rc != -EAGAIN)
		w->stop = true;
	return rc == 0;
}

void
control_writable(struct worker *w)
{
	if (!w->outbox.full || !send_out(w))
		return;
	w->outbox.full = false;
	events_control(w, false);
	accept_again(w);
}

/* ---- from the supervisor -------------------------------------------------------------------------- */

static bool
close_one(struct worker *w, struct lane *l, struct session_ref ref)
{
	if (turn_close(&w->turn, &l->shard, ref, REASON_END_OPERATOR, &w->out) != TURN_DONE)
		return false;
	path_effects(w, l);
	return true;
}

static uint32_t
close_user(struct worker *w, uint64_t user)
{
	uint32_t count = 0;

	for (unsigned i = 0; i < w->lane_count; i++) {
		struct lane *l = &w->lane[i];
		uint32_t high = shard_high(&l->shard);
		for (uint32_t slot = 0; slot < high; slot++) {
			struct session *x = &l->shard.slots[slot];
			if (atomic_load_explicit(&x->state, memory_order_acquire) == SESSION_LIVE && x->user == user)
				count += close_one(w, l, (struct session_ref){ slot, x->gen });
		}
	}
	return count;
}

static void
close_sessions(struct worker *w, const struct msg_close *m)
{
	struct msg_closed r = { .h = { MSG_CLOSED, 0 }, .request = m->request };
	struct lane *l = worker_lane(w, m->shard);

	if (m->by_user)
		r.count = close_user(w, m->user);
	else if (l != NULL)
		r.count = close_one(w, l, (struct session_ref){ m->slot, m->gen });
	control_send(w, &r);
}

static void
bad(struct worker *w, const char *name)
{
	stat_add(w->stat, STAT_MSG_BAD, 1);
	log_limited(&w->log[WL_BAD_MESSAGE], 1, LOG_L_WARN, "message %s: refused", name);
}

static void
new_conf(struct worker *w, int fd)
{
	int rc = policy_take(w, fd);

	if (rc < 0) {
		bad(w, "CONF");
		log_warnx("configuration: refused, the old one stays: %s", strerror(-rc));
	}
}

/* Peers that it newly denies are cut off at their next packet, like those of a reload; denied users at once. */
static void
new_followed(struct worker *w, int fd)
{
	int rc = followed_take(w, fd);

	if (rc < 0) {
		bad(w, "FOLLOWED");
		return;
	}
	for (uint32_t i = 0; i < w->policy[0]->auth.denied_count; i++)
		(void)close_user(w, w->policy[0]->auth.denied[i].user);
}

/* The list is short: one entry per source, the oldest makes room. */
static void
poisoned(struct worker *w, const struct msg_poison *m)
{
	unsigned at = 0;

	while (at < w->poisons && !addr_ip_eq(&w->poison[at].source, &m->source))
		at++;
	if (at == POISON_MAX) {
		at = 0;
		for (unsigned i = 1; i < POISON_MAX; i++)
			if (w->poison[i].until < w->poison[at].until)
				at = i;
	}
	if (at == w->poisons)
		w->poisons++;
	w->poison[at] = (struct poison){ m->source, m->until_ms };
}

/* Takes over fd; every case closes it or gives it on. */
static void
handle(struct worker *w, const union msg *m, int fd)
{
	switch (m->h.type) {
	case MSG_SOCKET:
		relays_socket(w, &m->msg_socket, fd);
		return;
	case MSG_STREAM_AT:
		accept_at(w, &m->msg_stream_at);
		break;
	case MSG_RELAY_NONE:
		pending_none(w, &m->msg_relay_none);
		break;
	case MSG_RECALL:
		if (m->msg_recall.row < TURN_RELAYS_MAX)
			relays_recall(w, m->msg_recall.row, m->msg_recall.keep);
		else
			bad(w, "RECALL");
		break;
	case MSG_POISON:
		poisoned(w, &m->msg_poison);
		break;
	case MSG_CONF:
		new_conf(w, fd);
		break;
	case MSG_CLOSE:
		close_sessions(w, &m->msg_close);
		break;
	case MSG_DRAIN:
		w->policy[0]->draining = m->msg_drain.on != 0;
		break;
	case MSG_STOP:
		w->stop = true;
		break;
	default:			/* START and its like come once */
		bad(w, msg_name(m->h.type));
	}
	if (fd >= 0)
		close(fd);
}

void
control_readable(struct worker *w)
{
	union msg m;
	int fd;

	for (unsigned i = 0; i < MESSAGES_MAX && !w->stop; i++) {
		int rc = ipc_recv(w->control, ROLE_SUPER, ROLE_WORKER, &m, &fd);
		if (rc == 0)
			return;
		if (rc == -EPROTO) {
			bad(w, "of the supervisor");
			continue;
		}
		if (rc < 0) {
			w->stop = true;		/* the supervisor is gone: nobody may go on with its regions */
			return;
		}
		if (m.h.generation != w->start.h.generation) {
			bad(w, msg_name(m.h.type));
			if (fd >= 0)
				close(fd);
			continue;
		}
		handle(w, &m, fd);
	}
}

void
control_authd(struct worker *w)
{
	union msg m;
	int fd;

	for (unsigned i = 0; i < MESSAGES_MAX; i++) {
		int rc = ipc_recv(w->authd, ROLE_AUTHD, ROLE_WORKER, &m, &fd);
		if (rc == -EPROTO) {
			bad(w, "of turnpike-auth");
			continue;
		}
		if (rc != 1)
			break;			/* the supervisor holds the other end: turnpike-auth's death does not close it */
		if (m.h.type == MSG_FOLLOWED)
			new_followed(w, fd);
		else
			pending_answer(w, &m.msg_key_answer);
	}
	explicit_bzero(&m, sizeof m);
	pending_ask_waiting(w);
}
