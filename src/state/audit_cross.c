/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * audit_cross.c: what must hold between shards: nothing twice, counts equal sessions, CROSS itself sound.
 */
#include "config.h"

#include <stdlib.h>

#include "state_int.h"

typedef int order_h(const void *, const void *);

static int
compare(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

static int
by_client(const void *l, const void *r)
{
	const struct audit_row *a = l, *b = r;
	int d = memcmp(&a->client, &b->client, sizeof a->client);

	if (d == 0)
		d = compare(a->listener, b->listener);
	return d != 0 ? d : compare(a->transport, b->transport);
}

/* A relay socket, and which session has it. */
struct relay_row {
	struct relay_ref relay;
	const struct audit_row *of;
};

static int
by_fd(const void *l, const void *r)
{
	return compare((uint64_t)((const struct relay_row *)l)->relay.fd,
	    (uint64_t)((const struct relay_row *)r)->relay.fd);
}

static int
by_port(const void *l, const void *r)
{
	const struct relay_ref *a = &((const struct relay_row *)l)->relay,
			       *b = &((const struct relay_row *)r)->relay;
	uint64_t x = (uint64_t)a->row << 32 | (uint64_t)a->family << 16 | a->port;
	uint64_t y = (uint64_t)b->row << 32 | (uint64_t)b->family << 16 | b->port;

	return compare(x, y);
}

static int
by_user(const void *l, const void *r)
{
	return compare(((const struct audit_row *)l)->user, ((const struct audit_row *)r)->user);
}

static int
by_prefix(const void *l, const void *r)
{
	return compare(((const struct audit_row *)l)->prefix, ((const struct audit_row *)r)->prefix);
}

/* Both still there?  Else one ended while we read, and the other took what it had. */
static bool
are_both(const struct audit *a, const struct audit_row *x, const struct audit_row *y,
    const struct shard *shards, unsigned n)
{
	const struct audit_row *rows[2] = { x, y };
	unsigned same = 0;

	if (a->still)
		return true;
	for (unsigned i = 0; i < 2; i++)
		for (unsigned j = 0; j < n; j++) {
			struct session now;

			if (shards[j].index == rows[i]->shard &&
			    session_read(&shards[j], rows[i]->slot, &now) && now.gen == rows[i]->gen)
				same++;
		}
	return same == 2;
}

static void
audit_clients(struct audit *a, const struct shard *shards, unsigned n)
{
	const struct audit_row *last = NULL;

	qsort(a->rows, a->n, sizeof *a->rows, by_client);
	for (size_t i = 0; i < a->n; i++) {
		const struct audit_row *x = &a->rows[i];

		if (!x->live)
			continue;
		/* A proxy may name one source twice, on connections that the kernel gives to two shards. */
		bool proxied = last != NULL && x->transport != TRANSPORT_UDP && last->shard != x->shard;
		if (last != NULL && !proxied && by_client(last, x) == 0 && are_both(a, last, x, shards, n))
			audit_breach(a, "shard %u slot %u and shard %u slot %u: the same 5-tuple",
			    last->shard, last->slot, x->shard, x->slot);
		last = x;
	}
}

static void
audit_twice(struct audit *a, struct relay_row *rows, size_t n, order_h *order, const char *what,
    const struct shard *shards, unsigned shard_n)
{
	qsort(rows, n, sizeof *rows, order);
	for (size_t i = 1; i < n; i++) {
		const struct audit_row *x = rows[i - 1].of, *y = rows[i].of;

		if (order(&rows[i - 1], &rows[i]) == 0 && are_both(a, x, y, shards, shard_n))
			audit_breach(a, "shard %u slot %u and shard %u slot %u: the same %s", x->shard,
			    x->slot, y->shard, y->slot, what);
	}
}

static void
audit_relays(struct audit *a, const struct shard *shards, unsigned n)
{
	struct relay_row *rows = calloc(2 * a->n + 1, sizeof *rows);
	size_t count = 0;

	if (rows == NULL) {
		audit_breach(a, "no memory to audit relays");
		return;
	}
	for (size_t i = 0; i < a->n; i++)
		for (unsigned j = 0; j < 2; j++)
			if (a->rows[i].live && a->rows[i].relay[j].family != 0)
				rows[count++] = (struct relay_row){ .relay = a->rows[i].relay[j],
					.of = &a->rows[i] };
	audit_twice(a, rows, count, by_fd, "relay descriptor", shards, n);
	audit_twice(a, rows, count, by_port, "relayed address", shards, n);
	free(rows);
}

/* Rows sorted by a key: each run is as long as its account says. */
static uint64_t
audit_counts(struct audit *a, enum account_kind kind, order_h *order)
{
	uint64_t counted = 0;

	qsort(a->rows, a->n, sizeof *a->rows, order);
	for (size_t i = 0, j; i < a->n; i = j) {
		uint64_t key = kind == ACCOUNT_USER ? a->rows[i].user : a->rows[i].prefix;
		uint32_t have = account_count(a->cross, kind, key);

		for (j = i; j < a->n && order(&a->rows[i], &a->rows[j]) == 0; j++)
			;
		if (key == 0)
			continue;
		counted += j - i;
		if (have != j - i)
			audit_breach(a, "cross: %s %016llx has %u sessions and is counted %u",
			    kind == ACCOUNT_USER ? "user" : "prefix", (unsigned long long)key,
			    (unsigned)(j - i), have);
	}
	return counted;
}

/* All accounts of a stripe are in a chain or free; returns the sum of counts. */
static uint64_t
audit_stripe(struct audit *a, unsigned stripe)
{
	const struct cross *c = a->cross;
	const struct stripe *st = cross_stripe(c, stripe);
	uint32_t bump = account_bump(c, stripe), used = 0, freed = 0, link = st->free;
	const struct account *all = accounts(c, stripe);
	uint64_t sum = 0;

	for (uint32_t i = 0; i < bump; i++) {
		uint32_t count = all[i].count;

		if (count == 0)
			continue;
		used++;
		sum += count;
		if (account_find(c, all[i].kind, all[i].key) != i + 1)
			audit_breach(a, "cross: account %u of stripe %u is in no chain", i, stripe);
	}
	for (; link != 0 && link <= bump && freed <= bump && all[link - 1].count == 0; freed++)
		link = all[link - 1].next;
	if (link != 0 || used + freed != bump)
		audit_breach(
		    a, "cross: stripe %u: %u accounts, %u used, %u free", stripe, bump, used, freed);
	return sum;
}

/* Reservations count like sessions. */
static void
add_tokens(struct audit *a)
{
	for (uint32_t i = 0; i < TOKENS && cross_head(a->cross)->reserved != 0; i++) {
		const struct token *t = cross_token(a->cross, i);

		if (t->token != 0 && t->prefix != 0 && a->n < a->room)
			a->rows[a->n++] = (struct audit_row){ .user = t->user, .prefix = t->prefix };
	}
}

/* A worker holds a lock for less than a microsecond, and a redo record as long. */
static void
audit_locks(struct audit *a)
{
	const struct cross *c = a->cross;

	for (unsigned i = 0; i < CROSS_STRIPES; i++) {
		uint32_t word = atomic_load_explicit(&cross_stripe(c, i)->lock, memory_order_relaxed) &
		    ~LOCK_WAITERS;

		if (word != 0)
			audit_breach(a, "cross: lock word %u is held by owner %u", i, word - 1);
	}
	for (uint32_t i = 0; i < SHARDS_MAX; i++)
		if (atomic_load_explicit(&cross_redo(c, i)->op, memory_order_relaxed) != REDO_NONE)
			audit_breach(a, "cross: owner %u has a redo record", i);
}

/* Sessions come and go while they are counted: a difference of the same size each time that one looks is
 * one, and one that is far beyond what a look can miss. */
static void
audit_live(struct audit *a)
{
	uint64_t total = cross_total(a->cross), far;

	add_tokens(a);
	far = a->n / 8 + 1024;
	audit_locks(a);
	(void)audit_counts(a, ACCOUNT_USER, by_user);
	(void)audit_counts(a, ACCOUNT_PREFIX, by_prefix);
	if (total > a->n + far || total + far < a->n)
		audit_breach(a, "cross: the total is far from the number of sessions");
	else if (total != a->n)
		audit_breach(a, "cross: total is %llu, sessions are %llu", (unsigned long long)total,
		    (unsigned long long)a->n);
}

static void
audit_still(struct audit *a)
{
	const struct cross *c = a->cross;
	uint64_t sum = 0, counted;

	add_tokens(a);
	audit_locks(a);
	for (unsigned i = 0; i < ACCOUNT_STRIPES; i++)
		sum += audit_stripe(a, i);
	counted = audit_counts(a, ACCOUNT_USER, by_user);
	counted += audit_counts(a, ACCOUNT_PREFIX, by_prefix);
	if (sum != counted)
		audit_breach(a, "cross: accounts sum up to %llu, sessions to %llu", (unsigned long long)sum,
		    (unsigned long long)counted);
	if (cross_total(c) != a->n)
		audit_breach(a, "cross: total is %llu, sessions are %llu",
		    (unsigned long long)cross_total(c), (unsigned long long)a->n);
}

void
audit_cross(struct audit *a, const struct shard *shards, unsigned n)
{
	audit_clients(a, shards, n);
	audit_relays(a, shards, n);
	/* While workers open and close, counts and sessions cannot be read as of one instant. */
	if (a->cross != NULL && a->still)
		audit_still(a);
	else if (a->cross != NULL)
		audit_live(a);
}
