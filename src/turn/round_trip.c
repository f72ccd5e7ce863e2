/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * round_trip.c: how long the ways to the client and to the peer take, from ICE connectivity checks that
 * pass through.
 *
 * A Binding request that goes out on one side comes back on it as a success response with the same
 * transaction id.  One transaction in eight is looked at, in a small table whose entries give way to the
 * next.  What a client makes up here shifts a distribution and nothing else.
 */
#include "config.h"

#include "turn_int.h"

#define SAMPLE_MASK     7 /* transaction ids whose last byte has none of these bits */
#define BINDING_REQUEST 0x0001
#define BINDING_SUCCESS 0x0101

static struct round_trip *
place(struct turn *t, const uint8_t *txid)
{
	return &t->trips[txid[10] % TP_COUNT(t->trips)];
}

void
round_trip_look(struct turn *t, bool up, const uint8_t *p, size_t len)
{
	uint16_t type;
	struct round_trip *r;

	if (len < STUN_HEADER || p[0] > 1 || p[1] != 1 || get_u32(p + 4) != STUN_COOKIE ||
	    (p[19] & SAMPLE_MASK) != 0)
		return;
	type = get_u16(p);
	r = place(t, p + 8);
	if (type == BINDING_REQUEST) {
		memcpy(r->txid, p + 8, sizeof r->txid);
		r->sent = t->now;
		r->up = up;
	} else if (type == BINDING_SUCCESS && r->sent != 0 && r->up != up &&
	    memcmp(r->txid, p + 8, sizeof r->txid) == 0) {
		/* A request that went up is answered by the peer. */
		stat_observe(t->stat, r->up ? SPREAD_RTT_PEER : SPREAD_RTT_CLIENT, t->now - r->sent);
		r->sent = 0;
	}
}
