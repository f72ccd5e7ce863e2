/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crash_script.c: a fixed script of operations; the worker dies at each crash point passage in turn.
 *
 * Afterwards the audit finds nothing and the operation it died in has happened as a whole, or not at all:
 * what can be seen from outside equals what was seen before or after it in an undisturbed run.
 */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crash.h"

#define SETUP 250		/* sessions; the index grows at the 257th */
#define NOW 100000u
#define ADOPT_AT (NOW + 5000)	/* not before anything that happened */

static struct world world;
static _Atomic unsigned *done;	/* shared: operations that returned */

static struct session *
of_client(unsigned client)
{
	struct addr a = client_addr(client);

	return session_find(&world.shard[0], &a, 1, 0);
}

static void
open_one(unsigned client, uint64_t user, uint64_t token)
{
	struct cross_limits none = { 0 };
	struct session *x = session_fill(&world, 0, client, user, NOW);

	must(x != NULL && cross_open(&world.cross[0], &world.shard[0], x, &none, token) == 0,
	    "script: open");
}

static void
close_one(unsigned client)
{
	must(cross_close(&world.cross[0], &world.shard[0], of_client(client)) == 0, "script: close");
}

static void
perms(unsigned client, unsigned from, unsigned n, tp_ms now)
{
	for (unsigned i = 0; i < n; i++) {
		struct addr a = peer_addr(from + i);

		must(perm_set(&world.shard[0], of_client(client), &a, now, 256) == 0, "script: perm");
	}
}

static void
chans(unsigned client, unsigned from, unsigned n, tp_ms now)
{
	for (unsigned i = 0; i < n; i++) {
		struct addr a = peer_addr(from + i);

		must(chan_bind(&world.shard[0], of_client(client), (uint16_t)(0x4000 + from + i), &a, now,
			 256) == 0,
		    "script: chan");
	}
}

static void
put_token(uint64_t token, uint64_t user)
{
	struct reservation r = { .token = token, .user = user, .id = 7, .expiry = NOW / 1000 + 30 };

	must(token_put(&world.cross[0], &r, NOW) == 0, "script: token");
}

static void
drop_peer(unsigned client, unsigned peer)
{
	struct addr a = peer_addr(peer);

	perm_drop(&world.shard[0], of_client(client), &a);
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
	struct session *x = session_fill(&world, 0, client, 5, NOW);

	must(cross_open(&world.cross[0], &world.shard[0], x, &one, 0) == -EDQUOT, "script: quota");
	session_abandon(&world.shard[0], x);
}

static void
lease_one(unsigned client)
{
	struct bandwidth b = { .per_allocation = 1000000, .per_user = 1000000, .total = 1000000 };

	must(bandwidth_take(&world.cross[0], &world.shard[0], of_client(client), &b, true, 1000, NOW),
	    "script: bandwidth");
}

/* A connection and its streams: each is one flip of its record, or one store. */
static struct conn *
the_conn(void)
{
	struct addr a = client_addr(2000);

	for (uint32_t i = 0; i < conn_high(&world.shard[0]); i++) {
		struct conn *c = conn_at(&world.shard[0], i);
		if (c != NULL && addr_eq(&c->client, &a))
			return c;
	}
	return NULL;
}

static void
conn_begin(void)
{
	struct conn *c = conn_new(&world.shard[0], 2);

	must(c != NULL, "script: connection");
	c->client = c->peer = client_addr(2000);
	c->transport = 2;
	c->fd = 5;
	conn_publish(c, CONN_OPEN);
}

static void
conn_put(size_t len, uint64_t sent)
{
	struct shard *s = &world.shard[0];
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
	ring_give(&world.shard[0], ring);
}

