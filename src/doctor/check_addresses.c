/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_addresses.c: are the configured addresses this host's, and can peers reach the relayed ones?
 * "Why would a client get no relay candidate?"
 */
#include "config.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tp/doctor.h"

/* Binds a UDP socket there; -errno. */
static int
try_bind(struct addr a, uint16_t port)
{
	struct sockaddr_storage ss;
	socklen_t len;
	int fd, err;

	a.port = port;
	len = addr_to_sockaddr(&a, &ss);
	fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	err = bind(fd, (struct sockaddr *)&ss, len) < 0 ? -errno : 0;
	close(fd);
	return err;
}

/* Reached from this host, or from its own network, only. */
static const char *
narrow(const struct addr *a)
{
	static const struct {
		const char *net, *what;
	} nets[] = {
		{ "127.0.0.0/8", "loopback" },
		{ "10.0.0.0/8", "private" },
		{ "172.16.0.0/12", "private" },
		{ "192.168.0.0/16", "private" },
		{ "100.64.0.0/10", "shared (carrier NAT)" },
		{ "169.254.0.0/16", "link-local" },
		{ "::1/128", "loopback" },
		{ "fc00::/7", "private" },
		{ "fe80::/10", "link-local" },
	};
	struct cidr c;

	for (unsigned i = 0; i < TP_COUNT(nets); i++)
		if (cidr_parse(&c, nets[i].net) == 0 && cidr_has(&c, a))
			return nets[i].what;
	return NULL;
}

static void
check_relay(struct doctor_report *r, const struct conf_relay *relay)
{
	const char *kind = narrow(&relay->addr);
	struct doctor_finding *f = doctor_put(r, DOCTOR_OK, "relay.addresses");
	char text[ADDR_STRLEN], seen[ADDR_STRLEN];
	int err = try_bind(relay->addr, 0);

	addr_print_ip(&relay->addr, text);
	if (relay->external.family != ADDR_NONE)
		doctor_text(
		    f->is, "%s, shown to clients as %s", text, addr_print_ip(&relay->external, seen));
	else
		doctor_text(f->is, "%s%s%s", text, kind != NULL ? ", " : "", kind != NULL ? kind : "");
	if (err < 0) {
		f->level = DOCTOR_BAD;
		doctor_text(f->should, "an address of this host: %s", strerror(-err));
		doctor_text(f->set, "ip addr add %s dev DEVICE, or relay: { addresses: [ ... ] }", text);
	} else if (kind != NULL && relay->external.family == ADDR_NONE) {
		f->level = DOCTOR_WARNING;
		doctor_text(
		    f->should, "one that peers can reach: no host on the Internet can send to this one");
		doctor_text(
		    f->set, "relay: { addresses: [ { address: %s, external: PUBLIC-ADDRESS } ] }", text);
	}
}

static void
check_listener(struct doctor_report *r, const struct conf_listener *l, bool running)
{
	struct doctor_finding *f = doctor_put(r, DOCTOR_OK, "listeners");
	bool udp = (l->transports & (TRANSPORT_UDP | TRANSPORT_DTLS)) != 0;
	int err = try_bind(l->addr, running || !udp ? 0 : l->addr.port);
	char text[ADDR_STRLEN];

	doctor_text(f->is, "%s", addr_print(&l->addr, text));
	if (err == 0)
		return;
	f->level = DOCTOR_BAD;
	if (err == -EADDRINUSE)
		doctor_text(f->should, "free: another program has that UDP port (ss -lunp sport = :%u)",
		    l->addr.port);
	else if (err == -EACCES) {
		f->level = DOCTOR_NOTE;
		doctor_text(f->should, "tried as root: ports below 1024 need its rights");
	} else {
		doctor_text(f->should, "an address of this host: %s", strerror(-err));
	}
}

static void
check_families(struct doctor_report *r, const struct doctor_case *c)
{
	const struct conf *conf = c->conf;
	bool wants = false, relays = false, has = false;
	struct doctor_finding *f;

	for (uint32_t i = 0; i < conf->listener_count; i++)
		wants |= !conf->listeners[i].retired && conf->listeners[i].addr.family == ADDR_V6;
	for (uint32_t i = 0; i < conf->relay_count; i++)
		relays |= !conf->relays[i].retired && conf->relays[i].addr.family == ADDR_V6;
	for (uint32_t i = 0; i < conf->host_addr_count; i++)
		has |= conf->host_addr[i].family == ADDR_V6 && narrow(&conf->host_addr[i]) == NULL;
	f = doctor_put(r, DOCTOR_OK, "IPv6");
	doctor_text(f->is, "%s; listeners %s, relayed addresses %s",
	    c->host->ipv6_disabled == 1 ? "switched off"
		: has                   ? "this host has a global address"
					: "this host has no global address",
	    wants ? "yes" : "no", relays ? "yes" : "no");
	if ((wants || relays) && c->host->ipv6_disabled == 1) {
		f->level = DOCTOR_BAD;
		doctor_text(f->should, "switched on: IPv6 addresses are configured");
		doctor_text(f->set, "sysctl -w net.ipv6.conf.all.disable_ipv6=0");
	} else if (has && !relays) {
		f->level = DOCTOR_NOTE;
		doctor_text(f->should, "a relayed IPv6 address, or clients get no IPv6 candidate (440)");
		doctor_text(f->set, "relay: { addresses: [ ..., IPV6-ADDRESS ] }");
	}
}

void
doctor_addresses(struct doctor_report *r, const struct doctor_case *c)
{
	for (uint32_t i = 0; i < c->conf->listener_count && c->host->same_network; i++)
		if (!c->conf->listeners[i].retired)
			check_listener(r, &c->conf->listeners[i], c->daemon->running);
	for (uint32_t i = 0; i < c->conf->relay_count && c->host->same_network; i++)
		if (!c->conf->relays[i].retired)
			check_relay(r, &c->conf->relays[i]);
	check_families(r, c);
}
