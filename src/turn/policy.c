/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * policy.c: which peers may be reached.  One canonical form, one decision, on every path.
 *
 * 	never -> databases' own addresses -> peers.deny -> denied_peer_ip of databases -> relay sockets of this server (two
 * 	clients of it meet) -> this host -> internal and transition ranges (allow_private opens them) -> peers.allow
 *
 * An IPv6 form that carries IPv4 addresses is expanded once; each form has to pass.
 */
#include "config.h"

#include "turn_int.h"

#define V4(a, b, c, d, n)                                                                                  \
	{                                                                                                  \
		.family = ADDR_V4, .bits = (n), .ip = {(a), (b), (c), (d) }                                \
	}
#define V6(n, ...)                                                                                         \
	{                                                                                                  \
		.family = ADDR_V6, .bits = (n), .ip = { __VA_ARGS__ }                                      \
	}

/* No rule opens these. */
static const struct cidr never[] = {
	V4(0, 0, 0, 0, 8),   /* "this host": the kernel delivers 0.0.0.0 to loopback */
	V4(224, 0, 0, 0, 4), /* multicast */
	V4(240, 0, 0, 0, 4), /* class E and broadcast */
	V6(128, 0),          /* unspecified */
	V6(8, 0xff),         /* multicast */
};

/* Opened by allow_private only. */
static const struct cidr internal[] = {
	V4(10, 0, 0, 0, 8), V4(100, 64, 0, 0, 10),     /* carrier NAT, RFC 6598; some clouds' metadata */
	V4(127, 0, 0, 0, 8), V4(168, 63, 129, 16, 32), /* a cloud's host agent, in a public range */
	V4(169, 254, 0, 0, 16),                        /* link-local, metadata */
	V4(172, 16, 0, 0, 12), V4(192, 0, 0, 0, 24),   /* IETF, RFC 6890 */
	V4(192, 0, 2, 0, 24),                          /* documentation */
	V4(192, 88, 99, 0, 24),                        /* 6to4 anycast */
	V4(192, 168, 0, 0, 16), V4(198, 18, 0, 0, 15), /* benchmarks */
	V4(198, 51, 100, 0, 24),                       /* documentation */
	V4(203, 0, 113, 0, 24),                        /* documentation */
	V6(128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1), /* loopback */
	V6(7, 0xfc),                                             /* unique local */
	V6(10, 0xfe, 0x80),                                      /* link-local */
	V6(10, 0xfe, 0xc0),                                      /* site-local */
	V6(32, 0x20, 0x01, 0x0d, 0xb8),                          /* documentation */
	V6(20, 0x3f, 0xff, 0x00),                                /* documentation, RFC 9637 */
	V6(64, 0x01, 0x00),                                      /* discard, RFC 6666 */
};

/* Prefixes of IPv6 forms that carry an IPv4 address, and where in the address it is. */
static const struct embedding {
	struct cidr prefix;
	uint8_t at;
	bool inverted;
} embeddings[] = {
	{ V6(96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff), 12, false }, /* v4-mapped */
	{ V6(96, 0), 12, false },                                        /* v4-compatible */
	{ V6(96, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0), 12, false }, /* SIIT, RFC 2765 */
	{ V6(96, 0, 0x64, 0xff, 0x9b), 12, false },                      /* NAT64, RFC 6052 */
	{ V6(48, 0, 0x64, 0xff, 0x9b, 0, 1), 12, false },                /* local NAT64, RFC 8215 */
	{ V6(16, 0x20, 0x02), 2, false },                                /* 6to4 */
	{ V6(32, 0x20, 0x01, 0, 0), 4, false },                          /* Teredo: server */
	{ V6(32, 0x20, 0x01, 0, 0), 12, true },                          /* Teredo: client */
};

