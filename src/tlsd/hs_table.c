/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hs_table.c: the handshakes of this turnpike-tls, by their key, by age, and by the client's prefix.
 */
#include "config.h"

#include <sodium.h>
#include <stdlib.h>

#include "tlsd_int.h"

#define PREFIX_V4 32
#define PREFIX_V6 64

struct prefix {
	struct prefix *chain;
	struct prefix *after, *before; /* in the turn of those that wait and have room */
	bool in_turn;
	struct addr addr;
	struct line line, waits; /* half-open; waiting */
};

void
table_init(struct table *t)
{
	memset(t, 0, sizeof *t);
	randombytes_buf(t->key, sizeof t->key);
}

static unsigned
hash(const struct table *t, const void *p, size_t n)
{
	uint8_t h[crypto_shorthash_BYTES];

	_Static_assert(sizeof t->key == crypto_shorthash_KEYBYTES, "a SipHash key");
	crypto_shorthash(h, p, n, t->key);
	return (unsigned)get_u32(h) % BUCKETS;
}

/* What tells a handshake, without padding between. */
struct key {
	uint64_t request;
	uint32_t shard, row;
	struct addr client;
};

static struct key
key_of(const struct hs_who *w)
{
	struct key k;

	memset(&k, 0, sizeof k);
	k.shard = w->shard;
	if (w->dtls == 0) {
		k.request = w->request;
		return k;
	}
	k.row = w->row;
	k.client = w->client;
	return k;
}

static bool
is_same(const struct hs_who *a, const struct hs_who *b)
{
	struct key x = key_of(a), y = key_of(b);

	return (a->dtls != 0) == (b->dtls != 0) && memcmp(&x, &y, sizeof x) == 0;
}

static struct hs **
bucket_of(struct table *t, const struct hs_who *who)
{
	struct key k = key_of(who);

	return &t->bucket[hash(t, &k, sizeof k)];
}

struct hs *
table_find(const struct table *t, const struct hs_who *who)
{
	struct key k = key_of(who);
	struct hs *h = t->bucket[hash(t, &k, sizeof k)];

	while (h != NULL && !is_same(&h->who, who))
		h = h->chain;
	return h;
}

/* ---- lines: oldest first ----------------------------------------------------------------------- */

#define LINE_ADD(l, h, link)                                                                               \
	do {                                                                                               \
		(h)->link.older = (l)->newest;                                                             \
		(h)->link.newer = NULL;                                                                    \
		if ((l)->newest != NULL)                                                                   \
			(l)->newest->link.newer = (h);                                                     \
		else                                                                                       \
			(l)->oldest = (h);                                                                 \
		(l)->newest = (h);                                                                         \
		(l)->count++;                                                                              \
	} while (0)
#define LINE_DEL(l, h, link)                                                                               \
	do {                                                                                               \
		if ((h)->link.older != NULL)                                                               \
			(h)->link.older->link.newer = (h)->link.newer;                                     \
		else                                                                                       \
			(l)->oldest = (h)->link.newer;                                                     \
		if ((h)->link.newer != NULL)                                                               \
			(h)->link.newer->link.older = (h)->link.older;                                     \
		else                                                                                       \
			(l)->newest = (h)->link.older;                                                     \
		(l)->count--;                                                                              \
	} while (0)

/* ---- prefixes ----------------------------------------------------------------------------------- */

static void
turn_leave(struct table *t, struct prefix *p)
{
	if (!p->in_turn)
		return;
	*(p->before != NULL ? &p->before->after : &t->next) = p->after;
	*(p->after != NULL ? &p->after->before : &t->last) = p->before;
	p->in_turn = false;
}

/* Last in turn, when something waits and there is room. */
static void
turn_take(struct table *t, struct prefix *p, uint64_t per_prefix)
{
	if (p->in_turn || p->waits.count == 0 || p->line.count >= per_prefix)
		return;
	p->after = NULL;
	p->before = t->last;
	*(t->last != NULL ? &t->last->after : &t->next) = p;
	t->last = p;
	p->in_turn = true;
}

