/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * chan.c: channels of one session (RFC 8656 12), and dropping a peer.
 *
 * An entry whose number is 0 is free; the number is stored last and taken away first.
 */
#include "config.h"

#include <errno.h>

#include "state_int.h"

bool
chan_peer(const struct shard *s, const struct session *x, uint16_t number, tp_ms now, struct addr *peer)
{
	const struct block *b;

	if (number == 0)
		return false;
	for (unsigned i = 0; i < SESSION_CHAN4; i++) {
		const struct chan4 *c = &x->chan[i];

		if (c->number == number && in_force(c->expiry, now)) {
			addr_from4(peer, c->ip, c->port);
			return true;
		}
	}
	CHAIN_EACH(b, s, x)
	{
		for (unsigned i = 0; b->kind == BLOCK_CHAN4 && i < BLOCK_CHAN4S; i++)
			if (b->chan4[i].number == number && in_force(b->chan4[i].expiry, now)) {
				addr_from4(peer, b->chan4[i].ip, b->chan4[i].port);
				return true;
			}
		for (unsigned i = 0; b->kind == BLOCK_CHAN6 && i < BLOCK_CHAN6S; i++)
			if (b->chan6[i].number == number && in_force(b->chan6[i].expiry, now)) {
				addr_from6(peer, b->chan6[i].ip, b->chan6[i].port);
				return true;
			}
	}
	return false;
}

static uint16_t
number4(const struct shard *s, const struct session *x, uint32_t ip, uint16_t port, tp_ms now)
{
	const struct block *b;

	for (unsigned i = 0; i < SESSION_CHAN4; i++) {
		const struct chan4 *c = &x->chan[i];

		if (c->ip == ip && c->port == port && c->number != 0 && in_force(c->expiry, now))
			return c->number;
	}
	CHAIN_EACH(b, s, x)
	for (unsigned i = 0; b->kind == BLOCK_CHAN4 && i < BLOCK_CHAN4S; i++) {
		const struct chan4 *c = &b->chan4[i];

		if (c->ip == ip && c->port == port && c->number != 0 && in_force(c->expiry, now))
			return c->number;
	}
	return 0;
}

uint16_t
chan_number(const struct shard *s, const struct session *x, const struct addr *peer, tp_ms now)
{
	const struct block *b;

	if (peer->family == ADDR_V4)
		return number4(s, x, addr_ip4(peer), peer->port, now);
	if (peer->family != ADDR_V6)
		return 0;
	CHAIN_EACH(b, s, x)
	for (unsigned i = 0; b->kind == BLOCK_CHAN6 && i < BLOCK_CHAN6S; i++) {
		const struct chan6 *c = &b->chan6[i];

		if (c->port == peer->port && memcmp(c->ip, peer->ip, 16) == 0 && c->number != 0 &&
		    in_force(c->expiry, now))
			return c->number;
	}
	return 0;
}

/* What one walk over all channels finds. */
struct found {
	struct chan4 *room4;
	struct chan6 *room6;
	uint32_t *same; /* expiry of the binding of this number to this peer */
	bool clash;     /* one in force has the number or the peer, but not both */
	unsigned in_force;
};

static void
see(struct found *f, uint16_t number, uint32_t *expiry, bool same_number, bool same_peer, tp_ms now)
{
	if (number == 0)
		return;
	if (same_number && same_peer)
		f->same = expiry;
	if (!in_force(*expiry, now))
		return;
	f->in_force++;
	f->clash |= same_number != same_peer;
}

static void
see4(struct found *f, struct chan4 *c, uint16_t number, const struct addr *peer, tp_ms now)
{
	bool same_peer = peer->family == ADDR_V4 && c->ip == addr_ip4(peer) && c->port == peer->port;

	if (f->room4 == NULL && (c->number == 0 || !in_force(c->expiry, now)))
		f->room4 = c;
	see(f, c->number, &c->expiry, c->number == number, same_peer, now);
}