static const struct cidr loopback_v6 = V6(128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);
static const struct cidr global_v6 = V6(3, 0x20);
static const struct cidr ietf_v6 = V6(23, 0x20, 0x01); /* Teredo, ORCHID, benchmarks, RFC 2928 */
static const struct cidr six_to_four = V6(16, 0x20, 0x02);
static const struct cidr teredo = V6(32, 0x20, 0x01, 0, 0);
static const struct cidr site_isatap = V6(0, 0); /* any prefix: told by the interface id */

static const struct cidr *
find_in(const struct cidr *list, unsigned n, const struct addr *a)
{
	for (unsigned i = 0; i < n; i++)
		if (cidr_has(&list[i], a))
			return &list[i];
	return NULL;
}

static const struct cidr *
find_rule(const struct turn_rules *r, const struct addr *a)
{
	return find_in(r->rule, r->count < TURN_RULES_MAX ? r->count : TURN_RULES_MAX, a);
}

static bool
is_unspecified(const struct addr *a)
{
	static const uint8_t zero[16];

	return memcmp(a->ip, zero, sizeof zero) == 0;
}

/* ---- this host ----------------------------------------------------------------------------------- */

/* Is the address one that relay row i has, on either side of a NAT? */
static bool
row_has_ip(const struct turn_policy *p, uint32_t i, const struct addr *a)
{
	const struct turn_relay_row *r = &p->relay[i];

	return (addr_ip_eq(&r->addr, a) || addr_ip_eq(&r->external, a)) &&
	    (!r->retired || port_map_open(p->ports, i) > 0);
}

bool
peer_is_relay(const struct turn_policy *p, const struct addr *a)
{
	for (uint32_t i = 0; i < p->relay_count; i++)
		if (port_map_has(p->ports, i, a->port) && row_has_ip(p, i, a))
			return true;
	return false;
}

/* Port 0: may one of its ports be a relay socket? */
static bool
is_own_relay(const struct turn_policy *p, const struct addr *a)
{
	if (a->port != 0)
		return peer_is_relay(p, a);
	for (uint32_t i = 0; i < p->relay_count; i++)
		if (row_has_ip(p, i, a))
			return true;
	return false;
}

/* Any address of this machine, externals included. */
static bool
is_own_ip(const struct turn_policy *p, const struct addr *a)
{
	const struct peer_policy *pp = &p->peers;

	for (uint32_t i = 0; i < pp->host_count; i++)
		if (addr_ip_eq(&pp->host[i], a))
			return true;
	for (uint32_t i = 0; i < p->relay_count; i++)
		if (row_has_ip(p, i, a))
			return true;
	for (uint32_t i = 0; i < pp->listener_count; i++)
		if (addr_ip_eq(&pp->listener[i], a))
			return true;
	return false;
}

static bool
port_within(uint16_t port, uint16_t min, uint16_t max)
{
	return port == 0 ? min <= max : port >= min && port <= max;
}

static bool
is_allowed_own(const struct peer_policy *pp, const struct addr *a)
{
	for (uint32_t i = 0; i < pp->own_count; i++)
		if (addr_ip_eq(&pp->own[i].addr, a) && port_within(a->port, pp->own[i].min, pp->own[i].max))
			return true;
	return false;
}

static bool
listener_is(const struct turn_policy *p, const struct addr *l, const struct addr *a)
{
	if (l->port != a->port || l->family == ADDR_NONE)
		return false;
	if (addr_ip_eq(l, a))
		return true;
	if (is_unspecified(l)) /* a wildcard answers on each of our addresses */
		return is_own_ip(p, a);
	for (uint32_t i = 0; i < p->relay_count; i++) /* seen from outside a 1:1 NAT */
		if (addr_ip_eq(&p->relay[i].external, a) && addr_ip_eq(&p->relay[i].addr, l))
			return true;
	return false;
}

static bool
is_own_listener(const struct turn_policy *p, const struct addr *a)
{
	if (a->port == 0)
		return false;
	for (uint32_t i = 0; i < p->peers.listener_count; i++)
		if (listener_is(p, &p->peers.listener[i], a))
			return true;
	return false;
}

/* ---- the decision ---------------------------------------------------------------------------------- */

