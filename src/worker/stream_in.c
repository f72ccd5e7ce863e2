/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stream_in.c: from a connection to the core, byte-exact and exactly once.
 *
 *	recv() into the ring -> in_recv -> frames -> core -> commit {parsed, answer} -> send
 *
 * The kernel's counters tell a successor what recv() and send() did that their stores did not; everything
 * else is in the committed record.  A request that needs a key or a socket stays at the front, unused,
 * until the answer is there: it is not sent again as a datagram would be.
 */
#include "config.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "worker_int.h"

#define RECV_MAX   65536u
#define RECV_ROOM  4096u        /* below that the ring is changed */
#define RECV_CALLS 4            /* per wake-up: others have their turn */
#define SMALL_MAX  MSG_STUN_MAX /* no client's request comes near */

static bool
is_open(const struct conn *c)
{
	return atomic_load_explicit(&((struct conn *)(uintptr_t)c)->state, memory_order_relaxed) ==
	    CONN_OPEN;
}

/* ---- frames ---------------------------------------------------------------------------------- */

/* The frame counts as used, with the core's answer when there is one, before its datagram leaves: nothing
 * is sent to a peer twice. */
static void
use(struct worker *w, struct lane *l, struct conn *c, size_t len, enum turn_act act)
{
	const struct turn_out *o = &w->out;
	struct conn_tx t;

	tx_begin(&t, w, l, c);
	if (act == TURN_TO_CLIENT && !stream_append(&t, o->p, o->len)) {
		/* Room was made sure of: no key is left, and stream_flush() ends it. */
		tx_abort(&t);
		stat_drop(w->stat, DROP_STREAM_ROOM);
		tx_begin(&t, w, l, c);
	}
	*((t.next->flags & CONN_SEALED) != 0 ? &t.next->plain_parsed : &t.next->in_parsed) += len;
	if (o->drop == DROP_NONE)
		t.next->flags |= CONN_VALID;
	tx_commit(&t);
	conn_touch(w, l, c);
	if (act == TURN_TO_PEER)
		udp_to_peer(w, o);
}

/* An answer must find room once the core has dealt with its request. */
static bool
may_answer(struct lane *l, const struct conn *c)
{
	return tx_fits(l, c, TX_OUT, stream_append_len(l, c, TURN_REPLY_MAX));
}

static struct turn_in
frame_of(struct lane *l, const struct conn *c, uint8_t *p, size_t len)
{
	return (struct turn_in){ .shard = &l->shard,
		.pool = &l->pool,
		.client = c->client,
		.listener = c->listener,
		.transport = c->transport,
		.conn = conn_slot(&l->shard, c) + 1,
		.buf = p,
		.len = len };
}

/* Until the first good message nothing but STUN with its cookie is listened to: HTTP begins like
 * ChannelData. */
static bool
may_begin(const uint8_t *p, size_t n)
{
	static const uint8_t cookie[4] = { 0x21, 0x12, 0xa4, 0x42 };
	size_t have = n < 8 ? n : 8;

	return frame_kind(p[0]) == FRAME_STUN && (have <= 4 || memcmp(p + 4, cookie, have - 4) == 0);
}

/* Large frames carry relayed data.  64 KiB are not buffered for a client without an allocation. */
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

/* It waits for a key or a socket.  False: nothing will come of it. */
static bool
wait_for(struct worker *w, struct lane *l, struct conn *c, const struct turn_in *in, enum turn_act act)
{
	struct pending_entry *e;

	if (in->len <= MSG_STUN_MAX && !pending_has_room(w->pending)) {
		conn_stall(w, l, c, STALL_PENDING);
		return true;
	}
	e = core_wait(w, l, in, act);
	if (e == NULL)
		return false;
	c->wait = pending_id(w->pending, e);
	conn_touch(w, l, c);
	return true;
}

/* A whole frame.  True: it was used. */
static bool
feed(struct worker *w, struct lane *l, struct conn *c, uint8_t *p, size_t len)
{
	struct turn_in in = frame_of(l, c, p, len);
	enum turn_act act;

	if (frame_kind(p[0]) == FRAME_STUN && !may_answer(l, c)) {
		conn_stall(w, l, c, STALL_RING);
		return false;
	}
	c->seen = (uint32_t)(w->turn.now / 1000);
	stat_add(w->stat, STAT_CLIENT_RX_PACKETS, 1);
	act = core_input(w, l, &in);
	if (is_desync(w->out.drop)) {
		conn_mark_end(w, l, c, END_DESYNC);
		return false;
	}
	if (act == TURN_NEED_KEY || act == TURN_NEED_RELAY) {
		if (wait_for(w, l, c, &in, act))
			return false;
		act = TURN_DONE;
	}
	use(w, l, c, len, act);
	return true;
}

