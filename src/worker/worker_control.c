/* SPDX-License-Identifier: BSD-3-Clause */
/* worker_control.c: messages of the supervisor and turnpike-auth, and what is said to the supervisor. */
#include "config.h"

#include <errno.h>
#include <unistd.h>

#include "worker_int.h"

#define MESSAGES_MAX 64 /* of one socket per round: packets get their turn */

/* ---- from the supervisor -------------------------------------------------------------------------- */

/* by_name: `who` is the hash of the whole name, else of its stable part. */
static uint32_t
close_who(struct worker *w, uint64_t who, bool by_name, enum reason why)
{
	uint32_t count = 0;

	for (unsigned i = 0; i < w->lane_count; i++) {
		struct lane *l = &w->lane[i];
		uint32_t high = shard_high(&l->shard);
		for (uint32_t slot = 0; slot < high; slot++) {
			struct session *x = &l->shard.slots[slot];
			if (atomic_load_explicit(&x->state, memory_order_acquire) == SESSION_LIVE &&
			    (by_name ? x->name : x->user) == who)
				count += core_close(w, l, (struct session_ref){ slot, x->gen }, why);
		}
	}
	return count;
}

static uint32_t
close_user(struct worker *w, uint64_t user)
{
	return close_who(w, user, false, REASON_END_OPERATOR);
}

static void
close_sessions(struct worker *w, const struct msg_close *m)
{
	struct msg_closed r = { .h = { MSG_CLOSED, 0 }, .request = m->request };
	struct lane *l = lane_find(w, m->shard);

	if (m->by_user)
		r.count = close_user(w, m->user);
	else if (l != NULL)
		r.count = core_close(w, l, (struct session_ref){ m->slot, m->gen }, REASON_END_OPERATOR);
	outbox_put(w, &r);
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
	int err = policy_take(w, fd);

	if (err < 0) {
		bad(w, "CONF");
		log_warnx("configuration: refused, the old one stays: %s", strerror(-err));
	}
}

/* Peers that it newly denies are cut off at their next packet, like those of a reload; denied users at
 * once. */
static void
new_followed(struct worker *w, int fd)
{
	const struct conf_followed *was;

	if (followed_take(w, fd, &was) < 0) {
		bad(w, "FOLLOWED");
		return;
	}
	policy_again(w);
	followed_unmap(was);
	for (uint32_t i = 0; i < w->policy[0]->auth.denied_count; i++)
		(void)close_user(w, w->policy[0]->auth.denied[i].user);
}

/* The next request of this user, or of all, is a question to turnpike-auth again. */
static void
forget(struct worker *w, const struct msg_forget *m)
{
	const struct auth_policy *p = &w->policy[0]->auth;
	uint64_t name;

	if (m->name_len > sizeof m->name) {
		bad(w, "FORGET");
		return;
	}
	if (m->name_len == 0) {
		key_cache_clear(w->turn.cache);
		return;
	}
	name = auth_name_hash(w->turn.cross, p->realm, p->realm_len, m->name, m->name_len);
	key_cache_forget(w->turn.cache, name);
	if (m->gone)
		(void)close_who(w, name, true, REASON_END_REMOVED);
}

/* A relay socket, at its number now: for a request that waits, or for the pool. */
static void
relay_came(struct worker *w, const struct msg_socket *m, int fd)
{
	struct lane *l = relays_place(w, m, fd);
	struct pending_entry *ready = NULL;

	if (l == NULL)
		return;
	if (m->request == 0 || !pending_socket(w, m, &ready))
		relays_pool(w, l, m);
	if (ready != NULL)
		core_resume(w, ready);
}

static void
no_relay(struct worker *w, const struct msg_relay_none *m)
{
	struct pending_entry *ready = pending_none(w, m);

	if (ready != NULL)
		core_resume(w, ready);
}

/* Takes over fd; every case closes it or gives it on. */
static void
handle(struct worker *w, const union msg *m, int fd)
{
	switch (m->h.type) {
	case MSG_SOCKET:
		relay_came(w, &m->msg_socket, fd);
		return;
	case MSG_STREAM_AT:
		accept_at(w, &m->msg_stream_at);
		break;
	case MSG_RELAY_NONE:
		no_relay(w, &m->msg_relay_none);
		break;
	case MSG_RECALL:
		if (m->msg_recall.row < RELAYS_MAX)
			relays_recall(w, m->msg_recall.row, m->msg_recall.keep);
		else
			bad(w, "RECALL");
		break;
	case MSG_POISON:
		poisoned_add(&w->poisoned, &m->msg_poison.source, m->msg_poison.until_ms);
		break;
	case MSG_CONF:
		new_conf(w, fd);
		break;
	case MSG_CLOSE:
		close_sessions(w, &m->msg_close);
		break;
	case MSG_DRAIN:
		policy_drain(w, m->msg_drain.on);
		break;
	case MSG_STOP:
		w->events.stop = true;
		break;
	default: /* START and its like come once */
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

	for (unsigned i = 0; i < MESSAGES_MAX && !w->events.stop; i++) {
		int err = ipc_recv(w->control, ROLE_SUPER, ROLE_WORKER, &m, &fd);
		if (err == 0)
			return;
		if (err == -EPROTO) {
			bad(w, "of the supervisor");
			continue;
		}
		if (err < 0) {
			/* the supervisor is gone: its regions may not be used any more */
			w->events.stop = true;
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
	struct pending_entry *ready;
	union msg m;
	int fd;

	for (unsigned i = 0; i < MESSAGES_MAX; i++) {
		int rc = ipc_recv(w->authd, ROLE_AUTHD, ROLE_WORKER, &m, &fd);
		if (rc == -EPROTO) {
			bad(w, "of turnpike-auth");
			continue;
		}
		if (rc != 1)
			/* the supervisor holds the other end: turnpike-auth's death does not close it */
			break;
		if (m.h.type == MSG_FOLLOWED) {
			new_followed(w, fd);
			continue;
		}
		if (m.h.type == MSG_FORGET) {
			forget(w, &m.msg_forget);
			continue;
		}
		ready = pending_answer(w, &m.msg_key_answer);
		if (ready != NULL)
			core_resume(w, ready);
	}
	explicit_bzero(&m, sizeof m);
}
