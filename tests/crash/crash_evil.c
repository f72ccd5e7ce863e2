/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crash_evil.c: a hostile worker scribbles over what it can write while others read it.
 *
 * No process may crash or loop; the values that they read do not matter.
 */
#include "config.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crash.h"

#define SLOTS 256

static struct world world;

static void
fill_world(void)
{
	struct cross_limits none = { 0 };

	for (unsigned i = 0; i < SLOTS; i++) {
		struct session *x = session_fill(&world, 0, i, 1 + i % 8, 1000);

		must(x != NULL && cross_open(&world.cross[0], &world.shard[0], x, &none, NULL) == 0,
		    "evil: open");
		for (unsigned j = 0; j < 12; j++) {
			struct addr peer = peer_addr(j);

			perm_set(&world.shard[0], x, &peer, false, 1000, 64);
			chan_bind(&world.shard[0], x, (uint16_t)(0x4000 + j), &peer, 1000, 64);
		}
	}
}

/* Small numbers are the dangerous ones: they lead somewhere. */
static uint64_t
nasty(uint64_t *seed)
{
	uint64_t v = rnd(seed);

	switch (rnd(seed) % 4) {
	case 0:
		return v % 1024;
	case 1:
		return v % 1024 << 32 | rnd(seed) % 1024;
	case 2:
		return UINT64_MAX >> v % 64;
	default:
		return v;
	}
}

static void
scribble(void *base, size_t size, uint64_t seed)
{
	volatile uint64_t *words = base;

	for (;;) {
		uint64_t at = rnd(&seed) % 3 == 0 ? rnd(&seed) % 512 : rnd(&seed);

		words[at % (size / 8)] = nasty(&seed);
		/* States and links that make readers go on. */
		if (base == world.region[0] && rnd(&seed) % 16 == 0)
			atomic_store(
			    &world.shard[0].slots[rnd(&seed) % SLOTS].state, (uint32_t)(rnd(&seed) % 5));
	}
}

static pid_t
spawn(void *base, size_t size, uint64_t seed)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	must(pid >= 0, "fork");
	if (pid == 0) {
		die_with_parent();
		scribble(base, size, seed);
	}
	return pid;
}

static void
end(pid_t pid)
{
	kill(pid, SIGKILL);
	must(waitpid(pid, NULL, 0) == pid, "waitpid");
}

static void
count_peer(void *arg, const struct addr *peer, uint16_t channel, uint32_t expiry)
{
	(void)peer;
	(void)expiry;
	*(unsigned *)arg += channel != 0;
}

static unsigned
read_all(bool still)
{
	unsigned got = 0, channels = 0;

	for (uint32_t slot = 0; slot < shard_high(&world.reader[0]); slot++) {
		struct session x;

		if (!session_read(&world.reader[0], slot, &x))
			continue;
		got++;
		session_each_peer(&world.reader[0], &x, 1000, count_peer, &channels);
	}
	world_audit(&world, still, 1000, true);
	return got;
}

/* Works in shard 1, whose region is its own, over a CROSS that another process damages. */
static void
use_cross(uint64_t *seed)
{
	struct cross_limits limits = { .per_user = 100 };
	struct bandwidth b = { .per_user = 100000, .total = 100000 };
	struct shard *s = &world.shard[1];
	struct cross *c = &world.cross[1];
	struct reservation r = { .token = rnd(seed), .user = 3, .expiry = 100 };
	struct session *x = session_fill(&world, 1, (unsigned)(rnd(seed) % 512), 3, 1000);
	unsigned refused = 0;

	cross_user_count(c, 3);
	rate_take(c, RATE_BINDING, rnd(seed) % 16, 10, 20, 1000);
	token_look(c, r.token, 3, 1000, &r);
	if (x != NULL &&
	    cross_open(c, s, x, &limits,
		&(struct cross_with){
		    .redeem = rnd(seed) % 2 ? r.token : 0, .reserve = rnd(seed) % 2 ? &r : NULL }) == 0) {
		bandwidth_take(c, s, x, &b, true, 1000, 1000);
		cross_close(c, s, x);
	} else if (x != NULL) {
		session_abandon(s, x);
	}
	token_sweep(c, (uint32_t)rnd(seed) % 8192, 32, 100000);
	cross_recover(&world.super, (uint32_t)(rnd(seed) % 3), world.reader, WORLD_SHARDS, &refused);
}

void
evil_run(unsigned rounds, uint64_t seed)
{
	unsigned read = 0;
	pid_t pid;

	world_make(&world, SLOTS);
	fill_world();
	pid = spawn(world.region[0], shard_region_size(SLOTS), rnd(&seed));
	for (unsigned i = 0; i < rounds; i++)
		read += read_all(i % 2 == 0);
	end(pid);
	world_clear(&world);
	fill_world();
	/* Not the accounts, which are most of it and hardly used here: what decides. */
	pid = spawn(world.cross_region, CROSS_TOKENS_AT, rnd(&seed));
	for (unsigned i = 0; i < rounds; i++)
		use_cross(&seed);
	end(pid);
	pid = spawn(world.cross_region, CROSS_ACCOUNTS_AT + 4 * 1024 * 1024, rnd(&seed));
	for (unsigned i = 0; i < rounds; i++)
		use_cross(&seed);
	end(pid);
	printf("evil: %u rounds, %u slots read\n", rounds, read);
	world_end(&world);
}
