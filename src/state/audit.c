/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * audit.c: do the invariants hold?  Sessions, index, chains and free lists of each shard.
 *
 * Reads regions that others write, hostile ones perhaps: everything is copied, then checked; every walk is
 * bounded by a number of ours.  Without `still` a finding counts only if its session did not change
 * meanwhile.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>

#include "state_int.h"

#define PEERS_MAX 8192

struct peer_row {
	struct addr peer;
	uint16_t channel;
};

/* One shard being audited. */
struct view {
	struct audit *a;
	const struct shard *s;
	uint32_t high, blocks;
	uint8_t *seen; /* bit per block: reached */
	uint64_t reached;
	uint32_t slots[SESSION_TAKING + 1]; /* by state */
	struct peer_row *peers;             /* of one session */
	unsigned perms, chans, n;
};

void
audit_breach(struct audit *a, const char *fmt, ...)
{
	char text[240];
	va_list ap;

	a->breaches++;
	if (a->cb == NULL)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	a->cb(a->arg, text);
}

static uint32_t
state_of(const struct shard *s, uint32_t slot)
{
	return atomic_load_explicit(&s->slots[slot].state, memory_order_acquire);
}

/* Has the session stayed as it was copied? */
static bool
is_same(const struct view *v, const struct session *x, uint32_t slot)
{
	struct session now;

	if (v->a->still)
		return true;
	atomic_thread_fence(memory_order_acquire);
	return session_read(v->s, slot, &now) && now.gen == x->gen &&
	    atomic_load_explicit(&now.seq, memory_order_relaxed) ==
	    atomic_load_explicit(&x->seq, memory_order_relaxed);
}

/* True when this block is reached for the first time. */
static bool
mark(struct view *v, uint32_t link)
{
	uint8_t bit = (uint8_t)(1u << ((link - 1) % 8)), *at = &v->seen[(link - 1) / 8];

	if (link > v->blocks || (*at & bit))
		return false;
	*at |= bit;
	v->reached++;
	return true;
}

static bool
is_chain_sound(struct view *v, const struct session *x, uint32_t slot)
{
	uint32_t link = x->more;
	struct block b;

	for (unsigned i = 0; link != 0; i++) {
		if (i == CHAIN_MAX || !block_read(v->s, link, x->gen, &b) || b.owner != slot + 1 ||
		    b.kind == BLOCK_BUCKET || (!mark(v, link) && v->a->still))
			return false;
		link = b.next;
	}
	link = x->bucket;
	return link == 0 ||
	    (block_read(v->s, link, x->gen, &b) && b.owner == slot + 1 && b.kind == BLOCK_BUCKET &&
		(mark(v, link) || !v->a->still));
}

static void
collect(void *arg, const struct addr *peer, uint16_t channel, uint32_t expiry)
{
	struct view *v = arg;

	(void)expiry;
	*(channel != 0 ? &v->chans : &v->perms) += 1;
	if (v->n < PEERS_MAX)
		v->peers[v->n++] = (struct peer_row){ .peer = *peer, .channel = channel };
}

static int
by_peer(const void *l, const void *r)
{
	const struct peer_row *a = l, *b = r;

	if ((a->channel != 0) != (b->channel != 0))
		return a->channel != 0 ? 1 : -1;
	return memcmp(&a->peer, &b->peer, sizeof a->peer);
}

static int
by_channel(const void *l, const void *r)
{
	return (int)((const struct peer_row *)l)->channel - (int)((const struct peer_row *)r)->channel;
}

/* NULL, or what is wrong. */
static const char *
check_peers(struct view *v, const struct session *x)
{
	const char *why = NULL;

	v->n = v->perms = v->chans = 0;
	peers_each(v->s, x, collect, v);
	qsort(v->peers, v->n, sizeof *v->peers, by_peer);
	for (unsigned i = 1; i < v->n; i++)
		if (by_peer(&v->peers[i - 1], &v->peers[i]) == 0)
			why = v->peers[i].channel != 0 ? "a peer has two channels"
						       : "a peer has two permissions";
	qsort(v->peers, v->n, sizeof *v->peers, by_channel);
	for (unsigned i = 1; i < v->n; i++)
		if (v->peers[i].channel != 0 && v->peers[i].channel == v->peers[i - 1].channel)
			why = "a channel has two peers";
	if (v->perms != x->perm_count || v->chans != x->chan_count)
		why = "counts of permissions or channels are wrong";
	return why;
}

static const char *
check_session(struct view *v, const struct session *x, uint32_t slot, bool live)
{
	if (x->gen == 0)
		return "generation 0";
	if (x->client.family != ADDR_V4 && x->client.family != ADDR_V6)
		return "no client address";
	if (live && !index_has(v->s, session_tag(v->s, x), slot))
		return "not found by its 5-tuple";
	if (live && x->conn != 0 && !conn_is_of((struct shard *)(uintptr_t)v->s, x))
		return "its connection is not there";
	if (live && (x->relay[0].family == 0 || x->relay[0].fd < 0))
		return "no relay socket";
	if (!is_chain_sound(v, x, slot))
		return "block chain is not sound";
	return check_peers(v, x);
}

