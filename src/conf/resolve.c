/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * resolve.c: what this host adds to the configuration ("*", default relay addresses), and the checks
 * that need more than one option.
 */
#include "config.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conf_int.h"

#define PREFER_PUBLIC 2 /* IPV6_PREFER_SRC_PUBLIC of <linux/in6.h>, which does not go with <netinet/in.h> */

static bool
in(const struct addr *a, const char *cidr)
{
	struct cidr c;

	return cidr_parse(&c, cidr) == 0 && cidr_has(&c, a);
}

bool
addr_is_loopback(const struct addr *a)
{
	return in(a, "127.0.0.0/8") || in(a, "::1/128");
}

/* Not reachable from the Internet, and not loopback. */
static bool
addr_is_private(const struct addr *a)
{
	return in(a, "10.0.0.0/8") || in(a, "172.16.0.0/12") || in(a, "192.168.0.0/16") ||
	    in(a, "100.64.0.0/10") || in(a, "169.254.0.0/16") || in(a, "fc00::/7") || in(a, "fe80::/10");
}

/* ---- what the kernel knows ---------------------------------------------------------------------- */

/* Connecting a UDP socket sends nothing; it makes the kernel choose the route and our address on it. */
static void
ask_route(const char *far, struct addr *out)
{
	struct sockaddr_storage ss;
	struct addr a;
	socklen_t len;
	int fd;

	if (addr_parse(&a, far) < 0)
		return;
	a.port = 53;
	len = addr_to_sockaddr(&a, &ss);
	fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	/* Not a temporary address of IPv6 privacy, which goes within days, and the sessions with it. */
	if (a.family == ADDR_V6)
		(void)setsockopt(
		    fd, IPPROTO_IPV6, IPV6_ADDR_PREFERENCES, &(int){ PREFER_PUBLIC }, sizeof(int));
	if (connect(fd, (const struct sockaddr *)&ss, len) == 0) {
		len = sizeof ss;
		if (getsockname(fd, (struct sockaddr *)&ss, &len) == 0 &&
		    addr_from_sockaddr(&a, (const struct sockaddr *)&ss) == 0 && !addr_is_loopback(&a)) {
			a.port = 0;
			*out = a;
		}
	}
	close(fd);
}

/* Does the kernel call it temporary?  /proc/net/if_inet6: address, interface, prefix, scope, flags,
 * name. */
static bool
host_is_temporary(const struct addr *a)
{
	char line[128];
	bool found = false;
	FILE *f = a->family == ADDR_V6 ? fopen("/proc/net/if_inet6", "re") : NULL;

	while (f != NULL && !found && fgets(line, sizeof line, f) != NULL) {
		struct addr is = { .family = ADDR_V6 };
		unsigned flags = 0, byte = 0;

		for (unsigned i = 0; i < 16 && sscanf(line + 2 * i, "%2x", &byte) == 1; i++)
			is.ip[i] = (uint8_t)byte;
		if (sscanf(line + 32, " %*x %*x %*x %x", &flags) == 1)
			found = addr_ip_eq(&is, a) && (flags & 1 /* IFA_F_TEMPORARY */) != 0;
	}
	if (f != NULL)
		fclose(f);
	return found;
}

static bool
host_has(const struct conf_host *h, const struct addr *a)
{
	for (uint32_t i = 0; i < h->addr_count; i++)
		if (addr_ip_eq(&h->addr[i], a))
			return true;
	return false;
}

void
host_ask(struct conf_host *h)
{
	memset(h, 0, sizeof *h);
	(void)conf_host_addrs(h->addr, &h->addr_count, &h->addr_more);
	/* Two root name servers; any address that only a default route leads to would do. */
	ask_route("198.41.0.4", &h->route[0]);
	ask_route("2001:503:ba3e::2:30", &h->route[1]);
}

/* ---- listeners -------------------------------------------------------------------------------- */

static const struct conf_listener *
listener_find(const struct conf *c, const struct addr *a, uint8_t transports)
{
	for (uint32_t i = 0; i < c->listener_count; i++)
		if (addr_eq(&c->listeners[i].addr, a) && (c->listeners[i].transports & transports))
			return &c->listeners[i];
	return NULL;
}

