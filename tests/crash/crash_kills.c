/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crash_kills.c: three workers under contention, one killed at a random instant, again and again.
 *
 * The others work on while the supervisor recovers; then they pause between two operations, and
 * everything is audited.
 */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "crash.h"

#define CLIENTS 96 /* per worker */
#define USERS   6  /* shared by all */
#define NAP_NS  50000

struct play {
	_Atomic uint32_t pause;
	_Atomic uint32_t paused[WORLD_SHARDS];
	_Atomic uint64_t now, ops[WORLD_SHARDS], timeouts;
	_Atomic uint64_t token; /* last number given out */
};

static struct world world;
static struct play *play;

static void
nap(long ns)
{
	struct timespec t = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };

	nanosleep(&t, NULL);
}

static void
note(int r)
{
	if (r == -ETIMEDOUT)
		atomic_fetch_add(&play->timeouts, 1);
}

static void
random_open(unsigned me, unsigned client, uint64_t *seed, tp_ms now)
{
	struct cross_limits limits = { .per_user = 60, .per_prefix = 14, .total = 200 };
	uint64_t last = atomic_load(&play->token),
		 token = last > 4 && rnd(seed) % 3 == 0 ? last - rnd(seed) % 4 : 0;
	struct session *x = session_fill(&world, me, client, 1 + rnd(seed) % USERS, now);
	struct cross_with with = { .redeem = token };
	struct reservation want;
	int r;

	if (x == NULL)
		return;
	if (token != 0) {
		x->flags = SESSION_REDEEMED;
		x->lifetime = (uint32_t)token;
		x->user = 1 + token % USERS;
	}
	if (token == 0 && rnd(seed) % 8 == 0) {
		want = (struct reservation){ .token = atomic_fetch_add(&play->token, 1) + 1,
			.id = 1,
			.expiry = TP_SEC_UP(now) + 30 };
		x->user = want.user = 1 + want.token % USERS;
		with.reserve = &want;
	}
	r = cross_open(&world.cross[me], &world.shard[me], x, &limits, &with);
	note(r);
	if (r != 0)
		session_abandon(&world.shard[me], x);
}

static void
random_peers(unsigned me, struct session *x, uint64_t *seed, tp_ms now)
{
	struct addr peer = peer_addr((unsigned)(rnd(seed) % 40));
	struct bandwidth b = { .per_user = 1000000, .total = 5000000 };

	switch (rnd(seed) % 6) {
	case 0:
	case 1:
		perm_set(&world.shard[me], x, &peer, false, now, 24);
		break;
	case 2:
	case 3:
		chan_bind(&world.shard[me], x, (uint16_t)(0x4000 + rnd(seed) % 20), &peer, now, 24);
		break;
	case 4:
		perm_drop(&world.shard[me], x, &peer);
		break;
	default:
		bandwidth_take(&world.cross[me], &world.shard[me], x, &b, true, 1000, now);
	}
}

struct sweeper {
	unsigned me;
};

static void
sweep_over(void *arg, struct session *x)
{
	unsigned me = ((struct sweeper *)arg)->me;

	note(cross_close(&world.cross[me], &world.shard[me], x));
}

/* The same client comes again, in place of its session. */
static void
random_replace(unsigned me, unsigned client, struct session *old, tp_ms now)
{
	struct cross_limits limits = { .per_user = 1, .total = 1 };
	struct session *x = session_fill(&world, me, client, old->user, now);
	int r;

	if (x == NULL)
		return;
	x->name = old->name;
	r = cross_open(
	    &world.cross[me], &world.shard[me], x, &limits, &(struct cross_with){ .replace = old });
	note(r);
	if (r != 0)
		session_abandon(&world.shard[me], x);
}

static void
random_op(unsigned me, uint64_t *seed, uint32_t *cursor, uint32_t *tokens)
{
	tp_ms now = atomic_fetch_add(&play->now, 3);
	unsigned client = me * 4096 + (unsigned)(rnd(seed) % CLIENTS), what = (unsigned)(rnd(seed) % 16);
	struct addr a = client_addr(client);
	struct session *x = session_find(&world.shard[me], &a, TRANSPORT_UDP, 0);
	struct sweeper sw = { .me = me };

	if (what == 0)
		*tokens = token_sweep(&world.cross[me], *tokens, 64, now);
	else if (what == 1 && x != NULL)
		random_replace(me, client, x, now);
	else if (what == 1)
		*cursor = session_sweep(&world.shard[me], *cursor, 4, now, sweep_over, &sw);
	else if (x == NULL)
		random_open(me, client, seed, now);
	else if (what < 5)
		note(cross_close(&world.cross[me], &world.shard[me], x));
	else
		random_peers(me, x, seed, now);
}

