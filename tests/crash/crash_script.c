/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crash_script.c: a script of operations that passes every marked point, and what can be seen of them
 * from outside.
 */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "crash.h"

#define SETUP     250 /* sessions, and up to 5 more; the index grows at the 257th */
#define SETUP_MAX 256
#define NOW       SCRIPT_NOW

struct world script_world;

static struct session *
of_client(unsigned client)
{
	struct addr a = client_addr(client);

	return session_find(&script_world.shard[0], &a, TRANSPORT_UDP, 0);
}

static void
open_one(unsigned client, uint64_t user, uint64_t token)
{
	struct cross_limits none = { 0 };
	struct session *x = session_fill(&script_world, 0, client, user, NOW);

	must(x != NULL &&
		cross_open(&script_world.cross[0], &script_world.shard[0], x, &none,
		    &(struct cross_with){ .redeem = token }) == 0,
	    "script: open");
}

static void
close_one(unsigned client)
{
	must(cross_close(&script_world.cross[0], &script_world.shard[0], of_client(client)) == 0,
	    "script: close");
}

static void
perms(unsigned client, unsigned from, unsigned n, tp_ms now)
{
	for (unsigned i = 0; i < n; i++) {
		struct addr a = peer_addr(from + i);

		must(perm_set(&script_world.shard[0], of_client(client), &a, false, now, 256) == 0,
		    "script: perm");
	}
}

static void
chans(unsigned client, unsigned from, unsigned n, tp_ms now)
{
	for (unsigned i = 0; i < n; i++) {
		struct addr a = peer_addr(from + i);

		must(chan_bind(&script_world.shard[0], of_client(client), (uint16_t)(0x4000 + from + i), &a,
			 now, 256) == 0,
		    "script: chan");
	}
}

static void
rebind(unsigned client, uint16_t number, unsigned peer)
{
	struct addr a = peer_addr(peer);

	must(chan_bind(&script_world.shard[0], of_client(client), number, &a, NOW, 256) == 0,
	    "script: rebind");
}

static void
reserve_one(unsigned client, uint64_t user, uint64_t token)
{
	struct reservation r = { .token = token, .user = user, .id = 7, .expiry = NOW / 1000 + 30 };
	struct cross_limits none = { 0 };
	struct session *x = session_fill(&script_world, 0, client, user, NOW);

	must(x != NULL &&
		cross_open(&script_world.cross[0], &script_world.shard[0], x, &none,
		    &(struct cross_with){ .reserve = &r }) == 0,
	    "script: reserve");
}

static void
replace_one(unsigned client)
{
	struct cross_limits none = { 0 };
	struct session *old = of_client(client),
		       *x = session_fill(&script_world, 0, client, old->user, NOW);

	must(x != NULL &&
		cross_open(&script_world.cross[0], &script_world.shard[0], x, &none,
		    &(struct cross_with){ .replace = old }) == 0,
	    "script: replace");
}

static void
forget_all(void)
{
	for (uint32_t at = 0, n = 0; n < TOKENS; n += 256)
		at = token_sweep(&script_world.cross[0], at, 256, NOW + 31000);
}

static void
drop_peer(unsigned client, unsigned peer)
{
	struct addr a = peer_addr(peer);

	perm_drop(&script_world.shard[0], of_client(client), &a);
}

static void
not_over(void *arg, struct session *x)
{
	(void)arg;
	(void)x;
}

static void
refuse_one(unsigned client)
{
	struct cross_limits one = { .per_user = 1 };
	struct session *x = session_fill(&script_world, 0, client, 5, NOW);

	must(cross_open(&script_world.cross[0], &script_world.shard[0], x, &one, NULL) == -EDQUOT,
	    "script: quota");
	session_abandon(&script_world.shard[0], x);
}

static void
lease_one(unsigned client)
{
	struct bandwidth b = { .per_allocation = 1000000, .per_user = 1000000, .total = 1000000 };

	must(bandwidth_take(
		 &script_world.cross[0], &script_world.shard[0], of_client(client), &b, true, 1000, NOW),
	    "script: bandwidth");
}