/* True: a frame was used, look for the next one. */
static bool
parse_one(struct worker *w, struct lane *l, struct conn *c)
{
	const struct conn_rec *r = conn_now(c);
	bool sealed = (r->flags & CONN_SEALED) != 0;
	size_t n = (size_t)(sealed ? r->plain_head - r->plain_parsed : c->in_recv - r->in_parsed);
	uint8_t *p;
	int len;

	if (n == 0 || (r->flags & (CONN_PROXY | CONN_CHOOSE)) != 0 ||
	    r->out_head - c->out_sent > w->streams.queue)
		return false;
	p = sealed ? ring_at(&l->shard, &r->plain, r->plain_parsed)
		   : ring_at(&l->shard, &r->in, r->in_parsed);
	len = frame_stream_len(p, n);
	if (len < 0 || ((r->flags & CONN_VALID) == 0 && !may_begin(p, n)) ||
	    (len > SMALL_MAX && !may_be_large(l, c))) {
		conn_mark_end(w, l, c, END_DESYNC);
		return false;
	}
	return len > 0 && (size_t)len <= n && feed(w, l, c, p, (size_t)len);
}

/* May more of its input be looked at? */
static bool
goes_on(const struct worker *w, const struct conn *c)
{
	return !conn_ends(c) && c->wait == 0 && c->stalled == STALL_NONE &&
	    conn_now(c)->out_head - c->out_sent <= w->streams.queue;
}

static void
parse(struct worker *w, struct lane *l, struct conn *c)
{
	if (!goes_on(w, c))
		return;
	if (w->poisoned.count > 0 && poisoned_has(&w->poisoned, &c->client, w->turn.now)) {
		conn_mark_end(w, l, c, END_POISONED);
		return;
	}
	do {
		while (parse_one(w, l, c))
			;
	} while (goes_on(w, c) && (conn_now(c)->flags & CONN_SEALED) != 0 && sealed_open(w, l, c));
}

void
streams_again(struct worker *w)
{
	struct lane *l;
	struct conn *c;

	while ((c = conn_list_next(w, &w->marks.again, &l)) != NULL) {
		c->touched &= (uint32_t)~MARK_AGAIN;
		if (conn_ends(c) || c->transport == TRANSPORT_DTLS)
			continue;
		if (!is_open(c)) {
			handshake_hand_over(w, l, c);
			continue;
		}
		parse(w, l, c);
		conn_touch(w, l, c);
	}
}

/* ---- answers that came ----------------------------------------------------------------------- */

static struct conn *
conn_of(struct lane *l, const struct pending_entry *e)
{
	struct conn *c = conn_at(&l->shard, e->conn - 1);

	return c != NULL && c->gen == e->conn_gen && !conn_ends(c) ? c : NULL;
}

static bool
waited(struct worker *w, struct lane *l, struct pending_entry *e, struct turn_in *in)
{
	struct conn *c = conn_of(l, e);

	if (c == NULL)
		return false;
	c->wait = 0;
	if (!may_answer(l, c)) {
		conn_stall(w, l, c, STALL_RING); /* the frame is unused, and asked for again */
		return false;
	}
	*in = frame_of(l, c, e->bytes, e->len);
	return true;
}

static void
answer(struct worker *w, struct lane *l, const struct turn_in *in, enum turn_act act)
{
	struct conn *c = conn_at(&l->shard, in->conn - 1);

	use(w, l, c, in->len, act);
	conn_again(w, l, c);
}

static void
expired(struct worker *w, struct lane *l, const struct pending_entry *e)
{
	struct conn *c = conn_of(l, e);

	if (c == NULL)
		return;
	c->wait = 0;
	conn_again(w, l, c); /* asks again */
}

static bool
is_valid(const struct conn *c)
{
	return (conn_now(c)->flags & CONN_VALID) != 0;
}

const struct client_ops client_stream = {
	.relayed = stream_relayed,
	.waited = waited,
	.answer = answer,
	.expired = expired,
	.is_valid = is_valid,
	.flush = stream_flush,
	.goodbye = stream_goodbye,
};

/* ---- receiving ------------------------------------------------------------------------------- */

/* Room in the ring, committed before the kernel writes there. */
static bool
prepare(struct worker *w, struct lane *l, struct conn *c)
{
	const struct conn_rec *r = conn_now(c);
	struct conn_tx t;

	if (r->in.ring != 0 && ring_room(&r->in, c->in_recv) >= RECV_ROOM)
		return true;
	tx_begin(&t, w, l, c);
	if (tx_room(&t, TX_IN, RECV_ROOM) == NULL) {
		tx_abort(&t);
		return false;
	}
	tx_commit(&t);
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
		atomic_store_explicit(
		    (_Atomic uint64_t *)&c->in_recv, c->in_recv + (uint64_t)n, memory_order_release);
	CRASH_POINT("stream:in_recv");
	return n < 0 ? -errno : n;
}

static void
flag_off(struct worker *w, struct lane *l, struct conn *c, enum conn_flag flag, size_t used)
{
	struct conn_tx t;

	tx_begin(&t, w, l, c);
	t.next->in_parsed += used;
	t.next->flags &= ~(uint32_t)flag;
	tx_commit(&t);
}

/*
 * The header and not one byte more: what follows may be another process's to read.  The connection goes
 * on with its next event.
 */
