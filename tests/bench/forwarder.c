/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * forwarder.c: the floor for a relay.  The same sockets and calls as the server (one unconnected listener
 * read with recvmmsg, one unconnected relay socket for each flow read with recv, answers collected into
 * one sendmmsg on the listener) and no TURN at all: 4 bytes off on the way up, 4 bytes on on the way
 * down.
 *
 *	forwarder [--gso | --connected | --raw] ADDRESS:PORT
 *
 * --gso: the kernel merges and splits.  --connected: each relay socket is connected to its flow's peer.
 * --raw: what goes up leaves through one raw socket for all flows (IPv4, needs CAP_NET_RAW), headers and
 * checksum made here.
 *
 * A flow begins with a hello on channel 0x4fff: struct addr of the peer, 16 bits of channel number; the
 * answer on 0x4fff is struct addr of the relay socket (turnpike-load --bare).  One process, no time-outs:
 * not for networks.
 */
#include "config.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sysexits.h>
#include <unistd.h>

#include "tp/base.h"

#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#define HELLO     0x4fff
#define SLOTS     64
#define GRO_SLOTS 16
#define SLOT      (65536 + 320)
#define OUT_MAX   1024 /* datagrams collected before they are sent */
#define RECVS     32   /* reads of one relay socket per wake-up */
#define HEAD      4
#define FLOWS_MAX 16384 /* power of two */

struct flow {
	struct addr client;
	int fd;
	uint16_t channel;
	struct sockaddr_storage peer, back;
	socklen_t peer_len, back_len;
	struct {
		uint8_t *p;
		uint32_t len;
	} up[SLOTS];
	struct sockaddr_in own;
	unsigned ups;
};

/* What one sendmmsg takes: messages of one or (GSO) many datagrams. */
struct out {
	struct mmsghdr mm[OUT_MAX];
	struct iovec iov[OUT_MAX];
	union {
		char buf[CMSG_SPACE(2)];
		struct cmsghdr align;
	} control[OUT_MAX];
	unsigned msgs, iovs;
};

static int listener, ep;
static struct addr self; /* the listener's, and of every relay socket */
static bool gso, connected;
static int raw = -1;
static struct flow *flows[FLOWS_MAX], *touched[OUT_MAX];
static unsigned touched_count;
static struct out out;
static uint8_t *slots, *relay_slots;

static void
out_send(int fd)
{
	for (unsigned done = 0; done < out.msgs;) {
		int n = sendmmsg(fd, out.mm + done, out.msgs - done, 0);

		done += n > 0 ? (unsigned)n : 1; /* what cannot be sent is lost, like anywhere */
	}
	out.msgs = out.iovs = 0;
}

static void
segment(struct msghdr *h, void *control, size_t size)
{
	uint16_t v = (uint16_t)size;
	struct cmsghdr *c;

	if (h->msg_controllen != 0)
		return;
	h->msg_control = control;
	h->msg_controllen = CMSG_SPACE(sizeof v);
	c = CMSG_FIRSTHDR(h);
	c->cmsg_level = SOL_UDP;
	c->cmsg_type = UDP_SEGMENT;
	c->cmsg_len = CMSG_LEN(sizeof v);
	memcpy(CMSG_DATA(c), &v, sizeof v);
}

/* To `to`; joined to the message before it when that goes there too, with datagrams of this size. */
static void
out_put(int fd, const struct sockaddr_storage *to, socklen_t to_len, uint8_t *p, size_t len)
{
	struct msghdr *last = out.msgs > 0 ? &out.mm[out.msgs - 1].msg_hdr : NULL;

	if (out.iovs == OUT_MAX) {
		out_send(fd);
		last = NULL;
	}
	out.iov[out.iovs] = (struct iovec){ p, len };
	if (gso && last != NULL && last->msg_name == to && last->msg_iov[0].iov_len == len &&
	    last->msg_iovlen < 64 && (last->msg_iovlen + 1) * len < 65000) {
		segment(last, &out.control[out.msgs - 1], len);
		last->msg_iovlen++;
	} else {
		out.mm[out.msgs++].msg_hdr = (struct msghdr){ .msg_name = to_len > 0 ? (void *)(uintptr_t)to
										     : NULL,
			.msg_namelen = to_len,
			.msg_iov = &out.iov[out.iovs],
			.msg_iovlen = 1 };
	}
	out.iovs++;
}

static unsigned
hash(const struct addr *a)
{
	uint32_t ip;

	memcpy(&ip, a->ip, 4);
	return ((ip ^ (uint32_t)a->port << 13) * 2654435761u) >> 18;
}

static struct flow **
find(const struct addr *a)
{
	unsigned i = hash(a) & (FLOWS_MAX - 1);

	while (flows[i] != NULL && !addr_eq(&flows[i]->client, a))
		i = (i + 1) & (FLOWS_MAX - 1);
	return &flows[i];
}

