/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * perm.c: permissions of one session (RFC 8656 9).
 *
 * Six IPv4 addresses are in the slot, more and IPv6 in chained blocks.  An entry whose expiry is 0 is
 * free; an IPv4 entry is stored as one word, an IPv6 one with its expiry last: it is there or not.  An
 * odd expiry says that the port matters; builds that do not know this see seconds.
 */
#include "config.h"

#include <errno.h>

#include "state_int.h"

static void
perm4_store(struct perm4 *p, uint32_t ip, uint32_t expiry)
{
	struct perm4 v = { .ip = ip, .expiry = expiry };
	uint64_t word;

	memcpy(&word, &v, sizeof word);
	atomic_store_explicit((_Atomic uint64_t *)(void *)p, word, memory_order_release);
}

static enum perm_kind
kind_of(uint32_t expiry)
{
	return perm_has_port(expiry) ? PERM_PORT : PERM_ADDRESS;
}

static uint32_t
with_port(uint32_t expiry, bool port_matters)
{
	return perm_has_port(expiry) == port_matters ? expiry : expiry + 1;
}

static enum perm_kind
has4(const struct shard *s, const struct session *x, uint32_t ip, tp_ms now)
{
	const struct block *b;

	for (unsigned i = 0; i < 2; i++)
		if (x->perm_a[i].ip == ip && in_force(x->perm_a[i].expiry, now))
			return kind_of(x->perm_a[i].expiry);
	for (unsigned i = 0; i < SESSION_PERM4 - 2; i++)
		if (x->perm_b[i].ip == ip && in_force(x->perm_b[i].expiry, now))
			return kind_of(x->perm_b[i].expiry);
	CHAIN_EACH(b, s, x)
	for (unsigned i = 0; b->kind == BLOCK_PERM4 && i < BLOCK_PERM4S; i++)
		if (b->perm4[i].ip == ip && in_force(b->perm4[i].expiry, now))
			return kind_of(b->perm4[i].expiry);
	return PERM_NONE;
}

enum perm_kind
perm_has(const struct shard *s, const struct session *x, const struct addr *peer, tp_ms now)
{
	const struct block *b;

	if (peer->family == ADDR_V4)
		return has4(s, x, addr_ip4(peer), now);
	if (peer->family != ADDR_V6)
		return PERM_NONE;
	CHAIN_EACH(b, s, x)
	for (unsigned i = 0; b->kind == BLOCK_PERM6 && i < BLOCK_PERM6S; i++)
		if (memcmp(b->perm6[i].ip, peer->ip, 16) == 0 && in_force(b->perm6[i].expiry, now))
			return kind_of(b->perm6[i].expiry);
	return PERM_NONE;
}

/* What one walk over all permissions of a session finds for an address. */
struct found {
	struct perm4 *same4, *room4;
	struct perm6 *same6, *room6;
	unsigned in_force;       /* all families */
	unsigned rooms4, rooms6; /* free or expired entries */
};

static void
see4(struct found *f, struct perm4 *p, uint32_t ip, bool match, tp_ms now)
{
	if (in_force(p->expiry, now))
		f->in_force++;
	else
		f->rooms4++;
	if (match && p->expiry != 0 && p->ip == ip)
		f->same4 = p;
	else if (f->room4 == NULL && !in_force(p->expiry, now))
		f->room4 = p;
}

static void
see6(struct found *f, struct perm6 *p, const uint8_t ip[16], bool match, tp_ms now)
{
	if (in_force(p->expiry, now))
		f->in_force++;
	else
		f->rooms6++;
	if (match && p->expiry != 0 && memcmp(p->ip, ip, 16) == 0)
		f->same6 = p;
	else if (f->room6 == NULL && !in_force(p->expiry, now))
		f->room6 = p;
}

static struct found
find(const struct shard *s, struct session *x, const struct addr *peer, tp_ms now)
{
	struct found f = { 0 };
	bool v4 = peer->family == ADDR_V4;
	uint32_t ip = addr_ip4(peer);
	struct block *b;

	for (unsigned i = 0; i < SESSION_PERM4; i++)
		see4(&f, perm_inline(x, i), ip, v4, now);
	CHAIN_EACH(b, s, x)
	{
		for (unsigned i = 0; b->kind == BLOCK_PERM4 && i < BLOCK_PERM4S; i++)
			see4(&f, &b->perm4[i], ip, v4, now);
		for (unsigned i = 0; b->kind == BLOCK_PERM6 && i < BLOCK_PERM6S; i++)
			see6(&f, &b->perm6[i], peer->ip, !v4, now);
	}
	return f;
}

