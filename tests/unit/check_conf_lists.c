/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_conf_lists.c: unit tests of conf/lists.c and resolve.c: listeners, relay addresses, peer rules,
 * what the host adds.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>

#include "check_conf.h"

static const struct {
	const char *yaml, *says;
} refused[] = {
	{ "listeners: []\n", "listeners: an empty list" },
	{ "listeners:\n", "listeners: no value" },
	{ "listeners: 127.0.0.1\n", "listeners: \"127.0.0.1\": allowed: list of" },
	{ "listeners: [ { address: 127.0.0.1, prot: 1 } ]\n",
	    "unknown key \"prot\" in listeners; did you mean port?" },
	{ "listeners: [ { address: localhost } ]\n",
	    "listeners: address: \"localhost\": allowed: an IPv4 or IPv6" },
	{ "listeners: [ { address: \"127.0.0.1:3478\" } ]\n", "without a port" },
	{ "listeners: [ { address: \"127.0.0.1:0\" } ]\n", "without a port" },
	{ "listeners: [ { address: \"[::1]\" } ]\n", "without a port" },
	{ "listeners: [ { address: 127.0.0.01 } ]\n", "listeners: address" },
	{ "listeners: [ { address: 127.1 } ]\n", "listeners: address" },
	{ "listeners: [ { address: 224.0.0.1 } ]\n", "multicast" },
	{ "listeners: [ { address: 255.255.255.255 } ]\n", "multicast" },
	{ "listeners: [ { address: \"ff02::1\" } ]\n", "multicast" },
	{ "listeners: [ { address: \"fe80::1\" } ]\n", "link-local" },
	{ "listeners: [ { address: \"::ffff:127.0.0.1\" } ]\n", "IPv4-mapped" },
	{ "listeners: [ { port: 0 } ]\n",
	    "text:1:22: listeners: port: \"0\": allowed: a decimal number from 1" },
	{ "listeners: [ { port: -1 } ]\n", "listeners: port" },
	{ "listeners: [ { port: 65536 } ]\n", "listeners: port" },
	{ "listeners: [ { port: 3478.0 } ]\n", "listeners: port" },
	{ "listeners: [ { port: 3478x } ]\n", "listeners: port" },
	{ "listeners: [ { port: 010 } ]\n", "listeners: port" },
	{ "listeners: [ { port: 3_478 } ]\n", "listeners: port" },
	{ "listeners: [ { port: [ 3478 ] } ]\n", "listeners: port: a list" },
	{ "listeners: [ { port: \"3478\" } ]\n",
	    "listeners: port: \"3478\": allowed: a decimal number from 1 to 65535, digits only, without quotes" },
	{ "listeners: [ { address: 127.0.0.1, zzzzzzzz: 1 } ]\n",
	    "in listeners: allowed: address, port, transport, proxy_protocol" },
	{ "listeners: [ { port: 99999999999999999999 } ]\n", "listeners: port" },
	{ "listeners: [ { transport: udp, proxy_protocol: 10.0.0.0/8 } ]\n",
	    "only for transports tcp and tls" },
	{ "listeners: [ { transport: tcp, proxy_protocol: 10.0.0.1/8 } ]\n", "proxy_protocol: " },
	{ "listeners: [ { transport: dtls, proxy_protocol: 10.0.0.0/8 } ]\n",
	    "only for transports tcp and tls" },
	{ "listeners: [ { transport: UDP } ]\n", "allowed: udp, tcp, tls, dtls" },
	{ "listeners: [ { transport: [] } ]\n", "transport: an empty list" },
	{ "listeners: [ { transport: [ udp, udp ] } ]\n", "listed twice" },
	{ "listeners: [ { address: 127.0.0.1 }, { address: 127.0.0.1, port: 3478 } ]\n",
	    "the same address, port and transport is at text:1" },
	{ "relay: { addresses: [] }\n", "relay.addresses: an empty list" },
	{ "relay: { addresses: x.example }\n", "relay.addresses: \"x.example\"" },
	{ "relay: { addresses: 0.0.0.0 }\n", "not all of them" },
	{ "relay: { addresses: \"::\" }\n", "not all of them" },
	{ "relay: { addresses: [ 127.0.0.1, 127.0.0.1 ] }\n", "listed twice: the first is at text:1:23" },
	{ "relay: { addresses: { ports: 2000-3000 } }\n", "no address" },
	{ "relay: { addresses: { external: 0.0.0.0 } }\n", "same family" },
	{ "relay: { addresses: { address: 192.0.2.10, external: \"2001:db8::7\" } }\n", "same family" },
	{ "relay: { addresses: { address: 192.0.2.10, ports: 50000 } }\n", "LOW-HIGH" },
	{ "relay: { addresses: { address: 192.0.2.10, ports: 60000-50000 } }\n", "LOW-HIGH" },
	{ "relay: { addresses: { address: 192.0.2.10, ports: 1023-50000 } }\n", "LOW-HIGH" },
	{ "relay: { addresses: { address: 192.0.2.10, ports: 50000-65536 } }\n", "LOW-HIGH" },
	{ "listeners: { address: 192.0.2.10, port: 50000 }\nrelay: { addresses: 192.0.2.10 }\n",
	    "text:2:21: relay.addresses: 192.0.2.10: its ports 49152-65535 contain port 50000 of the listener at text:1" },
	{ "listeners: { address: \"::1\", port: 50000 }\nrelay: { addresses: { address: \"::1\", ports: 50000-50001 } }\n",
	    "contain port 50000" },
	{ "listeners: { port: 50000 }\nrelay: { addresses: 192.0.2.10 }\n", "contain port 50000" },
	{ "relay: { addresses: [ { address: 127.0.0.1, external: 203.0.113.7 }, { address: 192.0.2.10, external: 203.0.113.7 } ] }\n",
	    "the same external" },
	{ "peers: { deny: \"\" }\n", "peers.deny: \"\": allowed: ADDRESS" },
	{ "peers: { deny: }\n", "peers.deny: no value" },
	{ "peers: { deny: 10.0.0.0-10.255.255.255 }\n", "peers.deny" },
	{ "peers: { deny: [ 10.0.0.0/33 ] }\n", "text:1:18: peers.deny: \"10.0.0.0/33\"" },
	{ "peers: { deny: [ 10.0.0.1/8 ] }\n", "no bits set behind the prefix" },
	{ "peers: { allow: [ \"2001:db8::1/32\" ] }\n", "peers.allow" },
	{ "peers: { allow: { a: b } }\n", "peers.allow: a map" },
	{ "peers: { allow_private: [ 10.0.0.0/08 ] }\n", "peers.allow_private" },
	{ "peers: { allow_private: [ 010.0.0.0/8 ] }\n", "peers.allow_private" },
	{ "peers: { allow_private: [ [ 10.0.0.0/8 ] ] }\n", "peers.allow_private: a list" },
	{ "peers: { allow_own: 203.0.113.7 }\n", "peers.allow_own" },
	{ "alternate: 203.0.113.7\n", "alternate: address" },
	{ "alternate: [ \"0.0.0.0:3478\" ]\n", "alternate: address" },
	{ "alternate: [ \"224.0.0.1:3478\" ]\n", "alternate: address" },
	{ "alternate: [ \"turn.example.org:3478\" ]\n", "alternate: address" },
	{ "alternate: [ { transport: udp } ]\n", "alternate: no address" },
	{ "alternate: [ { address: \"203.0.113.7:1\", transport: sctp } ]\n", "transport" },
	{ "alternate: [ { address: \"203.0.113.7:1\", domain: a.example } ]\n", "only for transports tls" },
	{ "alternate: [ { address: \"203.0.113.7:1\", transport: tls, domain: \"a b\" } ]\n",
	    "alternate: domain" },
	{ "alternate: [ \"203.0.113.7:1\", \"203.0.113.7:1\" ]\n", "listed twice" },
	{ "peers: { allow_own: \"203.0.113.7:1-2\" }\n", "peers.allow_own" },
	{ "peers: { allow_own: \"203.0.113.7:1-2/tcp\" }\n", "peers.allow_own" },
	{ "peers: { allow_own: \"203.0.113.7:0-2/udp\" }\n", "peers.allow_own" },
	{ "peers: { allow_own: \"203.0.113.7:2-1/udp\" }\n", "peers.allow_own" },
	{ "peers: { allow_own: \"2001:db8::7:1-2/udp\" }\n", "peers.allow_own" },
	{ "peers: { allow_own: \"[203.0.113.7]:1-2/udp\" }\n", "peers.allow_own" },
	{ "peers: { allow_own: \"203.0.113.7:0:1-2/udp\" }\n", "peers.allow_own" },
};