static void
work(unsigned me, uint64_t seed)
{
	uint32_t cursor = 0, tokens = 0;

	for (;;) {
		random_op(me, &seed, &cursor, &tokens);
		atomic_store(&play->ops[me], atomic_load(&play->ops[me]) + 1);
		if (!atomic_load(&play->pause))
			continue;
		atomic_store(&play->paused[me], 1);
		while (atomic_load(&play->pause))
			nap(NAP_NS);
		atomic_store(&play->paused[me], 0);
	}
}

static pid_t
spawn(unsigned me, uint64_t seed)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	must(pid >= 0, "fork");
	if (pid == 0) {
		die_with_parent();
		work(me, seed);
	}
	return pid;
}

/* No token was redeemed twice, and none that was redeemed can be redeemed again. */
static void
check_tokens(void)
{
	static uint64_t seen[WORLD_SHARDS * 512];
	unsigned n = 0;

	for (unsigned i = 0; i < WORLD_SHARDS; i++)
		for (uint32_t slot = 0; slot < shard_high(&world.reader[i]); slot++) {
			struct session x;

			if (!session_read(&world.reader[i], slot, &x) || !(x.flags & SESSION_REDEEMED))
				continue;
			must(token_place(&world.super, x.lifetime) == 0,
			    "token %u is redeemed and still there", x.lifetime);
			for (unsigned j = 0; j < n; j++)
				must(seen[j] != x.lifetime, "token %u was redeemed twice", x.lifetime);
			seen[n++] = x.lifetime;
		}
}

static void
stop_all(unsigned but)
{
	atomic_store(&play->pause, 1);
	for (unsigned i = 0; i < WORLD_SHARDS; i++)
		while (i != but && !atomic_load(&play->paused[i]))
			nap(NAP_NS);
}

static void
go_on(void)
{
	atomic_store(&play->pause, 0);
	for (unsigned i = 0; i < WORLD_SHARDS; i++)
		while (atomic_load(&play->paused[i]))
			nap(NAP_NS);
}

struct tally {
	unsigned locked, staged;
};

static void
kill_one(pid_t pid[WORLD_SHARDS], unsigned victim, uint64_t seed, struct tally *t)
{
	int status;
	unsigned held = 0;
	tp_ms now;

	kill(pid[victim], SIGKILL);
	must(waitpid(pid[victim], &status, 0) == pid[victim], "waitpid");
	must(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "a worker ended by itself: %x", status);
	for (unsigned i = 0; i < CROSS_STRIPES; i++)
		held += lock_held_by(&cross_stripe(&world.super, i)->lock, victim);
	t->locked += held > 0;
	t->staged += atomic_load(&cross_redo(&world.super, victim)->op) != REDO_NONE;
	world_recover(&world, victim);
	atomic_store(&play->paused[victim], 0);
	stop_all(victim);
	now = atomic_load(&play->now);
	world_adopt(&world, victim, now);
	must(world_audit(&world, true, now, false) == 0, "kill: audit");
	check_tokens();
	go_on();
	pid[victim] = spawn(victim, seed);
}

void
kills_run(unsigned kills, uint64_t seed)
{
	pid_t pid[WORLD_SHARDS];
	struct tally tally = { 0 };
	uint64_t ops = 0;

	play = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(play != MAP_FAILED, "mmap");
	atomic_store(&play->now, 1000000);
	world_make(&world, 128);
	for (unsigned i = 0; i < WORLD_SHARDS; i++)
		pid[i] = spawn(i, rnd(&seed));
	for (unsigned k = 0; k < kills; k++) {
		nap(200000 + (long)(rnd(&seed) % 2000000));
		kill_one(pid, (unsigned)(rnd(&seed) % WORLD_SHARDS), rnd(&seed), &tally);
	}
	for (unsigned i = 0; i < WORLD_SHARDS; i++) {
		kill(pid[i], SIGKILL);
		waitpid(pid[i], NULL, 0);
		ops += atomic_load(&play->ops[i]);
	}
	printf("kills: %u, %llu operations, %u deaths holding a lock, %u in a transaction, %llu lock "
	       "time-outs\n",
	    kills, (unsigned long long)ops, tally.locked, tally.staged,
	    (unsigned long long)atomic_load(&play->timeouts));
	world_end(&world);
	munmap(play, 4096);
}