/* A connection and its streams: each is one flip of its record, or one store. */
static struct conn *
the_conn(void)
{
	struct addr a = client_addr(2000);

	for (uint32_t i = 0; i < conn_high(&script_world.shard[0]); i++) {
		struct conn *c = conn_at(&script_world.shard[0], i);
		if (c != NULL && addr_eq(&c->client, &a))
			return c;
	}
	return NULL;
}

static void
conn_begin(void)
{
	struct conn *c = conn_new(&script_world.shard[0], TRANSPORT_TCP);

	must(c != NULL, "script: connection");
	c->client = c->peer = client_addr(2000);
	c->transport = TRANSPORT_TCP;
	c->fd = 5;
	conn_publish(c, CONN_OPEN);
}

static void
conn_put(size_t len, uint64_t sent)
{
	struct shard *s = &script_world.shard[0];
	struct conn *c = the_conn();
	struct conn_rec *next;
	uint32_t old;

	if (sent > 0)
		c->out_sent = sent;
	next = conn_next(c);
	must(ring_reserve(s, &next->out, c->out_sent, next->out_head, len, &old), "script: ring");
	memset(ring_at(s, &next->out, next->out_head), 'x', len);
	next->out_head += len;
	conn_commit(c);
	ring_give(s, old);
}

static void
conn_drain(void)
{
	struct conn *c = the_conn();
	struct conn_rec *next;
	uint32_t ring = conn_now(c)->out.ring;

	c->out_sent = conn_now(c)->out_head;
	next = conn_next(c);
	next->out.ring = 0;
	conn_commit(c);
	ring_give(&script_world.shard[0], ring);
}

/* A user whose account takes the place that user 900 has left. */
static uint64_t
next_user(void)
{
	uint64_t user = 901;

	while (account_stripe(user) != account_stripe(900))
		user++;
	return user;
}

void
script_op(unsigned i)
{
	switch (i) {
	case 0:
		open_one(1000, 900, 0);
		break; /* a new user and a new prefix */
	case 1:
		open_one(1001, 5, 0);
		break; /* a new session of known ones */
	case 2:
		reserve_one(1004, 5, 77);
		break;
	case 3:
		open_one(1002, 5, 77);
		break; /* redeems */
	case 4:
		close_one(1000);
		break; /* the user's last */
	case 5:
		open_one(1003, next_user(), 0);
		break; /* re-uses slot and account */
	case 6:
		refuse_one(1001);
		break;
	case 7:
		close_one(3);
		break;
	case 8:
		open_one(1005, 5, 0);
		break;
	case 9:
		open_one(1006, 5, 0);
		break;
	case 10:
		open_one(1007, 5, 0);
		break;
	case 11:
		open_one(1008, 5, 0);
		break;
	case 12:
		open_one(1009, 5, 0);
		break; /* the index grows about here */
	case 13:
		open_one(1010, 0, 0);
		break; /* no user */
	case 14 ... 22:
		perms(1001, i - 14, 1, NOW);
		break;
	case 23:
		perms(1001, 2, 1, NOW + 5000);
		break; /* refresh */
	case 24 ... 28:
		chans(1001, i - 24, 1, NOW);
		break;
	case 29:
		chans(1001, 3, 1, NOW + 5000);
		break;
	case 30:
		lease_one(1001);
		break;
	case 31:
		drop_peer(1001, 8);
		break; /* a permission without channel: one store */
	case 32:
		session_sweep(&script_world.shard[0], 0, 2000, NOW + 400000, not_over, NULL);
		break; /* permissions over */
	case 33:
		close_one(1001);
		break; /* with blocks and bucket */
	case 34:
		conn_begin();
		break;
	case 35:
		conn_put(1000, 0);
		break;
	case 36:
		conn_put(RING_BYTES - 1000, 999);
		break; /* the rest moves to another ring */
	case 37:
		conn_drain();
		break;
	case 38:
		conn_put(10, 0);
		break;
	case 39:
		conn_free(&script_world.shard[0], the_conn());
		break;
	case 40:
		chans(1005, 0, 1, NOW - 700000);
		break; /* bound long ago, and over */
	case 41:
		rebind(1005, 0x4000, 1);
		break;
	case 42:
		chans(1006, 3, 2, NOW - 700000);
		break;
	case 43:
		session_sweep(&script_world.shard[0], 0, 2000, NOW, not_over, NULL);
		break;
	case 44:
		conn_begin();
		break; /* in the slot of the first */
	case 45:
		conn_free(&script_world.shard[0], the_conn());
		break;
	case 46:
		reserve_one(1000, 6, 78);
		break;
	case 47:
		forget_all();
		break;
	case 48:
		replace_one(1006);
		break;
	case 49:
		replace_one(1005);
		break;
	}
}

