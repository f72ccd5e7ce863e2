/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lists.c: listeners, relay addresses and peer rules from their YAML shapes.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>

#include "conf_int.h"

/* ---- maps of a fixed shape --------------------------------------------------------------------- */

bool
shape_read(struct load *l, const struct node *map, const char *what, const char *const *names,
    unsigned count, const struct node **out)
{
	bool ok = true;

	memset(out, 0, count * sizeof *out);
	for (const struct node *n = map->first; n != NULL; n = n->next) {
		unsigned i;

		for (i = 0; i < count && strcmp(names[i], n->key->text) != 0; i++)
			;
		if (i < count) {
			out[i] = n;
			continue;
		}
		load_error(l, n->key, "unknown key %s in %s%s", load_show(l, n->key), what,
		    suggest_or_list(l, n->key->text, names, count));
		ok = false;
	}
	return ok;
}

/* ---- pieces ----------------------------------------------------------------------------------- */

/* An address without port or brackets that a socket can be bound to or that peers can send to. */
static bool
read_host(struct load *l, const struct node *n, const char *what, struct addr *out)
{
	struct addr a;
	bool v4_mapped;

	if (n->kind != NODE_SCALAR || strchr(n->text, '[') != NULL || addr_parse(&a, n->text) < 0 ||
	    a.port != 0 || (a.family == ADDR_V4 && strchr(n->text, ':') != NULL)) {
		load_error(l, n, "%s: %s: allowed: an IPv4 or IPv6 address without a port, no names", what,
		    load_show(l, n));
		return false;
	}
	v4_mapped = a.family == ADDR_V6 && memcmp(a.ip, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0;
	if (v4_mapped || (a.family == ADDR_V4 && a.ip[0] >= 224) ||
	    (a.family == ADDR_V6 && a.ip[0] == 0xff) ||
	    (a.family == ADDR_V6 && a.ip[0] == 0xfe && (a.ip[1] & 0xc0) == 0x80)) {
		load_error(l, n,
		    "%s: %s: multicast, broadcast, link-local IPv6 and IPv4-mapped addresses are not allowed",
		    what, load_show(l, n));
		return false;
	}
	*out = a;
	return true;
}

bool
is_unspecified(const struct addr *a)
{
	static const uint8_t zero[16];

	return memcmp(a->ip, zero, 16) == 0;
}

static bool
read_decimal(const char **s, unsigned max, unsigned *out)
{
	unsigned v = 0;
	const char *p = *s;

	if (*p < '0' || *p > '9' || (p[0] == '0' && p[1] >= '0' && p[1] <= '9'))
		return false;
	for (; *p >= '0' && *p <= '9'; p++) {
		v = v * 10 + (unsigned)(*p - '0');
		if (v > max)
			return false;
	}
	*s = p;
	*out = v;
	return true;
}

/* LOW-HIGH followed by `rest`. */
static bool
read_ports(const char *s, unsigned min, const char *rest, struct conf_ports *out)
{
	unsigned low, high;

	if (!read_decimal(&s, 65535, &low) || *s++ != '-' || !read_decimal(&s, 65535, &high) ||
	    strcmp(s, rest) != 0 || low < min || low > high)
		return false;
	out->min = (uint16_t)low;
	out->max = (uint16_t)high;
	return true;
}

/* ---- listeners -------------------------------------------------------------------------------- */

static void
read_transport(struct load *l, const struct node *n, uint8_t *mask)
{
	unsigned bit = 0, count = TP_COUNT(conf_transport_names);

	while (n->kind == NODE_SCALAR && bit < count && strcmp(n->text, conf_transport_names[bit]) != 0)
		bit++;
	if (n->kind != NODE_SCALAR || bit == count)
		load_error(l, n, "transport: %s: allowed: udp, tcp, tls, dtls, or a list of them",
		    load_show(l, n));
	else if (*mask & (1u << bit))
		load_error(l, n, "transport: %s is listed twice", load_show(l, n));
	else if (!(CONF_TRANSPORTS_BUILT & (1u << bit)))
		load_error(l, n, "transport %s: not built in this version", n->text);
	else
		*mask |= (uint8_t)(1u << bit);
}

void
transports_read(struct load *l, const struct node *n, uint8_t *mask)
{
	*mask = 0;
	if (n->kind != NODE_LIST)
		read_transport(l, n, mask);
	else if (n->first == NULL)
		load_error(
		    l, n, "transport: an empty list: allowed: udp, tcp, tls, dtls, or a list of them");
	else
		for (const struct node *c = n->first; c != NULL; c = c->next)
			read_transport(l, c, mask);
}

static void
read_proxy(struct load *l, const struct node *n, struct listener_wish *w)
{
	if (w->proxy_count == CONF_PROXIES_MAX)
		load_error(
		    l, n, "listeners: proxy_protocol: too many: at most %u are allowed", CONF_PROXIES_MAX);
	else if (n->kind != NODE_SCALAR || cidr_parse(&w->proxy[w->proxy_count], n->text) < 0)
		load_error(l, n,
		    "listeners: proxy_protocol: %s: allowed: ADDRESS or ADDRESS/BITS, with no bits set behind the "
		    "prefix",
		    load_show(l, n));
	else
		w->proxy_count++;
}

static void
read_proxies(struct load *l, const struct node *n, struct listener_wish *w)
{
	if (n->kind != NODE_LIST)
		read_proxy(l, n, w);
	else
		for (const struct node *c = n->first; c != NULL; c = c->next)
			read_proxy(l, c, w);
	if ((w->transports & TRANSPORT_STREAMS) == 0)
		load_error(l, n, "listeners: proxy_protocol: only for transports tcp and tls");
}

static void
read_listener(struct load *l, const struct node *n)
{
	static const char *const names[] = { "address", "port", "transport", "proxy_protocol" };
	const struct node *part[4];
	struct listener_wish w = { .addr.port = 3478, .every = true, .transports = TRANSPORT_UDP, .at = n };
	unsigned port = 0;
	const char *s;

	if (n->kind != NODE_MAP) {
		load_error(l, n, "listeners: %s: allowed: %s", load_show(l, n),
		    option_rows[OPTION_listeners].shape);
		return;
	}
	if (!shape_read(l, n, "listeners", names, 4, part))
		return;
	if (part[0] != NULL && !(part[0]->kind == NODE_SCALAR && strcmp(part[0]->text, "*") == 0)) {
		if (!read_host(l, part[0], "listeners: address", &w.addr))
			return;
		w.every = is_unspecified(&w.addr); /* 0.0.0.0 and :: mean all of their family */
		w.addr.port = 3478;
	}
	if (part[1] != NULL) {
		s = part[1]->text;
		if (part[1]->kind != NODE_SCALAR || !part[1]->plain || !read_decimal(&s, 65535, &port) ||
		    *s != '\0' || port == 0)
			load_error(l, part[1],
			    "listeners: port: %s: allowed: a decimal number from 1 to 65535, digits only, "
			    "without quotes",
			    load_show(l, part[1]));
		w.addr.port = (uint16_t)port;
	}
	if (part[2] != NULL)
		transports_read(l, part[2], &w.transports);
	if (part[3] != NULL)
		read_proxies(l, part[3], &w);
	if (l->wish_count == LISTENERS_MAX)
		load_error(l, n, "listeners: too many: at most %u are allowed", LISTENERS_MAX);
	else
		l->wish[l->wish_count++] = w;
}

/* ---- relay addresses --------------------------------------------------------------------------- */

static bool
is_host_name(const char *text)
{
	bool letter = false;

	for (const char *p = text; *p != '\0'; p++) {
		letter |= (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z');
		if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-", *p) == NULL)
			return false;
	}
	return letter && *text != '-' && *text != '.';
}

/* No address was given: it is this host's own one towards the default route, of the family of external
 * or of any. */
static bool
take_route(struct load *l, const struct node *n, struct conf_relay *r)
{
	const struct addr *route = l->host->route;

	if (r->external.family != ADDR_NONE)
		r->addr = route[r->external.family == ADDR_V6];
	else
		r->addr = route[route[0].family == ADDR_NONE];
	if (r->addr.family != ADDR_NONE)
		return true;
	load_error(l, n,
	    "relay.addresses: external: %s: this host has no default route of that family to take the inside "
	    "address from: give address, too",
	    load_show(l, n));
	return false;
}

static bool
read_external(struct load *l, const struct node *n, bool own_route, struct conf_relay *r)
{
	if (n->kind == NODE_SCALAR && n->len < sizeof r->external_name && is_host_name(n->text)) {
		text_copy(r->external_name, sizeof r->external_name, n->text);
		return !own_route || take_route(l, n, r);
	}
	if (!read_host(l, n, "relay.addresses: external", &r->external) ||
	    (own_route && !take_route(l, n, r)))
		return false;
	if (r->external.family != r->addr.family || is_unspecified(&r->external)) {
		load_error(l, n,
		    "relay.addresses: external: %s: allowed: an address of the same family as address, a host name, "
		    "or auto",
		    load_show(l, n));
		return false;
	}
	if (addr_ip_eq(&r->external, &r->addr))
		r->external = (struct addr){ 0 }; /* no NAT */
	return true;
}

static bool
read_relay_parts(struct load *l, const struct node *n, struct conf_relay *r)
{
	static const char *const names[] = { "address", "external", "ports" };
	const struct node *part[3];
	struct conf_ports ports;

	if (!shape_read(l, n, "relay.addresses", names, 3, part))
		return false;
	if (part[0] == NULL && part[1] == NULL) {
		load_error(
		    l, n, "relay.addresses: no address: allowed: %s", option_rows[OPTION_relays].shape);
		return false;
	}
	if (part[0] != NULL && !read_host(l, part[0], "relay.addresses: address", &r->addr))
		return false;
	if (part[1] != NULL && !read_external(l, part[1], part[0] == NULL, r))
		return false;
	if (part[2] == NULL)
		return true;
	if (part[2]->kind != NODE_SCALAR || !read_ports(part[2]->text, 1024, "", &ports)) {
		load_error(l, part[2],
		    "relay.addresses: ports: %s: allowed: LOW-HIGH with ports from 1024 to 65535 and LOW not "
		    "above HIGH",
		    load_show(l, part[2]));
		return false;
	}
	r->port_min = ports.min;
	r->port_max = ports.max;
	return true;
}

static void
read_relay(struct load *l, const struct node *n)
{
	struct conf_relay r = { 0 };
	struct conf *c = l->conf;

	if (n->kind == NODE_MAP ? !read_relay_parts(l, n, &r)
				: !read_host(l, n, "relay.addresses", &r.addr))
		return;
	if (is_unspecified(&r.addr)) {
		load_error(
		    l, n, "relay.addresses: one of this host's addresses is needed here, not all of them");
		return;
	}
	for (unsigned i = 0; i < c->relay_count; i++)
		if (addr_eq(&c->relays[i].addr, &r.addr)) {
			load_error(l, n, "relay.addresses: listed twice: the first is at %s",
			    load_place(l, l->relay_at[i]));
			return;
		}
	if (c->relay_count == RELAYS_MAX) {
		load_error(l, n, "relay.addresses: too many: at most %u are allowed", RELAYS_MAX);
		return;
	}
	l->relay_at[c->relay_count] = n;
	c->relays[c->relay_count++] = r;
}

/* ---- peer rules -------------------------------------------------------------------------------- */

static void
read_rule(struct load *l, const struct option_row *o, const struct node *n)
{
	enum option_id id = option_id(o);
	struct conf_rules *rules = id == OPTION_peer_deny ? &l->conf->peer_deny
	    : id == OPTION_peer_allow                     ? &l->conf->peer_allow
							  : &l->conf->peer_private;
	struct cidr c = { 0 };

	if (n->kind != NODE_SCALAR || cidr_parse(&c, n->text) < 0)
		load_error(l, n,
		    "%s: %s: allowed: ADDRESS or ADDRESS/BITS, with no bits set behind the prefix", o->path,
		    load_show(l, n));
	else if (rules->count == CONF_RULES_MAX)
		load_error(l, n, "%s: too many: at most %u are allowed", o->path, CONF_RULES_MAX);
	else
		rules->rule[rules->count++] = c;
}

static void
read_own(struct load *l, const struct node *n)
{
	struct conf_own own = { 0 };
	const char *colon = n->kind == NODE_SCALAR ? strrchr(n->text, ':') : NULL;
	char host[ADDR_STRLEN + 2];
	bool ok = colon != NULL && (size_t)(colon - n->text) < sizeof host &&
	    read_ports(colon + 1, 1, "/udp", &own.ports);

	if (ok) {
		memcpy(host, n->text, (size_t)(colon - n->text));
		host[colon - n->text] = '\0';
		/* [v6] or a.b.c.d; a bare IPv6 address would be ambiguous with the ports */
		ok = addr_parse(&own.addr, host) == 0 && own.addr.port == 0 &&
		    (host[0] == '[' || own.addr.family == ADDR_V4) &&
		    (own.addr.family == ADDR_V6 || strchr(host, ':') == NULL);
	}
	if (!ok)
		load_error(l, n,
		    "peers.allow_own: %s: allowed: \"ADDRESS:LOW-HIGH/udp\", IPv6 as \"[ADDRESS]:LOW-HIGH/udp\"",
		    load_show(l, n));
	else if (l->conf->peer_own_count == CONF_OWN_MAX)
		load_error(l, n, "peers.allow_own: too many: at most %u are allowed", CONF_OWN_MAX);
	else
		l->conf->peer_own[l->conf->peer_own_count++] = own;
}

/* ---- all -------------------------------------------------------------------------------------- */

static void
read_entry(struct load *l, const struct option_row *o, const struct node *n)
{
	switch (option_id(o)) {
	case OPTION_listeners:
		read_listener(l, n);
		break;
	case OPTION_relays:
		read_relay(l, n);
		break;
	case OPTION_peer_own:
		read_own(l, n);
		break;
	case OPTION_certificates:
		certificate_read(l, n);
		break;
	case OPTION_databases:
		database_read(l, n);
		break;
	case OPTION_alternates:
		alternate_read(l, n);
		break;
	default:
		read_rule(l, o, n);
		break;
	}
}

void
list_read(struct load *l, const struct option_row *o, const struct node *n)
{
	enum option_id id = option_id(o);

	if (node_is_empty(n)) {
		load_error(l, n, "%s: no value: allowed: %s", o->path, o->shape);
	} else if (id == OPTION_users) {
		users_read(l, n);
	} else if (id == OPTION_secrets) {
		secrets_read(l, n);
	} else if (n->kind != NODE_LIST) {
		read_entry(l, o, n); /* one entry without the brackets */
	} else if (n->first == NULL && (id == OPTION_listeners || id == OPTION_relays)) {
		load_error(
		    l, n, "%s: an empty list: leave it out for the default, or give at least one", o->path);
	} else {
		for (const struct node *c = n->first; c != NULL; c = c->next)
			read_entry(l, o, c);
	}
}