static bool
is_isatap(const struct addr *a)
{
	return (a->ip[8] & 0xfd) == 0 && a->ip[9] == 0 && a->ip[10] == 0x5e && a->ip[11] == 0xfe;
}

static void
embedded(struct addr *out, const struct addr *a, unsigned at, bool inverted)
{
	memset(out, 0, sizeof *out);
	out->family = ADDR_V4;
	out->port = a->port;
	for (unsigned i = 0; i < 4; i++)
		out->ip[i] = (uint8_t)(a->ip[at + i] ^ (inverted ? 0xff : 0));
}

/* A peer in all its forms: as it is written, then the IPv4 addresses inside an IPv6 one.  The port goes
 * with each. */
struct forms {
	unsigned n;
	struct addr a[5];
	const struct cidr *carries; /* the prefix that says what is inside; NULL: nothing is */
};

static void
expand(struct forms *f, const struct addr *a)
{
	f->n = 1;
	f->a[0] = *a;
	f->carries = NULL;
	if (a->family != ADDR_V6 || cidr_has(&loopback_v6, a)) /* ::1 is not a v4-compatible 0.0.0.1 */
		return;
	for (unsigned i = 0; i < TP_COUNT(embeddings); i++) {
		const struct embedding *e = &embeddings[i];

		if (!cidr_has(&e->prefix, a))
			continue;
		f->carries = &e->prefix;
		embedded(&f->a[f->n++], a, e->at, e->inverted);
	}
	if (!is_isatap(a))
		return;
	if (f->carries == NULL)
		f->carries = &site_isatap;
	embedded(&f->a[f->n++], a, 12, false);
}

/* Is it in a range that is not the Internet?  The range, for the log. */
static enum peer_verdict
judge_range(const struct addr *a, const struct cidr *carries, const struct cidr **rule)
{
	*rule = find_in(internal, TP_COUNT(internal), a);
	if (*rule != NULL)
		return PEER_PRIVATE;
	if (a->family == ADDR_V4)
		return PEER_OK;
	*rule = carries != NULL ? carries : cidr_has(&ietf_v6, a) ? &ietf_v6 : &global_v6;
	return carries != NULL || !cidr_has(&global_v6, a) || cidr_has(&ietf_v6, a) ? PEER_TRANSITION
										    : PEER_OK;
}

static bool
in_ranges(const struct turn_ranges *r, const struct addr *a)
{
	for (uint32_t i = 0; i < r->count; i++)
		if (addr_range_has(&r->range[i], a))
			return true;
	return false;
}

static bool
is_database(const struct peer_policy *pp, const struct addr *a, bool any_port)
{
	for (uint32_t i = 0; i < pp->database_count; i++)
		if (addr_ip_eq(&pp->database[i], a) && (any_port || pp->database[i].port == a->port))
			return true;
	return false;
}

/* One form of a peer.  *ours: it is a relay socket or an allowed port of this server, whatever range it
 * is in. */
static enum peer_verdict
judge_form(const struct turn_policy *p, const struct addr *a, const struct cidr *carries,
    const struct cidr **rule, bool *ours)
{
	const struct peer_policy *pp = &p->peers;
	const struct cidr *range, *private;
	enum peer_verdict v;

	*ours = false;
	*rule = find_in(never, TP_COUNT(never), a);
	if (*rule != NULL || (a->family != ADDR_V4 && a->family != ADDR_V6) || is_own_listener(p, a))
		return PEER_NEVER;
	if (is_database(pp, a, false))
		return PEER_DATABASE;
	*rule = find_rule(&pp->deny, a);
	if (*rule != NULL)
		return PEER_RULE;
	if (in_ranges(&pp->follow_deny, a) && !in_ranges(&pp->follow_allow, a))
		return PEER_DATABASE;
	*ours = is_own_relay(p, a) || is_allowed_own(pp, a);
	if (*ours)
		return PEER_OK;
	private = find_rule(&pp->allow_private, a);
	*rule = private;
	/* Loopback is this host with or without an entry in host[]. */
	if (private != NULL || is_own_ip(p, a))
		return private != NULL ? PEER_OK : PEER_OWN;
	v = judge_range(a, carries, &range);
	*rule = range;
	if (v != PEER_OK)
		return v;
	*rule = find_rule(&pp->allow, a);
	return pp->allow.count == 0 || *rule != NULL ? PEER_OK : PEER_NOT_ALLOWED;
}

