/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_turn_policy.c: which peers may be reached: every class of address by name, every disguise of an
 * IPv4 address.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>

#include "check_turn.h"
#include "tp/turn.h"

static struct turn_policy p;
static struct port_map ports;

static void
clear(void)
{
	memset(&p, 0, sizeof p);
	memset(&ports, 0, sizeof ports);
	p.ports = &ports;
}

static struct addr
addr_of(const char *text)
{
	struct addr a;

	ck_assert_msg(addr_parse(&a, text) == 0, "%s", text);
	return a;
}

static enum peer_verdict
judge(const char *text)
{
	struct addr a = addr_of(text);

	return peer_judge(&p, &a, NULL);
}

static void
rule(struct turn_rules *r, const char *text)
{
	ck_assert_msg(cidr_parse(&r->rule[r->count++], text) == 0, "%s", text);
}

static void
relay(const char *inside, const char *outside, uint16_t min, uint16_t max)
{
	struct turn_relay_row *r = &p.relay[p.relay_count++];

	r->addr = addr_of(inside);
	if (outside != NULL)
		r->external = addr_of(outside);
	r->port_min = min;
	r->port_max = max;
}

/* ---- vectors ----------------------------------------------------------------------------------- */

static const struct {
	const char *addr;
	enum peer_verdict v;
} denied[] = {
	{ "127.0.0.1", PEER_PRIVATE },
	{ "127.255.255.254", PEER_PRIVATE },
	{ "0.0.0.0", PEER_NEVER },
	{ "0.1.2.3", PEER_NEVER },
	{ "10.0.0.1", PEER_PRIVATE },
	{ "172.16.0.1", PEER_PRIVATE },
	{ "172.31.255.255", PEER_PRIVATE },
	{ "192.168.1.1", PEER_PRIVATE },
	{ "100.64.0.1", PEER_PRIVATE },
	{ "100.127.255.255", PEER_PRIVATE },
	{ "169.254.169.254", PEER_PRIVATE },
	{ "100.100.100.200", PEER_PRIVATE },
	{ "192.0.0.192", PEER_PRIVATE },
	{ "168.63.129.16", PEER_PRIVATE },
	{ "192.0.2.1", PEER_PRIVATE },
	{ "198.18.0.1", PEER_PRIVATE },
	{ "198.19.255.255", PEER_PRIVATE },
	{ "198.51.100.1", PEER_PRIVATE },
	{ "203.0.113.1", PEER_PRIVATE },
	{ "192.88.99.1", PEER_PRIVATE },
	{ "224.0.0.1", PEER_NEVER },
	{ "239.255.255.250", PEER_NEVER },
	{ "240.0.0.1", PEER_NEVER },
	{ "255.255.255.255", PEER_NEVER },
	{ "::", PEER_NEVER },
	{ "::1", PEER_PRIVATE },
	{ "::7f00:1", PEER_TRANSITION },
	{ "::ffff:127.0.0.1", PEER_TRANSITION },
	{ "::ffff:0.0.0.0", PEER_NEVER },
	{ "::ffff:169.254.169.254", PEER_TRANSITION },
	{ "::ffff:8.8.8.8", PEER_TRANSITION },
	{ "::ffff:0:7f00:1", PEER_TRANSITION },
	{ "64:ff9b::7f00:1", PEER_TRANSITION },
	{ "64:ff9b::a9fe:a9fe", PEER_TRANSITION },
	{ "64:ff9b:1::a00:1", PEER_TRANSITION },
	{ "64:ff9b::808:808", PEER_TRANSITION },
	{ "2002:7f00:1::1", PEER_TRANSITION },
	{ "2002:a9fe:a9fe::", PEER_TRANSITION },
	{ "2002:808:808::1", PEER_TRANSITION },
	{ "2001:0:7f00:1::80ff:fffe", PEER_TRANSITION },
	{ "2001:db8::5efe:a00:1", PEER_PRIVATE },
	{ "2a00:1450::5efe:a00:1", PEER_TRANSITION },
	{ "2a00:1450::200:5efe:808:808", PEER_TRANSITION },
	{ "fe80::1", PEER_PRIVATE },
	{ "fec0::1", PEER_PRIVATE },
	{ "fc00::1", PEER_PRIVATE },
	{ "fd00:ec2::254", PEER_PRIVATE },
	{ "fd20:ce::254", PEER_PRIVATE },
	{ "ff02::1", PEER_NEVER },
	{ "100::1", PEER_PRIVATE },
	{ "2001:db8::1", PEER_PRIVATE },
	{ "3fff::1", PEER_PRIVATE },
	{ "5f00::1", PEER_TRANSITION },
	{ "1fff::1", PEER_TRANSITION },
	{ "4000::1", PEER_TRANSITION },
	{ "fe7f::1", PEER_TRANSITION },
	{ "2001:1ff::1", PEER_TRANSITION },
	{ "2001:20::1", PEER_TRANSITION },
};