static void
add_row(struct view *v, const struct session *x, uint32_t slot, bool live)
{
	struct audit *a = v->a;

	if (a->n == a->room)
		return;
	a->rows[a->n++] = (struct audit_row){ .user = x->user,
		.prefix = a->cross != NULL ? cross_prefix(a->cross, &x->client) : 0,
		.client = x->client,
		.relay = { x->relay[0], x->relay[1] },
		.shard = v->s->index,
		.slot = slot,
		.gen = x->gen,
		.transport = x->transport,
		.listener = x->listener,
		.live = live };
}

static void
audit_slot(struct view *v, uint32_t slot)
{
	uint32_t state = state_of(v->s, slot);
	struct session x;
	const char *why;

	if (state > SESSION_ENDING) {
		audit_breach(v->a, "shard %u slot %u: state %u", v->s->index, slot, state);
		return;
	}
	v->slots[state]++;
	if (state == SESSION_FILLING && v->a->still)
		audit_breach(v->a, "shard %u slot %u: left half filled", v->s->index, slot);
	if (state == SESSION_LIVE && !session_read(v->s, slot, &x)) {
		if (v->a->still)
			audit_breach(
			    v->a, "shard %u slot %u: left in the middle of a change", v->s->index, slot);
		return;
	}
	if (state == SESSION_ENDING && v->a->still)
		slot_copy(&x, &v->s->slots[slot]);
	else if (state != SESSION_LIVE)
		return;
	why = check_session(v, &x, slot, state == SESSION_LIVE);
	if (why != NULL && is_same(v, &x, slot))
		audit_breach(v->a, "shard %u slot %u: %s", v->s->index, slot, why);
	add_row(v, &x, slot, state == SESSION_LIVE);
}

static void
audit_lists(struct view *v)
{
	const struct shard *s = v->s;
	uint32_t link = peek32(&s->head->free), n = 0, live = v->slots[SESSION_LIVE];
	uint64_t blocks = 0;

	for (; link != 0 && link <= v->high && n <= v->high; n++) {
		if (state_of(s, link - 1) != SESSION_FREE)
			break;
		link = peek32(&s->slots[link - 1].more);
	}
	if (link != 0 || n != v->slots[SESSION_FREE])
		audit_breach(
		    v->a, "shard %u: free list has %u of %u slots", s->index, n, v->slots[SESSION_FREE]);
	for (link = peek32(&s->head->block_free); link != 0 && link <= v->blocks && blocks <= v->blocks;
	     blocks++) {
		if (peek32(&s->blocks[link - 1].owner) != 0 ||
		    (v->seen[(link - 1) / 8] >> ((link - 1) % 8)) & 1)
			break;
		link = peek32(&s->blocks[link - 1].next);
	}
	if (link != 0 || blocks + v->reached != v->blocks)
		audit_breach(v->a, "shard %u: %u blocks, %u in chains, %u in the free list", s->index,
		    v->blocks, (unsigned)v->reached, (unsigned)blocks);
	if (shard_live(s) != live || index_sum(s).count != live || s->head->index_count != live)
		audit_breach(v->a, "shard %u: %u live, %u counted, %u in the index", s->index, live,
		    shard_live(s), (unsigned)index_sum(s).count);
}

static void
audit_shard(struct audit *a, const struct shard *s)
{
	struct view v = { .a = a, .s = s, .high = shard_high(s), .blocks = shard_block_bump(s) };

	v.seen = calloc(v.blocks / 8 + 1, 1);
	v.peers = calloc(PEERS_MAX, sizeof *v.peers);
	if (v.seen == NULL || v.peers == NULL) {
		audit_breach(a, "shard %u: no memory to audit it", s->index);
		goto out;
	}
	for (uint32_t slot = 0; slot < v.high; slot++)
		audit_slot(&v, slot);
	if (a->still) {
		audit_lists(&v);
		audit_conns(a, s);
	}
out:
	free(v.seen);
	free(v.peers);
}

unsigned
state_audit(const struct cross *c, const struct shard *shards, unsigned n, bool still, tp_ms now,
    audit_breach_h *cb, void *arg)
{
	struct audit a = { .cross = c, .cb = cb, .arg = arg, .still = still, .now = now };

	/* Shards grow while they are read: room for what there is now and some more. */
	for (unsigned i = 0; i < n; i++)
		a.room += (size_t)shard_high(&shards[i]) + 1024;
	a.room += TOKENS;
	a.rows = calloc(a.room + 1, sizeof *a.rows);
	if (a.rows == NULL) {
		audit_breach(&a, "no memory to audit");
		return a.breaches;
	}
	for (unsigned i = 0; i < n; i++)
		audit_shard(&a, &shards[i]);
	audit_cross(&a, shards, n);
	free(a.rows);
	return a.breaches;
}
