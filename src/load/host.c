/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * host: what this machine's UDP stack does with no server in the way: the price of sending and receiving a datagram by
 * each kind of call, one sender against 1..N receivers on one port, and how evenly SO_REUSEPORT spreads flows.
 * Loopback, one socket each, CPU time of the calling thread.  On loopback a sender also pays for the receiver's half of
 * the stack up to the socket's queue.
 */
#include "config.h"

#include <errno.h>
#include <jansson.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "load_int.h"

#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#define BATCH 64
#define BUFFER (8 << 20)
#define ROUNDS_MIN 4
#define SPREAD_TRIALS 10

struct bench {
	const struct load_options *o;
	double seconds;				/* for each row */
	json_t *rows;
	struct sockaddr_storage to;
	socklen_t to_len;
	uint8_t *data;				/* BATCH payloads, one behind the other */
	struct mmsghdr mm[BATCH];
	struct iovec iov[BATCH];
	union { char buf[CMSG_SPACE(sizeof(uint16_t))]; struct cmsghdr align; } control;
};

static double
thread_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int
udp_bound(struct bench *b, bool share, bool gro)
{
	struct addr a = { .family = ADDR_V4, .ip = { 127, 0, 0, 1 } };
	socklen_t len = sizeof b->to;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), size = BUFFER, on = 1;

	if (fd < 0)
		fatal(EX_OSERR, "host: socket: %s", strerror(errno));
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	if (gro)
		(void)setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof on);
	if (share) {
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
		if (b->to_len != 0) {
			struct addr known;

			(void)addr_from_sockaddr(&known, (struct sockaddr *)&b->to);
			a.port = known.port;
		}
	}
	b->to_len = addr_to_sockaddr(&a, &b->to);
	if (bind(fd, (struct sockaddr *)&b->to, b->to_len) != 0 || getsockname(fd, (struct sockaddr *)&b->to, &len) != 0)
		fatal(EX_OSERR, "host: bind: %s", strerror(errno));
	return fd;
}

static int
udp_sender(const struct bench *b, bool connected)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || (connected && connect(fd, (const struct sockaddr *)&b->to, b->to_len) != 0))
		fatal(EX_OSERR, "host: socket: %s", strerror(errno));
	return fd;
}

enum how { SENDTO, SEND, SENDMMSG, GSO };

/* One call, or BATCH single ones; returns the datagrams that went. */
static unsigned
send_some(struct bench *b, int fd, enum how how, unsigned segments)
{
	size_t n = b->o->payload;
	struct msghdr h = { .msg_iov = &b->iov[0], .msg_iovlen = 1, .msg_control = b->control.buf,
		.msg_controllen = sizeof b->control.buf };
	uint16_t size = (uint16_t)n;
	struct cmsghdr *c = CMSG_FIRSTHDR(&h);
	unsigned done = 0;
	int r;

	switch (how) {
	case SENDTO:
	case SEND:
		for (unsigned i = 0; i < BATCH; i++)
			done += sendto(fd, b->data, n, 0, how == SEND ? NULL : (struct sockaddr *)&b->to,
			    how == SEND ? 0 : b->to_len) >= 0;
		return done;
	case SENDMMSG:
		for (unsigned i = 0; i < BATCH; i++) {
			b->iov[i] = (struct iovec){ b->data + i * n, n };
			b->mm[i].msg_hdr = (struct msghdr){ .msg_iov = &b->iov[i], .msg_iovlen = 1 };
		}
		r = sendmmsg(fd, b->mm, BATCH, 0);
		return r > 0 ? (unsigned)r : 0;
	default:
		b->iov[0] = (struct iovec){ b->data, segments * n };
		c->cmsg_level = SOL_UDP;
		c->cmsg_type = UDP_SEGMENT;
		c->cmsg_len = CMSG_LEN(sizeof size);
		memcpy(CMSG_DATA(c), &size, sizeof size);
		return sendmsg(fd, &h, 0) >= 0 ? segments : 0;
	}
}

static void
row(struct bench *b, const char *group, const char *what, double pps, double ns, const char *more, double value)
{
	json_t *j = json_pack("{s:s s:s s:f s:f}", "group", group, "what", what, "per_second", pps, "cpu_ns", ns);

	if (more != NULL)
		json_object_set_new(j, more, json_real(value));
	json_array_append_new(b->rows, j);
	if (b->o->json)
		return;
	printf("%-10s %-34s", group, what);
	if (pps > 0)
		printf(" %10.0f a second", pps);
	if (ns > 0)
		printf(" %7.0f ns CPU each", ns);
	if (more != NULL)
		printf("  %s %.2f", more, value);
	putchar('\n');
	fflush(stdout);
}