START_TEST(denied_by_default)
{
	enum peer_verdict v;

	clear();
	v = judge(denied[_i].addr);
	ck_assert_msg(v == denied[_i].v, "%s: %s, not %s", denied[_i].addr, peer_verdict_text(v),
	    peer_verdict_text(denied[_i].v));
}
END_TEST

static const char *const open_by_default[] = {
	"9.255.255.255",
	"11.0.0.0",
	"172.15.255.255",
	"172.32.0.0",
	"100.63.255.255",
	"100.128.0.0",
	"126.255.255.255",
	"128.0.0.0",
	"169.253.255.255",
	"169.255.0.0",
	"223.255.255.255",
	"168.63.129.15",
	"168.63.129.17",
	"192.0.1.0",
	"192.0.3.0",
	"198.17.255.255",
	"198.20.0.0",
	"2000::1",
	"2001:200::1",
	"2001:db7:ffff::1",
	"2001:db9::1",
	"2003::1",
	"2400::1",
	"3fff:1000::1",
	"8.8.8.8",
	"2a00:1450:4001::68",
};

START_TEST(not_over_blocked)
{
	clear();
	ck_assert_msg(judge(open_by_default[_i]) == PEER_OK, "%s: %s", open_by_default[_i],
	    peer_verdict_text(judge(open_by_default[_i])));
}
END_TEST

/* ---- disguises ----------------------------------------------------------------------------------- */

static void
disguise(char out[64], unsigned form, uint32_t ip)
{
	unsigned hi = ip >> 16, lo = ip & 0xffff;

	switch (form) {
	case 0:
		snprintf(out, 64, "::ffff:%x:%x", hi, lo);
		break;
	case 1:
		snprintf(out, 64, "::%x:%x", hi, lo);
		break;
	case 2:
		snprintf(out, 64, "::ffff:0:%x:%x", hi, lo);
		break;
	case 3:
		snprintf(out, 64, "64:ff9b::%x:%x", hi, lo);
		break;
	case 4:
		snprintf(out, 64, "64:ff9b:1::%x:%x", hi, lo);
		break;
	case 5:
		snprintf(out, 64, "2002:%x:%x::1", hi, lo);
		break;
	case 6:
		snprintf(out, 64, "2001:0:%x:%x::f7f7:f7f7", hi, lo);
		break;
	case 7:
		snprintf(out, 64, "2001:0:808:808::%x:%x", hi ^ 0xffff, lo ^ 0xffff);
		break;
	case 8:
		snprintf(out, 64, "2a00:1450::5efe:%x:%x", hi, lo);
		break;
	default:
		snprintf(out, 64, "2a00:1450::200:5efe:%x:%x", hi, lo);
		break;
	}
}