START_TEST(refuses)
{
	struct loaded *r = load_text(refused[_i].yaml);

	ck_assert_msg(r->errors == 1, "%s: %u errors:\n%s", refused[_i].yaml, r->errors, r->reports);
	ck_assert_msg(
	    strstr(r->reports, refused[_i].says) != NULL, "%s: says %s", refused[_i].yaml, r->reports);
	unload(r);
}
END_TEST

static void
expect_listener(const struct loaded *r, unsigned i, const char *text)
{
	char buf[ADDR_STRLEN];

	ck_assert_msg(r->rc == 0, "%s", r->reports);
	ck_assert_uint_lt(i, r->conf.listener_count);
	ck_assert_str_eq(addr_print(&r->conf.listeners[i].addr, buf), text);
	ck_assert_uint_eq(r->conf.listeners[i].transports, TRANSPORT_UDP);
}

static void
expect_relay(
    const struct loaded *r, unsigned i, const char *addr, const char *external, unsigned min, unsigned max)
{
	char buf[ADDR_STRLEN];
	const struct conf_relay *o = &r->conf.relays[i];

	ck_assert_msg(r->rc == 0, "%s", r->reports);
	ck_assert_uint_lt(i, r->conf.relay_count);
	ck_assert_str_eq(addr_print(&o->addr, buf), addr);
	ck_assert_str_eq(addr_print(&o->external, buf), external);
	ck_assert_uint_eq(o->port_min, min);
	ck_assert_uint_eq(o->port_max, max);
}