static void
read_proxy(struct worker *w, struct lane *l, struct conn *c)
{
	const struct conn_rec *r = conn_now(c);
	size_t have = (size_t)(c->in_recv - r->in_parsed), all;
	uint8_t *p = ring_at(&l->shard, &r->in, r->in_parsed);
	size_t room = ring_room(&r->in, c->in_recv);
	ssize_t peek = recv(c->fd, p + have, room < PROXY_MAX ? room : PROXY_MAX, MSG_DONTWAIT | MSG_PEEK),
		n;
	struct addr source;
	int len;

	if (peek < 0) {
		if (errno != EAGAIN)
			conn_mark_end(w, l, c, END_GONE);
		return;
	}
	len = proxy_parse(p, have + (size_t)peek, &source);
	if (len < 0 || peek == 0) {
		conn_mark_end(w, l, c, len < 0 ? END_PROXY : END_GONE);
		return;
	}
	all = len > 0 ? (size_t)len - have : (size_t)peek;
	n = all > 0 ? read_some(l, c, all) : 0;
	if (n < 0)
		conn_mark_end(w, l, c, END_GONE);
	else if (len > 0 && (size_t)n == all &&
	    conn_admit(w, l, c, source.family != ADDR_NONE ? &source : &c->peer))
		flag_off(w, l, c, CONN_PROXY, (size_t)len);
}

/* TLS begins with a handshake record, which is turnpike-tls's to read. */
static void
choose(struct worker *w, struct lane *l, struct conn *c)
{
	uint8_t first;
	ssize_t n = recv(c->fd, &first, 1, MSG_DONTWAIT | MSG_PEEK);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0)
		conn_mark_end(w, l, c, END_GONE);
	else if (first == SEAL_T_HANDSHAKE && !conn_may_shake(w, l, &c->client, TRANSPORT_TLS))
		conn_mark_end(w, l, c, END_HANDSHAKE_RATE);
	else if (first == SEAL_T_HANDSHAKE)
		handshake_begin(w, l, c);
	else if ((w->rows[c->listener].transports & TRANSPORT_TCP) == 0)
		conn_mark_end(w, l, c, END_NOT_TLS);
	else
		flag_off(w, l, c, CONN_CHOOSE, 0);
}

/* The first byte has mostly come by now, with the client's part of the connection's own handshake: then a
 * connection of a turnpike-tls's never was in the epoll. */
void
stream_first(struct worker *w, struct lane *l, struct conn *c)
{
	if ((conn_now(c)->flags & (CONN_PROXY | CONN_CHOOSE)) == CONN_CHOOSE)
		choose(w, l, c);
	if (!conn_ends(c))
		stream_arm(w, l, c);
}

/* True: there may be more. */
static bool
receive(struct worker *w, struct lane *l, struct conn *c)
{
	uint32_t flags = conn_now(c)->flags;
	size_t room;
	ssize_t n;

	if ((flags & (CONN_PROXY | CONN_CHOOSE)) == CONN_CHOOSE) {
		choose(w, l, c);
		return is_open(c) && !conn_ends(c) && (conn_now(c)->flags & CONN_CHOOSE) == 0;
	}
	if (!prepare(w, l, c)) {
		conn_stall(w, l, c, STALL_RING);
		return false;
	}
	if ((flags & CONN_PROXY) != 0) {
		/* An older connection of the client that the header names ends before this one goes on. */
		read_proxy(w, l, c);
		return false;
	}
	room = ring_room(&conn_now(c)->in, c->in_recv);
	room = room < RECV_MAX ? room : RECV_MAX;
	n = read_some(l, c, room);
	if (n == -EAGAIN)
		return false;
	if (n <= 0) {
		conn_mark_end(w, l, c, END_GONE); /* what it asked before is answered first */
		return false;
	}
	stat_add(w->stat, STAT_CLIENT_RX_BYTES, (uint64_t)n);
	parse(w, l, c);
	return goes_on(w, c) && (size_t)n == room;
}

void
stream_event(struct worker *w, struct lane *l, uint64_t tag, uint32_t events)
{
	struct conn *c = conn_at(&l->shard, tag_slot(tag));

	if (c == NULL || (c->gen & TAG_GEN_MASK) != tag_gen(tag) || !is_open(c) || conn_ends(c)) {
		stat_drop(w->stat, DROP_STALE_EVENT);
		return;
	}
	conn_touch(w, l, c);
	if ((events & EPOLLOUT) != 0) {
		stream_write(w, l, c);
		parse(w, l, c); /* what waited for the queue to get shorter */
	}
	if (conn_ends(c))
		return;
	if ((events & EPOLLIN) == 0 && (events & (EPOLLHUP | EPOLLERR)) != 0) {
		conn_mark_end(w, l, c, END_GONE);
		return;
	}
	if ((events & (EPOLLIN | EPOLLRDHUP)) != 0 && c->wait == 0 && c->stalled == STALL_NONE)
		for (unsigned i = 0; i < RECV_CALLS && receive(w, l, c); i++)
			;
}
