/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * regions.c: the shared regions and shard epolls, made once at first start, kept for the life of the
 * daemon.
 */
#include "config.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "super_int.h"

static size_t
pages(size_t n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (n + page - 1) & ~(page - 1);
}

static int
make(struct region *r, size_t size, const char *what, unsigned n)
{
	char name[32];

	snprintf(name, sizeof name, "turnpike-%s%u", what, n);
	return region_make(name, pages(size), &r->rw, &r->ro);
}

static int
map(void *where, const struct region *r, size_t size, bool write, bool secret)
{
	void *p = region_map(write ? r->rw : r->ro, pages(size), write, secret);

	if (p == NULL)
		return -errno;
	memcpy(where, &p, sizeof p);
	return 0;
}

static int
make_secret(struct regions *r)
{
	uint8_t *p;
	int err = make(&r->secret, SECRET_BYTES, "secret", 0);

	if (err == 0)
		err = map(&p, &r->secret, SECRET_BYTES, true, true);
	if (err < 0)
		return err;
	randombytes_buf(p, SECRET_BYTES);
	region_unmap(p, pages(SECRET_BYTES)); /* the supervisor has no use for it */
	return 0;
}

static int
make_cross(struct regions *r)
{
	uint8_t seed[16];
	void *p;
	int err = make(&r->cross, cross_region_size(), "cross", 0);

	if (err == 0)
		err = map(&p, &r->cross, cross_region_size(), true, false);
	if (err < 0)
		return err;
	randombytes_buf(seed, sizeof seed);
	/* To initialise and to recover: the supervisor takes no lock, so it needs no name. */
	return cross_attach(&r->cross_map, p, UINT32_MAX, seed);
}

static int
make_ports(struct regions *r)
{
	int err = make(&r->ports, PORT_MAP_SIZE, "ports", 0);

	return err < 0 ? err : map(&r->ports_map, &r->ports, PORT_MAP_SIZE, true, false);
}

static int
make_shard_only(struct regions *r, unsigned i)
{
	int err = make(&r->shard[i], shard_region_size(r->slot_max), "shard", i);

	if (err == 0)
		err = make(&r->keys[i], shard_keys_size(r->slot_max), "keys", i);
	if (err == 0)
		err = map(&r->shard_map[i], &r->shard[i], shard_region_size(r->slot_max), false, false);
	if (err < 0)
		return err;
	close(r->keys[i].ro); /* only the owner maps keys */
	r->keys[i].ro = -1;
	r->epoll[i] = epoll_create1(EPOLL_CLOEXEC);
	return r->epoll[i] < 0 ? -errno : 0;
}

static int
make_shard(struct regions *r, unsigned i)
{
	int err = make_shard_only(r, i);

	if (err == 0)
		err = make(&r->stat_worker[i], STAT_SIZE, "stat-worker", i);
	if (err == 0)
		err = map(&r->worker_map[i], &r->stat_worker[i], STAT_SIZE, false, false);
	return err;
}

int
regions_make(struct regions *r, unsigned shards, uint32_t slot_max)
{
	int err;

	memset(r, 0, sizeof *r);
	r->shards = shards;
	r->slot_max = slot_max;
	if ((err = make_secret(r)) < 0 || (err = make_cross(r)) < 0 || (err = make_ports(r)) < 0)
		return err;
	for (unsigned i = 0; i < shards; i++)
		if ((err = make_shard(r, i)) < 0)
			return err;
	if ((err = make(&r->stat_authd, STAT_SIZE, "stat-auth", 0)) < 0 ||
	    (err = make(&r->stat_admin, STAT_SIZE, "stat-admin", 0)) < 0 ||
	    (err = make(&r->stat_super, STAT_SIZE, "stat-super", 0)) < 0 ||
	    (err = map(&r->authd_map, &r->stat_authd, STAT_SIZE, false, false)) < 0 ||
	    (err = map(&r->admin_map, &r->stat_admin, STAT_SIZE, false, false)) < 0)
		return err;
	for (unsigned i = 0; i < MSG_TLSDS_MAX; i++)
		if ((err = make(&r->stat_tlsd[i], STAT_SIZE, "stat-tls", i)) < 0 ||
		    (err = map(&r->tlsd_map[i], &r->stat_tlsd[i], STAT_SIZE, false, false)) < 0)
			return err;
	return map(&r->super_map, &r->stat_super, STAT_SIZE, true, false);
}