#define OPS 40
static void
op(unsigned i)
{
	switch (i) {
	case 0: open_one(1000, 900, 0); break;		/* a new user and a new prefix */
	case 1: open_one(1001, 5, 0); break;		/* a new session of known ones */
	case 2: put_token(77, 5); break;
	case 3: open_one(1002, 5, 77); break;		/* redeems */
	case 4: close_one(1000); break;			/* the user's last */
	case 5: open_one(1003, 901, 0); break;		/* re-uses slot and account */
	case 6: refuse_one(1004); break;
	case 7: close_one(3); break;
	case 8: open_one(1005, 5, 0); break;
	case 9: open_one(1006, 5, 0); break;
	case 10: open_one(1007, 5, 0); break;
	case 11: open_one(1008, 5, 0); break;
	case 12: open_one(1009, 5, 0); break;		/* the index grows about here */
	case 13: open_one(1010, 0, 0); break;		/* nobody */
	case 14 ... 22: perms(1001, i - 14, 1, NOW); break;
	case 23: perms(1001, 2, 1, NOW + 5000); break;	/* refresh */
	case 24 ... 28: chans(1001, i - 24, 1, NOW); break;
	case 29: chans(1001, 3, 1, NOW + 5000); break;
	case 30: lease_one(1001); break;
	case 31: drop_peer(1001, 8); break;		/* a permission without channel: one store */
	case 32:
		session_sweep(&world.shard[0], 0, 2000, NOW + 400000, not_over, NULL);
		break;                                  /* permissions over */
	case 33: close_one(1001); break;		/* with blocks and bucket */
	case 34: conn_begin(); break;
	case 35: conn_put(1000, 0); break;
	case 36: conn_put(RING_BYTES - 1000, 999); break;	/* the rest moves to another ring */
	case 37: conn_drain(); break;
	case 38: conn_put(10, 0); break;
	case 39: conn_free(&world.shard[0], the_conn()); break;
	}
}

static void
setup(void)
{
	world_clear(&world);
	for (unsigned i = 0; i < SETUP; i++)
		open_one(i, 1 + i % 8, 0);
}

/* ---- what can be seen ---------------------------------------------------------------------------- */

static void
mix(uint64_t *h, uint64_t v)
{
	*h = (*h ^ v) * 0x100000001b3u;
	*h ^= *h >> 29;
}

struct sum { uint64_t sum; };

static void
sum_peer(void *arg, const struct addr *peer, uint16_t channel, uint32_t expiry)
{
	uint64_t h = 17;

	mix(&h, channel);
	mix(&h, expiry);
	for (size_t i = 0; i < sizeof peer->ip; i++)
		mix(&h, peer->ip[i]);
	((struct sum *)arg)->sum += h;		/* in no order */
}

/* Of all clients and users that the script knows.  The sweep may have done its work or not: what is over at
 * that time is left out once it could have run. */
static uint64_t
look(unsigned ops)
{
	tp_ms now = ops >= 32 ? NOW + 400000 : NOW;
	struct reservation r;
	uint64_t h = 1;

	for (unsigned i = 0; i < 1011; i = i + 1 < SETUP || i >= 1000 ? i + 1 : 1000) {
		struct session *x = of_client(i);
		struct sum peers = { 0 };

		mix(&h, x != NULL);
		if (x == NULL)
			continue;
		mix(&h, x->user);
		session_each_peer(&world.shard[0], x, now, sum_peer, &peers);
		mix(&h, peers.sum);
	}
	for (uint64_t user = 0; user < 10; user++)
		mix(&h, cross_user_count(&world.super, user));
	mix(&h, cross_user_count(&world.super, 900));
	mix(&h, cross_user_count(&world.super, 901));
	mix(&h, cross_total(&world.super));
	mix(&h, shard_live(&world.shard[0]));
	mix(&h, the_conn() != NULL ? 1 + conn_now(the_conn())->out_head : 0);
	mix(&h, token_look(&world.super, 77, 5, NOW, &r) == 0);
	return h;
}

/* ---- deaths --------------------------------------------------------------------------------------- */

static unsigned
die_at(void (*work)(void), const char *name, unsigned long passage)
{
	pid_t pid;
	int status;

	fflush(NULL);
	pid = fork();
	must(pid >= 0, "fork");
	if (pid == 0) {
		die_with_parent();
		crash_arm(name, passage);
		work();
		_exit(0);
	}
	must(waitpid(pid, &status, 0) == pid, "waitpid");
	must(WIFEXITED(status) ? WEXITSTATUS(status) == 0 : WTERMSIG(status) == SIGKILL, "script: child %x",
	    status);
	return WIFSIGNALED(status);
}

