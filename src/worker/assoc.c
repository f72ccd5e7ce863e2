/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * assoc.c: how DTLS associations begin, which are connections without a descriptor.
 *
 *	HS_DONE -> slot and keys, published -> in the index -> the last flight -> HS_ACK
 *
 * turnpike-tls keeps a handshake until then, so a client that only begins one costs nothing here, and a
 * new handshake on a live 5-tuple takes the old one's place only when it is complete.
 */
#include "config.h"

#include <sodium.h>

#include "worker_int.h"

/* More numbers than a session uses before its handshake is acknowledged. */
#define NUMBERS_AHEAD ((uint64_t)1 << 32)

_Static_assert(
    sizeof(struct seal) == CONN_KEY_LEN && sizeof(struct assoc_place) == CONN_PLACE_LEN, "tables of KEYS");

/* ---- what a turnpike-tls sends --------------------------------------------------------------- */

void
assoc_reply(struct worker *w, struct lane *l, const struct msg_hs_reply *m)
{
	if (m->who.shard != l->shard.index || m->len > sizeof m->datagram || m->who.row >= LISTENERS_MAX) {
		stat_add(w->stat, STAT_MSG_BAD, 1);
		return;
	}
	/* A turnpike-tls that was taken over does not choose where this host sends to. */
	if (!hello_is_proved(w, l, m->who.row, &m->who.client)) {
		stat_drop(w->stat, DROP_DTLS_STRAY);
		return;
	}
	udp_to_client(w, l, m->who.row, &m->who.client, m->datagram, m->len, true);
}

static bool
same_keys(struct lane *l, const struct conn *c, const struct seal_session *s)
{
	return sodium_memcmp(conn_seal(l, c)->key, s->keys.key, sizeof s->keys.key) == 0;
}

/* replaces: it takes the place of another, which counts already. */
static struct conn *
publish(
    struct worker *w, struct lane *l, const struct hs_who *who, const struct seal_session *s, bool replaces)
{
	uint64_t prefix = cross_prefix(&w->cross, &who->client);
	struct conn *c = NULL;

	if (!replaces && !cross_conn_fits(&w->cross, w->start.shard_count, prefix, &w->streams.limits)) {
		worklog_conn_limit(w, &who->client);
		return NULL;
	}
	if (!assoc_reserve(l) || (c = conn_new(&l->shard, TRANSPORT_DTLS)) == NULL) {
		stat_drop(w->stat, DROP_STREAM_ROOM);
		return NULL;
	}
	*conn_seal(l, c) = s->keys;
	*assoc_place(l, c) = (struct assoc_place){ s->dtls, s->final };
	conn_key(&l->shard, c)->gen = c->gen;
	CRASH_POINT("assoc:keys");
	c->listener = (uint16_t)who->row;
	c->peer = c->client = who->client;
	c->prefix = prefix;
	c->seen = (uint32_t)(w->turn.now / 1000);
	c->deadline = TP_SEC_UP(w->turn.now) + w->streams.deadline;
	conn_publish(c, CONN_OPEN);
	cross_conn_add(&w->cross, l->shard.index, prefix, 1);
	stat_add(w->stat, STAT_STREAMS_OPENED, 1);
	assoc_add(l, c);
	CRASH_POINT("assoc:published");
	return c;
}

static void
send_flight(struct worker *w, struct lane *l, const struct msg_hs_done *m)
{
	size_t at = 0;

	for (unsigned i = 0; i < m->pieces && i < MSG_HS_PIECES && at + m->piece[i] <= sizeof m->flight;
	     i++) {
		udp_to_client(w, l, m->who.row, &m->who.client, m->flight + at, m->piece[i], true);
		at += m->piece[i];
	}
	CRASH_POINT("assoc:flight");
}

void
assoc_done(struct worker *w, struct lane *l, const struct msg_hs_done *m)
{
	struct seal_session s;

	if (m->who.shard != l->shard.index || m->who.row >= LISTENERS_MAX || l->listener[m->who.row] < 0)
		return; /* not ours any more: its client starts again */
	memcpy(&s, m->session, sizeof s);
	uint32_t tag = session_prefetch(&l->shard, &m->who.client, TRANSPORT_DTLS, (uint16_t)m->who.row);
	struct conn *old = assoc_find(l, &m->who.client, m->who.row, tag);
	if (!seal_valid(&s.keys) || s.keys.proto != SEAL_DTLS12) {
		stat_add(w->stat, STAT_MSG_BAD, 1);
	} else if (old != NULL && same_keys(l, old, &s)) {
		/* Published by us or a predecessor, whose flight may not have left. */
		hello_ended(w, l, &m->who);
		if (old->heard == 0)
			dtls_final(w, l, old);
	} else if (!hello_may_end(w, l, &m->who)) {
		/* Its session was published, used and closed: a recorded datagram of it must not be
		 * accepted again.  Or a turnpike-tls that was taken over made it up, and no association
		 * is replaced. */
		stat_drop(w->stat, DROP_DTLS_STRAY);
	} else {
		/* An earlier worker may have published this session, used it and died before
		 * acknowledging it, once for each repetition of HS_DONE.  So many numbers are skipped
		 * that none is used twice. */
		s.dtls.tx += m->again * NUMBERS_AHEAD;
		bool published = publish(w, l, &m->who, &s, old != NULL) != NULL;
		hello_ended(w, l, &m->who);
		if (published)
			send_flight(w, l, m);
		if (old != NULL)
			conn_mark_end(w, l, old, END_REPLACED);
	}
	explicit_bzero(&s, sizeof s);
}

/* ---- what a predecessor left ----------------------------------------------------------------- */

bool
assoc_adopt(struct lane *l, struct conn *c)
{
	const struct seal *k = conn_seal(l, c);

	if (conn_key(&l->shard, c)->gen != c->gen || !seal_valid(k) || k->proto != SEAL_DTLS12 ||
	    c->listener >= LISTENERS_MAX || l->listener[c->listener] < 0 || !assoc_reserve(l))
		return false;
	assoc_add(l, c);
	CRASH_POINT("assoc:adopted");
	return true;
}
