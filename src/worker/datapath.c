/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * datapath: datagrams in, the core's word on them, datagrams out.
 *
 *	receive a batch -> for each: core -> effects -> ring      then one flush
 *
 * Per datagram nothing is allocated, locked or logged.  What is being worked on stands in the STAT region, so that a death
 * leaves behind whose packet it was.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "worker_int.h"

void
path_now(struct worker *w)
{
	w->turn.now = clock_ms();
	w->turn.unix_now = clock_unix();
}

/* ---- what is in hand ------------------------------------------------------------------------------ */

static inline void
busy(struct worker *w, enum busy_phase phase, const struct lane *l, uint32_t slot, uint32_t gen, const struct addr *from,
    const uint8_t *p, size_t len)
{
	struct stat_busy *b = &w->stat->busy;

	b->shard = l->shard.index;
	b->slot = slot;
	b->gen = gen;
	b->source = *from;
	b->len = (uint16_t)len;
	if (len >= sizeof b->head)
		memcpy(b->head, p, sizeof b->head);
	else
		memcpy(b->head, p, len);
	atomic_store_explicit((_Atomic uint32_t *)&b->phase, phase, memory_order_relaxed);
}

static inline void
idle(struct worker *w)
{
	atomic_store_explicit((_Atomic uint32_t *)&w->stat->busy.phase, BUSY_IDLE, memory_order_relaxed);
}

/* Tests of the poison guard: a datagram that a worker dies of, or never comes back from. */
#ifdef TP_CRASH_POINTS
static void
magic(const uint8_t *p, size_t len)
{
	if (memmem(p, len, "turnpike-crash-here", 19) != NULL)
		abort();
	while (memmem(p, len, "turnpike-hang-here", 18) != NULL)
		;
}
#else
#define magic(p, len) ((void)0)
#endif

/* ---- sending ------------------------------------------------------------------------------------- */

static void
unsent(void *arg, int fd, const struct addr *to, size_t len, int err)
{
	struct worker *w = arg;

	(void)fd;
	(void)to;
	(void)len;
	stat_drop(w->stat, err == EMSGSIZE ? DROP_TOO_LARGE : DROP_SEND_ERROR);
}

static void
publish_batches(uint64_t *to, const uint64_t *now, uint64_t *seen)
{
	for (unsigned i = 0; i < STAT_BATCH_BUCKETS; i++) {
		to[i] += now[i] - seen[i];
		seen[i] = now[i];
	}
}

static void
publish_tx(struct worker *w, const struct udp_counts *now, struct udp_counts *seen, enum stat_counter packets,
    enum stat_counter bytes)
{
	uint64_t again = now->tx_again - seen->tx_again;

	stat_add(w->stat, packets, now->tx_packets - seen->tx_packets);
	stat_add(w->stat, bytes, now->tx_bytes - seen->tx_bytes);
	stat_add(w->stat, STAT_TX_BATCHES, now->tx_calls - seen->tx_calls);
	stat_add(w->stat, STAT_TX_NOBUFS, now->tx_nobufs - seen->tx_nobufs);
	stat_add(w->stat, STAT_TX_MERGED, now->gso_sends - seen->gso_sends);
	stat_add(w->stat, STAT_TX_SEGMENTS, now->gso_segments - seen->gso_segments);
	stat_add(w->stat, STAT_TX_APART, now->gso_refused - seen->gso_refused);
	if (again > 0) {
		stat_add(w->stat, STAT_TX_AGAIN, again);
		w->stat->drop[DROP_SEND_FULL] += again;
	}
	publish_batches(w->stat->tx_batch, now->tx_batch, seen->tx_batch);
	publish_batches(w->stat->gso_batch, now->gso_batch, seen->gso_batch);
	*seen = *now;
}

static void
flush_ring(struct worker *w, struct udp_ring *r, struct udp_counts *c)
{
	if (udp_ring_count(r) > 0)
		w->engine->flush(r, unsent, w, c);
}

