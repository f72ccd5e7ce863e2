/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stream: from a connection to the core, byte-exact and exactly once.
 *
 *	recv() into the ring -> in_recv -> frames -> core -> commit {parsed, answer} -> send
 *
 * The kernel's counters tell a successor what recv() and send() did that their stores did not; everything else is in the
 * committed record.  A request that needs a key or a socket stays at the front, unused, until the answer is there: it is
 * not sent again as a datagram would be.
 */
#include "config.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "worker_int.h"

#define RECV_MAX   65536u
#define RECV_ROOM  4096u		/* below that the ring is changed */
#define RECV_CALLS 4			/* per wake-up: others have their turn */
#define SMALL_MAX  MSG_STUN_MAX		/* no client's request comes near */

struct at { uint32_t slot, gen; };

static struct at
at_of(const struct lane *l, const struct conn *c)
{
	return (struct at){ conn_slot(&l->shard, c), c->gen };
}

/* Closing happens in many places: is it still this one? */
static bool
is_open(struct lane *l, struct at at)
{
	const struct conn *c = conn_at(&l->shard, at.slot);

	return c != NULL && c->gen == at.gen;
}

static void
fail(struct worker *w, struct lane *l, struct conn *c, enum drop why)
{
	stat_drop(w->stat, why);
	stream_write(w, l, c);		/* answers to what was in order */
	stream_close(w, l, c);
}

/* ---- frames --------------------------------------------------------------------------------------------- */

void
stream_done(struct worker *w, struct lane *l, const struct turn_in *in, bool answer)
{
	struct conn *c = conn_at(&l->shard, in->conn - 1);
	struct conn_rec *next;
	uint32_t old = 0;

	if (c == NULL)
		return;
	next = conn_next(c);
	*((next->flags & CONN_SEALED) != 0 ? &next->plain_parsed : &next->in_parsed) += in->len;
	if (w->out.drop == DROP_NONE)
		next->flags |= CONN_VALID;
	if (answer && !stream_append(w, l, c, next, w->out.p, w->out.len, &old)) {
		fail(w, l, c, DROP_STREAM_ROOM);	/* it asks and does not read */
		return;
	}
	conn_commit(c);
	ring_give(&l->shard, old);
	stream_touch(w, l, c);
}

void
stream_waits(struct worker *w, struct lane *l, const struct turn_in *in, struct pending_entry *e)
{
	struct conn *c = conn_at(&l->shard, in->conn - 1);

	if (c == NULL)
		return;
	if (e == NULL) {
		stream_done(w, l, in, false);	/* nothing will come of it: the next frame's turn */
		return;
	}
	e->conn = in->conn;
	e->conn_gen = c->gen;
	c->wait = pending_id(w->pending, e);
	stream_touch(w, l, c);
}

static struct turn_in
frame_of(struct lane *l, const struct conn *c, uint8_t *p, size_t len)
{
	return (struct turn_in){ .shard = &l->shard, .pool = &l->pool, .client = c->client, .listener = c->listener,
		.transport = c->transport, .conn = conn_slot(&l->shard, c) + 1, .buf = p, .len = len };
}

/* Until the first good message nothing but STUN with its cookie is listened to: HTTP begins like ChannelData. */
static bool
may_begin(const uint8_t *p, size_t n)
{
	static const uint8_t cookie[4] = { 0x21, 0x12, 0xa4, 0x42 };
	size_t have = n < 8 ? n : 8;

	return frame_kind(p[0]) == FRAME_STUN && (have <= 4 || memcmp(p + 4, cookie, have - 4) == 0);
}

/* What is large carries data, which nobody sends without an allocation: a stranger shall not have 64 KiB kept for him. */
static bool
may_be_large(struct lane *l, const struct conn *c)
{
	return session_find(&l->shard, &c->client, c->transport, c->listener) != NULL;
}

static bool
is_desync(enum drop d)
{
	return d == DROP_JUNK || d == DROP_SHORT || d == DROP_LENGTH || d == DROP_COOKIE;
}

/* True: a frame was used, look for the next one. */
static bool
parse_one(struct worker *w, struct lane *l, struct conn *c)
{
	const struct conn_rec *r = conn_now(c);
	bool sealed = (r->flags & CONN_SEALED) != 0;
	size_t n = (size_t)(sealed ? r->plain_head - r->plain_parsed : c->in_recv - r->in_parsed);
	struct at at = at_of(l, c);

	if (n == 0 || (r->flags & (CONN_PROXY | CONN_CHOOSE)) != 0 || r->out_head - c->out_sent > w->streams.queue)
		return false;
	uint8_t *p = sealed ? ring_at(&l->shard, &r->plain, r->plain_parsed) : ring_at(&l->shard, &r->in, r->in_parsed);
	int len = frame_stream_len(p, n);
	if (len < 0 || ((r->flags & CONN_VALID) == 0 && !may_begin(p, n)) || (len > SMALL_MAX && !may_be_large(l, c))) {
		fail(w, l, c, DROP_STREAM_DESYNC);
		return false;
	}
	if (len == 0 || (size_t)len > n)
		return false;
	c->seen = (uint32_t)(w->turn.now / 1000);
	stat_add(w->stat, STAT_CLIENT_RX_PACKETS, 1);
	struct turn_in in = frame_of(l, c, p, (size_t)len);
	w->out.drop = DROP_NONE;
	(void)path_input(w, l, &in, NULL);
	if (!is_open(l, at))
		return false;
	if (is_desync(w->out.drop)) {
		fail(w, l, c, DROP_STREAM_DESYNC);
		return false;
	}
	return c->wait == 0;
}