static void
hello(struct flow **place, const struct addr *from, const uint8_t *p, size_t n)
{
	struct sockaddr_storage ss;
	struct addr peer, relay = self;
	struct epoll_event ev = { .events = EPOLLIN };
	uint8_t answer[HEAD + sizeof relay];
	socklen_t len;
	int size = 1 << 20;

	if (n < HEAD + sizeof peer + 2)
		return;
	if (*place == NULL) {
		struct flow *f = calloc(1, sizeof *f);

		if (f == NULL)
			fatal(EX_OSERR, "forwarder: no memory");
		f->client = *from;
		f->back_len = addr_to_sockaddr(from, &f->back);
		relay.port = 0;
		len = addr_to_sockaddr(&relay, &ss);
		f->fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		(void)setsockopt(f->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
		ev.data.ptr = f;
		if (f->fd < 0 || bind(f->fd, (struct sockaddr *)&ss, len) != 0 ||
		    epoll_ctl(ep, EPOLL_CTL_ADD, f->fd, &ev) != 0)
			fatal(EX_OSERR, "forwarder: relay socket: %s", strerror(errno));
		*place = f;
		len = sizeof f->own;
		(void)getsockname(f->fd, (struct sockaddr *)&f->own, &len);
	}
	/* Also for a flow that is known: a later run may have been given the same client port. */
	memcpy(&peer, p + HEAD, sizeof peer);
	(*place)->channel = get_u16(p + HEAD + sizeof peer);
	(*place)->peer_len = addr_to_sockaddr(&peer, &(*place)->peer);
	if (connected && connect((*place)->fd, (struct sockaddr *)&(*place)->peer, (*place)->peer_len) != 0)
		fatal(EX_OSERR, "forwarder: connect: %s", strerror(errno));
	len = sizeof ss;
	if (getsockname((*place)->fd, (struct sockaddr *)&ss, &len) != 0 ||
	    addr_from_sockaddr(&relay, (struct sockaddr *)&ss) != 0)
		return;
	put_u16(answer, HELLO);
	put_u16(answer + 2, sizeof relay);
	memcpy(answer + HEAD, &relay, sizeof relay);
	(void)sendto(
	    listener, answer, sizeof answer, 0, (struct sockaddr *)&(*place)->back, (*place)->back_len);
}

/* The ones' complement sum of words in network order, as the machine reads them. */
static uint64_t
sum_words(uint64_t sum, const uint8_t *p, size_t n)
{
	uint32_t w = 0;

	for (; n >= 4; p += 4, n -= 4) {
		memcpy(&w, p, 4);
		sum += w;
	}
	w = 0;
	memcpy(&w, p, n);
	return sum + w;
}

static uint16_t
fold(uint64_t sum)
{
	while (sum >> 16 != 0)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* One datagram of the flow, headers of its own and the payload where it lies. */
static void
raw_put(const struct flow *f, const uint8_t *p, size_t len)
{
	static struct packet {
		struct ip ip;
		uint16_t from, to, len, sum;
	} head[OUT_MAX / 2];
	const struct sockaddr_in *to = (const struct sockaddr_in *)(const void *)&f->peer;

	if (out.msgs == OUT_MAX / 2)
		out_send(raw);
	struct packet *h = &head[out.msgs];
	uint16_t udp_len = (uint16_t)(8 + len);
	/* The kernel fills in id, length and checksum of the IP header. */
	h->ip = (struct ip){ .ip_v = 4,
		.ip_hl = 5,
		.ip_ttl = 64,
		.ip_p = IPPROTO_UDP,
		.ip_src = f->own.sin_addr,
		.ip_dst = to->sin_addr };
	h->from = f->own.sin_port;
	h->to = to->sin_port;
	h->len = htons(udp_len);
	h->sum = 0;
	uint64_t sum = (uint64_t)h->ip.ip_src.s_addr + h->ip.ip_dst.s_addr + htons(IPPROTO_UDP) + h->len;
	uint16_t folded = fold(sum_words(sum_words(sum, (const uint8_t *)&h->from, 8), p, len));
	h->sum = folded != 0 ? folded : 0xffff;
	struct iovec *iov = &out.iov[(size_t)out.msgs * 2];
	iov[0] = (struct iovec){ h, sizeof *h };
	iov[1] = (struct iovec){ (void *)(uintptr_t)p, len };
	out.mm[out.msgs++].msg_hdr = (struct msghdr){ .msg_name = (void *)(uintptr_t)to,
		.msg_namelen = sizeof *to,
		.msg_iov = iov,
		.msg_iovlen = 2 };
}

static void
flow_flush(struct flow *f)
{
	for (unsigned i = 0; i < f->ups; i++)
		if (raw >= 0)
			raw_put(f, f->up[i].p + HEAD, f->up[i].len - HEAD);
		else
			out_put(f->fd, &f->peer, connected ? 0 : f->peer_len, f->up[i].p + HEAD,
			    f->up[i].len - HEAD);
	f->ups = 0;
	if (raw < 0)
		out_send(f->fd);
}

static void
from_client(const struct addr *from, uint8_t *p, size_t n)
{
	struct flow **place = find(from), *f = *place;

	if (n < HEAD)
		return;
	if (get_u16(p) == HELLO) {
		hello(place, from, p, n);
		return;
	}
	if (f == NULL || get_u16(p) != f->channel)
		return;
	if (f->ups == SLOTS)
		flow_flush(f);
	if (f->ups == 0)
		touched[touched_count++] = f;
	f->up[f->ups].p = p;
	f->up[f->ups++].len = (uint32_t)n;
}

static size_t
gro_size(struct msghdr *h, size_t whole)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c != NULL; c = CMSG_NXTHDR(h, c))
		if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
			int v;

			memcpy(&v, CMSG_DATA(c), sizeof v);
			return v > 0 ? (size_t)v : whole;
		}
	return whole;
}