/* The queue of the socket at the other end is full: what is measured ends at its drop. */
static void
sending(struct bench *b)
{
	static const struct { const char *name; enum how how; unsigned segments; } ways[] = {
		{ "sendto, unconnected", SENDTO, 1 }, { "send, connected", SEND, 1 }, { "sendmmsg of 64, connected", SENDMMSG, 1 },
		{ "UDP_SEGMENT of 2", GSO, 2 }, { "UDP_SEGMENT of 16", GSO, 16 }, { "UDP_SEGMENT of 40", GSO, 40 } };

	for (unsigned i = 0; i < TP_COUNT(ways); i++) {
		int sink = udp_bound(b, false, true), fd = udp_sender(b, ways[i].how != SENDTO);
		uint64_t end, began = now_ns(), n = 0;
		double cpu = thread_ns();

		end = began + (uint64_t)(b->seconds * 1e9);
		while (now_ns() < end)
			n += send_some(b, fd, ways[i].how, ways[i].segments);
		cpu = thread_ns() - cpu;
		if (n > 0)
			row(b, "send", ways[i].name, (double)n * 1e9 / (double)(now_ns() - began), cpu / (double)n, NULL, 0);
		close(sink);
		close(fd);
	}
}

struct rx_space { uint8_t *p; size_t each; };

static unsigned
receive_some(struct bench *b, const struct rx_space *space, int fd, bool many)
{
	unsigned count = 0;
	int n;

	if (!many) {
		while (recv(fd, space->p, space->each, MSG_DONTWAIT) > 0)
			count++;
		return count;
	}
	do {
		for (unsigned i = 0; i < BATCH; i++) {
			b->iov[i] = (struct iovec){ space->p + i * space->each, space->each };
			b->mm[i].msg_hdr = (struct msghdr){ .msg_iov = &b->iov[i], .msg_iovlen = 1 };
		}
		n = recvmmsg(fd, b->mm, BATCH, MSG_DONTWAIT, NULL);
		for (int i = 0; i < n; i++)
			count += (unsigned)((b->mm[i].msg_len + b->o->payload - 1) / b->o->payload);
	} while (n == BATCH);
	return count;
}

/* Fill a queue, then read it empty: only the reading is measured. */
static void
receiving(struct bench *b)
{
	static const struct { const char *name; bool many; enum how how; unsigned segments; } ways[] = {
		{ "recv until EAGAIN", false, SENDMMSG, 1 }, { "recvmmsg of 64", true, SENDMMSG, 1 },
		{ "recvmmsg of 64, UDP_GRO of 16", true, GSO, 16 } };
	struct rx_space space = { malloc((size_t)BATCH * 65536), 65536 };

	if (space.p == NULL)
		fatal(EX_OSERR, "host: no memory");
	for (unsigned i = 0; i < TP_COUNT(ways); i++) {
		int sink = udp_bound(b, false, ways[i].how == GSO), fd = udp_sender(b, true);
		uint64_t end = now_ns() + (uint64_t)(b->seconds * 1e9), n = 0;
		double cpu = 0;

		for (unsigned round = 0; round < ROUNDS_MIN || now_ns() < end; round++) {
			double before;

			for (unsigned k = 0; k < 32; k++)
				(void)send_some(b, fd, ways[i].how, ways[i].segments);
			before = thread_ns();
			n += receive_some(b, &space, sink, ways[i].many);
			cpu += thread_ns() - before;
		}
		if (n > 0)
			row(b, "receive", ways[i].name, (double)n * 1e9 / cpu, cpu / (double)n, NULL, 0);
		close(sink);
		close(fd);
	}
	free(space.p);
}

struct receiver { pthread_t thread; int fd; _Atomic bool *stop; uint64_t count; double cpu; };

