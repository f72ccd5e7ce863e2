/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conn_tx.c: changes of a stream's record and its rings.
 *
 * A shard has a fixed number of rings.  Each step of the way from the first byte to the answer may use up
 * less of them than the one before it, so a connection that holds a ring of one step finds a ring for the
 * next; and connections without an allocation never get those that are kept for sessions:
 *
 *	free, in eighths	  0      1      2      3      4      5      8
 *	session: OUT		  | any
 *	session: PLAIN			 | more
 *	session: IN				| more
 *	others: OUT				       | more
 *	others: PLAIN				              | more
 *	others: IN					             | more
 */
#include "config.h"

#include "worker_int.h"

static uint32_t
kept_back(const struct lane *l, enum tx_ring which, bool session)
{
	static const uint8_t eighths[2][TX_RINGS] = {
		[false] = { [TX_IN] = 5, [TX_PLAIN] = 4, [TX_OUT] = 3 },
		[true] = { [TX_IN] = 2, [TX_PLAIN] = 1, [TX_OUT] = 0 },
	};

	return l->shard.ring_max / 8 * eighths[session][which];
}

uint32_t
tx_rings_left(const struct lane *l, bool session)
{
	uint32_t left = ring_left(&l->shard), kept = kept_back(l, TX_IN, session);

	return left > kept ? left - kept : 0;
}

static bool
may_take(struct lane *l, const struct conn *c, enum tx_ring which)
{
	uint32_t left = ring_left(&l->shard);

	if (left > kept_back(l, which, false))
		return true;
	return left > kept_back(l, which, true) &&
	    session_find(&l->shard, &c->client, c->transport, c->listener) != NULL;
}

/* One of the rings of a record, and the positions of its content. */
struct place {
	struct ring_ref *ring;
	uint64_t tail, head;
};

static struct place
place_of(const struct conn *c, struct conn_rec *r, enum tx_ring which)
{
	switch (which) {
	case TX_IN:
		return (struct place){ &r->in, r->in_parsed, c->in_recv };
	case TX_PLAIN:
		return (struct place){ &r->plain, r->plain_parsed, r->plain_head };
	default:
		return (struct place){ &r->out, c->out_sent, r->out_head };
	}
}

void
tx_begin(struct conn_tx *t, struct worker *w, struct lane *l, struct conn *c)
{
	*t = (struct conn_tx){ .w = w, .l = l, .c = c, .next = conn_next(c) };
}

static bool
has_room(const struct place *p, size_t want)
{
	return p->ring->ring != 0 && ring_room(p->ring, p->head) >= want;
}

uint8_t *
tx_room(struct conn_tx *t, enum tx_ring which, size_t want)
{
	struct shard *s = &t->l->shard;
	struct place p = place_of(t->c, t->next, which);
	uint32_t old;

	if (!has_room(&p, want)) {
		if (!may_take(t->l, t->c, which) || !ring_reserve(s, p.ring, p.tail, p.head, want, &old))
			return NULL;
		/* One that this change took already was never named by a record. */
		if (old != 0 && old == t->fresh[which])
			ring_give(s, old);
		else
			t->old[which] = old;
		t->fresh[which] = p.ring->ring;
	}
	return ring_at(s, p.ring, p.head);
}

void
tx_empty(struct conn_tx *t, enum tx_ring which)
{
	struct place p = place_of(t->c, t->next, which);

	t->old[which] = p.ring->ring;
	p.ring->ring = 0;
}

/* Since when it holds a ring. */
static void
note_time(const struct conn_tx *t)
{
	const struct conn_rec *r = t->next;
	bool holds = r->in.ring != 0 || r->plain.ring != 0 || r->out.ring != 0;

	if (!holds)
		t->c->ring_since = 0;
	else if (t->c->ring_since == 0)
		t->c->ring_since = (uint32_t)(t->w->turn.now / 1000);
}

void
tx_commit(struct conn_tx *t)
{
	struct shard *s = &t->l->shard;

	note_time(t);
	conn_commit(t->c);
	/* Datagrams to peers may lie in what was received. */
	if (t->old[TX_IN] != 0 || t->old[TX_PLAIN] != 0)
		udp_flush_up(t->w);
	for (unsigned i = 0; i < TX_RINGS; i++)
		ring_give(s, t->old[i]);
}

void
tx_abort(struct conn_tx *t)
{
	for (unsigned i = 0; i < TX_RINGS; i++)
		ring_give(&t->l->shard, t->fresh[i]);
}

bool
tx_fits(struct lane *l, const struct conn *c, enum tx_ring which, size_t want)
{
	struct conn_rec r = *conn_now(c);
	struct place p = place_of(c, &r, which);

	return has_room(&p, want) ||
	    ((size_t)(p.head - p.tail) + want <= RING_BYTES && may_take(l, c, which));
}