static void
read_listener(void)
{
	static struct mmsghdr mm[SLOTS];
	static struct iovec iov[SLOTS];
	static struct sockaddr_storage names[SLOTS];
	static union {
		char buf[64];
		struct cmsghdr align;
	} control[SLOTS];
	unsigned max = gso ? GRO_SLOTS : SLOTS;
	struct addr from;
	int n;

	for (unsigned i = 0; i < max; i++) {
		iov[i] = (struct iovec){ slots + (size_t)i * SLOT, 65535 };
		mm[i].msg_hdr = (struct msghdr){ .msg_name = &names[i],
			.msg_namelen = sizeof names[i],
			.msg_iov = &iov[i],
			.msg_iovlen = 1,
			.msg_control = gso ? &control[i] : NULL,
			.msg_controllen = gso ? sizeof control[i] : 0 };
	}
	n = recvmmsg(listener, mm, max, MSG_DONTWAIT, NULL);
	for (int i = 0; i < n; i++) {
		size_t left = mm[i].msg_len, size = gro_size(&mm[i].msg_hdr, left);
		uint8_t *p = iov[i].iov_base;

		if (addr_from_sockaddr(&from, (struct sockaddr *)&names[i]) != 0)
			continue;
		for (; left > 0; p += size, left -= left < size ? left : size)
			from_client(&from, p, left < size ? left : size);
	}
	for (unsigned i = 0; i < touched_count; i++)
		flow_flush(touched[i]);
	touched_count = 0;
	if (raw >= 0)
		out_send(raw);
}

/* Up to RECVS datagrams of one relay socket; *used counts slots of the batch. */
static void
read_relay(struct flow *f, unsigned *used)
{
	for (unsigned i = 0; i < RECVS; i++) {
		struct sockaddr_storage ss;
		socklen_t len = sizeof ss;
		uint8_t *p;
		ssize_t n;

		if (*used == OUT_MAX) {
			out_send(listener);
			*used = 0;
		}
		p = relay_slots + (size_t)*used * 2048;
		n = recvfrom(f->fd, p + HEAD, 2048 - HEAD, MSG_DONTWAIT, (struct sockaddr *)&ss, &len);
		if (n < 0)
			break;
		put_u16(p, f->channel);
		put_u16(p + 2, (uint16_t)n);
		out_put(listener, &f->back, f->back_len, p, (size_t)n + HEAD);
		++*used;
	}
}

static void
serve(void)
{
	struct epoll_event ev[256];

	for (;;) {
		int n = epoll_wait(ep, ev, 256, -1);
		unsigned used = 0;

		for (int i = 0; i < n; i++)
			if (ev[i].data.ptr != NULL)
				read_relay(ev[i].data.ptr, &used);
		out_send(listener);
		for (int i = 0; i < n; i++)
			if (ev[i].data.ptr == NULL)
				read_listener();
	}
}

int
main(int argc, char **argv)
{
	struct epoll_event ev = { .events = EPOLLIN };
	struct sockaddr_storage ss;
	struct addr a;
	socklen_t len;
	int size = 8 << 20, on = 1;

	gso = argc == 3 && strcmp(argv[1], "--gso") == 0;
	connected = argc == 3 && strcmp(argv[1], "--connected") == 0;
	bool want_raw = argc == 3 && strcmp(argv[1], "--raw") == 0;
	if (argc < 2 || addr_parse(&a, argv[argc - 1]) != 0 ||
	    (argc == 3 && !gso && !connected && !want_raw))
		fatal(EX_USAGE, "usage: forwarder [--gso | --connected | --raw] ADDRESS:PORT");
	if (want_raw && (raw = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW)) < 0)
		fatal(EX_OSERR, "forwarder: raw socket: %s", strerror(errno));
	signal(SIGPIPE, SIG_IGN);
	self = a;
	slots = malloc((size_t)SLOTS * SLOT);
	relay_slots = malloc((size_t)OUT_MAX * 2048);
	len = addr_to_sockaddr(&a, &ss);
	listener = socket(ss.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	ep = epoll_create1(EPOLL_CLOEXEC);
	if (setsockopt(listener, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
		(void)setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	if (gso)
		(void)setsockopt(listener, SOL_UDP, UDP_GRO, &on, sizeof on);
	if (slots == NULL || relay_slots == NULL || bind(listener, (struct sockaddr *)&ss, len) != 0 ||
	    epoll_ctl(ep, EPOLL_CTL_ADD, listener, &ev) != 0)
		fatal(EX_OSERR, "forwarder: %s: %s", argv[argc - 1], strerror(errno));
	serve();
}
