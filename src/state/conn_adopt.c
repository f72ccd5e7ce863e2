/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conn_adopt.c: connections of a predecessor: validated, their rings owned once, the free lists derived
 * again; and the audit of the same.  What the kernel must be asked (how far the stream really is) is the
 * worker's.
 */
#include "config.h"

#include <sodium.h>
#include <stdlib.h>

#include "state_int.h"

/* A link that no free list has: the ring is in use. */
#define RING_USED UINT32_MAX

static bool
is_ring_sane(const struct shard *s, const struct ring_ref *r, uint64_t tail, uint64_t head)
{
	if (tail > head)
		return false;
	if (r->ring == 0)
		return tail == head;
	return r->ring <= ring_high(s) && r->base <= tail && head - r->base <= RING_BYTES;
}

/* NULL, or what is wrong.  `stable`: no process writes. */
static const char *
check(const struct shard *s, const struct conn *c)
{
	const struct conn_rec *r;

	if (c->gen == 0)
		return "generation";
	if (!transport_is_valid(c->transport) || c->transport == TRANSPORT_UDP)
		return "transport";
	if (c->client.family != ADDR_V4 && c->client.family != ADDR_V6)
		return "client address";
	if ((c->fd < 0) != (c->transport == TRANSPORT_DTLS))
		return "descriptor";
	if (c->transport == TRANSPORT_DTLS)
		return NULL;
	r = conn_now(c);
	if (r->flags >= CONN_FLAGS)
		return "flags";
	if (!is_ring_sane(s, &r->in, r->in_parsed, c->in_recv) ||
	    !is_ring_sane(s, &r->out, c->out_sent, r->out_head) ||
	    !is_ring_sane(s, &r->plain, r->plain_parsed, r->plain_head))
		return "rings";
	return NULL;
}

static bool
claim(struct shard *s, uint32_t ring)
{
	if (ring == 0)
		return true;
	if (s->ring_links[ring - 1] == RING_USED)
		return false;
	s->ring_links[ring - 1] = RING_USED;
	return true;
}

static bool
claim_all(struct shard *s, const struct conn *c)
{
	if (c->transport == TRANSPORT_DTLS)
		return true;
	const struct conn_rec *r = conn_now(c);
	bool in = claim(s, r->in.ring), plain = claim(s, r->plain.ring), out = claim(s, r->out.ring);

	return in && plain && out; /* what two claim is lost to both: see conn_adopt_all */
}

/* Nothing that counts was committed yet: the handshake's end sets all of it. */
static void
reset_shaking(struct conn *c)
{
	for (unsigned i = 0; i < 2; i++) {
		struct conn_rec *r = &conn_recs(c)[i];
		uint32_t flags = r->flags & ~(uint32_t)CONN_SEALED;

		memset(r, 0, sizeof *r);
		r->flags = flags;
	}
	c->in_recv = c->out_sent = 0;
}

/* Without lists: those are made afterwards. */
static void
scrub(struct shard *s, struct conn *c)
{
	atomic_store_explicit(&c->state, CONN_FREE, memory_order_release);
	CRASH_POINT("conn:adopt free");
	conn_wipe(s, c);
	memset((uint8_t *)c + offsetof(struct conn, fd), 0, sizeof *c - offsetof(struct conn, fd));
}

void
conn_adopt_all(struct shard *s)
{
	uint32_t high = conn_high(s), rings = ring_high(s), free = 0;

	for (uint32_t i = 0; i < rings; i++)
		s->ring_links[i] = 0;
	s->head->conn_free = s->head->ring_free = 0;
	CRASH_POINT("conn:adopt");
	for (uint32_t i = high; i-- > 0;) {
		struct conn *c = conn_peek(s, i);
		uint32_t state = atomic_load_explicit(&c->state, memory_order_acquire);
		if (state == CONN_SHAKING && c->transport != TRANSPORT_DTLS)
			reset_shaking(c);
		bool kept = (state == CONN_OPEN || state == CONN_SHAKING) && check(s, c) == NULL &&
		    claim_all(s, c);

		if (kept) {
			c->wait = c->touched = 0;
			c->armed = c->stalled = 0;
			continue;
		}
		if (state != CONN_FREE || c->fd != 0)
			scrub(s, c);
		c->next = free;
		free = i + 1;
	}
	s->head->conn_free = free;
	CRASH_POINT("conn:adopt slots");
	s->ring_used = 0;
	for (uint32_t i = rings; i-- > 0;) {
		if (s->ring_links[i] == RING_USED) {
			s->ring_used++;
			continue;
		}
		s->ring_links[i] = s->head->ring_free;
		s->head->ring_free = i + 1;
	}
	CRASH_POINT("conn:adopt rings");
}

/* ---- audit, while no process writes -------------------------------------------------------------- */

static void
audit_ring(struct audit *a, const struct shard *s, uint8_t *seen, uint32_t ring, uint32_t *used)
{
	if (ring == 0)
		return;
	if (ring > ring_high(s) || seen[ring - 1])
		audit_breach(a, "shard %u: ring %u has two owners or none", s->index, ring);
	else
		seen[ring - 1] = 1;
	(*used)++;
}

void
audit_conns(struct audit *a, const struct shard *s)
{
	uint32_t high = conn_high(s), rings = ring_high(s), used = 0, in_use = 0, n = 0, link;
	uint8_t *seen = calloc(rings + 1u, 1);

	if (seen == NULL) {
		audit_breach(a, "shard %u: no memory to audit its connections", s->index);
		return;
	}
	for (uint32_t i = 0; i < high; i++) {
		const struct conn *c = conn_peek(s, i);
		uint32_t state = atomic_load_explicit(
		    &((struct conn *)(uintptr_t)c)->state, memory_order_acquire);
		const char *why = state >= CONN_SHAKING ? check(s, c) : NULL;

		if (state == CONN_FILLING || state > CONN_OPEN || why != NULL)
			audit_breach(a, "shard %u connection %u: %s", s->index, i,
			    why != NULL ? why : "left half filled");
		if (state < CONN_SHAKING || why != NULL)
			continue;
		in_use++;
		if (c->transport == TRANSPORT_DTLS)
			continue;
		audit_ring(a, s, seen, conn_now(c)->in.ring, &used);
		audit_ring(a, s, seen, conn_now(c)->plain.ring, &used);
		audit_ring(a, s, seen, conn_now(c)->out.ring, &used);
	}
	for (link = peek32(&s->head->conn_free); link != 0 && link <= high && n <= high; n++)
		link = peek32(&conn_peek(s, link - 1)->next);
	if (link != 0 || n + in_use != high)
		audit_breach(a, "shard %u: %u connections, %u in use, %u free", s->index, high, in_use, n);
	n = 0;
	for (link = peek32(&s->head->ring_free); link != 0 && link <= rings && n <= rings; n++)
		link = peek32(&s->ring_links[link - 1]);
	if (link != 0 || n + used != rings)
		audit_breach(a, "shard %u: %u rings, %u in use, %u free", s->index, rings, used, n);
	free(seen);
}
