/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * addresses.c: this host's own addresses, which peers may not be, as they are now and not as they were
 * when the configuration was read: DHCP, a moved service address, a tunnel that comes up.
 *
 * The kernel's word (rtnetlink) only says when to look; without it they are looked at now and then.  The
 * new list goes to all processes as a configuration that differs in it, as with the log level: nothing
 * else of the files is applied.  A relay row whose address is not here, or not ready, serves no new
 * session; where the configuration says "*" or leaves the choice to the host, another address is a
 * reload.
 */
#include "config.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "super_int.h"

#define LOOK_MS  10000
#define TOLD_MAX 8 /* by name; a host that gets a hundred addresses at once gets one line for the rest */

/* What it says in detail does not matter, and what was lost in a full queue neither: they are looked up. */
static void
on_change(void *arg, int fd, uint32_t events)
{
	struct super *s = arg;
	char bytes[8192];

	(void)events;
	while (recv(fd, bytes, sizeof bytes, MSG_DONTWAIT) >= 0 || errno == ENOBUFS)
		;
	s->addresses_due = 0;
}

void
super_addresses_watch(struct super *s)
{
	struct sockaddr_nl me = { .nl_family = AF_NETLINK,
		.nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

	if (fd < 0)
		return;
	if (bind(fd, (const struct sockaddr *)&me, sizeof me) < 0 ||
	    loop_add(s->loop, fd, EPOLLIN, on_change, s) < 0)
		close(fd);
}

/* Those of `a` that are not in `b`: how many; the first ones are named in the log. */
static unsigned
differ(const struct addr *a, uint32_t a_count, const struct addr *b, uint32_t b_count, const char *what)
{
	char text[ADDR_STRLEN];
	unsigned n = 0;

	for (uint32_t i = 0; i < a_count; i++)
		if (!conf_host_has(b, b_count, &a[i]) && n++ < TOLD_MAX)
			log_info("addresses: %s %s", addr_print_ip(&a[i], text), what);
	if (n > TOLD_MAX)
		log_info("addresses: and %u others: %s", n - TOLD_MAX, what);
	return n;
}

unsigned
super_addresses_mark(struct conf *c)
{
	char text[ADDR_STRLEN];
	unsigned n = 0;

	for (uint32_t i = 0; i < c->relay_count; i++) {
		struct conf_relay *r = &c->relays[i];
		bool absent = r->port_min > 0 && !r->retired && !sock_is_here(&r->addr);

		if (absent == (r->absent != 0))
			continue;
		r->absent = absent;
		n++;
		if (absent)
			log_warnx(
			    "relay.addresses: %s is not ready on this host: clients get others until it is",
			    addr_print_ip(&r->addr, text));
		else
			log_info(
			    "relay.addresses: %s is ready: clients get it", addr_print_ip(&r->addr, text));
	}
	return n;
}

static bool
has_relays(const struct conf *c)
{
	for (uint32_t i = 0; i < c->relay_count; i++)
		if (!c->relays[i].retired)
			return true;
	return false;
}

/* For all processes: the configuration with other addresses. */
static void
publish(struct super *s)
{
	struct conf *c = &s->conf;

	c->generation++;
	if (super_conf_publish(s, c) < 0) {
		log_errx("addresses: no memory for the configuration");
		c->host_addr_count = 0; /* differs from what there is: tried again */
		return;
	}
	pool_rows(&s->pool, c);
	super_tell_conf(s);
}

void
super_addresses_step(struct super *s, tp_ms now)
{
	struct addr is[CONF_HOST_ADDRS_MAX];
	struct conf *c = &s->conf;
	uint32_t n;
	unsigned differs;
	bool more;

	/* A reload that runs has asked the kernel itself, maybe before the change: it is compared when
	 * it is done. */
	if (now < s->addresses_due || s->reloading ||
	    (s->phase != SUPER_RUNNING && s->phase != SUPER_DRAINING))
		return;
	s->addresses_due = now + LOOK_MS;
	if (conf_host_addrs(is, &n, &more) < 0)
		return;
	differs = differ(
		      is, n, c->host_addr, c->host_addr_count, "is this host's now: peers cannot have it") +
	    differ(c->host_addr, c->host_addr_count, is, n, "is no longer this host's");
	if (differs > 0) {
		memcpy(c->host_addr, is, n * sizeof is[0]);
		c->host_addr_count = n;
	}
	if (super_addresses_mark(c) + differs > 0)
		publish(s);
	/* What was taken from the host is taken again: from "*", and from a default route that comes
	 * late. */
	if (c->follows_host && (differs > 0 || !has_relays(c)) && s->phase == SUPER_RUNNING) {
		log_info("addresses: listeners or relay addresses follow this host: reload");
		super_reload(s, (struct requester){ .used = false });
	}
}
