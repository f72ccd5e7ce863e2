/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * region_view.c: read-only maps of what the other processes publish.
 */
#include "config.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "admin_int.h"

#define LEDGER_TRIES 1000

const char *const census_transports[CENSUS_TRANSPORTS] = { "udp", "tcp", "tls", "dtls" };
const char *const census_families[CENSUS_FAMILIES] = { "ipv4", "ipv6", "dual" };

/* NULL also for no descriptor: then that process is simply not shown. */
static const struct stats *
map_stat(int fd)
{
	return fd < 0 ? NULL : region_map(fd, STAT_SIZE, false, false);
}

int
view_start(struct view *v, const struct msg_start *s, struct stats *own)
{
	v->start = *s;
	v->admin = own;
	v->ledger = s->ledger_fd < 0 ? NULL : region_map(s->ledger_fd, LEDGER_SIZE, false, false);
	v->cross_region = s->cross_fd < 0 ? NULL
					  : region_map(s->cross_fd, cross_region_size(), false, false);
	if (v->ledger == NULL || v->cross_region == NULL)
		return errno != 0 ? -errno : -EINVAL;
	v->super = map_stat(s->super_stat_fd);
	v->authd = map_stat(s->authd_stat_fd);
	for (unsigned i = 0; i < SHARDS_MAX; i++)
		v->worker[i] = map_stat(s->worker_stat_fd[i]);
	for (unsigned i = 0; i < s->tlsd_count && i < MSG_TLSDS_MAX; i++)
		v->tlsd[i] = map_stat(s->tlsd_stat_fd[i]);
	return 0;
}

int
view_shard(struct view *v, const struct msg_shard *m)
{
	void *region;
	int err;

	if (m->shard >= SHARDS_MAX || v->shard[m->shard].region != NULL)
		return -EINVAL;
	region = region_map(m->region_fd, shard_region_size(v->start.slot_max), false, false);
	if (region == NULL)
		return -errno;
	err = shard_attach(&v->shard[m->shard], m->shard, region, NULL, v->start.slot_max, false, NULL);
	if (err < 0) {
		memset(&v->shard[m->shard], 0, sizeof v->shard[m->shard]);
		region_unmap(region, shard_region_size(v->start.slot_max));
		return err;
	}
	if (m->shard >= v->shard_count)
		v->shard_count = m->shard + 1;
	return 0;
}

int
view_conf(struct view *v, int fd)
{
	struct stat st;
	size_t size = fstat(fd, &st) == 0 ? (size_t)st.st_size : 0;
	void *map = size < sizeof(struct conf) ? MAP_FAILED
					       : mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);

	close(fd);
	if (map == MAP_FAILED)
		return -EINVAL;
	if (conf_validate(map, size) < 0) {
		munmap(map, size);
		return -EINVAL;
	}
	if (v->conf != NULL)
		munmap((void *)v->conf, v->conf_size);
	v->conf = map;
	v->conf_size = size;
	return 0;
}

bool
view_has_cross(struct view *v)
{
	struct cross c;

	if (v->cross.region == NULL && cross_attach(&c, v->cross_region, UINT32_MAX, NULL) == 0)
		v->cross = c;
	return v->cross.region != NULL;
}

const struct ledger *
view_ledger(const struct view *v, struct ledger_head *copy)
{
	for (unsigned i = 0; i < LEDGER_TRIES; i++) {
		uint32_t seq = atomic_load_explicit(&v->ledger->seq, memory_order_acquire);

		if ((seq & 1) == 0) {
			memcpy(copy->bytes, v->ledger, sizeof copy->bytes);
			atomic_thread_fence(memory_order_acquire);
			if (atomic_load_explicit(&v->ledger->seq, memory_order_relaxed) == seq)
				break;
		}
		sched_yield();
	}
	struct ledger *l = (struct ledger *)(void *)copy;

	/* Also when it never was still: what is shown is bounded, and a moment old at worst. */
	if (l->child_count > LEDGER_CHILDREN)
		l->child_count = LEDGER_CHILDREN;
	if (l->fd_max > LEDGER_FDS)
		l->fd_max = LEDGER_FDS;
	for (unsigned i = 0; i < LEDGER_CHILDREN; i++)
		l->child[i].words[sizeof l->child[i].words - 1] = '\0';
	return l;
}

