/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_net.c: connection tracking, the kernel's own choice of ports, what a firewall must let through.
 */
#include "config.h"

#include "tp/doctor.h"

#define UDP_TIMEOUT_MIN 30 /* seconds: WebRTC's consent checks come every 5, keepalives every 15 to 25 */
#define UDP_STREAM_MIN  120

static void
judge_conntrack(struct doctor_report *r, const struct doctor_case *c)
{
	const struct doctor_host *h = c->host;
	uint64_t ports = doctor_ports(c->conf), need = 2 * ports;
	struct doctor_finding *f = doctor_put(r, DOCTOR_OK, "net.netfilter.nf_conntrack_max");

	if (h->conntrack_max == UNKNOWN) {
		doctor_text(
		    f->is, "connection tracking is not loaded (or not visible here): nothing is tracked");
		return;
	}
	doctor_text(f->is, "%lld, %lld in use", (long long)h->conntrack_max, (long long)h->conntrack_count);
	doctor_text(f->should,
	    "at least %llu: an entry for the client and one for each peer of %llu relayed ports",
	    (unsigned long long)need, (unsigned long long)ports);
	if (h->conntrack_count >= h->conntrack_max / 10 * 9)
		f->level = DOCTOR_BAD;
	else if ((uint64_t)h->conntrack_max < need)
		f->level = DOCTOR_WARNING;
	if (f->level != DOCTOR_OK)
		doctor_text(f->set,
		    "sysctl -w net.netfilter.nf_conntrack_max=%llu; or no tracking of the relayed ports: nft add rule "
		    "inet raw prerouting udp dport %u-%u notrack, and the same with sport in output",
		    (unsigned long long)(need > 65536 ? need : 65536), c->conf->relay_ports.min,
		    c->conf->relay_ports.max);
}

static void
judge_timeout(
    struct doctor_report *r, const struct doctor_case *c, const char *name, int64_t is, int64_t least)
{
	struct doctor_finding *f;

	if (c->host->conntrack_max == UNKNOWN || is == UNKNOWN)
		return;
	f = doctor_put(r, is >= least ? DOCTOR_OK : DOCTOR_WARNING, name);
	doctor_text(f->is, "%lld s", (long long)is);
	if (is >= least)
		return;
	doctor_text(f->should,
	    "at least %lld s: a flow that pauses longer is a stranger to a stateful firewall",
	    (long long)least);
	doctor_text(f->set, "sysctl -w %s=%lld", name, (long long)least);
}

static unsigned
taken(const struct doctor_host *h, unsigned low, unsigned high)
{
	unsigned n = 0;

	for (unsigned port = low; port <= high && port < 65536; port++)
		n += port >= h->port_low && port <= h->port_high &&
		    (h->reserved[port / 8] >> port % 8 & 1) == 0;
	return n;
}

static void
judge_range(struct doctor_report *r, const struct doctor_case *c)
{
	const struct conf *conf = c->conf;
	unsigned worst = 0, low = conf->relay_ports.min, high = conf->relay_ports.max, listeners = 0,
		 port = 0;
	struct doctor_finding *f = doctor_put(r, DOCTOR_OK, "net.ipv4.ip_local_port_range");

	if (c->host->port_low == UNKNOWN) {
		f->level = DOCTOR_NOTE;
		doctor_text(f->is, "not visible here");
		return;
	}
	for (uint32_t i = 0; i < conf->relay_count; i++) {
		unsigned n = conf->relays[i].retired
		    ? 0
		    : taken(c->host, conf->relays[i].port_min, conf->relays[i].port_max);

		if (n > worst) {
			worst = n;
			low = conf->relays[i].port_min;
			high = conf->relays[i].port_max;
		}
	}
	for (uint32_t i = 0; i < conf->listener_count; i++)
		if (taken(c->host, conf->listeners[i].addr.port, conf->listeners[i].addr.port) > 0) {
			listeners++;
			port = conf->listeners[i].addr.port;
		}
	doctor_text(f->is, "%lld-%lld", (long long)c->host->port_low, (long long)c->host->port_high);
	doctor_text(f->should, "apart from the relayed ports %u-%u", low, high);
	if (worst > 0) {
		f->level = DOCTOR_WARNING;
		doctor_text(f->should,
		    "apart from the relayed ports %u-%u: %u of them may be taken by other programs' connections",
		    low, high, worst);
		doctor_text(f->set,
		    "sysctl -w net.ipv4.ip_local_port_range=\"16384 49151\", or add %u-%u to "
		    "net.ipv4.ip_local_reserved_ports",
		    low, high);
	}
	if (listeners > 0) {
		f = doctor_put(r, DOCTOR_WARNING, "net.ipv4.ip_local_reserved_ports");
		doctor_text(f->is, "without port %u of a listener", port);
		doctor_text(f->should,
		    "with it: while turnpiked does not run another program's connection may get that port");
		doctor_text(f->set, "sysctl -w net.ipv4.ip_local_reserved_ports=%u", port);
	}
}

/* One line for each rule that a packet filter needs. */
static void
firewall(struct doctor_report *r, const struct doctor_case *c)
{
	const struct conf *conf = c->conf;
	char text[ADDR_STRLEN];

	for (uint32_t i = 0; i < conf->listener_count; i++) {
		const struct conf_listener *l = &conf->listeners[i];
		bool tcp = (l->transports & TRANSPORT_STREAMS) != 0;
		bool udp = (l->transports & (TRANSPORT_UDP | TRANSPORT_DTLS)) != 0;

		if (!l->retired)
			doctor_text(doctor_put(r, DOCTOR_NOTE, "firewall")->is,
			    "let in %s%s%s to %s port %u", udp ? "udp" : "", udp && tcp ? " and " : "",
			    tcp ? "tcp" : "", addr_print_ip(&l->addr, text), l->addr.port);
	}
	for (uint32_t i = 0; i < conf->relay_count; i++)
		if (!conf->relays[i].retired)
			doctor_text(doctor_put(r, DOCTOR_NOTE, "firewall")->is,
			    "let in udp to %s ports %u-%u, and out from there",
			    addr_print_ip(&conf->relays[i].addr, text), conf->relays[i].port_min,
			    conf->relays[i].port_max);
}

void
doctor_judge_net(struct doctor_report *r, const struct doctor_case *c)
{
	if (!c->host->same_network)
		doctor_text(doctor_put(r, DOCTOR_WARNING, "network namespace")->is,
		    "turnpiked's is another one: what is said of "
		    "net.* is this shell's (nsenter -n -t %d turnpikectl doctor)",
		    (int)c->daemon->pid);
	judge_conntrack(r, c);
	judge_timeout(
	    r, c, "net.netfilter.nf_conntrack_udp_timeout", c->host->conntrack_udp, UDP_TIMEOUT_MIN);
	judge_timeout(r, c, "net.netfilter.nf_conntrack_udp_timeout_stream", c->host->conntrack_udp_stream,
	    UDP_STREAM_MIN);
	judge_range(r, c);
	firewall(r, c);
}
