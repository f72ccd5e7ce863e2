/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * udp_in.c: datagrams of clients and peers.
 *
 *	receive a batch -> for each: core -> effects -> ring      then one flush
 *
 * Per datagram nothing is allocated, locked or logged.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "worker_int.h"

#define RELAY_READS 32 /* datagrams of one relay socket per wake-up */

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

/* ---- from clients ---------------------------------------------------------------------------- */

/* A source that workers died of: only its sessions are served. */
static bool
is_poisoned(struct worker *w, struct lane *l, unsigned row, const struct addr *from, uint8_t transport)
{
	return poisoned_has(&w->poisoned, from, w->turn.now) &&
	    session_find(&l->shard, from, transport, (uint16_t)row) == NULL;
}

/* RFC 7983: 20..63 is DTLS. */
static inline uint8_t
transport_of(const struct worker *w, unsigned row, const uint8_t *p, size_t len)
{
	return (w->rows[row].transports & TRANSPORT_DTLS) != 0 && len > 0 && p[0] >= 20 && p[0] < 64
	    ? TRANSPORT_DTLS
	    : TRANSPORT_UDP;
}

/* The core's word on a datagram over plain UDP is carried out here, without another call between. */
static void
from_client(struct worker *w, struct lane *l, const struct turn_in *in)
{
	enum turn_act act = core_effects(w, l, turn_client_input(&w->turn, in, &w->out));
	const struct turn_out *o = &w->out;

	if (act == TURN_TO_PEER)
		udp_to_peer(w, o);
	else if (act == TURN_TO_CLIENT)
		udp_to_client(w, l, o->listener, &o->to, o->p, o->len, udp_is_brief(o));
	else if (act == TURN_NEED_KEY || act == TURN_NEED_RELAY)
		(void)core_wait(w, l, in, act);
}

static void
client_input(struct worker *w, struct lane *l, unsigned row, const struct addr *from, uint32_t tag,
    uint8_t *p, size_t len)
{
	struct turn_in in = { .shard = &l->shard,
		.pool = &l->pool,
		.client = *from,
		.listener = (uint16_t)row,
		.transport = TRANSPORT_UDP,
		.buf = p,
		.len = len,
		.tagged = true,
		.tag = tag };
	bool dtls = transport_of(w, row, p, len) == TRANSPORT_DTLS;

	stat_add(w->stat, STAT_CLIENT_RX_PACKETS, 1);
	stat_add(w->stat, STAT_CLIENT_RX_BYTES, len);
	if (w->poisoned.count > 0 && is_poisoned(w, l, row, from, dtls ? TRANSPORT_DTLS : TRANSPORT_UDP)) {
		stat_drop(w->stat, DROP_POISONED);
		return;
	}
	core_busy(w, BUSY_CLIENT, l, SLOT_NONE, 0, from, p, len);
	magic(p, len);
	if (dtls)
		dtls_datagram(w, l, row, from, tag, p, len);
	else if ((w->rows[row].transports & TRANSPORT_UDP) == 0)
		stat_drop(w->stat, DROP_JUNK);
	else
		from_client(w, l, &in);
	core_idle(w);
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
		tag[i] = session_prefetch(&l->shard, &w->pkt[i].from,
		    transport_of(w, row, w->pkt[i].p, w->pkt[i].len), (uint16_t)row);
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
udp_listener(struct worker *w, struct lane *l, unsigned row, uint32_t events)
{
	if (row >= LISTENERS_MAX || l->listener[row] < 0) {
		stat_drop(w->stat, DROP_STALE_EVENT);
		return;
	}
	int fd = l->listener[row];
	if ((events & EPOLLERR) != 0)
		stat_add(w->stat, STAT_ICMP_ERRORS, udp_errors_drop(fd, ERRORS_MAX));
	int n = w->engine->rx(fd, w->arena, w->pkt, UDP_BATCH, &w->udp.rx);
	if (n == -ENOBUFS) {
		batch_flush(w);
		n = w->engine->rx(fd, w->arena, w->pkt, UDP_BATCH, &w->udp.rx);
	}
	if (n > 0)
		client_batch(w, l, row, (unsigned)n);
}

/* ---- from peers -------------------------------------------------------------------------------------- */

static void
to_client(struct worker *w, struct lane *l, enum turn_act act)
{
	const struct turn_out *o = &w->out;

	if (core_effects(w, l, act) != TURN_TO_CLIENT)
		return;
	if (o->conn == 0)
		udp_to_client(w, l, o->listener, &o->to, o->p, o->len, udp_is_brief(o));
	else
		w->client[o->transport]->relayed(w, l, o);
}

static void
relay_errors(struct worker *w, struct lane *l, struct session_ref ref, int fd)
{
	struct udp_icmp icmp;

	for (unsigned i = 0; i < ERRORS_MAX && udp_error_next(fd, &icmp) == 1; i++) {
		stat_add(w->stat, STAT_ICMP_ERRORS, 1);
		to_client(w, l,
		    turn_peer_icmp(
			&w->turn, &l->shard, ref, &icmp.peer, icmp.type, icmp.code, icmp.info, &w->out));
	}
}

static void
peer_input(struct worker *w, struct lane *l, struct session_ref ref, unsigned which,
    const struct addr *from, uint8_t *p, size_t len)
{
	stat_add(w->stat, STAT_PEER_RX_PACKETS, 1);
	stat_add(w->stat, STAT_PEER_RX_BYTES, len);
	core_busy(w, BUSY_PEER, l, ref.slot, ref.gen, from, p, len);
	magic(p, len);
	to_client(w, l, turn_peer_input(&w->turn, &l->shard, ref, which, from, p, len, &w->out));
	core_idle(w);
}

/*
 * Datagrams that the kernel merged lie end to end, and each needs room for a header before it: they are
 * copied.  A copy of a hundred bytes costs a hundredth of the receive that it saves.
 */
static void
peer_merged(
    struct worker *w, struct lane *l, struct session_ref ref, unsigned which, const struct udp_pkt *k)
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
udp_relay(struct worker *w, struct lane *l, uint64_t tag, uint32_t events)
{
	const struct session *x = tagged(l, tag);
	unsigned which = tag_which(tag) & 1;

	if (x == NULL) {
		stat_drop(w->stat, DROP_STALE_EVENT);
		return;
	}
	/* A dual allocation that gave up one family keeps the other as its first. */
	int fd = x->relay[which].family != ADDR_NONE && x->relay[which].fd >= 0 ? x->relay[which].fd
										: x->relay[0].fd;
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
			batch_flush(w);
			continue;
		}
		if (rc == 0)
			break;
		got += rc > 0 && k.seg > 0 ? 2 : 1;
		if (rc < 0) {
			in_error = true; /* a pending ICMP error stands before the datagrams */
			continue;
		}
		udp_count_segments(&w->udp.rx, &k);
		if (k.seg > 0)
			peer_merged(w, l, ref, which, &k);
		else
			peer_input(w, l, ref, which, &k.from, k.p, k.len);
	}
	/* The epoll is level triggered: what is left is told again. */
	*habit = got > 1 ? 0 : *habit < HABIT_END ? (uint8_t)(*habit + 1) : HABIT_SINGLE - 1;
}
