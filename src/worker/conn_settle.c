/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conn_settle.c: connections of a predecessor.  What it had received and sent is what the kernel says,
 * whatever it came to note down; then the connection goes on from its committed record.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "worker_int.h"

static bool
has_fd(struct lane *l, const struct conn *c)
{
	if (!lane_window(l, c->fd) || *lane_use(l, c->fd) != FD_STREAM_LEFT)
		return false;
	*lane_use(l, c->fd) = FD_STREAM;
	return true;
}

/* 0, or why it cannot go on. */
static int
settle(struct lane *l, struct conn *c)
{
	const struct conn_rec *r = conn_now(c);
	uint64_t received, written;
	int err = sock_stream_counts(c->fd, &received, &written);

	if (err < 0)
		return err;
	CRASH_POINT("settle:counted");
	if (received < c->in_recv || written < c->out_sent || written > r->out_head)
		return -EPROTO;
	if (received > c->in_recv && (r->in.ring == 0 || received - r->in.base > RING_BYTES))
		return -EPROTO;
	if ((r->flags & CONN_SEALED) != 0 && !sealed_adopt(l, c))
		return -EPROTO;
	atomic_store_explicit((_Atomic uint64_t *)&c->in_recv, received, memory_order_release);
	CRASH_POINT("settle:received");
	atomic_store_explicit((_Atomic uint64_t *)&c->out_sent, written, memory_order_release);
	CRASH_POINT("settle:written");
	return 0;
}

static void
adopt_stream(struct worker *w, struct lane *l, struct conn *c)
{
	int err = -EBADF;

	if (!has_fd(l, c))
		c->fd = -1; /* not ours to close */
	else
		err = settle(l, c);
	if (err == -EPROTO || err == -EBADF)
		log_errx("shard %u: a connection cannot be taken over: %s", l->shard.index, strerror(-err));
	if (err < 0) {
		conn_mark_end(w, l, c, err == -ENOTCONN ? END_GONE : END_LOST);
		return;
	}
	stream_arm(w, l, c);
	conn_again(w, l, c); /* what was received and not used */
}

static void
adopt_one(struct worker *w, struct lane *l, struct conn *c)
{
	bool shaking = atomic_load_explicit(&c->state, memory_order_relaxed) == CONN_SHAKING;
	enum end_why why = (enum end_why)c->ending;

	c->ending = END_NOT;
	if (c->transport == TRANSPORT_DTLS) {
		if (!assoc_adopt(l, c))
			conn_mark_end(w, l, c, END_LOST);
	} else if (shaking && has_fd(l, c)) {
		c->armed = UINT8_MAX;     /* perhaps: to be taken out of the epoll */
		handshake_begin(w, l, c); /* once more: turnpike-tls may not have it */
	} else {
		adopt_stream(w, l, c);
	}
	/* The predecessor died before it ended it. */
	if (why > END_NOT && why < END_WHYS)
		conn_mark_again(w, l, c, why);
}

/* Handed over, but its worker died before it had a slot: nothing was read from it, so it begins now.  Or
 * it was being closed. */
static void
adopt_left(struct worker *w, struct lane *l, const struct msg_stream_sock *s)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	uint64_t received, written;
	struct addr peer;
	struct conn *c;

	if (*lane_use(l, s->fd) != FD_STREAM_LEFT)
		return;
	*lane_use(l, s->fd) = FD_STREAM;
	if (sock_stream_counts(s->fd, &received, &written) < 0 || received != 0 || written != 0 ||
	    getpeername(s->fd, (struct sockaddr *)&ss, &len) < 0 ||
	    addr_from_sockaddr(&peer, (struct sockaddr *)&ss) < 0)
		conn_forget_fd(w, l, s->fd);
	else if ((c = conn_open(w, l, s->fd, s->row, &peer)) != NULL && !conn_ends(c))
		stream_arm(w, l, c);
}

void
conn_settle_all(struct worker *w, struct lane *l)
{
	cross_conn_recount(&w->cross, &l->shard);
	for (uint32_t slot = 0; slot < conn_high(&l->shard); slot++) {
		struct conn *c = conn_at(&l->shard, slot);
		if (c != NULL)
			adopt_one(w, l, c);
	}
	CRASH_POINT("settle:all");
	for (size_t i = 0; i < l->stream_count; i++)
		adopt_left(w, l, &l->streams[i]);
	free(l->streams);
	l->streams = NULL;
	l->stream_count = l->stream_max = 0;
}