static void
see6(struct found *f, struct chan6 *c, uint16_t number, const struct addr *peer, tp_ms now)
{
	bool same_peer = peer->family == ADDR_V6 && c->port == peer->port &&
	    memcmp(c->ip, peer->ip, 16) == 0;

	if (f->room6 == NULL && (c->number == 0 || !in_force(c->expiry, now)))
		f->room6 = c;
	see(f, c->number, &c->expiry, c->number == number, same_peer, now);
}

static struct found
find(struct shard *s, struct session *x, uint16_t number, const struct addr *peer, tp_ms now)
{
	struct found f = { 0 };
	struct block *b;

	for (unsigned i = 0; i < SESSION_CHAN4; i++)
		see4(&f, &x->chan[i], number, peer, now);
	CHAIN_EACH(b, s, x)
	{
		for (unsigned i = 0; b->kind == BLOCK_CHAN4 && i < BLOCK_CHAN4S; i++)
			see4(&f, &b->chan4[i], number, peer, now);
		for (unsigned i = 0; b->kind == BLOCK_CHAN6 && i < BLOCK_CHAN6S; i++)
			see6(&f, &b->chan6[i], number, peer, now);
	}
	return f;
}

/* Frees an entry; the number goes first. */
static void
clear(struct session *x, uint16_t *number, uint32_t *expiry)
{
	store16(number, 0);
	CRASH_POINT("chan:cleared");
	*expiry = 0;
	if (x->chan_count > 0)
		x->chan_count--;
}

static int
install(struct shard *s, struct session *x, uint16_t number, const struct addr *peer, struct found *f,
    uint32_t expiry)
{
	bool v4 = peer->family == ADDR_V4;
	struct block *b = NULL;
	struct chan4 *c4 = f->room4;
	struct chan6 *c6 = f->room6;
	uint16_t *at;

	if (v4 ? c4 == NULL : c6 == NULL) {
		b = block_take(s, x, v4 ? BLOCK_CHAN4 : BLOCK_CHAN6);
		if (b == NULL)
			return -ENOSPC;
		c4 = &b->chan4[0];
		c6 = &b->chan6[0];
	}
	at = v4 ? &c4->number : &c6->number;
	if (*at != 0)
		clear(x, at, v4 ? &c4->expiry : &c6->expiry);
	if (v4)
		*c4 = (struct chan4){ .ip = addr_ip4(peer), .port = peer->port, .expiry = expiry };
	else {
		memcpy(c6->ip, peer->ip, 16);
		c6->port = peer->port;
		c6->expiry = expiry;
	}
	CRASH_POINT("chan:filled");
	store16(at, number);
	CRASH_POINT("chan:stored");
	if (b != NULL)
		block_link(s, x, b);
	CRASH_POINT("chan:linked");
	x->chan_count++;
	return 0;
}

/* Expired bindings of the number or the peer must go, or they would come back to life beside the new one
 * if it were refreshed first: only one entry may ever carry a number or a peer. */
static void
clear_expired(struct shard *s, struct session *x, uint16_t number, const struct addr *peer, tp_ms now)
{
	bool v4 = peer->family == ADDR_V4;
	struct block *b;

	for (unsigned i = 0; i < SESSION_CHAN4; i++) {
		struct chan4 *c = &x->chan[i];

		if (c->number != 0 && !in_force(c->expiry, now) &&
		    (c->number == number || (v4 && c->ip == addr_ip4(peer) && c->port == peer->port)))
			clear(x, &c->number, &c->expiry);
	}
	CHAIN_EACH(b, s, x)
	{
		for (unsigned i = 0; b->kind == BLOCK_CHAN4 && i < BLOCK_CHAN4S; i++) {
			struct chan4 *c = &b->chan4[i];

			if (c->number != 0 && !in_force(c->expiry, now) &&
			    (c->number == number ||
				(v4 && c->ip == addr_ip4(peer) && c->port == peer->port)))
				clear(x, &c->number, &c->expiry);
		}
		for (unsigned i = 0; b->kind == BLOCK_CHAN6 && i < BLOCK_CHAN6S; i++) {
			struct chan6 *c = &b->chan6[i];

			if (c->number != 0 && !in_force(c->expiry, now) &&
			    (c->number == number ||
				(!v4 && c->port == peer->port && memcmp(c->ip, peer->ip, 16) == 0)))
				clear(x, &c->number, &c->expiry);
		}
	}
}

