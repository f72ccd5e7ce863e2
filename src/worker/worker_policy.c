/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * worker_policy.c: from the compiled configuration to what the core asks.
 *
 * Two buffers: a reload builds the other one and then changes the pointer, so the core never sees half of
 * one.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker_int.h"

#define HANDSHAKE_GRACE 5 /* seconds beyond turnpike-tls's own time limit */
/* DTLS datagrams a second to turnpike-tls processes for each handshake that a prefix may have in progress:
 * 200 ms for one, and four datagrams.  No option of its own: it would have to follow the other. */
#define SHAKES_PER_HALF 20

static void
rules(struct turn_rules *to, const struct conf_rules *from)
{
	_Static_assert(TURN_RULES_MAX == CONF_RULES_MAX, "rules of both");
	to->count = from->count;
	memcpy(to->rule, from->rule, from->count * sizeof to->rule[0]);
}

static void
add_listener(struct peer_policy *p, const struct addr *a)
{
	if (p->listener_count < TP_COUNT(p->listener))
		p->listener[p->listener_count++] = *a;
}

static void
peers(struct peer_policy *p, const struct conf *c)
{
	struct addr metrics;

	_Static_assert(
	    TP_COUNT(p->own) == CONF_OWN_MAX && TP_COUNT(p->host) == CONF_HOST_ADDRS_MAX, "lists of both");
	rules(&p->deny, &c->peer_deny);
	rules(&p->allow, &c->peer_allow);
	rules(&p->allow_private, &c->peer_private);
	for (uint32_t i = 0; i < c->peer_own_count; i++)
		p->own[p->own_count++] = (struct turn_ports){ c->peer_own[i].addr, c->peer_own[i].ports.min,
			c->peer_own[i].ports.max };
	for (uint32_t i = 0; i < c->host_addr_count; i++)
		p->host[p->host_count++] = c->host_addr[i];
	for (uint32_t i = 0; i < c->relay_count && p->host_count < TP_COUNT(p->host); i++)
		if (c->relays[i].external.family != ADDR_NONE && !c->relays[i].retired)
			p->host[p->host_count++] = c->relays[i].external;
	for (uint32_t i = 0; i < c->listener_count; i++)
		if (!c->listeners[i].closed)
			add_listener(p, &c->listeners[i].addr);
	if (c->metrics_address[0] != '\0' && addr_parse(&metrics, c->metrics_address) == 0) {
		metrics.port = (uint16_t)c->metrics_port;
		add_listener(p, &metrics);
	}
}

static void
auth(struct auth_policy *a, const struct conf *c)
{
	text_copy(a->realm, sizeof a->realm, c->realm);
	a->realm_len = strlen(a->realm);
	a->sha256_only = c->password_algorithms == CONF_ALGS_SHA256;
	a->offer_userhash = c->has_names;
	a->strict_expiry = c->strict_expiry;
	a->nonce_lifetime = c->nonce_lifetime;
	a->conf_generation = c->generation;
}

static void
alternates(struct turn_policy *p, const struct conf *c)
{
	_Static_assert(TURN_ALTERNATES_MAX == CONF_ALTERNATES_MAX, "alternates of both");
	_Static_assert(sizeof p->alternates[0].domain == sizeof c->alternates[0].domain, "domains of both");
	if (c->drain_alternate[0] != '\0' && addr_parse(&p->alternate, c->drain_alternate) < 0)
		memset(&p->alternate, 0, sizeof p->alternate);
	for (uint32_t i = 0; i < c->alternate_count; i++) {
		struct turn_alternate *to = &p->alternates[p->alternate_count++];

		to->addr = c->alternates[i].addr;
		to->transports = c->alternates[i].transports;
		text_copy(to->domain, sizeof to->domain, c->alternates[i].domain);
	}
}

/* A validated configuration into a zeroed policy. */
static void
policy_build(struct turn_policy *p, const struct conf *c)
{
	auth(&p->auth, c);
	peers(&p->peers, c);
	p->generation = c->generation;
	alternates(p, c);
	for (uint32_t i = 0; i < c->listener_count; i++)
		p->retired[i] = c->listeners[i].retired != 0;
	p->relay_count = c->relay_count;
	for (uint32_t i = 0; i < c->relay_count; i++)
		p->relay[i] = (struct turn_relay_row){ .addr = c->relays[i].addr,
			.external = c->relays[i].external,
			.port_min = c->relays[i].port_min,
			.port_max = c->relays[i].port_max,
			.retired = c->relays[i].retired != 0 };
	p->default_family = c->default_family == CONF_FAMILY_IPV4 ? ADDR_V4
	    : c->default_family == CONF_FAMILY_IPV6               ? ADDR_V6
								  : 0;
	p->strict_family = c->strict_family;
	p->outside_users = c->database_count > 0;
	p->default_lifetime = (uint32_t)(c->default_lifetime / 1000);
	p->max_lifetime = (uint32_t)(c->max_lifetime / 1000);
	p->replace_idle = (uint32_t)(c->replace_idle / 1000);
	p->quota = (struct cross_limits){ c->allocations_per_user, c->allocations_per_prefix,
		c->allocations_total };
	p->bandwidth = (struct bandwidth){ c->bandwidth_per_allocation, c->bandwidth_per_user,
		c->bandwidth_total };
	p->channel_max = c->rfc5766_channels ? CHANNEL_MAX : CHANNEL_MAX_8656;
	if (strcmp(c->software, "off") != 0)
		text_copy(p->software, sizeof p->software, c->software);
	p->permissions_max = (uint32_t)c->permissions_per_allocation;
	p->channels_max = (uint32_t)c->channels_per_allocation;
	p->challenges = (uint32_t)c->challenges_per_prefix;
	p->bindings = (uint32_t)c->bindings_per_prefix;
}

