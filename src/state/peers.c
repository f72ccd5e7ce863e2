/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * peers.c: all permissions and channels of a session, in the slot and in its chain: listing and sweeping.
 */
#include "config.h"

#include "state_int.h"

static void
report4(const struct perm4 *p, unsigned perms, const struct chan4 *c, unsigned chans, peer_each_h *cb,
    void *arg)
{
	struct addr a;

	for (unsigned i = 0; i < perms; i++)
		if (p[i].expiry != 0) {
			addr_from4(&a, p[i].ip, 0);
			cb(arg, &a, 0, p[i].expiry);
		}
	for (unsigned i = 0; i < chans; i++)
		if (c[i].number != 0) {
			addr_from4(&a, c[i].ip, c[i].port);
			cb(arg, &a, c[i].number, c[i].expiry);
		}
}

static void
report6(const struct block *b, peer_each_h *cb, void *arg)
{
	struct addr a;

	for (unsigned i = 0; b->kind == BLOCK_PERM6 && i < BLOCK_PERM6S; i++)
		if (b->perm6[i].expiry != 0) {
			addr_from6(&a, b->perm6[i].ip, 0);
			cb(arg, &a, 0, b->perm6[i].expiry);
		}
	for (unsigned i = 0; b->kind == BLOCK_CHAN6 && i < BLOCK_CHAN6S; i++)
		if (b->chan6[i].number != 0) {
			addr_from6(&a, b->chan6[i].ip, b->chan6[i].port);
			cb(arg, &a, b->chan6[i].number, b->chan6[i].expiry);
		}
}

void
peers_each(const struct shard *s, const struct session *x, peer_each_h *cb, void *arg)
{
	uint32_t link = x->more;
	struct block b;

	report4(x->perm_a, 2, x->chan, SESSION_CHAN4, cb, arg);
	report4(x->perm_b, SESSION_PERM4 - 2, NULL, 0, cb, arg);
	for (unsigned i = 0; i < CHAIN_MAX && block_read(s, link, x->gen, &b); i++) {
		if (b.kind == BLOCK_PERM4)
			report4(b.perm4, BLOCK_PERM4S, NULL, 0, cb, arg);
		else if (b.kind == BLOCK_CHAN4)
			report4(NULL, 0, b.chan4, BLOCK_CHAN4S, cb, arg);
		else
			report6(&b, cb, arg);
		link = b.next;
	}
}

struct each {
	peer_each_h *cb;
	void *arg;
	tp_ms now;
};

static void
each_in_force(void *arg, const struct addr *peer, uint16_t channel, uint32_t expiry)
{
	struct each *e = arg;

	if (in_force(expiry, e->now))
		e->cb(e->arg, peer, channel, expiry);
}

void
session_each_peer(const struct shard *s, const struct session *x, tp_ms now, peer_each_h *cb, void *arg)
{
	struct each e = { .cb = cb, .arg = arg, .now = now };

	peers_each(s, x, each_in_force, &e);
}

/* Longer than any lifetime that this server grants: damage. */
static bool
is_over(uint32_t expiry, tp_ms now)
{
	return !in_force(expiry, now) || expiry > TP_SEC_UP(now) + CHANNEL_LIFETIME + 1;
}

/* Frees an entry that is over.  True when it is free afterwards. */
static bool
sweep_perm(uint32_t *expiry, tp_ms now, unsigned *count)
{
	if (*expiry != 0 && is_over(*expiry, now)) {
		store32(expiry, 0);
		CRASH_POINT("sweep:perm");
	}
	*count += *expiry != 0;
	return *expiry == 0;
}

static bool
sweep_chan(uint16_t *number, uint32_t *expiry, tp_ms now, unsigned *count)
{
	if (*number != 0 && (is_over(*expiry, now) || *number < 0x4000 || *number > 0x7fff)) {
		store16(number, 0);
		CRASH_POINT("sweep:chan");
		*expiry = 0;
	}
	*count += *number != 0;
	return *number == 0;
}

/* True when the block is empty. */
static bool
sweep_block(struct block *b, tp_ms now, unsigned *perms, unsigned *chans)
{
	bool empty = true;

	for (unsigned i = 0; b->kind == BLOCK_PERM4 && i < BLOCK_PERM4S; i++)
		empty &= sweep_perm(&b->perm4[i].expiry, now, perms);
	for (unsigned i = 0; b->kind == BLOCK_PERM6 && i < BLOCK_PERM6S; i++)
		empty &= sweep_perm(&b->perm6[i].expiry, now, perms);
	for (unsigned i = 0; b->kind == BLOCK_CHAN4 && i < BLOCK_CHAN4S; i++)
		empty &= sweep_chan(&b->chan4[i].number, &b->chan4[i].expiry, now, chans);
	for (unsigned i = 0; b->kind == BLOCK_CHAN6 && i < BLOCK_CHAN6S; i++)
		empty &= sweep_chan(&b->chan6[i].number, &b->chan6[i].expiry, now, chans);
	return empty;
}

void
peers_sweep(struct shard *s, struct session *x, tp_ms now)
{
	unsigned perms = 0, chans = 0;
	uint32_t *from = &x->more;
	struct block *b;
	bool mine;

	mine = change_begin(x);
	for (unsigned i = 0; i < SESSION_PERM4; i++)
		sweep_perm(&perm_inline(x, i)->expiry, now, &perms);
	for (unsigned i = 0; i < SESSION_CHAN4; i++)
		sweep_chan(&x->chan[i].number, &x->chan[i].expiry, now, &chans);
	for (unsigned i = 0; i < CHAIN_MAX && (b = block_of(s, x, *from)) != NULL; i++) {
		if (!sweep_block(b, now, &perms, &chans)) {
			from = &b->next;
			continue;
		}
		store32(from, b->next);
		CRASH_POINT("sweep:block unlinked");
		block_give(s, b);
	}
	x->perm_count = (uint16_t)perms;
	x->chan_count = (uint16_t)chans;
	change_end(x, mine);
}
