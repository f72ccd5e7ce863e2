/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_raw.c: what one raw socket for all interleaved flows would save (it is not in the product:
 * doc/performance.md, 9).
 *
 *	bench_raw [PAYLOAD [TURNS]]		as root, or in a user and network namespace of its own
 *
 * No server and no load: batches of 64 datagrams, each of another of 64, 200 or 1,000 sockets and to
 * another peer on loopback, go out by turns in three ways, so that whatever else the machine does meets
 * all of them:
 *
 *	own	sendto on each socket, as the engines do
 *	udp	one sendmmsg on a raw UDP socket: the kernel makes the IP header, a control message chooses the source address
 *	ip	one sendmmsg on a raw IP socket: the IP header is made here, and with it any source address
 *
 * CPU time of the thread per datagram, median and 10th percentile over all batches, with the receiver's
 * part up to its socket (whose buffer is full: nothing is copied or checked there).  Last, what the mere
 * existence of the raw UDP socket, bound to an unused address, costs a datagram that another socket
 * receives.
 */
#include "config.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "tp/io.h"

#define FLOWS 1000
#define BATCH 64
enum way { OWN, UDP, IP, WAYS };

struct flow {
	int fd, peer;
	struct sockaddr_in own, to;
};
struct head {
	struct ip ip;
	struct udphdr udp;
};

static struct flow flow[FLOWS];
static uint8_t payload[1500];
static size_t payload_len = 120;
static int raw[WAYS];
static unsigned at;
static struct udp_ring *ring;
static struct udp_counts counts;

static void
open_socket(int *fd, struct sockaddr_in *own)
{
	struct addr a = { .family = ADDR_V4, .ip = { 127, 0, 0, 1 } };
	socklen_t len = sizeof *own;

	*fd = sock_relay_udp(&a, 4096);
	if (*fd < 0 || sock_filter_detach(*fd) < 0 || getsockname(*fd, (struct sockaddr *)own, &len) < 0)
		fatal(EX_OSERR, "bench_raw: socket: %s", strerror(*fd < 0 ? -*fd : errno));
}

static int
open_raw(enum way way)
{
	struct sockaddr_in nobody = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7ffffffe) };
	int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, way == UDP ? IPPROTO_UDP : IPPROTO_RAW),
	    size = 4 << 20, one = 1;

	if (fd < 0 || sock_filter_attach(fd) < 0 ||
	    (way == UDP && bind(fd, (struct sockaddr *)&nobody, sizeof nobody) < 0))
		fatal(EX_NOPERM, "bench_raw: raw socket: %s", strerror(errno));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
	(void)setsockopt(fd, IPPROTO_IP, IP_RECVERR, &one, sizeof one);
	return fd;
}

static uint64_t
sum_words(uint64_t sum, const void *bytes, size_t n)
{
	const uint8_t *p = bytes;
	uint64_t wide;

	for (; n > 0; p += wide, n -= wide) {
		uint32_t two[2] = { 0 };
		wide = n < sizeof two ? n : sizeof two;
		memcpy(two, p, wide);
		sum += (uint64_t)two[0] + two[1];
	}
	return sum;
}

static void
headers(struct head *h, const struct flow *f)
{
	uint64_t sum;

	h->ip = (struct ip){ .ip_v = 4,
		.ip_hl = 5,
		.ip_ttl = 64,
		.ip_p = IPPROTO_UDP,
		.ip_src = f->own.sin_addr,
		.ip_dst = f->to.sin_addr };
	h->udp = (struct udphdr){ .source = f->own.sin_port,
		.dest = f->to.sin_port,
		.len = htons((uint16_t)(sizeof h->udp + payload_len)) };
	sum = sum_words((uint64_t)htons(IPPROTO_UDP) + h->udp.len, &h->ip.ip_src, 8);
	sum = sum_words(sum_words(sum, &h->udp, sizeof h->udp), payload, payload_len);
	while (sum >> 16 != 0)
		sum = (sum & 0xffff) + (sum >> 16);
	h->udp.check = sum == 0xffff ? 0xffff : (uint16_t)~sum;
}