int
chan_bind(
    struct shard *s, struct session *x, uint16_t number, const struct addr *peer, tp_ms now, unsigned max)
{
	uint32_t expiry = TP_SEC_UP(now + CHANNEL_LIFETIME * 1000u);
	struct found f;
	bool mine;
	int r = 0;

	if (number == 0 || (peer->family != ADDR_V4 && peer->family != ADDR_V6))
		return -EINVAL;
	f = find(s, x, number, peer, now);
	if (f.clash)
		return -EEXIST;
	if ((f.same == NULL || !in_force(*f.same, now)) && f.in_force >= max)
		return -ENOSPC;
	mine = change_begin(x);
	if (f.same != NULL && in_force(*f.same, now)) {
		if (*f.same < expiry)
			store32(f.same, expiry);
	} else {
		clear_expired(s, x, number, peer, now);
		r = install(s, x, number, peer, &f, expiry);
	}
	change_end(x, mine);
	return r;
}

static void
drop_perm(struct session *x, uint32_t *expiry)
{
	store32(expiry, 0);
	CRASH_POINT("perm:dropped");
	if (x->perm_count > 0)
		x->perm_count--;
}

static void
drop4(struct shard *s, struct session *x, uint32_t ip)
{
	struct block *b;

	/* Channels before permissions: no channel without its permission, wherever this ends. */
	for (unsigned i = 0; i < SESSION_CHAN4; i++)
		if (x->chan[i].number != 0 && x->chan[i].ip == ip)
			clear(x, &x->chan[i].number, &x->chan[i].expiry);
	CHAIN_EACH(b, s, x)
	for (unsigned i = 0; b->kind == BLOCK_CHAN4 && i < BLOCK_CHAN4S; i++)
		if (b->chan4[i].number != 0 && b->chan4[i].ip == ip)
			clear(x, &b->chan4[i].number, &b->chan4[i].expiry);
	for (unsigned i = 0; i < SESSION_PERM4; i++)
		if (perm_inline(x, i)->expiry != 0 && perm_inline(x, i)->ip == ip)
			drop_perm(x, &perm_inline(x, i)->expiry);
	CHAIN_EACH(b, s, x)
	for (unsigned i = 0; b->kind == BLOCK_PERM4 && i < BLOCK_PERM4S; i++)
		if (b->perm4[i].expiry != 0 && b->perm4[i].ip == ip)
			drop_perm(x, &b->perm4[i].expiry);
}

static void
drop6(struct shard *s, struct session *x, const uint8_t ip[16])
{
	struct block *b;

	CHAIN_EACH(b, s, x)
	for (unsigned i = 0; b->kind == BLOCK_CHAN6 && i < BLOCK_CHAN6S; i++)
		if (b->chan6[i].number != 0 && memcmp(b->chan6[i].ip, ip, 16) == 0)
			clear(x, &b->chan6[i].number, &b->chan6[i].expiry);
	CHAIN_EACH(b, s, x)
	for (unsigned i = 0; b->kind == BLOCK_PERM6 && i < BLOCK_PERM6S; i++)
		if (b->perm6[i].expiry != 0 && memcmp(b->perm6[i].ip, ip, 16) == 0)
			drop_perm(x, &b->perm6[i].expiry);
}

void
perm_drop(struct shard *s, struct session *x, const struct addr *peer)
{
	bool mine = change_begin(x);

	if (peer->family == ADDR_V4)
		drop4(s, x, addr_ip4(peer));
	else if (peer->family == ADDR_V6)
		drop6(s, x, peer->ip);
	change_end(x, mine);
}
