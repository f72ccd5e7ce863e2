/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hostport.c: many sockets at once: what all cores send together, one sender against 1..N receivers on one
 * port, and how evenly SO_REUSEPORT spreads flows.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#include "load_int.h"

#define SPREAD_TRIALS 10
#define RX_ROOM       2048

/* ---- as many senders as cores ---------------------------------------------------------------- */

struct sender {
	pthread_t thread;
	struct host host;
	enum host_how how;
	uint64_t sent, ns;
	double cpu;
};

static void *
sender(void *p)
{
	struct sender *s = p;
	int fd = host_sender(&s->host, true);
	uint64_t began = now_ns(), end = began + (uint64_t)(s->host.seconds * 1e9);

	while (now_ns() < end)
		s->sent += host_send(&s->host, fd, s->how, s->how == HOST_GSO ? 16 : 1);
	s->ns = now_ns() - began;
	s->cpu = host_thread_ns();
	close(fd);
	return NULL;
}

/* Each to a socket of its own, whose queue is full soon: what is measured ends at the drop. */
static void
senders(struct host *h, unsigned n, enum host_how how, const char *name)
{
	struct sender *s = calloc(n, sizeof *s);
	int *sink = calloc(n, sizeof *sink);
	double pps = 0, cpu = 0;
	uint64_t sent = 0;
	char what[64];

	if (s == NULL || sink == NULL)
		fatal(EX_OSERR, "host: no memory");
	for (unsigned i = 0; i < n; i++) {
		sink[i] = host_bound(h, HOST_ALONE, true);
		s[i].host = *h;
		s[i].how = how;
	}
	for (unsigned i = 0; i < n; i++)
		if (pthread_create(&s[i].thread, NULL, sender, &s[i]) != 0)
			fatal(EX_OSERR, "host: cannot start a thread");
	for (unsigned i = 0; i < n; i++) {
		pthread_join(s[i].thread, NULL);
		close(sink[i]);
		sent += s[i].sent;
		cpu += s[i].cpu;
		pps += (double)s[i].sent * 1e9 / (double)s[i].ns;
	}
	snprintf(what, sizeof what, "%u sender%s, %s", n, n > 1 ? "s" : "", name);
	if (sent > 0)
		host_row(h, "cores", what, pps, cpu / (double)sent, "per core", pps / n);
	free(s);
	free(sink);
}

void
host_cores(struct host *h, unsigned n)
{
	senders(h, n, HOST_SENDMMSG, "sendmmsg of 64");
	senders(h, n, HOST_GSO, "UDP_SEGMENT of 16");
}

/* ---- one port -------------------------------------------------------------------------------- */

struct receiver {
	pthread_t thread;
	int fd;
	_Atomic bool *stop;
	uint64_t count;
	double cpu;
};

static void *
receiver(void *p)
{
	struct receiver *r = p;
	struct mmsghdr mm[HOST_BATCH];
	struct iovec iov[HOST_BATCH];
	uint8_t *space = malloc((size_t)HOST_BATCH * RX_ROOM);
	struct timeval wait = { .tv_usec = 50000 };

	(void)setsockopt(r->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
	while (space != NULL && !atomic_load_explicit(r->stop, memory_order_relaxed)) {
		int n;

		for (unsigned i = 0; i < HOST_BATCH; i++) {
			iov[i] = (struct iovec){ space + i * RX_ROOM, RX_ROOM };
			mm[i].msg_hdr = (struct msghdr){ .msg_iov = &iov[i], .msg_iovlen = 1 };
		}
		n = recvmmsg(r->fd, mm, HOST_BATCH, MSG_WAITFORONE, NULL);
		r->count += n > 0 ? (unsigned)n : 0;
	}
	r->cpu = host_thread_ns();
	free(space);
	return NULL;
}

static uint64_t
send_flows(struct host *h, uint64_t *took)
{
	uint64_t began, end, sent = 0;
	int flows[HOST_BATCH];

	for (unsigned i = 0; i < HOST_BATCH; i++)
		flows[i] = host_sender(h, true);
	began = now_ns();
	end = began + (uint64_t)(h->seconds * 1e9);
	for (unsigned i = 0; now_ns() < end; i++)
		sent += host_send(h, flows[i % HOST_BATCH], HOST_GSO, 16);
	*took = now_ns() - began;
	for (unsigned i = 0; i < HOST_BATCH; i++)
		close(flows[i]);
	return sent;
}

/* One sender (this thread) with 64 flows against n receivers on one port. */
void
host_one_port(struct host *h, unsigned n)
{
	struct receiver *r = calloc(n, sizeof *r);
	struct host_queues *q = calloc(2, sizeof *q);
	_Atomic bool stop = false;
	uint64_t sent, took, got = 0, most = 0;
	bool queues;
	double cpu = 0;
	char name[64];

	if (r == NULL || q == NULL)
		fatal(EX_OSERR, "host: no memory");
	for (unsigned i = 0; i < n; i++) {
		r[i].fd = host_bound(h, i > 0 ? HOST_SHARED : HOST_FIRST, false);
		r[i].stop = &stop;
	}
	for (unsigned i = 0; i < n; i++)
		if (pthread_create(&r[i].thread, NULL, receiver, &r[i]) != 0)
			fatal(EX_OSERR, "host: cannot start a thread");
	queues = host_softnet(&q[0], "");
	sent = send_flows(h, &took);
	queues = queues && host_softnet(&q[1], "");
	usleep(20000);
	stop = true;
	for (unsigned i = 0; i < n; i++) {
		pthread_join(r[i].thread, NULL);
		got += r[i].count;
		most = r[i].count > most ? r[i].count : most;
		cpu += r[i].cpu;
		close(r[i].fd);
	}
	snprintf(name, sizeof name, "%u receiver%s, recvmmsg, %.0f %% lost", n, n > 1 ? "s" : "",
	    sent > 0 ? 100.0 * (double)(sent - got) / (double)sent : 0);
	host_row(h, "one port", name, (double)got * 1e9 / (double)took, got > 0 ? cpu / (double)got : 0,
	    "busiest/mean", got > 0 ? (double)most * n / (double)got : 0);
	if (queues)
		host_softnet_row(h, &q[0], &q[1]);
	free(q);
	free(r);
}

/* ---- the hash -------------------------------------------------------------------------------- */

void
host_spread(struct host *h, unsigned sockets, unsigned flows)
{
	int fd[16];
	double sum = 0, idle = 0;
	char name[64], byte;

	assert(sockets <= TP_COUNT(fd));
	for (unsigned t = 0; t < SPREAD_TRIALS; t++) {
		unsigned most = 0;

		for (unsigned i = 0; i < sockets; i++)
			fd[i] = host_bound(h, i > 0 ? HOST_SHARED : HOST_FIRST, false);
		for (unsigned i = 0; i < flows; i++) {
			int s = host_sender(h, true);

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
	host_row(h, "spread", name, 0, 0, "busiest/mean", sum / SPREAD_TRIALS);
}