/* What is accepted and changes nothing is said. */
static const struct {
	const char *yaml, *says;
} idle[] = {
	{ "peers: { deny: 10.0.0.0/8, allow: 10.2.0.0/16 }\n",
	    "peers.allow: 10.2.0.0/16 has no effect: peers.deny has 10.0.0.0/8, and deny wins" },
	{ "peers: { deny: \"::/0\", allow_private: \"fd00::/8\" }\n",
	    "peers.allow_private: fd00::/8 has no effect: peers.deny" },
	{ "peers: { deny: 192.0.2.0/24, allow_own: \"192.0.2.10:1-2/udp\" }\n",
	    "peers.allow_own: 192.0.2.10 has no effect" },
	{ "peers: { deny: [ 9.0.0.0/8, 9.1.0.0/16 ] }\n",
	    "9.1.0.0/16 has no effect: 9.0.0.0/8 is in the list" },
	{ "peers: { allow: [ 9.1.2.3, 9.1.2.3 ] }\n",
	    "9.1.2.3/32 has no effect: 9.1.2.3/32 is in the list" },
	{ "limits: { stream_queue: 64KiB }\n", "no listener has transport tcp or tls" },
	{ "limits: { half_open_total: 9 }\n", "no listener has transport tls or dtls" },
	{ "metrics: { port: 99 }\n", "metrics.port: has no effect: metrics.address is empty" },
	{ "auth: { strict_expiry: true, users: { joe: 9f8e7d6c5b4a3 } }\n",
	    "auth.strict_expiry: has no effect" },
	{ "relay: { external_stun: stun.example.org }\n", "no relay address has `external: auto`" },
	{ "relay: { external_interval: 9s }\n", "no relay address has a name or auto" },
	{ "relay: { ports: 2000-3000, addresses: { address: 192.0.2.10, ports: 4000-5000 } }\n",
	    "relay.ports: has no effect" },
};