/* A verdict that opening a range would not change. */
static bool
is_final(enum peer_verdict v)
{
	return v == PEER_NEVER || v == PEER_RULE || v == PEER_DATABASE;
}

enum peer_verdict
peer_judge(const struct turn_policy *p, const struct addr *peer, struct cidr *rule)
{
	enum peer_verdict verdict = PEER_OK;
	const struct cidr *by = NULL;
	bool ours = false;
	struct forms f;

	expand(&f, peer);
	for (unsigned i = 0; i < f.n && !ours && !is_final(verdict); i++) {
		const struct cidr *one;
		enum peer_verdict v = judge_form(p, &f.a[i], i == 0 ? f.carries : NULL, &one, &ours);

		ours = ours && i == 0; /* what is inside an address of this host does not matter */
		if (i == 0 || is_final(v) || (v != PEER_OK && verdict == PEER_OK)) {
			verdict = i == 0 || is_final(v) ? v : PEER_TRANSITION;
			by = one;
		}
	}
	if (rule != NULL) {
		memset(rule, 0, sizeof *rule);
		if (by != NULL)
			*rule = *by;
	}
	return verdict;
}

bool
peer_port_matters(const struct turn_policy *p, const struct addr *peer)
{
	struct forms f;

	expand(&f, peer);
	for (unsigned i = 0; i < f.n; i++)
		if (is_own_ip(p, &f.a[i]) || is_database(&p->peers, &f.a[i], true))
			return true;
	return false;
}

const char *
peer_verdict_text(enum peer_verdict v)
{
	switch (v) {
	case PEER_OK:
		return "allowed";
	case PEER_NEVER:
		return "never a peer";
	case PEER_RULE:
		return "peers.deny";
	case PEER_NOT_ALLOWED:
		return "not in peers.allow";
	case PEER_OWN:
		return "this host";
	case PEER_PRIVATE:
		return "internal range";
	case PEER_DATABASE:
		return "denied by a database";
	case PEER_TRANSITION:
		return "outside the IPv6 Internet";
	}
	return "unknown";
}

/* ---- behind a 1:1 NAT ------------------------------------------------------------------------------- */

void
peer_to_inside(const struct turn_policy *p, struct addr *peer)
{
	for (uint32_t i = 0; i < p->relay_count; i++)
		if (addr_ip_eq(&p->relay[i].external, peer) && port_map_has(p->ports, i, peer->port)) {
			memcpy(peer->ip, p->relay[i].addr.ip, sizeof peer->ip);
			return;
		}
}

void
peer_to_outside(const struct turn_policy *p, struct addr *peer)
{
	for (uint32_t i = 0; i < p->relay_count; i++)
		if (p->relay[i].external.family != ADDR_NONE && addr_ip_eq(&p->relay[i].addr, peer) &&
		    port_map_has(p->ports, i, peer->port)) {
			memcpy(peer->ip, p->relay[i].external.ip, sizeof peer->ip);
			return;
		}
}

/* ---- client sources ---------------------------------------------------------------------------------- */

bool
source_is_bad(const struct turn_policy *p, const struct addr *client)
{
	static const uint16_t reflectors[] = { 0, 7, 13, 17, 19, 53, 123, 389, 1900, 11211 };

	for (unsigned i = 0; i < TP_COUNT(reflectors); i++)
		if (client->port == reflectors[i])
			return true;
	return find_in(never, TP_COUNT(never), client) != NULL || is_own_listener(p, client);
}

bool
source_is_tunnel(const struct addr *client)
{
	return cidr_has(&six_to_four, client) || cidr_has(&teredo, client);
}
