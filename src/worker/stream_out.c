/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stream_out.c: to clients over TCP and TLS.  Everything goes into the ring and is committed before the
 * kernel gets it; what a batch has for one client leaves with one send().
 */
#include "config.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "worker_int.h"

enum armed { ARMED_IN = 1, ARMED_OUT = 2, ARMED_THERE = 4 };
#define UNREAD_MAX (1u << 20) /* thrown away before a connection is closed */

static bool
is_sealed(const struct conn_rec *r)
{
	return (r->flags & CONN_SEALED) != 0;
}

size_t
stream_append_len(struct lane *l, const struct conn *c, size_t len)
{
	return is_sealed(conn_now(c)) ? sealed_len(conn_seal(l, c), len) : len;
}

bool
stream_append(struct conn_tx *t, const uint8_t *p, size_t len)
{
	uint8_t *at;

	if (is_sealed(t->next))
		return sealed_append(t, p, len);
	at = tx_room(t, TX_OUT, len);
	if (at == NULL)
		return false;
	memcpy(at, p, len);
	t->next->out_head += len;
	return true;
}

/* A datagram of 64 KiB with its header is longer than a short queue: into an empty one it always goes. */
static bool
is_over(const struct worker *w, const struct conn *c, size_t len)
{
	uint64_t waits = conn_now(c)->out_head - c->out_sent;

	return waits > 0 && waits + len > w->streams.queue;
}

void
stream_relayed(struct worker *w, struct lane *l, const struct turn_out *o)
{
	struct conn *c = conn_at(&l->shard, o->conn - 1);
	struct conn_tx t;

	if (c == NULL || conn_ends(c)) {
		stat_drop(w->stat, DROP_STALE_EVENT);
		return;
	}
	if (is_over(w, c, o->len) && (c->armed & ARMED_OUT) == 0)
		stream_write(w, l, c);
	if (is_over(w, c, o->len)) {
		stat_drop(w->stat, DROP_STREAM_FULL);
		worklog_over_limit(w, REASON_LIMIT_QUEUE, &c->client);
		return;
	}
	conn_touch(w, l, c); /* without room its keys may be used up: stream_flush() looks */
	tx_begin(&t, w, l, c);
	if (!stream_append(&t, o->p, o->len)) {
		tx_abort(&t);
		stat_drop(w->stat, DROP_STREAM_ROOM);
		return;
	}
	tx_commit(&t);
	stat_add(w->stat, STAT_CLIENT_TX_PACKETS, 1);
}

void
stream_write(struct worker *w, struct lane *l, struct conn *c)
{
	const struct conn_rec *r = conn_now(c);
	size_t left = (size_t)(r->out_head - c->out_sent);
	struct conn_tx t;
	ssize_t n;

	if (left > 0) {
		CRASH_POINT("stream:send");
		n = send(
		    c->fd, ring_at(&l->shard, &r->out, c->out_sent), left, MSG_DONTWAIT | MSG_NOSIGNAL);
		CRASH_POINT("stream:sent");
		if (n <= 0)
			return; /* full, or broken: the epoll will tell */
		atomic_store_explicit(
		    (_Atomic uint64_t *)&c->out_sent, c->out_sent + (uint64_t)n, memory_order_release);
		CRASH_POINT("stream:out_sent");
		stat_add(w->stat, STAT_CLIENT_TX_BYTES, (uint64_t)n);
	}
	if (r->out.ring == 0 || c->out_sent != r->out_head)
		return;
	tx_begin(&t, w, l, c);
	tx_empty(&t, TX_OUT);
	tx_commit(&t);
}

void
stream_arm(struct worker *w, struct lane *l, struct conn *c)
{
	uint64_t left = conn_now(c)->out_head - c->out_sent;
	/* A client that does not read its answers is not asked for more requests. */
	bool in = c->wait == 0 && c->stalled == STALL_NONE && left <= w->streams.queue;
	uint32_t events = (in ? EPOLLIN | EPOLLRDHUP : 0u) | (left > 0 ? EPOLLOUT : 0u);
	uint64_t tag = tag_make(TAG_STREAM, 0, conn_slot(&l->shard, c), c->gen);
	uint8_t want = (uint8_t)(ARMED_THERE | (in ? ARMED_IN : 0) | (left > 0 ? ARMED_OUT : 0));
	int err;

	if (atomic_load_explicit(&c->state, memory_order_relaxed) != CONN_OPEN)
		want = 0; /* turnpike-tls's, until it is done */
	if (c->armed == want || c->fd < 0)
		return;
	if (want == 0) {
		lane_unwatch(l, c->fd);
		c->armed = 0;
		return;
	}
	err = (c->armed & ARMED_THERE) != 0 ? lane_rewatch(l, c->fd, events, tag)
					    : lane_watch(l, c->fd, events, tag);
	if (err < 0)
		log_limited(&w->log[WL_OTHER], 10, LOG_L_ERROR,
		    "shard %u: a connection cannot be watched: %s", l->shard.index, strerror(-err));
	else
		c->armed = want;
}

/* A ring is lent only while there is something in it. */
static void
give_in(struct worker *w, struct lane *l, struct conn *c)
{
	const struct conn_rec *r = conn_now(c);
	bool in = r->in.ring != 0 && r->in_parsed == c->in_recv;
	bool plain = r->plain.ring != 0 && r->plain_parsed == r->plain_head;
	struct conn_tx t;

	if (!in && !plain)
		return;
	tx_begin(&t, w, l, c);
	if (in)
		tx_empty(&t, TX_IN);
	if (plain)
		tx_empty(&t, TX_PLAIN);
	tx_commit(&t);
}

void
stream_flush(struct worker *w, struct lane *l, struct conn *c)
{
	if (is_sealed(conn_now(c)))
		sealed_due(w, l, c);
	if (conn_ends(c))
		return;
	stream_write(w, l, c);
	give_in(w, l, c);
	stream_arm(w, l, c);
}

void
stream_goodbye(struct worker *w, struct lane *l, struct conn *c, int alert)
{
	if (c->fd < 0)
		return;
	if (is_sealed(conn_now(c)) && alert >= 0)
		sealed_alert(w, l, c, (enum seal_alert)alert);
	stream_write(w, l, c);
	/* With bytes unread close() sends a reset, which may overtake the goodbye at the client. */
	(void)recv(c->fd, NULL, UNREAD_MAX, MSG_DONTWAIT | MSG_TRUNC);
}