static void
publish(struct worker *w)
{
	publish_tx(w, &w->tx_down, &w->seen_down, STAT_CLIENT_TX_PACKETS, STAT_CLIENT_TX_BYTES);
	publish_tx(w, &w->tx_up, &w->seen_up, STAT_PEER_TX_PACKETS, STAT_PEER_TX_BYTES);
	stat_add(w->stat, STAT_RX_BATCHES, w->rx.rx_calls - w->seen_rx.rx_calls);
	stat_add(w->stat, STAT_RX_MERGED, w->rx.gro_receives - w->seen_rx.gro_receives);
	stat_add(w->stat, STAT_RX_SEGMENTS, w->rx.gro_segments - w->seen_rx.gro_segments);
	publish_batches(w->stat->rx_batch, w->rx.rx_batch, w->seen_rx.rx_batch);
	publish_batches(w->stat->gro_batch, w->rx.gro_batch, w->seen_rx.gro_batch);
	w->seen_rx = w->rx;
}

void
path_flush_up(struct worker *w)
{
	flush_ring(w, w->up, &w->tx_up);
}

void
path_flush(struct worker *w)
{
	flush_ring(w, w->down, &w->tx_down);
	flush_ring(w, w->up, &w->tx_up);
	streams_flush(w);		/* after `up`, which refers to their rings */
	flush_ring(w, w->down, &w->tx_down);	/* goodbyes of DTLS */
	udp_arena_reset(w->arena);
	publish(w);
}

void
path_send(struct worker *w, struct lane *l, unsigned row, const struct addr *to, const uint8_t *p, size_t len, bool brief)
{
	int fd = row < CONF_LISTENERS_MAX ? l->listener[row] : -1;

	if (fd < 0) {
		stat_drop(w->stat, DROP_SEND_ERROR);
		return;
	}
	uint8_t *copy = brief ? udp_arena_take(w->arena, len) : NULL;
	if (copy != NULL)
		p = memcpy(copy, p, len);
	if (!udp_ring_put(w->down, fd, to, p, len)) {
		flush_ring(w, w->down, &w->tx_down);
		(void)udp_ring_put(w->down, fd, to, p, len);
	}
	if (brief && copy == NULL)
		flush_ring(w, w->down, &w->tx_down);	/* no room for a copy: it goes now */
}

static void
send_to_client(struct worker *w, struct lane *l, const struct turn_out *o)
{
	/* The next datagram's answer is written to the same place. */
	bool brief = o->p >= o->reply && o->p < o->reply + sizeof o->reply;

	if (o->conn == 0)
		path_send(w, l, o->listener, &o->to, o->p, o->len, brief);
	else if (o->transport == TRANSPORT_DTLS)
		dtls_data(w, l, o);
	else
		stream_data(w, l, o);
}

static void
send_to_peer(struct worker *w, const struct turn_out *o)
{
	if (o->dont_fragment) {
		flush_ring(w, w->up, &w->tx_up);	/* what came before leaves before */
		int rc = udp_send_df(o->fd, &o->to, o->p, o->len);
		if (rc < 0) {
			stat_drop(w->stat, rc == -EMSGSIZE ? DROP_TOO_LARGE : DROP_SEND_ERROR);
			return;
		}
		w->tx_up.tx_packets++;
		w->tx_up.tx_bytes += o->len;
		return;
	}
	if (!udp_ring_put(w->up, o->fd, &o->to, o->p, o->len)) {
		flush_ring(w, w->up, &w->tx_up);
		(void)udp_ring_put(w->up, o->fd, &o->to, o->p, o->len);
	}
}

/* ---- what the core says --------------------------------------------------------------------------- */

void
path_effects(struct worker *w, struct lane *l)
{
	struct turn_out *o = &w->out;

	if (o->close_count > 0) {
		/* What still waits to go out through them goes first. */
		flush_ring(w, w->up, &w->tx_up);
		for (unsigned i = 0; i < o->close_count && i < TP_COUNT(o->close); i++)
			relays_close(w, l, o->close[i]);
		o->close_count = 0;
	}
	if (o->drop != DROP_NONE && o->reason != REASON_NONE)
		worklog_limit(w, o->reason, &o->whom);
	relays_unreserve(w, l, o->unreserve);
	o->unreserve = 0;
	if (o->event != EV_NONE)
		worklog_event(w, l, o);
}

/* Opens the relay sockets of a new session; when that fails the session ends, and its client, unanswered, tries again. */
static bool
opened(struct worker *w, struct lane *l)
{
	struct turn_out *o = &w->out;

	if (relays_open(w, l, o->open))
		return true;
	struct session_ref ref = o->open;
	if (turn_close(&w->turn, &l->shard, ref, REASON_END_SOCKET, o) == TURN_DONE)
		path_effects(w, l);
	return false;
}