START_TEST(warns_of_no_effect)
{
	struct loaded *r = load_text(idle[_i].yaml);

	ck_assert_msg(r->rc == 0, "%s: %s", idle[_i].yaml, r->reports);
	ck_assert_msg(strstr(r->reports, idle[_i].says) != NULL, "%s: says %s", idle[_i].yaml, r->reports);
	unload(r);
}
END_TEST

START_TEST(is_silent_where_it_has_an_effect)
{
	struct loaded *r = load_text(
	    "peers: { deny: [ 10.0.0.0/9, 9.0.0.0/8 ], allow: [ 10.0.0.0/8, 11.0.0.0/8 ], allow_private: 10.128.0.0/9 }\n"
	    "listeners: { address: 192.0.2.10, transport: [ udp, tcp ] }\nlimits: { stream_queue: 64KiB, connections_total: 9 }\n");

	ck_assert_msg(r->rc == 0, "%s", r->reports);
	ck_assert_msg(strstr(r->reports, "no effect") == NULL, "%s", r->reports);
	unload(r);
}
END_TEST

/* A name, or auto; here nothing is looked up, so the inside address stays. */
START_TEST(external_names)
{
	struct loaded *r = load_text(
	    "relay: { addresses: [ { external: turn.example.org }, { address: \"2001:db8::10\", external: auto } ] }\n");

	expect_relay(r, 0, "192.0.2.10", "none", 49152, 65535);
	ck_assert_str_eq(r->conf.relays[0].external_name, "turn.example.org");
	ck_assert_uint_eq(r->conf.relays[0].unknown, 1);
	expect_relay(r, 1, "2001:db8::10", "none", 49152, 65535);
	ck_assert_uint_eq(r->conf.relays[1].unknown, 0); /* auto: the address is public */
	unload(r);
}
END_TEST

START_TEST(host_defaults)
{
	struct loaded *r = load_text("");

	ck_assert_uint_eq(r->conf.listener_count, 4); /* all but the link-local one */
	expect_listener(r, 0, "127.0.0.1:3478");
	expect_listener(r, 1, "[::1]:3478");
	expect_listener(r, 2, "192.0.2.10:3478");
	expect_listener(r, 3, "[2001:db8::10]:3478");
	ck_assert_str_eq(r->conf.listeners[0].where, "default");
	ck_assert_uint_eq(r->conf.relay_count, 2);
	expect_relay(r, 0, "192.0.2.10", "none", 49152, 65535);
	expect_relay(r, 1, "2001:db8::10", "none", 49152, 65535);
	ck_assert_uint_eq(r->conf.host_addr_count, 5);
	ck_assert_mem_eq(r->conf.host_addr, test_host.addr, sizeof test_host.addr);
	ck_assert_uint_eq(r->warnings, 0);
	ck_assert_str_eq(r->conf.log_target, "syslog");
	ck_assert(!r->conf.has_names);
	unload(r);
}
END_TEST

START_TEST(star_is_what_remains)
{
	struct loaded *r = load_text(
	    "listeners:\n  - { port: 3478 }\n  - { address: \"::1\" }\n  - { address: 0.0.0.0, port: 80 }\n"
	    "  - { address: \"::\", port: 81 }\n");

	ck_assert_uint_eq(r->conf.listener_count, 8);
	expect_listener(r, 0, "[::1]:3478");
	ck_assert_str_eq(r->conf.listeners[0].where, "text:3");
	expect_listener(r, 1, "127.0.0.1:3478");
	expect_listener(r, 2, "192.0.2.10:3478");
	expect_listener(r, 3, "[2001:db8::10]:3478");
	expect_listener(r, 4, "127.0.0.1:80");
	expect_listener(r, 5, "192.0.2.10:80");
	expect_listener(r, 6, "[::1]:81");
	expect_listener(r, 7, "[2001:db8::10]:81");
	unload(r);
}
END_TEST