void
stream_parse(struct worker *w, struct lane *l, struct conn *c)
{
	if (c->wait != 0)
		return;
	if (w->poisons > 0 && path_is_poisoned(w, &c->client)) {
		fail(w, l, c, DROP_POISONED);
		return;
	}
	for (struct at at = at_of(l, c);;) {
		while (parse_one(w, l, c))
			;
		if (!is_open(l, at) || (conn_now(c)->flags & CONN_SEALED) == 0 || c->wait != 0 ||
		    conn_now(c)->out_head - c->out_sent > w->streams.queue || !sealed_open(w, l, c))
			return;
	}
}

/* ---- answers that came ------------------------------------------------------------------------------------ */

static struct conn *
conn_of(struct lane *l, const struct pending_entry *e)
{
	struct conn *c = conn_at(&l->shard, e->conn - 1);

	return c != NULL && c->gen == e->conn_gen ? c : NULL;
}

static void
go_on(struct worker *w, struct lane *l, struct conn *c)
{
	struct at at = at_of(l, c);

	stream_parse(w, l, c);
	if (is_open(l, at))
		stream_touch(w, l, c);
}

void
stream_again(struct worker *w, struct lane *l, struct pending_entry *e)
{
	struct conn *c = conn_of(l, e);
	struct at at;

	if (c == NULL) {
		pending_free(w, e);
		return;
	}
	at = at_of(l, c);
	struct turn_in in = frame_of(l, c, e->bytes, e->len);
	in.grant = e->has_grant ? &e->grant : NULL;
	in.offer = e->has_offer ? &e->offer : NULL;
	c->wait = 0;
	if (!path_input(w, l, &in, e))
		pending_free(w, e);
	if (is_open(l, at))
		go_on(w, l, c);
}

void
stream_expired(struct worker *w, struct pending_entry *e)
{
	struct lane *l = &w->lane[e->shard_lane];
	struct conn *c = conn_of(l, e);

	if (c == NULL)
		return;
	c->wait = 0;
	go_on(w, l, c);
}

void
stream_kick(struct worker *w)
{
	w->kick = false;
	for (unsigned i = 0; i < w->lane_count; i++) {
		struct lane *l = &w->lane[i];
		for (uint32_t slot = 0; slot < conn_high(&l->shard); slot++) {
			struct conn *c = conn_at(&l->shard, slot);
			if (c != NULL && c->transport != TRANSPORT_DTLS && atomic_load_explicit(&c->state, memory_order_relaxed) == CONN_OPEN)
				go_on(w, l, c);
		}
	}
}

/* ---- receiving ------------------------------------------------------------------------------------------- */

/* Room in the ring, committed before the kernel writes there. */
static bool
prepare(struct worker *w, struct lane *l, struct conn *c)
{
	const struct conn_rec *r = conn_now(c);
	struct conn_rec *next;
	uint32_t old;

	if (r->in.ring != 0 && ring_room(&r->in, c->in_recv) >= RECV_ROOM)
		return true;
	next = conn_next(c);
	if (!ring_reserve(&l->shard, &next->in, next->in_parsed, c->in_recv, RECV_ROOM, &old))
		return false;
	conn_commit(c);
	if (old != 0) {
		path_flush_up(w);	/* datagrams that lie in it */
		ring_give(&l->shard, old);
	}
	return true;
}

/* As recv(). */
static ssize_t
read_some(struct lane *l, struct conn *c, size_t room)
{
	const struct conn_rec *r = conn_now(c);
	ssize_t n;

	CRASH_POINT("stream:recv");
	n = recv(c->fd, ring_at(&l->shard, &r->in, c->in_recv), room, MSG_DONTWAIT);
	CRASH_POINT("stream:received");
	if (n > 0)
		atomic_store_explicit((_Atomic uint64_t *)&c->in_recv, c->in_recv + (uint64_t)n, memory_order_release);
	CRASH_POINT("stream:in_recv");
	return n < 0 ? -errno : n;
}

/*
 * The header and not one byte more: what follows may be another process's to read.  1: go on, 0: more must come, -errno,
 * -EPROTO when it is none.
 */