static struct pending_entry *
waiting(struct worker *w, struct lane *l, const struct turn_in *in)
{
	struct pending_entry *e = pending_put(w, l, in);
	const struct conn *c = e != NULL && in->conn != 0 ? conn_at(&l->shard, in->conn - 1) : NULL;

	if (c != NULL)
		e->conn_gen = c->gen;
	return e;
}

/* True when it still waits, in `e` or a new entry. */
static bool
carry_out(struct worker *w, struct lane *l, enum turn_act act, const struct turn_in *in, struct pending_entry *e)
{
	struct turn_out *o = &w->out;

	path_effects(w, l);
	if (o->open_do && !opened(w, l))
		act = TURN_DONE;
	bool stream = in != NULL && in->conn != 0 && in->transport != TRANSPORT_DTLS;
	if (stream && act < TURN_NEED_KEY) {
		/* The frame counts as used before its datagram leaves: nothing is sent to a peer twice. */
		stream_done(w, l, in, act == TURN_TO_CLIENT);
		if (act == TURN_TO_CLIENT)
			return false;
	}
	switch (act) {
	case TURN_DROP:
		if (o->drop == DROP_BANDWIDTH)
			worklog_over(w, l, o);
		return false;
	case TURN_DONE:
		return false;
	case TURN_TO_CLIENT:
		send_to_client(w, l, o);
		return false;
	case TURN_TO_PEER:
		send_to_peer(w, o);
		return false;
	case TURN_NEED_KEY:
		/* Asked once and answered: asking again would go on for ever. */
		if (e == NULL && (e = waiting(w, l, in)) != NULL)
			pending_ask_key(w, e);
		else
			e = NULL;
		if (stream)
			stream_waits(w, l, in, e);
		return false;
	case TURN_NEED_RELAY:
		if (e == NULL)
			e = waiting(w, l, in);
		else if (e->has_offer)
			e = NULL;
		if (stream)
			stream_waits(w, l, in, e);
		if (e == NULL)
			return false;
		pending_ask_relay(w, e, &o->want);
		return true;
	}
	return false;
}

bool
path_input(struct worker *w, struct lane *l, const struct turn_in *in, struct pending_entry *e)
{
	busy(w, BUSY_CLIENT, l, SLOT_NONE, 0, &in->client, in->buf, in->len);
	enum turn_act act = turn_client_input(&w->turn, in, &w->out);
	if (e != NULL && e->has_offer)
		e->offer = (struct turn_offer){ 0 };	/* the core has put it all somewhere */
	if (w->out.event == EV_ALLOCATED || w->out.event == EV_REPLACED)
		stat_observe(w->stat, SPREAD_SETUP, e != NULL ? w->turn.now - e->since : 0);
	bool waits = carry_out(w, l, act, in, e);
	idle(w);
	return waits;
}

void
path_again(struct worker *w, struct lane *l, struct pending_entry *e)
{
	if (e->conn != 0) {
		stream_again(w, l, e);
		return;
	}
	if (e->transport == TRANSPORT_DTLS) {
		dtls_again(w, l, e);
		return;
	}
	struct turn_in in = { .shard = &l->shard, .pool = &l->pool, .client = e->client, .listener = e->listener,
		.transport = e->transport, .buf = e->bytes, .len = e->len, .grant = e->has_grant ? &e->grant : NULL,
		.offer = e->has_offer ? &e->offer : NULL };

	if (!path_input(w, l, &in, e))
		pending_free(w, e);
}

bool
path_is_poisoned(const struct worker *w, const struct addr *from)
{
	for (unsigned i = 0; i < w->poisons; i++)
		if (addr_ip_eq(&w->poison[i].source, from) && w->poison[i].until > w->turn.now)
			return true;
	return false;
}

/* A source that workers died of: only its sessions are served. */
static bool
is_poisoned(struct worker *w, struct lane *l, unsigned row, const struct addr *from, uint8_t transport)
{
	return path_is_poisoned(w, from) && session_find(&l->shard, from, transport, (uint16_t)row) == NULL;
}

