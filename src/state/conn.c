/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conn.c: slots of client connections and their two-copy records; how many there are, by prefix.
 */
#include "config.h"

#include <sodium.h>

#include "state_int.h"

uint32_t
conn_high(const struct shard *s)
{
	uint32_t n = atomic_load_explicit(&s->head->conn_bump, memory_order_acquire);

	return n < s->conn_max ? n : s->conn_max;
}

static struct conn *
slot_take(struct shard *s)
{
	struct shard_head *h = s->head;
	uint32_t free = h->conn_free, bump = conn_high(s);

	if (free != 0 && free <= bump) {
		h->conn_free = conn_peek(s, free - 1)->next;
		CRASH_POINT("conn:popped");
		return conn_peek(s, free - 1);
	}
	if (bump >= s->conn_max)
		return NULL;
	atomic_store_explicit(&h->conn_bump, bump + 1, memory_order_release);
	CRASH_POINT("conn:bumped");
	return conn_peek(s, bump);
}

struct conn *
conn_new(struct shard *s, uint8_t transport)
{
	struct conn *c = slot_take(s);
	uint32_t gen;

	if (c == NULL)
		return NULL;
	gen = c->gen + 1 != 0 ? c->gen + 1 : 1;
	atomic_store_explicit(&c->state, CONN_FILLING, memory_order_release);
	CRASH_POINT("conn:filling");
	store32(&c->gen, gen);
	memset((uint8_t *)c + offsetof(struct conn, fd), 0, sizeof *c - offsetof(struct conn, fd));
	c->fd = -1;
	c->transport = transport;
	if (transport != TRANSPORT_DTLS)
		memset(conn_recs(c), 0, 2 * sizeof(struct conn_rec));
	return c;
}

void
conn_publish(struct conn *c, enum conn_state state)
{
	CRASH_POINT("conn:filled");
	atomic_store_explicit(&c->state, state, memory_order_release);
	CRASH_POINT("conn:published");
}

/* What must not stay.  Tables that its kind does not use are not touched; of an unknown kind all. */
void
conn_wipe(struct shard *s, const struct conn *c)
{
	if (c->transport == TRANSPORT_TCP)
		return;
	sodium_memzero(conn_key(s, c), sizeof(struct conn_key));
	if (c->transport != TRANSPORT_TLS)
		sodium_memzero(conn_place(s, c), CONN_PLACE_LEN);
	if (c->transport != TRANSPORT_DTLS)
		sodium_memzero(conn_secrets(s, c), CONN_SECRETS_LEN);
}

/* The state first: the slot is not found any more, and adoption repeats the steps that follow. */
void
conn_free(struct shard *s, struct conn *c)
{
	uint32_t rings[3] = { 0 };

	if (c->transport != TRANSPORT_DTLS) {
		const struct conn_rec *r = conn_now(c);
		rings[0] = r->in.ring;
		rings[1] = r->plain.ring;
		rings[2] = r->out.ring;
	}
	atomic_store_explicit(&c->state, CONN_FREE, memory_order_release);
	CRASH_POINT("conn:freed");
	conn_wipe(s, c);
	memset((uint8_t *)c + offsetof(struct conn, fd), 0, sizeof *c - offsetof(struct conn, fd));
	CRASH_POINT("conn:wiped");
	for (unsigned i = 0; i < TP_COUNT(rings); i++)
		ring_give(s, rings[i]);
	c->next = s->head->conn_free;
	CRASH_POINT("conn:linked");
	s->head->conn_free = conn_slot(s, c) + 1;
}

struct conn *
conn_at(struct shard *s, uint32_t slot)
{
	if (slot >= s->conn_max)
		return NULL;
	struct conn *c = conn_peek(s, slot);
	return atomic_load_explicit(&c->state, memory_order_acquire) >= CONN_SHAKING ? c : NULL;
}

