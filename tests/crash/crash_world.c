/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crash_world.c: regions for three workers, recovery, audit.
 */
#include "config.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "crash.h"

bool crash_control;

uint8_t world_seed[16] = "turnpike-crash!";

void
must(bool ok, const char *fmt, ...)
{
	va_list ap;

	if (ok)
		return;
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

void
die_with_parent(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() == 1)
		_exit(0);
}

/* splitmix64 */
uint64_t
rnd(uint64_t *seed)
{
	uint64_t z = *seed += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static void *
make(const char *name, size_t size, int *fd, void **read_only)
{
	void *map;
	int ro;

	must(region_make(name, size, fd, &ro) == 0, "region_make");
	map = region_map(*fd, size, true, false);
	must(map != NULL, "region_map");
	if (read_only != NULL) {
		*read_only = region_map(ro, size, false, false);
		must(*read_only != NULL, "region_map read-only");
	}
	close(ro);
	return map;
}

void
world_attach(struct world *w)
{
	must(cross_attach(&w->super, w->cross_region, UINT32_MAX, world_seed) == 0, "cross_attach");
	for (unsigned i = 0; i < WORLD_SHARDS; i++) {
		must(cross_attach(&w->cross[i], w->cross_region, i, NULL) == 0, "cross_attach");
		must(shard_attach(
			 &w->shard[i], i, w->region[i], w->keys[i], w->slot_max, true, world_seed) == 0,
		    "shard_attach");
		must(shard_attach(&w->reader[i], i, w->read_only[i], NULL, w->slot_max, false, NULL) == 0,
		    "reader");
	}
}

void
world_make(struct world *w, uint32_t slot_max)
{
	memset(w, 0, sizeof *w);
	w->slot_max = slot_max;
	w->cross_region = make("crash-cross", cross_region_size(), &w->cross_fd, NULL);
	for (unsigned i = 0; i < WORLD_SHARDS; i++) {
		w->region[i] = make(
		    "crash-shard", shard_region_size(slot_max), &w->region_fd[i], &w->read_only[i]);
		w->keys[i] = make("crash-keys", shard_keys_size(slot_max), &w->keys_fd[i], NULL);
	}
	world_attach(w);
}

void
world_wipe(struct world *w)
{
	must(madvise(w->cross_region, cross_region_size(), MADV_REMOVE) == 0, "madvise");
	for (unsigned i = 0; i < WORLD_SHARDS; i++) {
		must(madvise(w->region[i], shard_region_size(w->slot_max), MADV_REMOVE) == 0, "madvise");
		must(madvise(w->keys[i], shard_keys_size(w->slot_max), MADV_REMOVE) == 0, "madvise");
	}
}

void
world_clear(struct world *w)
{
	world_wipe(w);
	world_attach(w);
}

void
world_end(struct world *w)
{
	region_unmap(w->cross_region, cross_region_size());
	close(w->cross_fd);
	for (unsigned i = 0; i < WORLD_SHARDS; i++) {
		region_unmap(w->region[i], shard_region_size(w->slot_max));
		region_unmap(w->read_only[i], shard_region_size(w->slot_max));
		region_unmap(w->keys[i], shard_keys_size(w->slot_max));
		close(w->region_fd[i]);
		close(w->keys_fd[i]);
	}
}

void
world_recover(struct world *w, uint32_t owner)
{
	unsigned refused = 0;

	if (crash_control) {
		for (unsigned i = 0; i < ACCOUNT_STRIPES; i++)
			if (lock_held_by(&cross_stripe(&w->super, i)->lock, owner))
				account_relist(&w->super, i);
		atomic_store(&cross_redo(&w->super, owner)->op, REDO_NONE);
		lock_recover(
		    &cross_stripe(&w->super, 0)->lock, CROSS_STRIPES, sizeof(struct stripe), owner);
		return;
	}
	must(cross_recover(&w->super, owner, w->reader, WORLD_SHARDS, &refused) == 0, "cross_recover");
	must(refused == 0, "cross_recover refused an honest record");
}

void
world_adopt(struct world *w, uint32_t owner, tp_ms now)
{
	struct shard *s = &w->shard[owner];

	must(shard_attach(s, owner, w->region[owner], w->keys[owner], w->slot_max, true, world_seed) == 0,
	    "shard_attach");
	shard_adopt(s, now, NULL, NULL);
}

struct over {
	struct world *w;
	uint32_t owner;
};

static void
close_ending(void *arg, struct session *x)
{
	struct over *o = arg;

	if (atomic_load(&x->state) == SESSION_ENDING)
		cross_close(&o->w->cross[o->owner], &o->w->shard[o->owner], x);
}

void
world_finish(struct world *w, uint32_t owner, tp_ms now)
{
	struct over o = { .w = w, .owner = owner };

	session_sweep(&w->shard[owner], 0, w->slot_max, now, close_ending, &o);
}

static void
print_breach(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "breach: %s\n", text);
}

unsigned
world_audit(struct world *w, bool still, tp_ms now, bool quiet)
{
	return state_audit(
	    &w->super, w->reader, WORLD_SHARDS, still, now, quiet ? NULL : print_breach, NULL);
}

struct addr
client_addr(unsigned n)
{
	struct addr a = {
		.family = ADDR_V4, .port = (uint16_t)(1024 + n % 16), .ip = { 192, 0, 2, (uint8_t)(n / 16) }
	};

	a.ip[1] = (uint8_t)(n / 4096);
	return a;
}

struct addr
peer_addr(unsigned n)
{
	struct addr a = { .family = ADDR_V4, .port = 9, .ip = { 198, 51, (uint8_t)(n >> 8), (uint8_t)n } };

	if (n % 2 == 1)
		a = (struct addr){ .family = ADDR_V6,
			.port = 9,
			.ip = { 0x20, 1, 0xd, 0xb8, [14] = (uint8_t)(n >> 8), [15] = (uint8_t)n } };
	return a;
}

struct session *
session_fill(struct world *w, unsigned shard, unsigned client, uint64_t user, tp_ms now)
{
	struct shard *s = &w->shard[shard];
	struct session *x = session_new(s);
	uint32_t slot;

	if (x == NULL)
		return NULL;
	slot = session_slot(s, x);
	x->client = client_addr(client);
	x->transport = TRANSPORT_UDP;
	x->user = user;
	x->created = TP_SEC_UP(now);
	x->expiry = x->created + 600;
	x->relay[0] = (struct relay_ref){ .fd = (int32_t)(shard * w->slot_max + slot + 10),
		.row = (uint8_t)shard,
		.port = (uint16_t)(slot + 1),
		.family = ADDR_V4 };
	session_key(s, x)->len = 16;
	return x;
}
