/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * streamout: to connections.  Everything goes into the ring and is committed before the kernel gets it; what a batch has
 * for one client leaves with one send().
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sysexits.h>

#include "worker_int.h"

enum armed { ARMED_IN = 1, ARMED_OUT = 2, ARMED_THERE = 4 };

bool
stream_append(struct worker *w, struct lane *l, struct conn *c, struct conn_rec *next, const uint8_t *p, size_t len,
    uint32_t *old)
{
	if ((next->flags & CONN_SEALED) != 0)
		return sealed_append(w, l, c, next, p, len, old);
	if (!ring_reserve(&l->shard, &next->out, c->out_sent, next->out_head, len, old))
		return false;
	memcpy(ring_at(&l->shard, &next->out, next->out_head), p, len);
	next->out_head += len;
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
stream_data(struct worker *w, struct lane *l, const struct turn_out *o)
{
	struct conn *c = conn_at(&l->shard, o->conn - 1);
	struct conn_rec *next;
	uint32_t old;

	if (c == NULL) {
		stat_drop(w->stat, DROP_STALE_EVENT);
		return;
	}
	if (is_over(w, c, o->len) && (c->armed & ARMED_OUT) == 0)
		stream_write(w, l, c);
	if (is_over(w, c, o->len)) {
		stat_drop(w->stat, DROP_STREAM_FULL);
		return;
	}
	next = conn_next(c);
	if (!stream_append(w, l, c, next, o->p, o->len, &old)) {
		stat_drop(w->stat, DROP_STREAM_ROOM);
		stream_touch(w, l, c);		/* its keys may be used up: streams_flush() looks */
		return;
	}
	conn_commit(c);
	ring_give(&l->shard, old);
	stat_add(w->stat, STAT_CLIENT_TX_PACKETS, 1);
	stream_touch(w, l, c);
}

void
stream_write(struct worker *w, struct lane *l, struct conn *c)
{
	const struct conn_rec *r = conn_now(c);
	size_t left = (size_t)(r->out_head - c->out_sent);
	struct conn_rec *next;
	uint32_t ring;
	ssize_t n;

	if (left > 0) {
		CRASH_POINT("stream:send");
		n = send(c->fd, ring_at(&l->shard, &r->out, c->out_sent), left, MSG_DONTWAIT | MSG_NOSIGNAL);
		CRASH_POINT("stream:sent");
		if (n <= 0)
			return;			/* full, or broken: the epoll will tell */
		atomic_store_explicit((_Atomic uint64_t *)&c->out_sent, c->out_sent + (uint64_t)n, memory_order_release);
		CRASH_POINT("stream:out_sent");
		stat_add(w->stat, STAT_CLIENT_TX_BYTES, (uint64_t)n);
	}
	ring = r->out.ring;
	if (ring == 0 || c->out_sent != r->out_head)
		return;
	next = conn_next(c);
	next->out.ring = 0;
	conn_commit(c);
	ring_give(&l->shard, ring);
}

void
stream_arm(struct worker *w, struct lane *l, struct conn *c)
{
	uint64_t left = conn_now(c)->out_head - c->out_sent;
	/* A client that does not read its answers is not asked for more requests. */
	bool in = c->wait == 0 && left <= w->streams.queue;
	uint8_t want = (uint8_t)(ARMED_THERE | (in ? ARMED_IN : 0) | (left > 0 ? ARMED_OUT : 0));
	struct epoll_event ev = { .events = (in ? EPOLLIN | EPOLLRDHUP : 0u) | (left > 0 ? EPOLLOUT : 0u),
		.data.u64 = tag_make(TAG_STREAM, 0, conn_slot(&l->shard, c), c->gen) };

	if (atomic_load_explicit(&c->state, memory_order_relaxed) != CONN_OPEN)
		want = 0;			/* turnpike-tls's, until it is done */
	if (c->armed == want || c->fd < 0)
		return;
	if (want == 0) {
		(void)epoll_ctl(l->told.epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
		c->armed = 0;
		return;
	}
	int op = (c->armed & ARMED_THERE) != 0 ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
	int rc = epoll_ctl(l->told.epoll_fd, op, c->fd, &ev);
	if (rc < 0 && errno == EEXIST)		/* a predecessor's */
		rc = epoll_ctl(l->told.epoll_fd, EPOLL_CTL_MOD, c->fd, &ev);
	if (rc < 0)
		log_limited(&w->log[WL_OTHER], 10, LOG_L_ERROR, "shard %u: a connection cannot be watched: %s", l->shard.index,
		    strerror(errno));
	else
		c->armed = want;
}

void
stream_touch(struct worker *w, const struct lane *l, struct conn *c)
{
	if (c->touched)
		return;
	if (w->touched_count == w->touched_max) {
		size_t max = w->touched_max == 0 ? 256 : w->touched_max * 2;
		struct touched *grown = realloc(w->touched, max * sizeof *grown);
		if (grown == NULL) {
			stat_words(w->stat, "out of memory");
			fatal(EX_OSERR, "memory for %zu connections", max);
		}
		w->touched = grown;
		w->touched_max = max;
	}
	w->touched[w->touched_count++] = (struct touched){ (uint32_t)(l - w->lane), conn_slot(&l->shard, c), c->gen };
	c->touched = 1;
}

/* A ring is lent only while there is something in it. */
static void
give_in(struct lane *l, struct conn *c)
{
	const struct conn_rec *r = conn_now(c);
	uint32_t ring = r->in.ring;
	struct conn_rec *next;

	if (ring != 0 && r->in_parsed == c->in_recv) {
		next = conn_next(c);
		next->in.ring = 0;
		conn_commit(c);
		ring_give(&l->shard, ring);
	}
	r = conn_now(c);
	ring = r->plain.ring;
	if (ring != 0 && r->plain_parsed == r->plain_head) {
		next = conn_next(c);
		next->plain.ring = 0;
		conn_commit(c);
		ring_give(&l->shard, ring);
	}
}

void
streams_flush(struct worker *w)
{
	for (size_t i = 0; i < w->touched_count; i++) {
		struct lane *l = &w->lane[w->touched[i].lane];
		struct conn *c = conn_at(&l->shard, w->touched[i].slot);
		if (c == NULL || c->gen != w->touched[i].gen)
			continue;
		c->touched = 0;
		if (c->transport == TRANSPORT_DTLS) {
			dtls_due(w, l, c);
			continue;
		}
		if ((conn_now(c)->flags & CONN_SEALED) != 0 && !sealed_due(w, l, c))
			continue;
		stream_write(w, l, c);
		give_in(l, c);
		stream_arm(w, l, c);
	}
	w->touched_count = 0;
}