/* Other keys of the hash tables, other users, other free lists with each seed but 0. */
void
script_setup(uint64_t seed)
{
	unsigned n = SETUP, step = 1;

	memcpy(world_seed, "turnpike-crash!", sizeof world_seed);
	if (seed != 0) {
		for (unsigned i = 0; i < sizeof world_seed; i++)
			world_seed[i] = (uint8_t)rnd(&seed);
		n += (unsigned)(rnd(&seed) % 6);
		step = 1 + 2 * (unsigned)(rnd(&seed) % 4);
	}
	world_clear(&script_world);
	for (unsigned i = 0; i < n; i++)
		open_one(i, 1 + i * step % 8, 0);
	if (seed == 0)
		return;
	perms(220, 0, 14, NOW); /* one that has blocks for the sweep */
	for (unsigned k = (unsigned)(rnd(&seed) % 12); k > 0; k--) {
		unsigned client = 10 + (unsigned)(rnd(&seed) % 200);
		perms(client, (unsigned)(rnd(&seed) % 8), 1 + (unsigned)(rnd(&seed) % 9), NOW);
		if (rnd(&seed) % 2 == 0) {
			close_one(client);
			open_one(client, 1 + rnd(&seed) % 8, 0);
		}
	}
}

/* ---- what can be seen ---------------------------------------------------------------------------- */

static void
mix(uint64_t *h, uint64_t v)
{
	*h = (*h ^ v) * 0x100000001b3u;
	*h ^= *h >> 29;
}

struct sum {
	uint64_t sum;
};

static void
sum_peer(void *arg, const struct addr *peer, uint16_t channel, uint32_t expiry)
{
	uint64_t h = 17;

	mix(&h, channel);
	mix(&h, expiry);
	for (size_t i = 0; i < sizeof peer->ip; i++)
		mix(&h, peer->ip[i]);
	((struct sum *)arg)->sum += h; /* in no order */
}

/* Of all clients and users that the script knows.  The sweep may have done its work or not: what is over at
 * that time is left out once it could have run. */
uint64_t
script_look(unsigned ops)
{
	tp_ms now = ops >= 32 ? NOW + 400000 : NOW;
	struct reservation r;
	uint64_t h = 1;

	for (unsigned i = 0; i < 1011; i = i + 1 < SETUP_MAX || i >= 1000 ? i + 1 : 1000) {
		struct session *x = of_client(i);
		struct sum peers = { 0 };

		mix(&h, x != NULL);
		if (x == NULL)
			continue;
		mix(&h, x->user);
		session_each_peer(&script_world.shard[0], x, now, sum_peer, &peers);
		mix(&h, peers.sum);
	}
	for (uint64_t user = 0; user < 10; user++)
		mix(&h, cross_user_count(&script_world.super, user));
	mix(&h, cross_user_count(&script_world.super, 900));
	mix(&h, cross_user_count(&script_world.super, next_user()));
	mix(&h, cross_total(&script_world.super));
	mix(&h, shard_live(&script_world.shard[0]));
	mix(&h, the_conn() != NULL ? 1 + conn_now(the_conn())->out_head : 0);
	mix(&h, token_look(&script_world.super, 77, 5, NOW, &r) == 0);
	mix(&h, token_look(&script_world.super, 78, 6, NOW, &r) == 0);
	return h;
}
