/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * policy_print.c: policy_print SEED COUNT: random rule sets and addresses with the verdict of
 * peer_judge(), a line each, for policy_oracle.py.
 *
 *	S deny=.. allow=.. private=.. own=ADDR,LOW,HIGH host=.. listener=ADDR,PORT relay=ADDR,EXTERNAL|-,LOW,HIGH
 *	A ADDRESS PORT ok|no
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>

#include "tp/turn.h"

#define PER_SET 200

static struct turn_policy p;
static struct port_map ports;
static uint64_t state;

static uint32_t
rnd(uint32_t below)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((state >> 33) % below);
}

/* Interesting starts; the rest is random. */
static const char *const bases[] = {
	"0.0.0.0",
	"10.0.0.0",
	"100.64.0.0",
	"127.0.0.0",
	"168.63.129.16",
	"169.254.169.254",
	"172.16.0.0",
	"192.0.0.0",
	"192.168.0.0",
	"198.18.0.0",
	"203.0.113.0",
	"224.0.0.0",
	"240.0.0.0",
	"8.8.8.0",
	"5.6.7.0",
	"::",
	"::ffff:0.0.0.0",
	"::ffff:0:0:0",
	"64:ff9b::",
	"64:ff9b:1::",
	"2002::",
	"2001::",
	"2001:db8::",
	"fe80::",
	"fc00::",
	"ff00::",
	"2a00::5efe:0:0",
	"2a00::200:5efe:0:0",
	"3fff::",
	"2000::",
	"2400::",
	"4000::",
	"100::",
	"2001:200::",
};

static void
carry_v4(struct addr *a)
{
	uint8_t v4[4] = { 127, 0, 0, 1 };
	static const uint8_t at[] = { 12, 12, 12, 2, 4 };
	unsigned where = at[rnd(TP_COUNT(at))];

	if (rnd(2))
		for (unsigned i = 0; i < 4; i++)
			v4[i] = (uint8_t)rnd(256);
	else if (rnd(2))
		v4[0] = (uint8_t)(rnd(2) ? 10 : 8);
	memcpy(a->ip + where, v4, 4);
}

static struct addr
random_addr(void)
{
	struct addr a;
	unsigned keep, n;

	if (rnd(8) == 0) {
		memset(&a, 0, sizeof a);
		a.family = rnd(2) ? ADDR_V4 : ADDR_V6;
		for (unsigned i = 0; i < addr_iplen(&a); i++)
			a.ip[i] = (uint8_t)rnd(256);
		return a;
	}
	if (addr_parse(&a, bases[rnd(TP_COUNT(bases))]) != 0)
		abort();
	n = addr_iplen(&a);
	keep = rnd(n + 1);
	if (a.family == ADDR_V6 && rnd(2))
		carry_v4(&a);
	else
		for (unsigned i = keep; i < n; i++)
			a.ip[i] = (uint8_t)(rnd(3) ? rnd(256) : rnd(2) ? 0 : 255);
	if (rnd(4) == 0)
		a.ip[n - 1] = (uint8_t)(a.ip[n - 1] ^ rnd(4));
	return a;
}

static void
random_rules(const char *name, struct turn_rules *r, unsigned most)
{
	char text[ADDR_STRLEN];

	r->count = rnd(most + 1);
	for (unsigned i = 0; i < r->count; i++) {
		struct addr a = random_addr(), masked;
		unsigned bits = rnd(4) ? rnd(addr_iplen(&a) * 8 + 1) : addr_iplen(&a) * 8;

		addr_mask(&masked, &a, bits);
		r->rule[i] = (struct cidr){ .family = a.family, .bits = (uint8_t)bits };
		memcpy(r->rule[i].ip, masked.ip, 16);
		printf(" %s=%s", name, cidr_print(&r->rule[i], text));
		if (bits == addr_iplen(&a) * 8 && strchr(text, '/') == NULL)
			printf("/%u", bits);
	}
}

static struct addr known[16]; /* addresses of this set that are worth asking about */
static unsigned known_n;

static struct addr
note(struct addr a)
{
	if (known_n < TP_COUNT(known))
		known[known_n++] = a;
	return a;
}

static void
random_set(void)
{
	char text[ADDR_STRLEN], other[ADDR_STRLEN];
	struct peer_policy *pp = &p.peers;

	memset(&p, 0, sizeof p);
	memset(&ports, 0, sizeof ports);
	p.ports = &ports;
	known_n = 0;
	printf("S");
	random_rules("deny", &pp->deny, 2);
	random_rules("allow", &pp->allow, rnd(3) ? 0 : 3);
	random_rules("private", &pp->allow_private, 3);
	pp->host_count = rnd(3);
	for (unsigned i = 0; i < pp->host_count; i++) {
		pp->host[i] = note(random_addr());
		printf(" host=%s", addr_print_ip(&pp->host[i], text));
	}
	pp->own_count = rnd(2);
	for (unsigned i = 0; i < pp->own_count; i++) {
		pp->own[i] = (struct turn_ports){ pp->host_count ? pp->host[0] : note(random_addr()), 10,
			20 };
		printf(" own=%s,10,20", addr_print_ip(&pp->own[i].addr, text));
	}
	p.relay_count = rnd(3);
	for (unsigned i = 0; i < p.relay_count; i++) {
		struct turn_relay_row *r = &p.relay[i];

		r->addr = note(random_addr());
		r->port_min = 50;
		r->port_max = 60;
		for (unsigned port = 50; port <= 60; port++)
			port_map_set(&ports, i, port, true);
		strcpy(other, "-");
		if (rnd(2)) {
			do
				r->external = random_addr();
			while (r->external.family != r->addr.family);
			note(r->external);
			addr_print_ip(&r->external, other);
		}
		printf(" relay=%s,%s,50,60", addr_print_ip(&r->addr, text), other);
	}
	pp->listener_count = rnd(3);
	for (unsigned i = 0; i < pp->listener_count; i++) {
		pp->listener[i] = p.relay_count && rnd(2) ? p.relay[0].addr
		    : rnd(4)                              ? note(random_addr())
			     : (struct addr){ .family = rnd(2) ? ADDR_V4 : ADDR_V6 };
		pp->listener[i].port = (uint16_t)(rnd(2) ? 34 : 55);
		printf(" listener=%s,%u", addr_print_ip(&pp->listener[i], text), pp->listener[i].port);
	}
	printf("\n");
}

int
main(int argc, char **argv)
{
	static const uint16_t asked[] = { 0, 5, 10, 15, 20, 21, 34, 49, 50, 55, 60, 61, 80 };
	unsigned long count = argc > 2 ? strtoul(argv[2], NULL, 10) : 1000;
	char text[ADDR_STRLEN];

	state = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
	for (unsigned long i = 0; i < count; i++) {
		struct addr a;

		if (i % PER_SET == 0)
			random_set();
		a = known_n > 0 && rnd(4) == 0 ? known[rnd(known_n)] : random_addr();
		a.port = asked[rnd(TP_COUNT(asked))];
		printf("A %s %u %s\n", addr_print_ip(&a, text), a.port,
		    peer_judge(&p, &a, NULL) == PEER_OK ? "ok" : "no");
	}
	return 0;
}