static int
read_proxy(struct worker *w, struct lane *l, struct conn *c)
{
	const struct conn_rec *r = conn_now(c);
	size_t have = (size_t)(c->in_recv - r->in_parsed), all;
	uint8_t *p = ring_at(&l->shard, &r->in, r->in_parsed);
	struct addr source;
	size_t room = ring_room(&r->in, c->in_recv);
	ssize_t peek = recv(c->fd, p + have, room < PROXY_MAX ? room : PROXY_MAX, MSG_DONTWAIT | MSG_PEEK);

	if (peek < 0)
		return errno == EAGAIN ? 0 : -errno;
	int len = proxy_parse(p, have + (size_t)peek, &source);
	if (len < 0)
		return len;
	if (peek == 0)
		return -ECONNRESET;
	all = len > 0 ? (size_t)len - have : (size_t)peek;
	ssize_t n = all > 0 ? read_some(l, c, all) : 0;
	if (n < 0)
		return (int)n;
	if (len == 0 || (size_t)n < all)
		return 0;
	if (!stream_client(w, l, c, source.family != ADDR_NONE ? &source : &c->peer))
		return -EUSERS;
	struct conn_rec *next = conn_next(c);
	next->in_parsed += (uint64_t)len;
	next->flags &= ~(uint32_t)CONN_PROXY;
	conn_commit(c);
	return 1;
}

/* TLS begins with a handshake record, which is turnpike-tls's to read.  1: go on, 0: nothing is there or it is turnpike-tls's
 * now, -errno. */
static int
choose(struct worker *w, struct lane *l, struct conn *c)
{
	uint8_t transports = w->rows[c->listener].transports, first;
	struct conn_rec *next;
	ssize_t n = recv(c->fd, &first, 1, MSG_DONTWAIT | MSG_PEEK);

	if (n <= 0)
		return n == 0 ? -ECONNRESET : errno == EAGAIN ? 0 : -errno;
	if (first == SEAL_T_HANDSHAKE) {
		return handshake_begin(w, l, c) ? 0 : -ENOENT;
	}
	if ((transports & TRANSPORT_TCP) == 0)
		return -EPROTO;
	next = conn_next(c);
	next->flags &= ~(uint32_t)CONN_CHOOSE;
	conn_commit(c);
	return 1;
}

/* The first byte has mostly come by now, with the client's part of the connection's own handshake: then a connection of an
 * turnpike-tls's never was in the epoll. */
void
stream_first(struct worker *w, struct lane *l, struct conn *c)
{
	struct at at = at_of(l, c);
	int rc = 1;

	if ((conn_now(c)->flags & (CONN_PROXY | CONN_CHOOSE)) == CONN_CHOOSE)
		rc = choose(w, l, c);
	if (rc == -EPROTO)
		stat_drop(w->stat, DROP_STREAM_DESYNC);
	if (rc < 0 && is_open(l, at))
		stream_close(w, l, c);
	else if (is_open(l, at))
		stream_arm(w, l, c);
}

/* True: there may be more. */
static bool
receive(struct worker *w, struct lane *l, struct conn *c)
{
	struct at at = at_of(l, c);
	size_t room;
	ssize_t n;

	if (!prepare(w, l, c)) {
		fail(w, l, c, DROP_STREAM_ROOM);
		return false;
	}
	if ((conn_now(c)->flags & CONN_PROXY) != 0) {
		int rc = read_proxy(w, l, c);
		if (rc == -EPROTO)
			stat_drop(w->stat, DROP_PROXY);
		if (rc < 0)
			stream_close(w, l, c);
		return rc > 0;
	}
	if ((conn_now(c)->flags & CONN_CHOOSE) != 0) {
		int rc = choose(w, l, c);
		if (rc == -EPROTO)
			stat_drop(w->stat, DROP_STREAM_DESYNC);
		if (rc < 0 && is_open(l, at))
			stream_close(w, l, c);
		return rc > 0;
	}
	room = ring_room(&conn_now(c)->in, c->in_recv);
	room = room < RECV_MAX ? room : RECV_MAX;
	n = read_some(l, c, room);
	if (n == -EAGAIN)
		return false;
	if (n <= 0) {
		if (n == 0)
			stream_write(w, l, c);	/* what it asked before it closed */
		stream_close(w, l, c);
		return false;
	}
	stat_add(w->stat, STAT_CLIENT_RX_BYTES, (uint64_t)n);
	stream_parse(w, l, c);
	return is_open(l, at) && c->wait == 0 && (size_t)n == room;
}

void
stream_event(struct worker *w, struct lane *l, uint64_t tag, uint32_t events)
{
	struct conn *c = conn_at(&l->shard, tag_slot(tag));

	if (c == NULL || (c->gen & TAG_GEN_MASK) != tag_gen(tag) ||
	    atomic_load_explicit(&c->state, memory_order_relaxed) != CONN_OPEN) {
		stat_drop(w->stat, DROP_STALE_EVENT);
		return;
	}
	struct at at = at_of(l, c);
	if ((events & EPOLLOUT) != 0) {
		stream_write(w, l, c);
		stream_parse(w, l, c);		/* what waited for the queue to get shorter */
	}
	if (!is_open(l, at))
		return;
	if ((events & EPOLLIN) == 0 && (events & (EPOLLHUP | EPOLLERR)) != 0) {
		stream_close(w, l, c);
		return;
	}
	if ((events & (EPOLLIN | EPOLLRDHUP)) != 0 && c->wait == 0)
		for (unsigned i = 0; i < RECV_CALLS && receive(w, l, c); i++)
			;
	if (is_open(l, at))
		stream_touch(w, l, c);
}