static void
work_ops(void)
{
	for (unsigned i = *done; i < OPS; i++) {
		op(i);
		atomic_store(done, i + 1);
	}
}

static void
work_adopt(void)
{
	world_adopt(&world, 0, ADOPT_AT);
}

/* What an undisturbed run shows before the first operation and after each. */
static void
undisturbed(uint64_t seen[OPS + 1])
{
	setup();
	seen[0] = look(0);
	crash_arm(NULL, 0);
	for (unsigned i = 0; i < OPS; i++) {
		op(i);
		seen[i + 1] = look(i + 1);
	}
	must(world_audit(&world, true, NOW, false) == 0, "script: the undisturbed run fails the audit");
}

static void
check_after(const uint64_t seen[OPS + 1], unsigned long k, const char *what)
{
	unsigned i = *done;

	must(world_audit(&world, true, NOW, false) == 0, "%s %lu (operation %u): audit", what, k, i);
	world_finish(&world, 0, ADOPT_AT);
	must(world_audit(&world, true, NOW, false) == 0, "%s %lu (operation %u): audit after finishing",
	    what, k, i);
	must(look(i) == seen[i] || (i < OPS && look(i + 1) == seen[i + 1]),
	    "%s %lu: operation %u happened in part", what, k, i);
}

static unsigned long
each_passage(const uint64_t seen[OPS + 1])
{
	unsigned long k = 1;

	for (;; k++) {
		setup();
		atomic_store(done, 0);
		if (!die_at(work_ops, NULL, k))
			return k - 1;
		world_recover(&world, 0);
		world_adopt(&world, 0, ADOPT_AT);
		check_after(seen, k, "passage");
	}
}

/* The successor dies too, while it adopts what a death left. */
static unsigned
adoption_dies(const uint64_t seen[OPS + 1], unsigned long passages)
{
	unsigned n = 0;

	for (unsigned long k = 1; k <= passages; k += passages / 12 + 1)
		for (unsigned long j = 1;; j = j < 8 ? j + 1 : j + j / 4) {
			setup();
			atomic_store(done, 0);
			die_at(work_ops, NULL, k);
			world_recover(&world, 0);
			if (!die_at(work_adopt, NULL, j))
				break;
			world_recover(&world, 0);
			world_adopt(&world, 0, ADOPT_AT);
			check_after(seen, k, "adoption after passage");
			n++;
		}
	return n;
}

/* Without the replay the audit must notice deaths in the middle of a transaction. */
static unsigned
control(void)
{
	/* "token:cleared" is passed by token_put() first. */
	static const struct { const char *name; unsigned passage;
	} points[] = {
	    {"account:counted", 1},
	    {"account:discounted", 1},
	    {"tx:total", 1},
	    {"token:cleared", 2},
	    {"open:applied", 1},
	    {"close:applied", 1},
	};
	unsigned noticed = 0;

	crash_control = true;
	for (unsigned i = 0; i < TP_COUNT(points); i++) {
		setup();
		atomic_store(done, 0);
		must(die_at(work_ops, points[i].name, points[i].passage), "control: %s is never passed",
		    points[i].name);
		world_recover(&world, 0);
		world_adopt(&world, 0, ADOPT_AT);
		noticed += world_audit(&world, true, NOW, true) > 0;
	}
	crash_control = false;
	return noticed;
}

void
script_run(void)
{
	static uint64_t seen[OPS + 1];
	unsigned long passages;
	unsigned adoptions, noticed;

	done = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(done != MAP_FAILED, "mmap");
	world_make(&world, 1024);
	undisturbed(seen);
	passages = each_passage(seen);
	must(passages > 300, "only %lu passages: are crash points compiled in?", passages);
	adoptions = adoption_dies(seen, passages);
	noticed = control();
	must(noticed == 6, "control: of 6 deaths without replay the audit noticed %u", noticed);
	printf("script: %lu deaths of a worker, %u of its successor; control noticed %u of 6\n", passages,
	    adoptions, noticed);
	world_end(&world);
	munmap((void *)done, 4096);
}