static void
store6(struct perm6 *p, const struct addr *peer, uint32_t expiry)
{
	store32(&p->expiry, 0);
	CRASH_POINT("perm:taken");
	memcpy(p->ip, peer->ip, 16);
	CRASH_POINT("perm:filled");
	store32(&p->expiry, expiry);
}

/* An entry that is free or expired: does it count in perm_count already? */
static int
install(struct shard *s, struct session *x, const struct addr *peer, const struct found *f, uint32_t expiry)
{
	bool v4 = peer->family == ADDR_V4;
	struct block *b = NULL;
	uint32_t old = 0;

	if (v4 ? f->room4 == NULL : f->room6 == NULL) {
		b = block_take(s, x, v4 ? BLOCK_PERM4 : BLOCK_PERM6);
		if (b == NULL)
			return -ENOSPC;
	}
	if (v4) {
		struct perm4 *p = b != NULL ? &b->perm4[0] : f->room4;

		old = p->expiry;
		perm4_store(p, addr_ip4(peer), expiry);
	} else {
		struct perm6 *p = b != NULL ? &b->perm6[0] : f->room6;

		old = p->expiry;
		store6(p, peer, expiry);
	}
	CRASH_POINT("perm:stored");
	if (b != NULL)
		block_link(s, x, b);
	CRASH_POINT("perm:linked");
	if (old == 0)
		x->perm_count++;
	return 0;
}

static uint32_t *
expiry_of(const struct found *f)
{
	return f->same4 != NULL ? &f->same4->expiry : f->same6 != NULL ? &f->same6->expiry : NULL;
}

int
perm_set(
    struct shard *s, struct session *x, const struct addr *peer, bool port_matters, tp_ms now, unsigned max)
{
	uint32_t expiry = with_port(TP_SEC_UP(now + PERMISSION_LIFETIME * 1000u), port_matters), *at;
	struct found f;
	bool mine;
	int r = 0;

	if (peer->family != ADDR_V4 && peer->family != ADDR_V6)
		return -EAFNOSUPPORT;
	f = find(s, x, peer, now);
	at = expiry_of(&f);
	if ((at == NULL || !in_force(*at, now)) && f.in_force >= max)
		return -ENOSPC;
	mine = change_begin(x);
	if (at == NULL)
		r = install(s, x, peer, &f, expiry);
	else
		store32(at, *at < expiry ? expiry : with_port(*at, port_matters));
	change_end(x, mine);
	return r;
}

void
perm_mark(struct shard *s, struct session *x, const struct addr *peer, bool port_matters)
{
	struct found f = find(s, x, peer, 0);
	uint32_t *at = expiry_of(&f);
	bool mine = change_begin(x);

	if (at != NULL)
		store32(at, with_port(*at, port_matters));
	change_end(x, mine);
}

bool
perm_fits(const struct shard *s, const struct session *x, const struct addr *peers, unsigned n, tp_ms now,
    unsigned max)
{
	/* find() only looks. */
	struct found f = find(s, (struct session *)(uintptr_t)x, &(struct addr){ 0 }, now);
	uint32_t new4 = 0, new6 = 0, blocks = 0;

	for (unsigned i = 0; i < n; i++) {
		bool seen = perm_has(s, x, &peers[i], now) != PERM_NONE;

		for (unsigned j = 0; j < i && !seen; j++)
			seen = addr_ip_eq(&peers[i], &peers[j]);
		if (!seen)
			*(peers[i].family == ADDR_V4 ? &new4 : &new6) += 1;
	}
	if (new4 > f.rooms4)
		blocks += (new4 - f.rooms4 + BLOCK_PERM4S - 1) / BLOCK_PERM4S;
	if (new6 > f.rooms6)
		blocks += (new6 - f.rooms6 + BLOCK_PERM6S - 1) / BLOCK_PERM6S;
	return (uint64_t)f.in_force + new4 + new6 <= max && blocks <= block_chain_room(s);
}
