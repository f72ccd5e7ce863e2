/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * alternates.c: the entries of `alternate`, servers that clients are sent to.
 */
#include "config.h"

#include "conf_int.h"

/* A name that a certificate can have: letters, digits, hyphens and dots. */
static bool
read_domain(struct load *l, const struct node *n, struct conf_alternate *a)
{
	bool ok = n->kind == NODE_SCALAR && n->len > 0 && n->len < sizeof a->domain && n->text[0] != '.' &&
	    n->text[0] != '-' &&
	    strspn(n->text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") == n->len;

	if (!ok) {
		load_error(l, n, "alternate: domain: %s: allowed: a host name of at most %zu characters",
		    load_show(l, n), sizeof a->domain - 1);
		return false;
	}
	if ((a->transports & (TRANSPORT_TLS | TRANSPORT_DTLS)) == 0) {
		load_error(l, n, "alternate: domain: only for transports tls and dtls");
		return false;
	}
	text_copy(a->domain, sizeof a->domain, n->text);
	return true;
}

/* Address and port of a host that a client can send to. */
static bool
read_server(struct load *l, const struct node *n, struct addr *a)
{
	bool ok = n->kind == NODE_SCALAR && addr_parse(a, n->text) == 0 && a->port != 0 &&
	    !is_unspecified(a) && (a->family == ADDR_V4 ? a->ip[0] < 224 : a->ip[0] != 0xff);

	if (!ok)
		load_error(l, n,
		    "alternate: address: %s: allowed: address:port of another server, [address]:port for IPv6",
		    load_show(l, n));
	return ok;
}

static bool
read_parts(struct load *l, const struct node *n, struct conf_alternate *a)
{
	static const char *const names[] = { "address", "transport", "domain" };
	const struct node *part[3];

	if (!shape_read(l, n, "alternate", names, 3, part))
		return false;
	if (part[0] == NULL) {
		load_error(
		    l, n, "alternate: no address: allowed: %s", option_rows[OPTION_alternates].shape);
		return false;
	}
	if (!read_server(l, part[0], &a->addr))
		return false;
	if (part[1] != NULL)
		transports_read(l, part[1], &a->transports);
	return part[2] == NULL || read_domain(l, part[2], a);
}

void
alternate_read(struct load *l, const struct node *n)
{
	struct conf_alternate a = { .transports = CONF_TRANSPORTS_PLAIN };
	struct conf *c = l->conf;

	if (n->kind == NODE_MAP ? !read_parts(l, n, &a) : !read_server(l, n, &a.addr))
		return;
	for (uint32_t i = 0; i < c->alternate_count; i++)
		if (addr_eq(&c->alternates[i].addr, &a.addr) &&
		    (c->alternates[i].transports & a.transports) != 0) {
			load_error(l, n, "alternate: %s is listed twice for one transport",
			    load_show(l, n->kind == NODE_MAP ? n->first : n));
			return;
		}
	if (c->alternate_count == CONF_ALTERNATES_MAX)
		load_error(l, n, "alternate: too many: at most %u are allowed", CONF_ALTERNATES_MAX);
	else
		c->alternates[c->alternate_count++] = a;
}