START_TEST(too_many)
{
	char yaml[65536] = "peers:\n  deny:\n";
	size_t at = strlen(yaml);
	struct loaded *r;

	for (unsigned i = 0; i <= CONF_RULES_MAX; i++)
		at += (size_t)snprintf(yaml + at, sizeof yaml - at, "    - 10.0.%u.%u\n", i / 256, i % 256);
	r = load_text(yaml);
	ck_assert_uint_eq(r->errors, 1);
	ck_assert_ptr_nonnull(strstr(r->reports, "text:1027:7: peers.deny: too many: at most 1024"));
	unload(r);
	yaml[strlen(yaml) - strlen("    - 10.0.4.0\n")] = '\0';
	r = load_text(yaml);
	ck_assert_msg(r->rc == 0, "%s", r->reports);
	ck_assert_uint_eq(r->conf.peer_deny.count, CONF_RULES_MAX);
	unload(r);
}
END_TEST

START_TEST(relays)
{
	struct loaded *r = load_text(
	    "relay:\n  ports: 40000-40100\n  addresses:\n    - 127.0.0.1\n"
	    "    - { address: 192.0.2.10, external: 203.0.113.7, ports: 50000-50001 }\n    - { address: \"::1\" }\n");

	ck_assert_uint_eq(r->conf.relay_count, 3);
	expect_relay(r, 0, "127.0.0.1", "none", 40000, 40100);
	expect_relay(r, 1, "192.0.2.10", "203.0.113.7", 50000, 50001);
	expect_relay(r, 2, "::1", "none", 40000, 40100);
	ck_assert_uint_eq(r->warnings, 0);
	unload(r);
	/* One value without brackets. */
	r = load_text("relay: { addresses: { address: 127.0.0.1 } }\n");
	expect_relay(r, 0, "127.0.0.1", "none", 49152, 65535);
	unload(r);
	r = load_text("relay: { addresses: \"::1\" }\n");
	expect_relay(r, 0, "::1", "none", 49152, 65535);
	unload(r);
	/* Two internal addresses behind one external one, told apart by port. */
	r = load_text(
	    "relay: { addresses: [ { address: 127.0.0.1, external: 203.0.113.7, ports: 2000-2999 },"
	    " { address: 192.0.2.10, external: 203.0.113.7, ports: 3000-3999 } ] }\nlisteners: { port: 80 }\n");
	expect_relay(r, 1, "192.0.2.10", "203.0.113.7", 3000, 3999);
	unload(r);
}
END_TEST

START_TEST(relay_warnings)
{
	struct loaded *r = load_text("relay: { addresses: [ 10.0.0.5 ] }\n");

	ck_assert_int_eq(r->rc, 0);
	ck_assert_uint_eq(r->warnings, 2);
	ck_assert_ptr_nonnull(strstr(r->reports, "10.0.0.5 is a private address"));
	ck_assert_ptr_nonnull(strstr(r->reports, "not an address of this host"));
	unload(r);
	/* Without the inside address it is that of the default route; an external one that is the own
	 * one is no NAT. */
	r = load_text(
	    "relay: { addresses: [ { external: 203.0.113.7 }, { external: \"2001:db8::10\" } ] }\n");
	expect_relay(r, 0, "192.0.2.10", "203.0.113.7", 49152, 65535);
	expect_relay(r, 1, "2001:db8::10", "none", 49152, 65535);
	unload(r);
	r = load_text("relay: { addresses: { address: 192.0.2.10, external: 203.0.113.7 } }\n");
	ck_assert_uint_eq(r->warnings, 0);
	unload(r);
}
END_TEST