/* Depth of a row's pool. */
static uint32_t
policy_depth(const struct turn_relay_row *r, uint32_t shards)
{
	if (r->port_min == 0 || r->port_max < r->port_min)
		return 0; /* a row that is no longer configured */
	uint32_t range = (uint32_t)(r->port_max - r->port_min) + 1;
	uint32_t depth = range / (shards * 4);
	return depth < 1 ? 1 : depth > POOL_DEPTH ? POOL_DEPTH : depth;
}

void
policy_drain(struct worker *w, uint32_t flags)
{
	w->policy[0]->draining = (flags & MSG_DRAIN_ASKED) != 0;
	w->policy[0]->memory_short = (flags & MSG_DRAIN_MEMORY) != 0;
}

void
policy_again(struct worker *w)
{
	struct turn_policy *p = w->policy[1];

	*p = *w->plain;
	p->draining = w->policy[0]->draining;
	p->memory_short = w->policy[0]->memory_short;
	followed_apply(w, p);
	w->policy[1] = w->policy[0];
	w->policy[0] = p;
	w->turn.policy = p;
}

/* A row that nothing refers to any more gives its port back: the supervisor has closed its own
 * descriptor. */
static void
close_socket(struct lane *l, int *fd)
{
	if (*fd < 0)
		return;
	lane_unwatch(l, *fd);
	close(*fd);
	if (lane_window(l, *fd))
		*lane_use(l, *fd) = FD_NONE;
	*fd = -1;
}

static void
close_rows(struct worker *w)
{
	for (unsigned row = 0; row < LISTENERS_MAX; row++)
		for (unsigned k = 0; w->rows[row].closed && k < w->lane_count; k++) {
			close_socket(&w->lane[k], &w->lane[k].listener[row]);
			close_socket(&w->lane[k], &w->lane[k].stream[row]);
		}
}

static void
take(struct worker *w, const struct conf *c)
{
	struct turn_policy *p;

	memset(w->plain, 0, sizeof *w->plain);
	w->plain->ports = w->ports;
	policy_build(w->plain, c);
	policy_again(w);
	p = w->policy[0];
	w->streams = (struct stream_policy){ .limits = { c->connections_per_prefix, c->connections_total },
		.queue = c->stream_queue,
		.deadline = (uint32_t)((c->stream_deadline + 999) / 1000),
		.handshakes = (uint32_t)c->handshakes_per_prefix,
		.shakes = (uint32_t)c->half_open_per_prefix * SHAKES_PER_HALF };
	limit_values_take(w->limit, c);
	/* It may wait for its turn twice as long as it may last. */
	w->handshake_seconds = (uint32_t)(3 * c->handshake_timeout / 1000) + HANDSHAKE_GRACE;
	memcpy(w->rows, c->listeners, sizeof c->listeners);
	close_rows(w);
	for (unsigned i = 0; i < RELAYS_MAX; i++)
		w->pools.depth[i] = i < p->relay_count && !c->relays[i].retired && !c->relays[i].absent
		    ? policy_depth(&p->relay[i], w->start.shard_count)
		    : 0;
	/* A row that is no longer configured serves no new allocation; ports of the others may have
	 * changed. */
	for (unsigned i = 0; i < RELAYS_MAX; i++) {
		w->pools.rest_max[i] = w->pools.depth[i] == 0 || w->start.filter_fd < 0
		    ? 0
		    : rest_depth(&p->relay[i], w->start.shard_count, w->lane[0].told.fd_span);
		for (unsigned k = 0; k < w->lane_count; k++)
			rest_clear(w, &w->lane[k], i);
		if (w->pools.depth[i] == 0)
			relays_recall(w, i, 0);
	}
	log_level_set((enum log_level)c->log_level);
	w->anonymous = c->log_anonymize;
	if (w->engine != NULL)
		return; /* these need a new worker */
	tune_engine(w, c->engine);
	tune_cpu(w, c->cpu_affinity, c->workers);
}

int
policy_take(struct worker *w, int conf_fd)
{
	const int wanted = F_SEAL_SHRINK | F_SEAL_WRITE;
	struct stat st;

	if (fstat(conf_fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(struct conf) || st.st_size > 1 << 24)
		return -EINVAL;
	int seals = fcntl(conf_fd, F_GET_SEALS);
	if (seals < 0 || (seals & wanted) != wanted)
		return -EPERM;
	size_t size = (size_t)st.st_size;
	const struct conf *c = mmap(NULL, size, PROT_READ, MAP_SHARED, conf_fd, 0);
	if (c == MAP_FAILED)
		return -errno;
	int err = conf_validate(c, size);
	if (err == 0)
		take(w, c);
	munmap((void *)(uintptr_t)c, size);
	return err;
}