static int
resume_shard(struct regions *r, unsigned i, bool probe)
{
	static const uint8_t no_seed[16];
	struct shard s;
	void *keys;
	int err;

	if ((err = map(&r->shard_map[i], &r->shard[i], shard_region_size(r->slot_max), false, false)) < 0 ||
	    (err = map(&r->worker_map[i], &r->stat_worker[i], STAT_SIZE, false, false)) < 0)
		return err;
	err = shard_attach(&s, i, r->shard_map[i], NULL, r->slot_max, false, no_seed);
	if (err == -EINVAL)
		err = 0; /* damaged, not of another layout: its worker's business */
	if (err < 0 || !probe)
		return err;
	keys = region_map(r->keys[i].rw, pages(shard_keys_size(r->slot_max)), false, true);
	return keys == NULL ? -errno : shard_keys_check(keys);
}

int
regions_resume(struct regions *r, bool probe, const char **what)
{
	void *cross, *secret;
	int err;

	*what = "secret";
	if (probe && (err = map(&secret, &r->secret, SECRET_BYTES, false, true)) < 0)
		return err;
	*what = "cross-shard";
	if ((err = map(&cross, &r->cross, cross_region_size(), true, false)) < 0 ||
	    (err = cross_attach(&r->cross_map, cross, UINT32_MAX, NULL)) < 0)
		return err;
	*what = "ports";
	/* A build without this region had none: the ledger fills it. */
	err = r->ports.rw >= 0 ? map(&r->ports_map, &r->ports, PORT_MAP_SIZE, true, false)
	    : probe            ? 0
			       : make_ports(r);
	if (err < 0)
		return err;
	*what = "shard";
	for (unsigned i = 0; i < r->shards; i++)
		if ((err = resume_shard(r, i, probe)) < 0)
			return err;
	*what = "counter";
	for (unsigned i = 0; i < MSG_TLSDS_MAX; i++) {
		/* A build without turnpike-tls processes had none. */
		if (r->stat_tlsd[i].rw < 0 && (err = make(&r->stat_tlsd[i], STAT_SIZE, "stat-tls", i)) < 0)
			return err;
		if ((err = map(&r->tlsd_map[i], &r->stat_tlsd[i], STAT_SIZE, false, false)) < 0)
			return err;
	}
	if ((err = map(&r->authd_map, &r->stat_authd, STAT_SIZE, false, false)) < 0 ||
	    (err = map(&r->admin_map, &r->stat_admin, STAT_SIZE, false, false)) < 0)
		return err;
	return map(&r->super_map, &r->stat_super, STAT_SIZE, true, false);
}

int
regions_cold(struct regions *r, unsigned shard)
{
	struct regions fresh = { .shards = r->shards, .slot_max = r->slot_max };
	int err = make_shard_only(&fresh, shard);

	if (err < 0)
		return err;
	int was[] = { r->shard[shard].rw, r->shard[shard].ro, r->keys[shard].rw, r->epoll[shard] };
	region_unmap(r->shard_map[shard], pages(shard_region_size(r->slot_max)));
	r->shard[shard] = fresh.shard[shard];
	r->keys[shard] = fresh.keys[shard];
	r->epoll[shard] = fresh.epoll[shard];
	r->shard_map[shard] = fresh.shard_map[shard];
	for (unsigned k = 0; k < TP_COUNT(was); k++)
		close(was[k]);
	return 0;
}

int
regions_epoll(struct regions *r, unsigned shard)
{
	int fd = epoll_create1(EPOLL_CLOEXEC), was = r->epoll[shard];

	if (fd < 0)
		return -errno;
	r->epoll[shard] = fd;
	if (was >= 0)
		close(was);
	return 0;
}

const struct stats *
regions_stat(const struct regions *r, unsigned role, unsigned index)
{
	switch (role) {
	case ROLE_WORKER:
		return index < r->shards ? r->worker_map[index] : NULL;
	case ROLE_AUTHD:
		return r->authd_map;
	case ROLE_ADMIN:
		return r->admin_map;
	case ROLE_TLSD:
		return index < MSG_TLSDS_MAX ? r->tlsd_map[index] : NULL;
	default:
		return NULL;
	}
}

unsigned
regions_shards(const struct regions *r, struct shard out[SHARDS_MAX])
{
	unsigned n = 0;

	for (unsigned i = 0; i < r->shards; i++) {
		static const uint8_t no_seed[16];
		if (shard_attach(&out[n], i, r->shard_map[i], NULL, r->slot_max, false, no_seed) == 0)
			n++;
	}
	return n;
}