START_TEST(every_disguise_is_denied)
{
	static const char *const bases[] = { "127.0.0.0/8", "10.0.0.0/8", "169.254.0.0/16",
		"192.168.0.0/16", "224.0.0.0/4" };
	unsigned seed = 20261121;

	clear();
	/* Not even where the whole form is opened: what it carries is judged. */
	rule(&p.peers.allow_private, "::/0");
	for (unsigned i = 0; i < 100000; i++) {
		struct cidr base;
		uint32_t ip;
		char text[64];

		ck_assert_int_eq(cidr_parse(&base, bases[i % TP_COUNT(bases)]), 0);
		ip = get_u32(base.ip) | ((uint32_t)rand_r(&seed) << 8 & (0xffffffffu >> base.bits));
		if (ip == 0x7f000000)
			continue;
		disguise(text, i / 5 % 10, ip);
		if (i / 5 % 10 == 1 && ip < 0x10000)
			continue;
		ck_assert_msg(judge(text) != PEER_OK, "%s", text);
	}
	disguise((char[64]){ 0 }, 0, 0);
	ck_assert_int_eq(judge("64:ff9b::808:808"), PEER_OK);
}
END_TEST

/* ---- rules ----------------------------------------------------------------------------------------- */

START_TEST(deny_wins)
{
	struct cidr by;
	struct addr a = addr_of("8.8.8.8");
	char text[ADDR_STRLEN];

	clear();
	rule(&p.peers.deny, "8.8.8.0/24");
	rule(&p.peers.allow, "8.8.8.8");
	rule(&p.peers.allow_private, "8.8.8.8");
	ck_assert_int_eq(peer_judge(&p, &a, &by), PEER_RULE);
	ck_assert_str_eq(cidr_print(&by, text), "8.8.8.0/24");
	rule(&p.peers.deny, "127.0.0.1");
	rule(&p.peers.allow_private, "127.0.0.0/8");
	ck_assert_int_eq(judge("127.0.0.1"), PEER_RULE);
	ck_assert_int_eq(judge("127.0.0.2"), PEER_OK);
	ck_assert_int_eq(judge("::ffff:8.8.8.8"), PEER_RULE);
}
END_TEST

START_TEST(allow_is_a_list)
{
	clear();
	rule(&p.peers.allow, "9.9.9.9");
	rule(&p.peers.allow, "10.0.0.0/8");
	rule(&p.peers.allow_private, "192.168.1.0/24");
	ck_assert_int_eq(judge("9.9.9.9"), PEER_OK);
	ck_assert_int_eq(judge("9.9.9.8"), PEER_NOT_ALLOWED);
	ck_assert_int_eq(judge("2400::1"), PEER_NOT_ALLOWED);
	ck_assert_int_eq(judge("10.0.0.1"), PEER_PRIVATE); /* allow opens nothing that is internal */
	ck_assert_int_eq(judge("192.168.1.7"), PEER_OK);
}
END_TEST

START_TEST(own_host)
{
	clear();
	p.peers.host[p.peers.host_count++] = addr_of("5.6.7.8");
	p.peers.host[p.peers.host_count++] = addr_of("127.0.0.1");
	p.peers.listener[p.peers.listener_count++] = addr_of("5.6.7.8:3478");
	p.peers.own[p.peers.own_count++] = (struct turn_ports){ addr_of("5.6.7.8"), 10000, 20000 };
	ck_assert_int_eq(judge("5.6.7.8:22"), PEER_OWN);
	ck_assert_int_eq(judge("5.6.7.8:3478"), PEER_NEVER);
	ck_assert_int_eq(judge("5.6.7.8:9999"), PEER_OWN);
	ck_assert_int_eq(judge("5.6.7.8:10000"), PEER_OK);
	ck_assert_int_eq(judge("5.6.7.8:20000"), PEER_OK);
	ck_assert_int_eq(judge("5.6.7.8:20001"), PEER_OWN);
	ck_assert_int_eq(judge("5.6.7.8"), PEER_OK); /* a permission: some port of it is */
	ck_assert_int_eq(judge("127.0.0.1:80"), PEER_OWN);
	rule(&p.peers.allow_private, "127.0.0.0/8");
	rule(&p.peers.allow_private, "5.6.7.8");
	ck_assert_int_eq(judge("127.0.0.1:80"), PEER_OK);
	ck_assert_int_eq(judge("5.6.7.8:22"), PEER_OK);
	ck_assert_int_eq(judge("5.6.7.8:3478"), PEER_NEVER); /* no rule opens a listener */
	p.peers.listener[p.peers.listener_count++] = addr_of("0.0.0.0:9641");
	ck_assert_int_eq(judge("5.6.7.8:9641"), PEER_NEVER);
	ck_assert_int_eq(judge("127.0.0.1:9641"), PEER_NEVER);
	ck_assert_int_eq(judge("8.8.8.8:9641"), PEER_OK);
}
END_TEST