static void *
receiver(void *p)
{
	struct receiver *r = p;
	struct mmsghdr mm[BATCH];
	struct iovec iov[BATCH];
	uint8_t *space = malloc((size_t)BATCH * 2048);
	struct timeval wait = { .tv_usec = 50000 };

	(void)setsockopt(r->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
	while (space != NULL && !atomic_load_explicit(r->stop, memory_order_relaxed)) {
		int n;

		for (unsigned i = 0; i < BATCH; i++) {
			iov[i] = (struct iovec){ space + i * 2048, 2048 };
			mm[i].msg_hdr = (struct msghdr){ .msg_iov = &iov[i], .msg_iovlen = 1 };
		}
		n = recvmmsg(r->fd, mm, BATCH, MSG_WAITFORONE, NULL);
		r->count += n > 0 ? (unsigned)n : 0;
	}
	r->cpu = thread_ns();
	free(space);
	return NULL;
}

/* One sender (this thread) with 64 flows against n receivers on one port. */
static void
one_port(struct bench *b, unsigned n)
{
	struct receiver *r = calloc(n, sizeof *r);
	_Atomic bool stop = false;
	int flows[BATCH];
	uint64_t began, end, sent = 0, got = 0, most = 0;
	double cpu = 0;
	char name[64];

	if (r == NULL)
		fatal(EX_OSERR, "host: no memory");
	b->to_len = 0;
	for (unsigned i = 0; i < n; i++) {
		r[i].fd = udp_bound(b, true, false);
		r[i].stop = &stop;
	}
	for (unsigned i = 0; i < BATCH; i++)
		flows[i] = udp_sender(b, true);
	for (unsigned i = 0; i < n; i++)
		if (pthread_create(&r[i].thread, NULL, receiver, &r[i]) != 0)
			fatal(EX_OSERR, "host: cannot start a thread");
	began = now_ns();
	end = began + (uint64_t)(b->seconds * 2e9);
	for (unsigned i = 0; now_ns() < end; i++)
		sent += send_some(b, flows[i % BATCH], GSO, 16);
	end = now_ns();
	usleep(20000);
	stop = true;
	for (unsigned i = 0; i < n; i++) {
		pthread_join(r[i].thread, NULL);
		got += r[i].count;
		most = r[i].count > most ? r[i].count : most;
		cpu += r[i].cpu;
		close(r[i].fd);
	}
	for (unsigned i = 0; i < BATCH; i++)
		close(flows[i]);
	snprintf(name, sizeof name, "%u receivers, recvmmsg, %.0f %% lost", n,
	    sent > 0 ? 100.0 * (double)(sent - got) / (double)sent : 0);
	row(b, "one port", name, (double)got * 1e9 / (double)(end - began), got > 0 ? cpu / (double)got : 0, "busiest/mean",
	    got > 0 ? (double)most * n / (double)got : 0);
	b->to_len = 0;
	free(r);
}

static void
spread(struct bench *b, unsigned sockets, unsigned flows)
{
	int fd[16];
	double sum = 0, idle = 0;
	char name[64], byte;

	for (unsigned t = 0; t < SPREAD_TRIALS; t++) {
		unsigned most = 0;

		b->to_len = 0;
		for (unsigned i = 0; i < sockets; i++)
			fd[i] = udp_bound(b, true, false);
		for (unsigned i = 0; i < flows; i++) {
			int s = udp_sender(b, true);

			(void)send(s, "x", 1, 0);
			close(s);
		}
		for (unsigned i = 0; i < sockets; i++) {
			unsigned n = 0;

			while (recv(fd[i], &byte, 1, MSG_DONTWAIT) > 0)
				n++;
			most = n > most ? n : most;
			idle += n == 0;
			close(fd[i]);
		}
		sum += (double)most * sockets / flows;
	}
	snprintf(name, sizeof name, "%u flows on %u sockets, %.0f %% idle", flows, sockets,
	    100 * idle / (SPREAD_TRIALS * (double)sockets));
	row(b, "spread", name, 0, 0, "busiest/mean", sum / SPREAD_TRIALS);
	b->to_len = 0;
}

int
host_run(const struct load_options *o)
{
	static const unsigned sockets[] = { 2, 4, 8, 16 }, flows[] = { 4, 16, 100, 1000 };
	unsigned most = o->threads > 1 ? o->threads : (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	struct bench *b = calloc(1, sizeof *b);
	json_t *all;

	if (b == NULL || (b->data = calloc(BATCH, o->payload)) == NULL)
		fatal(EX_OSERR, "host: no memory");
	b->o = o;
	b->rows = json_array();
	b->seconds = o->seconds / (9 + 2.0 * most);
	sending(b);
	receiving(b);
	for (unsigned n = 1; n <= most; n++)
		one_port(b, n);
	for (unsigned i = 0; i < TP_COUNT(sockets); i++)
		for (unsigned k = 0; k < TP_COUNT(flows); k++)
			spread(b, sockets[i], flows[k]);
	if (o->json) {
		all = json_pack("{s:s s:i s:O}", "mode", "host", "payload", (int)o->payload, "rows", b->rows);
		json_dumpf(all, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
		putchar('\n');
		json_decref(all);
	}
	json_decref(b->rows);
	free(b->data);
	free(b);
	return 0;
}
