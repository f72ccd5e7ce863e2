/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * assoc: DTLS associations, which are connections without a descriptor.
 *
 *	HS_DONE -> slot and keys, published -> in the index -> the last flight -> HS_ACK
 *
 * turnpike-tls keeps a handshake until then, so a client that only begins one costs nothing here, and a new handshake on a live
 * 5-tuple takes the old one's place only when it is complete.  The index, by who sends, is this process's own: a successor
 * makes it anew from the slots.
 */
#include "config.h"

#include <sodium.h>
#include <stdlib.h>

#include "worker_int.h"

#define TABLE_MIN 256u
/* More numbers than a session uses before its handshake is acknowledged. */
#define NUMBERS_AHEAD ((uint64_t)1 << 32)

_Static_assert(sizeof(struct seal) == CONN_KEY_LEN && sizeof(struct assoc_place) == CONN_PLACE_LEN, "tables of KEYS");

/* ---- index ---------------------------------------------------------------------------------------------- */

static inline uint64_t entry(uint32_t tag, uint32_t slot) { return (uint64_t)tag << 32 | (slot + 1); }

static uint32_t
tag_of(const struct lane *l, const struct conn *c)
{
	return session_prefetch(&l->shard, &c->client, TRANSPORT_DTLS, c->listener);
}

static void
insert(const struct assoc_table *t, uint64_t e)
{
	uint32_t i = (uint32_t)(e >> 32) & t->mask;

	while (t->at[i] != 0)
		i = (i + 1) & t->mask;
	t->at[i] = e;
}

/* Room for one more: at most half full.  False: no memory. */
static bool
reserve(struct assoc_table *t)
{
	struct assoc_table grown;

	if (t->at != NULL && (t->count + 1) * 2 <= t->mask)
		return true;
	grown.mask = t->at == NULL ? TABLE_MIN - 1 : t->mask * 2 + 1;
	grown.count = t->count;
	grown.at = calloc((size_t)grown.mask + 1, sizeof *grown.at);
	if (grown.at == NULL)
		return false;
	for (uint32_t i = 0; t->at != NULL && i <= t->mask; i++)
		if (t->at[i] != 0)
			insert(&grown, t->at[i]);
	free(t->at);
	*t = grown;
	return true;
}

static void
add(struct lane *l, const struct conn *c)
{
	insert(&l->assoc, entry(tag_of(l, c), conn_slot(&l->shard, c)));
	l->assoc.count++;
}

void
assoc_forget(struct lane *l, const struct conn *c)
{
	struct assoc_table *t = &l->assoc;
	uint64_t e = entry(tag_of(l, c), conn_slot(&l->shard, c));
	uint32_t i = (uint32_t)(e >> 32) & t->mask;

	if (t->at == NULL)
		return;
	while (t->at[i] != e) {
		if (t->at[i] == 0)
			return;
		i = (i + 1) & t->mask;
	}
	for (uint32_t j = (i + 1) & t->mask; t->at[j] != 0; j = (j + 1) & t->mask) {
		if (((j - (uint32_t)(t->at[j] >> 32)) & t->mask) < ((j - i) & t->mask))
			continue;	/* its home lies behind the hole */
		t->at[i] = t->at[j];
		i = j;
	}
	t->at[i] = 0;
	t->count--;
}

struct conn *
assoc_find(struct lane *l, const struct addr *client, unsigned row, uint32_t tag)
{
	const struct assoc_table *t = &l->assoc;

	for (uint32_t i = tag & t->mask; t->at != NULL && t->at[i] != 0; i = (i + 1) & t->mask) {
		if ((uint32_t)(t->at[i] >> 32) != tag)
			continue;
		struct conn *c = conn_at(&l->shard, (uint32_t)t->at[i] - 1);
		if (c != NULL && c->transport == TRANSPORT_DTLS && c->listener == row && addr_eq(&c->client, client))
			return c;
	}
	return NULL;
}

/* ---- what a turnpike-tls sends ---------------------------------------------------------------------------------- */

void
assoc_reply(struct worker *w, struct lane *l, const struct msg_hs_reply *m)
{
	if (m->who.shard != l->shard.index || m->len > sizeof m->datagram || m->who.row >= CONF_LISTENERS_MAX) {
		stat_add(w->stat, STAT_MSG_BAD, 1);
		return;
	}
	/* A turnpike-tls that was taken over does not choose whom this host sends to. */
	if (!hello_is_proved(w, l, m->who.row, &m->who.client)) {
		stat_drop(w->stat, DROP_DTLS_STRAY);
		return;
	}
	path_send(w, l, m->who.row, &m->who.client, m->datagram, m->len, true);
}

static bool
same_keys(struct lane *l, const struct conn *c, const struct seal_session *s)
{
	return sodium_memcmp(conn_seal(l, c)->key, s->keys.key, sizeof s->keys.key) == 0;
}

static struct conn *
publish(struct worker *w, struct lane *l, const struct hs_who *who, const struct seal_session *s)
{
	uint64_t prefix = cross_prefix(&w->cross, &who->client);
	struct conn *c = NULL;

	if (!cross_conn_fits(&w->cross, w->start.shard_count, prefix, &w->streams.limits)) {
		worklog_conn_limit(w, &who->client);
		return NULL;
	}
	if (!reserve(&l->assoc) || (c = conn_new(&l->shard, TRANSPORT_DTLS)) == NULL) {
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
	add(l, c);
	CRASH_POINT("assoc:published");
	return c;
}

static void
send_flight(struct worker *w, struct lane *l, const struct msg_hs_done *m)
{
	size_t at = 0;

	for (unsigned i = 0; i < m->pieces && i < MSG_HS_PIECES && at + m->piece[i] <= sizeof m->flight; i++) {
		path_send(w, l, m->who.row, &m->who.client, m->flight + at, m->piece[i], true);
		at += m->piece[i];
	}
	CRASH_POINT("assoc:flight");
}

void
assoc_done(struct worker *w, struct lane *l, const struct msg_hs_done *m)
{
	struct seal_session s;

	if (m->who.shard != l->shard.index || m->who.row >= CONF_LISTENERS_MAX || l->listener[m->who.row] < 0)
		return;			/* not ours any more: its client starts again */
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
		/* Its session was published, used and closed: a recorded datagram of it must not be accepted again.  Or a
		 * turnpike-tls that was taken over made it up, and no association is replaced. */
		stat_drop(w->stat, DROP_DTLS_STRAY);
	} else {
		/* Published perhaps, used and closed, and the acknowledgement lost with its worker, and that for each time that
		 * it was said: no number comes twice. */
		s.dtls.tx += m->again * NUMBERS_AHEAD;
		if (old != NULL)
			stream_close(w, l, old);
		bool published = publish(w, l, &m->who, &s) != NULL;
		hello_ended(w, l, &m->who);
		if (published)
			send_flight(w, l, m);
	}
	explicit_bzero(&s, sizeof s);
}

/* ---- what a predecessor left -------------------------------------------------------------------------------- */

bool
assoc_adopt(struct lane *l, struct conn *c)
{
	const struct seal *k = conn_seal(l, c);

	if (conn_key(&l->shard, c)->gen != c->gen || !seal_valid(k) || k->proto != SEAL_DTLS12 ||
	    c->listener >= CONF_LISTENERS_MAX || l->listener[c->listener] < 0 || !reserve(&l->assoc))
		return false;
	add(l, c);
	CRASH_POINT("assoc:adopted");
	return true;
}