struct conn_rec *
conn_next(struct conn *c)
{
	uint32_t which = atomic_load_explicit(&c->which, memory_order_relaxed) & 1;

	struct conn_rec *rec = conn_recs(c);

	rec[which ^ 1] = rec[which];
	return &rec[which ^ 1];
}

void
conn_commit(struct conn *c)
{
	uint32_t which = atomic_load_explicit(&c->which, memory_order_relaxed) & 1;

	CRASH_POINT("conn:commit");
	atomic_store_explicit(&c->which, which ^ 1, memory_order_release);
	CRASH_POINT("conn:committed");
}

bool
conn_is_of(struct shard *s, const struct session *x)
{
	const struct conn *c = x->conn != 0 && x->conn <= conn_high(s) ? conn_at(s, x->conn - 1) : NULL;

	return c != NULL && c->transport == x->transport && c->listener == x->listener &&
	    addr_eq(&c->client, &x->client);
}

/* ---- how many --------------------------------------------------------------------------------------- */

static struct conn_counts *
counts(const struct cross *c, unsigned shard)
{
	return CROSS_AT(c, CROSS_CONNS_AT, struct conn_counts) + shard;
}

/*
 * A prefix has two counters, one in each half of the table, and its count is at most the smaller one.
 * Both are shared with another busy prefix only when two independent hashes collide: with 100 busy
 * prefixes for one in 6,700.
 */
static uint32_t
bucket_of(uint64_t prefix, unsigned half)
{
	return half * (CONN_BUCKETS / 2) +
	    (uint32_t)(account_mix(prefix) >> (half == 0 ? 50 : 32)) % (CONN_BUCKETS / 2);
}

static uint64_t
total_of(const struct cross *c, unsigned shards)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < shards && i < SHARDS_MAX; i++)
		n += atomic_load_explicit(&counts(c, i)->total, memory_order_relaxed);
	return n;
}

static uint64_t
count_of(const struct cross *c, unsigned shards, uint64_t prefix, unsigned half)
{
	uint32_t b = bucket_of(prefix, half);
	uint64_t n = 0;

	for (unsigned i = 0; i < shards && i < SHARDS_MAX; i++)
		n += atomic_load_explicit(&counts(c, i)->bucket[b], memory_order_relaxed);
	return n;
}

enum reason
cross_conn_refusal(
    const struct cross *c, unsigned shards, uint64_t prefix, const struct conn_limits *limits)
{
	if (limits->total != 0 && total_of(c, shards) >= limits->total)
		return REASON_LIMIT_CONNECTIONS_TOTAL;
	if (limits->per_prefix != 0 && prefix != 0 &&
	    count_of(c, shards, prefix, 0) >= limits->per_prefix &&
	    count_of(c, shards, prefix, 1) >= limits->per_prefix)
		return REASON_LIMIT_CONNECTIONS;
	return REASON_NONE;
}

static void
bucket_add(struct conn_counts *n, uint32_t b, int delta)
{
	uint16_t was = atomic_load_explicit(&n->bucket[b], memory_order_relaxed);

	atomic_store_explicit(&n->bucket[b], (uint16_t)(was + delta), memory_order_relaxed);
}

void
cross_conn_add(struct cross *c, unsigned shard, uint64_t prefix, int delta)
{
	struct conn_counts *n = counts(c, shard);
	uint32_t total = atomic_load_explicit(&n->total, memory_order_relaxed);

	atomic_store_explicit(&n->total, total + (uint32_t)delta, memory_order_relaxed);
	for (unsigned half = 0; prefix != 0 && half < 2; half++)
		bucket_add(n, bucket_of(prefix, half), delta);
}

void
cross_conn_recount(struct cross *c, struct shard *s)
{
	memset((void *)counts(c, s->index), 0, sizeof(struct conn_counts));
	for (uint32_t i = 0; i < conn_high(s); i++)
		if (conn_at(s, i) != NULL)
			cross_conn_add(c, s->index, conn_peek(s, i)->prefix, 1);
}