static unsigned
census_transport(uint8_t transport)
{
	switch (transport) {
	case TRANSPORT_TCP:
		return CENSUS_TCP;
	case TRANSPORT_TLS:
		return CENSUS_TLS;
	case TRANSPORT_DTLS:
		return CENSUS_DTLS;
	default:
		return CENSUS_UDP;
	}
}

static unsigned
census_family(const struct session *x)
{
	if (x->relay[1].family != 0)
		return CENSUS_DUAL;
	return x->relay[0].family == ADDR_V6 ? CENSUS_V6 : CENSUS_V4;
}

const struct census *
view_census(struct view *v, tp_ms now, tp_ms age)
{
	struct census *c = &v->census;
	struct session x;

	if (c->when != 0 && now - c->when < age)
		return c;
	memset(c, 0, sizeof *c);
	c->when = now;
	for (unsigned i = 0; i < v->shard_count; i++) {
		uint32_t high = v->shard[i].region != NULL ? shard_high(&v->shard[i]) : 0;

		for (uint32_t slot = 0; slot < high; slot++)
			if (session_read(&v->shard[i], slot, &x)) {
				c->total++;
				c->shard[i]++;
				c->by[census_transport(x.transport)][census_family(&x)]++;
				for (unsigned k = 0; k < 2; k++)
					if (x.relay[k].family != ADDR_NONE && x.relay[k].row < RELAYS_MAX)
						c->relay[x.relay[k].row]++;
			}
	}
	return c;
}

/* The supervisor's table says which ports are bound; which of them serve, the sessions say. */
unsigned
view_ports(struct view *v, tp_ms now, struct port_use out[RELAYS_MAX])
{
	const struct census *c = view_census(v, now, 1000);
	uint32_t bound[RELAYS_MAX] = { 0 };
	unsigned n = 0;

	for (uint32_t fd = 0; fd < v->ledger->fd_max && fd < LEDGER_FDS; fd++) {
		struct ledger_fd e = *(const volatile struct ledger_fd *)&v->ledger->fd[fd];

		if ((e.kind == LEDGER_POOL || e.kind == LEDGER_RESERVED) && e.row < RELAYS_MAX)
			bound[e.row]++;
	}
	for (unsigned i = 0; v->conf != NULL && i < v->conf->relay_count; i++) {
		const struct conf_relay *r = &v->conf->relays[i];
		uint32_t range = r->port_max >= r->port_min && r->port_min != 0
		    ? (uint32_t)(r->port_max - r->port_min) + 1
		    : 0;
		struct port_use *u = &out[n];

		if (r->retired)
			continue;
		*u = (struct port_use){ .addr = r->addr,
			.external = r->external,
			.low = r->port_min,
			.high = r->port_max,
			.used = c->relay[i] };
		u->prepared = bound[i] > u->used ? bound[i] - u->used : 0;
		u->free = range > bound[i] ? range - bound[i] : 0;
		n++;
	}
	return n;
}

uint64_t
view_shard_packets(const struct view *v, unsigned shard)
{
	return v->shard[shard].region != NULL ? shard_packets(&v->shard[shard]) : 0;
}

void
view_tick(struct view *v, tp_ms now)
{
	tp_ms span = now - v->rate_when;

	for (unsigned i = 0; i < SHARDS_MAX; i++) {
		const struct stats *s = v->worker[i];
		uint64_t n;

		if (s == NULL)
			continue;
		n = view_read(&s->counter[STAT_CLIENT_RX_PACKETS]) +
		    view_read(&s->counter[STAT_PEER_RX_PACKETS]);
		if (v->rate_when != 0 && span > 0 && n >= v->packets[i])
			v->rate[i] = (n - v->packets[i]) * 1000 / span;
		v->packets[i] = n;
	}
	v->rate_when = now;
}