/* RFC 7983: 20..63 is DTLS. */
static inline uint8_t
transport_of(const struct worker *w, unsigned row, const uint8_t *p, size_t len)
{
	return (w->rows[row].transports & TRANSPORT_DTLS) != 0 && len > 0 && p[0] >= 20 && p[0] < 64 ? TRANSPORT_DTLS : TRANSPORT_UDP;
}

static void
client_input(struct worker *w, struct lane *l, unsigned row, const struct addr *from, uint32_t tag, uint8_t *p, size_t len)
{
	struct turn_in in = { .shard = &l->shard, .pool = &l->pool, .client = *from, .listener = (uint16_t)row,
		.transport = TRANSPORT_UDP, .buf = p, .len = len, .tagged = true, .tag = tag };
	bool dtls = transport_of(w, row, p, len) == TRANSPORT_DTLS;

	stat_add(w->stat, STAT_CLIENT_RX_PACKETS, 1);
	stat_add(w->stat, STAT_CLIENT_RX_BYTES, len);
	if (w->poisons > 0 && is_poisoned(w, l, row, from, dtls ? TRANSPORT_DTLS : TRANSPORT_UDP)) {
		stat_drop(w->stat, DROP_POISONED);
		return;
	}
	busy(w, BUSY_CLIENT, l, SLOT_NONE, 0, from, p, len);
	magic(p, len);
	if (dtls) {
		dtls_datagram(w, l, row, from, tag, p, len);
	} else if ((w->rows[row].transports & TRANSPORT_UDP) == 0) {
		stat_drop(w->stat, DROP_JUNK);
	} else {
		enum turn_act act = turn_client_input(&w->turn, &in, &w->out);
		(void)carry_out(w, l, act, &in, NULL);
	}
	idle(w);
}

/* ---- from clients ------------------------------------------------------------------------------------ */

void
path_drain_errors(struct worker *w, int fd)
{
	struct udp_icmp icmp;

	for (unsigned i = 0; i < ERRORS_MAX && udp_error_next(fd, &icmp) == 1; i++)
		stat_add(w->stat, STAT_ICMP_ERRORS, 1);
}

/* Datagrams of one flow that the kernel merged may be of both kinds. */
static void
client_merged(struct worker *w, struct lane *l, unsigned row, const struct udp_pkt *k, uint32_t tag)
{
	uint8_t tagged = transport_of(w, row, k->p, k->len);

	for (uint32_t at = 0; at < k->len; at += k->seg) {
		uint32_t len = k->len - at < k->seg ? k->len - at : k->seg;
		uint8_t transport = transport_of(w, row, k->p + at, len);
		if (transport != tagged)
			tag = session_prefetch(&l->shard, &k->from, tagged = transport, (uint16_t)row);
		client_input(w, l, row, &k->from, tag, k->p + at, len);
	}
}

static void
client_batch(struct worker *w, struct lane *l, unsigned row, unsigned n)
{
	TP_UNSET uint32_t tag[UDP_BATCH];

	for (unsigned i = 0; i < n; i++)
		tag[i] = session_prefetch(&l->shard, &w->pkt[i].from, transport_of(w, row, w->pkt[i].p, w->pkt[i].len),
		    (uint16_t)row);
	for (unsigned i = 0; i < n; i++)
		session_prefetch_slot(&l->shard, tag[i]);
	for (unsigned i = 0; i < n; i++) {
		const struct udp_pkt *k = &w->pkt[i];
		if (k->truncated)
			stat_drop(w->stat, DROP_TRUNCATED);
		else if (k->seg == 0)
			client_input(w, l, row, &k->from, tag[i], k->p, k->len);
		else
			client_merged(w, l, row, k, tag[i]);
	}
}

void
path_listener(struct worker *w, struct lane *l, unsigned row, uint32_t events)
{
	if (row >= CONF_LISTENERS_MAX || l->listener[row] < 0) {
		stat_drop(w->stat, DROP_STALE_EVENT);
		return;
	}
	int fd = l->listener[row];
	if ((events & EPOLLERR) != 0)
		path_drain_errors(w, fd);
	int n = w->engine->rx(fd, w->arena, w->pkt, UDP_BATCH, &w->rx);
	if (n == -ENOBUFS) {
		path_flush(w);
		n = w->engine->rx(fd, w->arena, w->pkt, UDP_BATCH, &w->rx);
	}
	if (n > 0)
		client_batch(w, l, row, (unsigned)n);
}