static void
add_listener(struct load *l, const struct listener_wish *w, const struct addr *a)
{
	struct conf *c = l->conf;
	struct conf_listener *n;
	const char *name, *slash;

	if (c->listener_count == LISTENERS_MAX) {
		if (!l->listeners_full)
			load_warn(l, w->at,
			    "listeners: this host has too many addresses for \"*\": the first %u are served; name the "
			    "addresses",
			    LISTENERS_MAX);
		l->listeners_full = true;
		return;
	}
	n = &c->listeners[c->listener_count++];
	n->addr = *a;
	n->addr.port = w->addr.port;
	n->transports = w->transports;
	n->proxy_count = w->proxy_count;
	memcpy(n->proxy, w->proxy, sizeof n->proxy);
	if (w->at == NULL) {
		text_copy(n->where, sizeof n->where, "default");
		return;
	}
	name = w->at->src->name;
	slash = strrchr(name, '/');
	if (w->at->src->is_set)
		text_copy(n->where, sizeof n->where, name);
	else
		snprintf(
		    n->where, sizeof n->where, "%.48s:%u", slash != NULL ? slash + 1 : name, w->at->line);
}

static void
add_every(struct load *l, const struct listener_wish *w)
{
	unsigned before = l->conf->listener_count, errors = l->errors;

	for (uint32_t i = 0; i < l->host->addr_count && l->errors == errors; i++) {
		struct addr a = l->host->addr[i];

		a.port = w->addr.port;
		if (w->addr.family != ADDR_NONE && w->addr.family != a.family)
			continue;
		if (in(&a, "fe80::/10")) /* needs an interface, which an address here does not carry */
			continue;
		if (l->rq->host == NULL && host_is_temporary(&a))
			continue; /* of IPv6 privacy: it goes within days */
		if (listener_find(l->conf, &a, w->transports) == NULL)
			add_listener(l, w, &a);
	}
	if (l->conf->listener_count == before && before == 0 && l->errors == errors)
		load_warn(l, w->at,
		    "listeners: this host has no address to listen on yet: the first one that comes is served");
}

static void
resolve_listeners(struct load *l)
{
	struct listener_wish every = { .addr.port = 3478, .every = true, .transports = TRANSPORT_UDP };
	const struct conf_listener *clash;
	char text[ADDR_STRLEN];

	/* Named addresses first: "*" is what remains. */
	for (unsigned i = 0; i < l->wish_count; i++) {
		const struct listener_wish *w = &l->wish[i];

		if (w->every)
			continue;
		clash = listener_find(l->conf, &w->addr, w->transports);
		if (clash != NULL) {
			load_error(l, w->at, "listeners: the same address, port and transport is at %s",
			    clash->where);
			continue;
		}
		if (!host_has(l->host, &w->addr))
			load_warn(l, w->at,
			    "listeners: %s is not an address of this host now: it is served when it comes",
			    addr_print_ip(&w->addr, text));
		add_listener(l, w, &w->addr);
	}
	for (unsigned i = 0; i < l->wish_count; i++)
		if (l->wish[i].every)
			add_every(l, &l->wish[i]);
	if (l->seen[OPTION_listeners] == NULL)
		add_every(l, &every);
}

/* ---- relay addresses --------------------------------------------------------------------------- */

static void
default_relays(struct load *l)
{
	struct conf *c = l->conf;
	const struct addr *v4 = &l->host->route[0], *v6 = &l->host->route[1];

	if (v4->family != ADDR_NONE)
		c->relays[c->relay_count++].addr = *v4;
	/* A private IPv6 address would make clients try candidates that cannot be reached; without one they
	 * are told that there is no IPv6.  A private IPv4 address is usual behind 1:1 NAT. */
	if (v6->family != ADDR_NONE && !addr_is_private(v6))
		c->relays[c->relay_count++].addr = *v6;
	if (c->relay_count == 0)
		load_warn(l, NULL,
		    "relay.addresses: this host has no default route to take an address from yet: no allocation until "
		    "there is one, or list the addresses");
}

