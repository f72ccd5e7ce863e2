/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_raw: one flush of interleaved flows, each socket sending for itself or one raw socket for all (io.raw_send).
 *
 *	bench_raw [ADDRESS [PAYLOAD [TURNS]]]
 *
 * No server and no load: batches of 64 lone datagrams of FLOWS relay sockets to FLOWS peers on this host, which drop
 * them at once, go out by turns the one way and the other, so that whatever else the machine does meets both.  CPU time
 * of the thread per datagram, median and 10th percentile over all batches; on loopback it has the receiver's part up to its
 * socket.  Then what the mere existence of the raw socket costs a datagram that another socket receives.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "tp/io.h"

#define FLOWS_MAX 1000
#define BATCH 64

struct flow { int fd, peer; struct addr own, to; };
static struct flow flow[FLOWS_MAX];
static struct addr bare;
static struct udp_counts counts;
static uint8_t payload[65536];

static int
open_socket(struct addr *a)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	int fd = sock_relay_udp(a, 4096);

	if (fd < 0 || getsockname(fd, (struct sockaddr *)&ss, &len) < 0 || addr_from_sockaddr(a, (struct sockaddr *)&ss) < 0)
		fatal(EX_OSERR, "bench_raw: socket: %s", strerror(fd < 0 ? -fd : errno));
	return fd;
}

static double
cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double
batch(struct udp_ring *r, unsigned flows, unsigned *at, size_t len)
{
	double before = cpu_ns();

	for (unsigned i = 0; i < BATCH; i++) {
		struct flow *f = &flow[(*at += 7) % flows];
		(void)udp_ring_put_from(r, f->fd, &bare, f->own.port, &f->to, payload, len);
	}
	udp_engine_gso.flush(r, NULL, NULL, &counts);
	return (cpu_ns() - before) / BATCH;
}

static int
by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void
say(const char *what, double *first, double *second, unsigned n)
{
	qsort(first, n, sizeof *first, by_value);
	qsort(second, n, sizeof *second, by_value);
	printf("%-24s median %5.0f -> %5.0f ns (%.2f)   10th percentile %5.0f -> %5.0f ns (%.2f)\n", what, first[n / 2],
	    second[n / 2], second[n / 2] / first[n / 2], first[n / 10], second[n / 10], second[n / 10] / first[n / 10]);
}

int
main(int argc, char **argv)
{
	static const unsigned sizes[] = { 64, 200, 1000 };
	size_t len = argc > 2 ? strtoul(argv[2], NULL, 10) : 120;
	unsigned turns = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 1000, at = 0;
	struct rlimit files = { 4096, 4096 };
	double *own = calloc(turns, sizeof *own), *raw = calloc(turns, sizeof *raw);
	struct udp_ring *r[2] = { udp_ring_new(BATCH), udp_ring_new(BATCH) };
	char text[64];
	int fd;

	(void)setrlimit(RLIMIT_NOFILE, &files);
	if (addr_parse(&bare, argc > 1 ? argv[1] : "127.0.0.1") < 0 || len > 1400 || turns == 0 || own == NULL || raw == NULL ||
	    r[0] == NULL || r[1] == NULL)
		fatal(EX_USAGE, "usage: bench_raw [ADDRESS [PAYLOAD [TURNS]]]");
	fd = sock_raw_udp(bare.family, 4u << 20);
	if (fd < 0 || udp_ring_raw(r[1], bare.family == ADDR_V4 ? fd : -1, bare.family == ADDR_V6 ? fd : -1) < 0)
		fatal(EX_NOPERM, "bench_raw: raw socket: %s", strerror(-fd));
	for (unsigned i = 0; i < FLOWS_MAX; i++) {
		flow[i].own = flow[i].to = bare;
		flow[i].fd = open_socket(&flow[i].own);
		flow[i].peer = open_socket(&flow[i].to);
		(void)sock_filter_detach(flow[i].peer);		/* its buffer is soon full: that drops before any checksum */
	}
	for (unsigned s = 0; s < TP_COUNT(sizes); s++) {
		for (unsigned i = 0; i < turns; i++) {
			own[i] = batch(r[0], sizes[s], &at, len);
			raw[i] = batch(r[1], sizes[s], &at, len);
		}
		snprintf(text, sizeof text, "%u flows, own -> raw", sizes[s]);
		say(text, own, raw, turns);
	}
	for (unsigned i = 0; i < turns; i++) {
		raw[i] = batch(r[0], 64, &at, len);
		close(fd);
		own[i] = batch(r[0], 64, &at, len);
		fd = sock_raw_udp(bare.family, 4u << 20);
	}
	say("receive, none -> one", own, raw, turns);
	printf("%llu of %llu datagrams by the raw socket\n", (unsigned long long)counts.raw_packets,
	    (unsigned long long)counts.tx_packets);
	return 0;
}
