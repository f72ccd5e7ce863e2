/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * no_effect.c: warnings of what is written, accepted, and changes nothing beside the other options.
 */
#include "config.h"

#include <stdio.h>

#include "conf_int.h"

/* ---- peer rules -------------------------------------------------------------------------------- */

/* Every address of `in` is one of `out`. */
static bool
cidr_within(const struct cidr *in, const struct cidr *out)
{
	struct addr a = { .family = in->family };

	memcpy(a.ip, in->ip, sizeof in->ip);
	return in->family == out->family && in->bits >= out->bits && cidr_has(out, &a);
}

static const struct cidr *
find_wider(const struct conf_rules *rules, const struct cidr *c)
{
	for (uint32_t i = 0; i < rules->count; i++)
		if (cidr_within(c, &rules->rule[i]))
			return &rules->rule[i];
	return NULL;
}

/* peers.deny wins over every allow. */
static void
check_dead_rules(struct load *l, enum option_id id, const struct conf_rules *allow)
{
	char rule[ADDR_STRLEN + 8], wider[ADDR_STRLEN + 8];

	for (uint32_t i = 0; i < allow->count; i++) {
		const struct cidr *deny = find_wider(&l->conf->peer_deny, &allow->rule[i]);

		if (deny != NULL)
			load_warn(l, l->seen[id], "%s: %s has no effect: peers.deny has %s, and deny wins",
			    option_rows[id].path, cidr_print(&allow->rule[i], rule),
			    cidr_print(deny, wider));
	}
}

static void
check_dead_own(struct load *l)
{
	const struct conf *c = l->conf;
	char own[ADDR_STRLEN], wider[ADDR_STRLEN + 8];

	for (uint32_t i = 0; i < c->peer_own_count; i++)
		for (uint32_t k = 0; k < c->peer_deny.count; k++)
			if (cidr_has(&c->peer_deny.rule[k], &c->peer_own[i].addr)) {
				load_warn(l, l->seen[OPTION_peer_own],
				    "peers.allow_own: %s has no effect: peers.deny has %s, and deny wins",
				    addr_print_ip(&c->peer_own[i].addr, own),
				    cidr_print(&c->peer_deny.rule[k], wider));
				break;
			}
}

/* A rule that an earlier or wider one of its own list holds already. */
static void
check_repeated_rules(struct load *l, enum option_id id, const struct conf_rules *rules)
{
	char rule[ADDR_STRLEN + 8], wider[ADDR_STRLEN + 8];

	for (uint32_t i = 0; i < rules->count; i++)
		for (uint32_t k = 0; k < rules->count; k++) {
			const struct cidr *a = &rules->rule[i], *b = &rules->rule[k];

			if (i == k || !cidr_within(a, b) || (a->bits == b->bits && i < k))
				continue;
			load_warn(l, l->seen[id], "%s: %s has no effect: %s is in the list",
			    option_rows[id].path, cidr_print(a, rule), cidr_print(b, wider));
			break;
		}
}

/* ---- options that need another one ---------------------------------------------------------------- */

static bool
serves(const struct conf *c, unsigned transports)
{
	for (uint32_t i = 0; i < c->listener_count; i++)
		if (c->listeners[i].transports & transports)
			return true;
	return false;
}

static bool
no_streams(const struct conf *c)
{
	return !serves(c, TRANSPORT_STREAMS);
}

static bool
no_connections(const struct conf *c)
{
	return !serves(c, TRANSPORT_STREAMS | TRANSPORT_DTLS);
}

static bool
no_handshakes(const struct conf *c)
{
	return !serves(c, TRANSPORT_TLS | TRANSPORT_DTLS);
}

static bool
no_metrics(const struct conf *c)
{
	return c->metrics_address[0] == '\0';
}

static bool
no_secrets(const struct conf *c)
{
	return c->strict_expiry && c->secret_count == 0 && c->user_count > 0;
}

static bool
no_auto(const struct conf *c)
{
	for (uint32_t i = 0; i < c->relay_count; i++)
		if (strcmp(c->relays[i].external_name, "auto") == 0)
			return false;
	return c->external_stun[0] != '\0';
}

static bool
no_names(const struct conf *c)
{
	for (uint32_t i = 0; i < c->relay_count; i++)
		if (c->relays[i].external_name[0] != '\0')
			return false;
	return true;
}

static bool
no_ports(const struct conf *c)
{
	for (uint32_t i = 0; i < c->relay_count; i++)
		if (c->relays[i].port_min == c->relay_ports.min &&
		    c->relays[i].port_max == c->relay_ports.max)
			return false;
	return true;
}

static const struct need {
	enum option_id id;
	bool (*lacks)(const struct conf *c);
	const char *what;
} needs[] = {
	{ OPTION_stream_queue, no_streams, "no listener has transport tcp or tls" },
	{ OPTION_stream_deadline, no_streams, "no listener has transport tcp or tls" },
	{ OPTION_connections_per_prefix, no_connections, "no listener has transport tcp, tls or dtls" },
	{ OPTION_connections_total, no_connections, "no listener has transport tcp, tls or dtls" },
	{ OPTION_half_open_per_prefix, no_handshakes, "no listener has transport tls or dtls" },
	{ OPTION_half_open_total, no_handshakes, "no listener has transport tls or dtls" },
	{ OPTION_handshakes_per_prefix, no_handshakes, "no listener has transport tls or dtls" },
	{ OPTION_handshake_timeout, no_handshakes, "no listener has transport tls or dtls" },
	{ OPTION_tls_min_version, no_handshakes, "no listener has transport tls or dtls" },
	{ OPTION_tls_processes, no_handshakes, "no listener has transport tls or dtls" },
	{ OPTION_certificates, no_handshakes, "no listener has transport tls or dtls" },
	{ OPTION_metrics_port, no_metrics, "metrics.address is empty" },
	{ OPTION_strict_expiry, no_secrets, "static users do not expire, and there is no secret" },
	{ OPTION_external_stun, no_auto, "no relay address has `external: auto`" },
	{ OPTION_external_interval, no_names, "no relay address has a name or auto as external" },
	{ OPTION_relay_ports, no_ports, "every relay address has ports of its own" },
};

void
no_effect_check(struct load *l)
{
	const struct conf *c = l->conf;

	check_dead_rules(l, OPTION_peer_allow, &c->peer_allow);
	check_dead_rules(l, OPTION_peer_private, &c->peer_private);
	check_dead_own(l);
	check_repeated_rules(l, OPTION_peer_deny, &c->peer_deny);
	check_repeated_rules(l, OPTION_peer_allow, &c->peer_allow);
	check_repeated_rules(l, OPTION_peer_private, &c->peer_private);
	for (unsigned i = 0; i < TP_COUNT(needs); i++) {
		const struct need *n = &needs[i];

		/* Not of --set: a wrapper may give the same ones to every host. */
		if (l->seen[n->id] != NULL && !l->seen[n->id]->src->is_set && n->lacks(c))
			load_warn(
			    l, l->seen[n->id], "%s: has no effect: %s", option_rows[n->id].path, n->what);
	}
}