/*
 * A name or `auto` becomes an address here.  What cannot be found now is no error: the sessions of this
 * address are told the inside one until it is, and the supervisor looks again.
 */
static void
find_external(struct load *l, struct conf_relay *r, const struct node *at)
{
	const struct conf *c = l->conf;
	bool is_auto = strcmp(r->external_name, "auto") == 0;
	char why[160] = "nothing is looked up here";
	struct addr found;
	int e = -ENOSYS;

	if (is_auto && (addr_is_loopback(&r->addr) || !addr_is_private(&r->addr)))
		return;
	if (is_auto && c->external_stun[0] == '\0')
		snprintf(why, sizeof why, "it is private: name a STUN server in relay.external_stun");
	else if (l->rq->outside != NULL)
		e = l->rq->outside(
		    is_auto ? NULL : r->external_name, c->external_stun, &r->addr, &found, why, sizeof why);
	r->unknown = e < 0;
	if (e < 0)
		load_warn(l, at, "relay.addresses: external: %s: %s", r->external_name, why);
	else if (!addr_ip_eq(&found, &r->addr))
		r->external = found;
}

static void
check_relay(struct load *l, const struct conf_relay *r, const struct node *at)
{
	const struct conf *c = l->conf;
	char buf[ADDR_STRLEN];

	addr_print_ip(&r->addr, buf);
	if (r->external.family == ADDR_NONE && !r->unknown && addr_is_private(&r->addr))
		load_warn(l, at,
		    "relay.addresses: %s is a private address: peers elsewhere cannot reach it; give the public one "
		    "as external",
		    buf);
	if (at != NULL && !host_has(l->host, &r->addr))
		load_warn(l, at, "relay.addresses: %s is not an address of this host now", buf);
	for (uint32_t i = 0; i < c->listener_count; i++) {
		const struct conf_listener *o = &c->listeners[i];

		if (addr_ip_eq(&o->addr, &r->addr) && o->addr.port >= r->port_min &&
		    o->addr.port <= r->port_max)
			load_error(l, at,
			    "relay.addresses: %s: its ports %u-%u contain port %u of the listener at %s: choose other "
			    "ports",
			    buf, r->port_min, r->port_max, o->addr.port, o->where);
	}
	for (const struct conf_relay *o = c->relays; o < r; o++)
		if (r->external.family != ADDR_NONE && addr_ip_eq(&o->external, &r->external) &&
		    o->port_min <= r->port_max && r->port_min <= o->port_max)
			load_error(l, at,
			    "relay.addresses: %s: another address with overlapping ports has the same external",
			    buf);
}

static void
resolve_relays(struct load *l)
{
	struct conf *c = l->conf;

	if (l->seen[OPTION_relays] == NULL)
		default_relays(l);
	for (uint32_t i = 0; i < c->relay_count; i++) {
		struct conf_relay *r = &c->relays[i];

		if (r->port_min == 0) {
			r->port_min = c->relay_ports.min;
			r->port_max = c->relay_ports.max;
		}
		if (r->external_name[0] != '\0')
			find_external(l, r, l->relay_at[i]);
		check_relay(l, r, l->relay_at[i]);
	}
}

/* ---- the rest --------------------------------------------------------------------------------- */

/* The place to report a clash of two options: whichever was written. */
static const struct node *
place_of(const struct load *l, enum option_id a, enum option_id b)
{
	return l->seen[a] != NULL ? l->seen[a] : l->seen[b];
}

static void
check_user(struct load *l)
{
	const char *user = l->conf->user;

	for (const char *s = user; *s != '\0'; s++)
		if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-", *s) ==
			NULL ||
		    *user == '-') {
			load_error(
			    l, l->seen[OPTION_user], "process.user: allowed: letters, digits, _ . and -");
			return;
		}
}