/* Default routes that lead to private addresses, or nowhere. */
START_TEST(default_routes)
{
	struct conf_host host = test_host;
	struct conf_request rq = { .text = "", .host = &host };
	struct users *users = NULL;
	struct conf *c = calloc(1, sizeof *c);
	size_t len;

	ck_assert_int_eq(addr_parse(&host.route[0], "192.168.1.5"), 0);
	ck_assert_int_eq(addr_parse(&host.route[1], "fd00::5"), 0);
	ck_assert_int_eq(conf_load(&rq, c, &users, &len), 0);
	ck_assert_uint_eq(c->relay_count, 1);
	ck_assert(addr_ip_eq(&c->relays[0].addr, &host.route[0]));
	free(users);
	memset(host.route, 0, sizeof host.route);
	/* Not yet: a start takes what comes. */
	ck_assert_int_eq(conf_load(&rq, c, &users, &len), 0);
	ck_assert_uint_eq(c->relay_count, 0);
	ck_assert(c->follows_host);
	free(users);
	free(c);
}
END_TEST

START_TEST(alternates)
{
	struct loaded *r = load_text("alternate: [ \"203.0.113.7:1\", { address: \"[2001:db8::7]:5349\", "
				     "transport: [ tls, dtls ], domain: t.example } ]\n");
	const struct conf_alternate *a = r->conf.alternates;
	char buf[ADDR_STRLEN];

	ck_assert_msg(r->rc == 0, "%s", r->reports);
	ck_assert_uint_eq(r->conf.alternate_count, 2);
	ck_assert_str_eq(addr_print(&a[0].addr, buf), "203.0.113.7:1");
	ck_assert_uint_eq(a[0].transports, TRANSPORT_UDP | TRANSPORT_TCP);
	ck_assert_str_eq(addr_print(&a[1].addr, buf), "[2001:db8::7]:5349");
	ck_assert_uint_eq(a[1].transports, TRANSPORT_TLS | TRANSPORT_DTLS);
	ck_assert_str_eq(a[1].domain, "t.example");
	unload(r);
}
END_TEST

START_TEST(peers)
{
	struct loaded *r = load_text(
	    "peers:\n  deny: 198.51.100.0/24\n  allow: [ \"2001:db8::/32\", 0.0.0.0/0 ]\n"
	    "  allow_private: [ 127.0.0.1 ]\n  allow_own: [ \"203.0.113.7:10000-20000/udp\", \"[2001:db8::7]:1-65535/udp\" ]\n");
	char buf[ADDR_STRLEN];

	ck_assert_msg(r->rc == 0, "%s", r->reports);
	ck_assert_str_eq(cidr_print(&r->conf.peer_deny.rule[0], buf), "198.51.100.0/24");
	ck_assert_uint_eq(r->conf.peer_allow.count, 2);
	ck_assert_str_eq(cidr_print(&r->conf.peer_allow.rule[1], buf), "0.0.0.0/0");
	ck_assert_str_eq(cidr_print(&r->conf.peer_private.rule[0], buf), "127.0.0.1/32");
	ck_assert_uint_eq(r->conf.peer_own_count, 2);
	ck_assert_str_eq(addr_print(&r->conf.peer_own[1].addr, buf), "2001:db8::7");
	ck_assert_uint_eq(r->conf.peer_own[0].ports.min, 10000);
	ck_assert_uint_eq(r->conf.peer_own[0].ports.max, 20000);
	ck_assert_uint_eq(r->conf.peer_own[1].ports.max, 65535);
	unload(r);
}
END_TEST

Suite *
suite_lists(void)
{
	Suite *s = suite_create("conf lists");
	TCase *t = tcase_create("lists");

	tcase_add_loop_test(t, refuses, 0, (int)TP_COUNT(refused));
	tcase_add_loop_test(t, warns_of_no_effect, 0, (int)TP_COUNT(idle));
	tcase_add_test(t, is_silent_where_it_has_an_effect);
	tcase_add_test(t, external_names);
	tcase_add_test(t, host_defaults);
	tcase_add_test(t, star_is_what_remains);
	tcase_add_test(t, too_many);
	tcase_add_test(t, relays);
	tcase_add_test(t, relay_warnings);
	tcase_add_test(t, default_routes);
	tcase_add_test(t, peers);
	tcase_add_test(t, alternates);
	suite_add_tcase(s, t);
	return s;
}