START_TEST(own_relay_ports)
{
	struct addr a;

	clear();
	relay("10.0.0.5", "5.6.7.8", 50000, 59999);
	port_map_set(&ports, 0, 50000, true);
	port_map_set(&ports, 0, 50001, true);
	port_map_set(&ports, 0, 59999, true);
	p.peers.host[p.peers.host_count++] = addr_of("10.0.0.5");
	p.peers.host[p.peers.host_count++] = addr_of("5.6.7.8");
	p.peers.listener[p.peers.listener_count++] = addr_of("10.0.0.5:3478");
	ck_assert_int_eq(judge("5.6.7.8:50000"), PEER_OK);
	ck_assert_int_eq(judge("5.6.7.8:59999"), PEER_OK);
	ck_assert_int_eq(judge("5.6.7.8:60000"), PEER_OWN);
	ck_assert_int_eq(judge("5.6.7.8:50002"), PEER_OWN); /* another program's */
	ck_assert_int_eq(judge("10.0.0.5:50002"), PEER_OWN);
	ck_assert_int_eq(judge("5.6.7.8:3478"), PEER_NEVER); /* the listener, seen from outside */
	ck_assert_int_eq(judge("10.0.0.5:50001"), PEER_OK);
	ck_assert_int_eq(judge("10.0.0.6:50001"), PEER_PRIVATE);
	rule(&p.peers.allow, "9.9.9.9");
	ck_assert_int_eq(judge("5.6.7.8:50000"), PEER_OK);
	rule(&p.peers.deny, "5.6.7.8");
	ck_assert_int_eq(judge("5.6.7.8:50000"), PEER_RULE);
	a = addr_of("5.6.7.8:50000");
	peer_to_inside(&p, &a);
	ck_assert(addr_eq(&a, &(struct addr){ .family = ADDR_V4, .port = 50000, .ip = { 10, 0, 0, 5 } }));
	peer_to_outside(&p, &a);
	ck_assert(addr_eq(&a, &(struct addr){ .family = ADDR_V4, .port = 50000, .ip = { 5, 6, 7, 8 } }));
	a = addr_of("5.6.7.8:22");
	peer_to_inside(&p, &a);
	ck_assert_int_eq(a.ip[0], 5);
}
END_TEST

START_TEST(transition_forms_open_with_care)
{
	clear();
	rule(&p.peers.allow_private, "64:ff9b::/96");
	ck_assert_int_eq(judge("64:ff9b::808:808"), PEER_OK);
	ck_assert_int_eq(judge("64:ff9b::a00:1"), PEER_TRANSITION);
	ck_assert_int_eq(judge("64:ff9b::e000:1"), PEER_NEVER);
	rule(&p.peers.deny, "8.8.8.8");
	ck_assert_int_eq(judge("64:ff9b::808:808"), PEER_RULE);
	rule(&p.peers.allow_private, "::1/128");
	ck_assert_int_eq(judge("::1"), PEER_OK);
	rule(&p.peers.allow_private, "fc00::/7");
	ck_assert_int_eq(judge("fd00::5"), PEER_OK);
}
END_TEST