static void
check_realm(struct load *l)
{
	/* REALM is the inside of a quoted-string (RFC 8489, 14.9). */
	if (strpbrk(l->conf->realm, "\"\\") != NULL)
		load_error(l, l->seen[OPTION_realm], "auth.realm: \" and \\ are not allowed");
}

/* The metrics port accepts TCP connections, as listeners of tcp and tls do. */
static void
check_metrics_port(struct load *l, const struct addr *metrics)
{
	const struct conf *c = l->conf;

	for (uint32_t i = 0; i < c->listener_count; i++) {
		const struct conf_listener *o = &c->listeners[i];

		if ((o->transports & TRANSPORT_STREAMS) != 0 && o->addr.port == c->metrics_port &&
		    (addr_ip_eq(&o->addr, metrics) || is_unspecified(metrics)))
			load_error(l, place_of(l, OPTION_metrics_port, OPTION_metrics_address),
			    "metrics.port: %u is the port of the listener at %s: choose another",
			    (unsigned)c->metrics_port, o->where);
	}
}

static void
check_metrics(struct load *l)
{
	const char *text = l->conf->metrics_address;
	struct addr a;

	if (text[0] == '\0')
		return;
	if (text[0] == '[' || addr_parse(&a, text) < 0 || a.port != 0 ||
	    (a.family == ADDR_V4 && strchr(text, ':') != NULL))
		load_error(l, l->seen[OPTION_metrics_address],
		    "metrics.address: allowed: an IPv4 or IPv6 address without a port, "
		    "or \"\" for none");
	else
		check_metrics_port(l, &a);
#ifndef HAVE_MHD
	load_error(l, l->seen[OPTION_metrics_address],
	    "metrics.address: %s: this build has no metrics, it was made without "
	    "libmicrohttpd: leave it out",
	    text);
#endif
}

static void
check_affinity(struct load *l)
{
	const char *text = l->conf->cpu_affinity;
	uint16_t list[CONF_CPUS_MAX];
	unsigned n;

	if (strcmp(text, "auto") != 0 && strcmp(text, "none") != 0 && !conf_cpus(text, list, &n))
		load_error(l, l->seen[OPTION_cpu_affinity],
		    "io.cpu_affinity: allowed: auto, none, or processors such as 0,2-5");
}

static void
check_alternate(struct load *l)
{
	const char *text = l->conf->drain_alternate;
	struct addr a;

	if (text[0] != '\0' && (addr_parse(&a, text) < 0 || a.port == 0))
		load_error(l, l->seen[OPTION_drain_alternate],
		    "drain.alternate: allowed: address:port of another server, "
		    "[address]:port for IPv6, or \"\" for none");
}

void
resolve(struct load *l)
{
	struct conf *c = l->conf;

	if (l->host->addr_more)
		load_warn(l, NULL,
		    "this host has more than %u addresses: of the others peers.deny has to keep the peers away",
		    CONF_HOST_ADDRS_MAX);
	resolve_listeners(l);
	resolve_relays(l);
	c->follows_host = l->seen[OPTION_listeners] == NULL || l->seen[OPTION_relays] == NULL;
	for (unsigned i = 0; i < l->wish_count; i++)
		c->follows_host |= l->wish[i].every;
	check_user(l);
	check_realm(l);
	check_metrics(l);
	check_affinity(l);
	check_alternate(l);
	if (c->default_lifetime > c->max_lifetime)
		load_error(l, place_of(l, OPTION_default_lifetime, OPTION_max_lifetime),
		    "relay.default_lifetime: longer than relay.max_lifetime");
	if (c->shards != 0 && c->workers > c->shards)
		load_error(l, place_of(l, OPTION_shards, OPTION_workers),
		    "process.workers: more than process.shards: a worker "
		    "needs a shard");
	if (strcmp(c->log_target, "auto") == 0) {
		memset(c->log_target, 0, sizeof c->log_target);
		text_copy(c->log_target, sizeof c->log_target, l->rq->foreground ? "stderr" : "syslog");
	}
	c->host_addr_count = l->host->addr_count;
	memcpy(c->host_addr, l->host->addr, sizeof c->host_addr);
}