/* ---- from peers -------------------------------------------------------------------------------------- */

static void
relay_errors(struct worker *w, struct lane *l, struct session_ref ref, int fd)
{
	struct udp_icmp icmp;

	for (unsigned i = 0; i < ERRORS_MAX && udp_error_next(fd, &icmp) == 1; i++) {
		stat_add(w->stat, STAT_ICMP_ERRORS, 1);
		enum turn_act act = turn_peer_icmp(&w->turn, &l->shard, ref, &icmp.peer, icmp.type, icmp.code, icmp.info,
		    &w->out);
		(void)carry_out(w, l, act, NULL, NULL);
	}
}

static void
peer_input(struct worker *w, struct lane *l, struct session_ref ref, unsigned which, const struct addr *from,
    uint8_t *p, size_t len)
{
	stat_add(w->stat, STAT_PEER_RX_PACKETS, 1);
	stat_add(w->stat, STAT_PEER_RX_BYTES, len);
	busy(w, BUSY_PEER, l, ref.slot, ref.gen, from, p, len);
	magic(p, len);
	enum turn_act act = turn_peer_input(&w->turn, &l->shard, ref, which, from, p, len, &w->out);
	(void)carry_out(w, l, act, NULL, NULL);
	idle(w);
}

/*
 * Datagrams that the kernel merged lie end to end, and each needs room for a header before it: they are copied.  A copy
 * of a hundred bytes costs a hundredth of the receive that it saves.
 */
static void
peer_merged(struct worker *w, struct lane *l, struct session_ref ref, unsigned which, const struct udp_pkt *k)
{
	for (uint32_t at = 0; at < k->len; at += k->seg) {
		uint32_t len = k->len - at < k->seg ? k->len - at : k->seg;
		uint8_t *copy = udp_arena_take(w->arena, len);
		if (copy == NULL) {
			stat_drop(w->stat, DROP_TRUNCATED);
			return;
		}
		memcpy(copy, k->p + at, len);
		peer_input(w, l, ref, which, &k->from, copy, len);
	}
}

/* The live session of a tag, NULL when it has ended. */
static struct session *
tagged(struct lane *l, uint64_t tag)
{
	uint32_t slot = tag_slot(tag);

	if (slot >= l->shard.slot_max)
		return NULL;
	struct session *x = &l->shard.slots[slot];
	if (atomic_load_explicit(&x->state, memory_order_acquire) != SESSION_LIVE ||
	    (x->gen & TAG_GEN_MASK) != tag_gen(tag))
		return NULL;
	return x;
}

void
path_relay(struct worker *w, struct lane *l, uint64_t tag, uint32_t events)
{
	const struct session *x = tagged(l, tag);
	unsigned which = tag_which(tag) & 1;

	if (x == NULL) {
		stat_drop(w->stat, DROP_STALE_EVENT);
		return;
	}
	/* A dual allocation that gave up one family keeps the other as its first. */
	int fd = x->relay[which].family != ADDR_NONE && x->relay[which].fd >= 0 ? x->relay[which].fd : x->relay[0].fd;
	struct session_ref ref = { tag_slot(tag), x->gen };
	bool in_error = (events & EPOLLERR) != 0;
	uint8_t *habit = lane_habit(l, fd);
	unsigned reads = in_error || *habit < HABIT_SINGLE ? RELAY_READS : 1, got = 0;
	for (unsigned i = 0; i < reads; i++) {
		struct udp_pkt k;
		if (in_error)
			relay_errors(w, l, ref, fd);
		in_error = false;
		int rc = udp_recv_one(fd, w->arena, &k);
		if (rc == -ENOBUFS) {
			path_flush(w);
			continue;
		}
		if (rc == 0)
			break;
		got += rc > 0 && k.seg > 0 ? 2 : 1;
		if (rc < 0) {
			in_error = true;	/* a pending ICMP error stands before the datagrams */
			continue;
		}
		udp_count_segments(&w->rx, &k);
		if (k.seg > 0)
			peer_merged(w, l, ref, which, &k);
		else
			peer_input(w, l, ref, which, &k.from, k.p, k.len);
	}
	/* The epoll is level triggered: what is left is told again. */
	*habit = got > 1 ? 0 : *habit < HABIT_END ? (uint8_t)(*habit + 1) : HABIT_SINGLE - 1;
}