/* denied_peer_ip, allowed_peer_ip, and the databases' own addresses. */
START_TEST(databases)
{
	struct addr_range deny[] = { { addr_of("203.0.113.0"), addr_of("203.0.113.99") },
		{ addr_of("2a00:1::1"), addr_of("2a00:1::ff") } };
	struct addr_range allow[] = { { addr_of("203.0.113.7"), addr_of("203.0.113.7") } };
	struct addr own[] = { addr_of("192.0.2.5:5432") }, here = addr_of("192.0.2.5:1"),
		    there = addr_of("192.0.2.6:1");

	clear();
	p.peers.follow_deny = (struct turn_ranges){ TP_COUNT(deny), deny };
	p.peers.follow_allow = (struct turn_ranges){ TP_COUNT(allow), allow };
	p.peers.database = own;
	p.peers.database_count = TP_COUNT(own);
	rule(&p.peers.allow_private, "192.0.2.0/24");
	ck_assert_int_eq(judge("203.0.113.0"), PEER_DATABASE);
	ck_assert_int_eq(judge("203.0.113.99"), PEER_DATABASE);
	ck_assert_int_eq(judge("::ffff:203.0.113.50"), PEER_DATABASE);
	ck_assert_int_eq(judge("2a00:1::80"), PEER_DATABASE);
	ck_assert_int_eq(judge("203.0.113.7"), judge("203.0.113.100"));
	ck_assert_int_eq(judge("2a00:1::100"), PEER_OK);
	ck_assert_int_eq(judge("192.0.2.5:5432"), PEER_DATABASE);
	ck_assert_int_eq(judge("192.0.2.5:5433"), PEER_OK);
	ck_assert(peer_port_matters(&p, &here));
	ck_assert(!peer_port_matters(&p, &there));
}
END_TEST

START_TEST(verdicts_have_names)
{
	for (enum peer_verdict v = PEER_OK; v <= PEER_DATABASE; v++) {
		ck_assert_str_ne(peer_verdict_text(v), "unknown");
		for (enum peer_verdict k = PEER_OK; k < v; k++)
			ck_assert_str_ne(peer_verdict_text(v), peer_verdict_text(k));
	}
}
END_TEST

Suite *
suite_policy(void)
{
	Suite *s = suite_create("policy");
	TCase *c = tcase_create("policy");

	tcase_add_loop_test(c, denied_by_default, 0, (int)TP_COUNT(denied));
	tcase_add_loop_test(c, not_over_blocked, 0, (int)TP_COUNT(open_by_default));
	tcase_add_test(c, every_disguise_is_denied);
	tcase_add_test(c, deny_wins);
	tcase_add_test(c, allow_is_a_list);
	tcase_add_test(c, own_host);
	tcase_add_test(c, own_relay_ports);
	tcase_add_test(c, transition_forms_open_with_care);
	tcase_add_test(c, databases);
	tcase_add_test(c, verdicts_have_names);
	suite_add_tcase(s, c);
	return s;
}

/* ---- client sources -------------------------------------------------------------------------- */

START_TEST(sources)
{
	static const char *const bad[] = { "8.8.8.8:0", "8.8.8.8:7", "8.8.8.8:19", "8.8.8.8:53",
		"8.8.8.8:123", "8.8.8.8:389", "8.8.8.8:1900", "8.8.8.8:11211", "0.0.0.0:5000",
		"224.0.0.1:5000", "[ff02::1]:5000", "[::]:5000", "5.6.7.8:3478" };
	static const char *const good[] = { "8.8.8.8:5000", "127.0.0.1:5000", "10.0.0.1:1024",
		"[fe80::1]:5000" };
	struct addr a;

	clear();
	p.peers.listener[p.peers.listener_count++] = addr_of("5.6.7.8:3478");
	for (unsigned i = 0; i < TP_COUNT(bad); i++) {
		a = addr_of(bad[i]);
		ck_assert_msg(source_is_bad(&p, &a), "%s", bad[i]);
	}
	for (unsigned i = 0; i < TP_COUNT(good); i++) {
		a = addr_of(good[i]);
		ck_assert_msg(!source_is_bad(&p, &a), "%s", good[i]);
	}
}
END_TEST

START_TEST(tunnels)
{
	struct addr a = addr_of("2002:808:808::1");

	ck_assert(source_is_tunnel(&a));
	a = addr_of("2001::1");
	ck_assert(source_is_tunnel(&a));
	a = addr_of("2001:1::1");
	ck_assert(!source_is_tunnel(&a));
	a = addr_of("32.2.8.8");
	ck_assert(!source_is_tunnel(&a));
}
END_TEST

Suite *
suite_source(void)
{
	Suite *s = suite_create("source");
	TCase *c = tcase_create("source");

	tcase_add_test(c, sources);
	tcase_add_test(c, tunnels);
	suite_add_tcase(s, c);
	return s;
}