static void
send_raw(enum way way, unsigned flows)
{
	static struct mmsghdr mm[BATCH];
	static struct iovec iov[BATCH][2];
	static struct head head[BATCH];
	static struct sockaddr_in to[BATCH];
	static union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(struct in_pktinfo))];
	} control[BATCH];

	for (unsigned i = 0; i < BATCH; i++) {
		const struct flow *f = &flow[(at += 7) % flows];
		struct in_pktinfo source = { .ipi_spec_dst = f->own.sin_addr };
		headers(&head[i], f);
		to[i] = f->to;
		iov[i][0] = way == IP ? (struct iovec){ &head[i], sizeof head[i] }
				      : (struct iovec){ &head[i].udp, sizeof head[i].udp };
		iov[i][1] = (struct iovec){ payload, payload_len };
		mm[i].msg_hdr = (struct msghdr){
			.msg_name = &to[i], .msg_namelen = sizeof to[i], .msg_iov = iov[i], .msg_iovlen = 2
		};
		if (way == IP)
			continue;
		control[i].align = (struct cmsghdr){ .cmsg_level = IPPROTO_IP,
			.cmsg_type = IP_PKTINFO,
			.cmsg_len = CMSG_LEN(sizeof source) };
		memcpy(CMSG_DATA(&control[i].align), &source, sizeof source);
		mm[i].msg_hdr.msg_control = control[i].space;
		mm[i].msg_hdr.msg_controllen = sizeof control[i].space;
	}
	if (sendmmsg(raw[way], mm, BATCH, MSG_DONTWAIT) != BATCH)
		fatal(EX_OSERR, "bench_raw: sendmmsg: %s", strerror(errno));
}

static void
send_own(unsigned flows)
{
	for (unsigned i = 0; i < BATCH; i++) {
		const struct flow *f = &flow[(at += 7) % flows];
		struct addr to;
		(void)addr_from_sockaddr(&to, (const struct sockaddr *)&f->to);
		(void)udp_ring_put(ring, f->fd, &to, payload, payload_len);
	}
	udp_engine_gso.flush(ring, NULL, NULL, &counts);
}

static double
cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double
batch(enum way way, unsigned flows)
{
	double before = cpu_ns();

	if (way == OWN)
		send_own(flows);
	else
		send_raw(way, flows);
	return (cpu_ns() - before) / BATCH;
}

static int
by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void
say(const char *what, const double *base, const double *ns, unsigned n)
{
	printf("%-28s median %5.0f ns (%.2f)   10th percentile %5.0f ns (%.2f)\n", what, ns[n / 2],
	    ns[n / 2] / base[n / 2], ns[n / 10], ns[n / 10] / base[n / 10]);
}

static void
compare(unsigned flows, double *ns[WAYS], unsigned turns)
{
	static const char *const names[WAYS] = { "own", "udp", "ip" };
	char what[64];

	for (unsigned i = 0; i < turns; i++)
		for (enum way w = OWN; w < WAYS; w++)
			ns[w][i] = batch(w, flows);
	for (enum way w = OWN; w < WAYS; w++) {
		qsort(ns[w], turns, sizeof *ns[w], by_value);
		snprintf(what, sizeof what, "%u flows, %s", flows, names[w]);
		say(what, ns[OWN], ns[w], turns);
	}
}

static void
existence(double *ns[WAYS], unsigned turns)
{
	for (unsigned i = 0; i < turns; i++) {
		ns[1][i] = batch(OWN, BATCH);
		close(raw[UDP]);
		ns[0][i] = batch(OWN, BATCH);
		raw[UDP] = open_raw(UDP);
	}
	for (unsigned i = 0; i < 2; i++)
		qsort(ns[i], turns, sizeof *ns[i], by_value);
	say("no raw UDP socket", ns[0], ns[0], turns);
	say("one without senders", ns[0], ns[1], turns);
}

int
main(int argc, char **argv)
{
	unsigned turns = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 1000;
	struct rlimit files = { 4096, 4096 };
	double *ns[WAYS];

	payload_len = argc > 1 ? strtoul(argv[1], NULL, 10) : payload_len;
	if (payload_len > 1400 || turns == 0)
		fatal(EX_USAGE, "usage: bench_raw [PAYLOAD [TURNS]]");
	(void)setrlimit(RLIMIT_NOFILE, &files);
	ring = udp_ring_new(BATCH);
	for (unsigned i = 0; i < WAYS; i++)
		if ((ns[i] = calloc(turns, sizeof *ns[i])) == NULL || ring == NULL)
			fatal(EX_OSERR, "bench_raw: no memory");
	for (unsigned i = 0; i < FLOWS; i++) {
		open_socket(&flow[i].fd, &flow[i].own);
		open_socket(&flow[i].peer, &flow[i].to);
	}
	raw[UDP] = open_raw(UDP);
	raw[IP] = open_raw(IP);
	compare(64, ns, turns);
	compare(200, ns, turns);
	compare(FLOWS, ns, turns);
	existence(ns, turns);
	return 0;
}