static struct addr
prefix_of(const struct addr *client)
{
	struct addr a;

	addr_mask(&a, client, client->family == ADDR_V4 ? PREFIX_V4 : PREFIX_V6);
	a.port = 0;
	return a;
}

static struct prefix *
prefix_find(const struct table *t, const struct addr *client)
{
	struct addr a = prefix_of(client);
	struct prefix *p = t->prefixes[hash(t, &a, sizeof a)];

	while (p != NULL && !addr_eq(&p->addr, &a))
		p = p->chain;
	return p;
}

static struct prefix *
prefix_take(struct table *t, const struct addr *client)
{
	struct addr a = prefix_of(client);
	struct prefix **head = &t->prefixes[hash(t, &a, sizeof a)], *p = prefix_find(t, client);

	if (p != NULL)
		return p;
	p = calloc(1, sizeof *p);
	if (p == NULL)
		return NULL;
	p->addr = a;
	p->chain = *head;
	*head = p;
	return p;
}

static void
prefix_leave(struct table *t, struct hs *h, uint64_t per_prefix)
{
	struct prefix *p = h->prefix, **at;

	if (h->state == HS_WAITING)
		LINE_DEL(&p->waits, h, kin);
	else
		LINE_DEL(&p->line, h, kin);
	h->prefix = NULL;
	if (p->waits.count == 0)
		turn_leave(t, p);
	turn_take(t, p, per_prefix);
	if (p->line.count + p->waits.count > 0)
		return;
	for (at = &t->prefixes[hash(t, &p->addr, sizeof p->addr)]; *at != p; at = &(*at)->chain)
		;
	*at = p->chain;
	free(p);
}

/* ---- handshakes --------------------------------------------------------------------------------- */

static void
enlist(struct table *t, struct hs *h, enum hs_state state)
{
	h->state = (uint8_t)state;
	if (state == HS_WAITING)
		LINE_ADD(&h->prefix->waits, h, kin);
	else
		LINE_ADD(&h->prefix->line, h, kin);
	LINE_ADD(&t->line[state], h, age);
}

bool
table_add(struct table *t, struct hs *h, enum hs_state state, uint64_t per_prefix)
{
	struct hs **head = bucket_of(t, &h->who);

	h->prefix = prefix_take(t, &h->who.client);
	if (h->prefix == NULL)
		return false;
	enlist(t, h, state);
	turn_take(t, h->prefix, per_prefix);
	h->chain = *head;
	*head = h;
	return true;
}

bool
table_has_room(struct table *t, const struct addr *client, uint64_t per_prefix, uint64_t total)
{
	const struct prefix *p = prefix_find(t, client);

	return t->line[HS_HALF].count < total && t->next == NULL &&
	    (p == NULL || (p->line.count < per_prefix && p->waits.count == 0));
}

struct hs *
table_next(struct table *t, uint64_t per_prefix, uint64_t total)
{
	struct prefix *p = t->next;
	struct hs *h;

	if (p == NULL || t->line[HS_HALF].count >= total)
		return NULL;
	h = p->waits.oldest;
	turn_leave(t, p);
	LINE_DEL(&p->waits, h, kin);
	LINE_DEL(&t->line[HS_WAITING], h, age);
	enlist(t, h, HS_HALF);
	turn_take(t, p, per_prefix);
	return h;
}

void
table_untaken(struct table *t, struct hs *h, uint64_t per_prefix)
{
	prefix_leave(t, h, per_prefix);
	LINE_DEL(&t->line[HS_HALF], h, age);
	h->state = HS_UNTAKEN;
	LINE_ADD(&t->line[HS_UNTAKEN], h, age);
}

void
table_del(struct table *t, struct hs *h, uint64_t per_prefix)
{
	struct hs **at = bucket_of(t, &h->who);

	while (*at != h)
		at = &(*at)->chain;
	*at = h->chain;
	if (h->prefix != NULL)
		prefix_leave(t, h, per_prefix);
	LINE_DEL(&t->line[h->state], h, age);
}

bool
table_prefix_is_full(const struct hs *h, uint64_t per_prefix)
{
	return h->prefix->line.count >= per_prefix;
}
