/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * host.c: what this machine's UDP stack does with no server in the way: the price of sending and receiving
 * a datagram by each kind of call.  Loopback, one socket each, CPU time of the calling thread.  On
 * loopback a sender also pays for the receiver's half of the stack up to the socket's queue.
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
#define BUFFER     (8 << 20)
#define ROUNDS_MIN 4
#define ROWS_ALONE 9 /* of sending() and receiving() */

double
host_thread_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

int
host_bound(struct host *h, enum host_port port, bool gro)
{
	struct sockaddr_storage ss;
	socklen_t len;
	int fd = socket(h->at.family == ADDR_V6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0),
	    size = BUFFER, on = 1;

	if (fd < 0)
		fatal(EX_OSERR, "host: socket");
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	if (gro)
		(void)setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof on);
	if (port != HOST_ALONE)
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
	if (port != HOST_SHARED)
		h->at.port = 0;
	len = addr_to_sockaddr(&h->at, &ss);
	if (bind(fd, (struct sockaddr *)&ss, len) != 0)
		fatal(EX_OSERR, "host: bind");
	len = sizeof ss;
	if (getsockname(fd, (struct sockaddr *)&ss, &len) != 0 ||
	    addr_from_sockaddr(&h->at, (struct sockaddr *)&ss) != 0)
		fatal(EX_OSERR, "host: bind");
	return fd;
}

int
host_sender(const struct host *h, bool connected)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&h->at, &ss);
	int fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || (connected && connect(fd, (const struct sockaddr *)&ss, len) != 0))
		fatal(EX_OSERR, "host: socket");
	return fd;
}

static unsigned
send_singly(const struct host *h, int fd, bool named)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&h->at, &ss);
	unsigned done = 0;

	for (unsigned i = 0; i < HOST_BATCH; i++)
		done += sendto(fd, h->data, h->o->payload, 0, named ? (struct sockaddr *)&ss : NULL,
			    named ? len : 0) >= 0;
	return done;
}

static unsigned
send_many(const struct host *h, int fd)
{
	struct mmsghdr mm[HOST_BATCH];
	struct iovec iov[HOST_BATCH];
	size_t n = h->o->payload;
	int r;

	for (unsigned i = 0; i < HOST_BATCH; i++) {
		iov[i] = (struct iovec){ h->data + i * n, n };
		mm[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &iov[i], .msg_iovlen = 1 } };
	}
	r = sendmmsg(fd, mm, HOST_BATCH, 0);
	return r > 0 ? (unsigned)r : 0;
}

static unsigned
send_merged(const struct host *h, int fd, unsigned segments)
{
	union {
		char buf[CMSG_SPACE(sizeof(uint16_t))];
		struct cmsghdr align;
	} control = { .align = { .cmsg_level = SOL_UDP,
			  .cmsg_type = UDP_SEGMENT,
			  .cmsg_len = CMSG_LEN(sizeof(uint16_t)) } };
	struct iovec iov = { h->data, segments * h->o->payload };
	struct msghdr m = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof control.buf };
	uint16_t size = (uint16_t)h->o->payload;

	memcpy(CMSG_DATA(&control.align), &size, sizeof size);
	return sendmsg(fd, &m, 0) >= 0 ? segments : 0;
}

unsigned
host_send(const struct host *h, int fd, enum host_how how, unsigned segments)
{
	switch (how) {
	case HOST_SENDTO:
	case HOST_SEND:
		return send_singly(h, fd, how == HOST_SENDTO);
	case HOST_SENDMMSG:
		return send_many(h, fd);
	default:
		return send_merged(h, fd, segments);
	}
}

void
host_row(struct host *h, const char *group, const char *what, double pps, double ns, const char *more,
    double value)
{
	json_t *j = json_pack(
	    "{s:s s:s s:f s:f}", "group", group, "what", what, "per_second", pps, "cpu_ns", ns);

	if (more != NULL)
		json_object_set_new(j, more, json_real(value));
	json_array_append_new(h->rows, j);
	if (h->o->json)
		return;
	printf(pps > 0 || more != NULL ? "%-10s %-36s" : "%-10s %s", group, what);
	if (pps > 0)
		printf(" %10.0f a second", pps);
	if (ns > 0)
		printf(" %7.0f ns CPU each", ns);
	if (more != NULL)
		printf(value < 1000 ? "  %s %.2f" : "  %s %.0f", more, value);
	putchar('\n');
	fflush(stdout);
}

/* The queue of the socket at the other end is full: what is measured ends at its drop. */
static void
sending(struct host *h)
{
	static const struct {
		const char *name;
		enum host_how how;
		unsigned segments;
	} ways[] = { { "sendto, unconnected", HOST_SENDTO, 1 }, { "send, connected", HOST_SEND, 1 },
		{ "sendmmsg of 64, connected", HOST_SENDMMSG, 1 }, { "UDP_SEGMENT of 2", HOST_GSO, 2 },
		{ "UDP_SEGMENT of 16", HOST_GSO, 16 }, { "UDP_SEGMENT of 40", HOST_GSO, 40 } };

	for (unsigned i = 0; i < TP_COUNT(ways); i++) {
		int sink = host_bound(h, HOST_ALONE, true), fd = host_sender(h, ways[i].how != HOST_SENDTO);
		uint64_t end, began = now_ns(), n = 0;
		double cpu = host_thread_ns();

		end = began + (uint64_t)(h->seconds * 1e9);
		while (now_ns() < end)
			n += host_send(h, fd, ways[i].how, ways[i].segments);
		cpu = host_thread_ns() - cpu;
		if (n > 0)
			host_row(h, "send", ways[i].name, (double)n * 1e9 / (double)(now_ns() - began),
			    cpu / (double)n, NULL, 0);
		close(sink);
		close(fd);
	}
}

static unsigned
receive_many(const struct host *h, uint8_t *space, int fd)
{
	struct mmsghdr mm[HOST_BATCH];
	struct iovec iov[HOST_BATCH];
	unsigned count = 0;
	int n;

	do {
		for (unsigned i = 0; i < HOST_BATCH; i++) {
			iov[i] = (struct iovec){ space + (size_t)i * 65536, 65536 };
			mm[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &iov[i], .msg_iovlen = 1 } };
		}
		n = recvmmsg(fd, mm, HOST_BATCH, MSG_DONTWAIT, NULL);
		for (int i = 0; i < n; i++)
			count += (unsigned)((mm[i].msg_len + h->o->payload - 1) / h->o->payload);
	} while (n == HOST_BATCH);
	return count;
}

static unsigned
receive_singly(uint8_t *space, int fd)
{
	unsigned count = 0;

	while (recv(fd, space, 65536, MSG_DONTWAIT) > 0)
		count++;
	return count;
}

/* Fill a queue, then read it empty: only the reading is measured. */
static void
receiving(struct host *h)
{
	static const struct {
		const char *name;
		bool many;
		enum host_how how;
		unsigned segments;
	} ways[] = { { "recv until EAGAIN", false, HOST_SENDMMSG, 1 },
		{ "recvmmsg of 64", true, HOST_SENDMMSG, 1 },
		{ "recvmmsg of 64, UDP_GRO of 16", true, HOST_GSO, 16 } };
	uint8_t *space = malloc((size_t)HOST_BATCH * 65536);

	if (space == NULL)
		fatal(EX_OSERR, "host: no memory");
	for (unsigned i = 0; i < TP_COUNT(ways); i++) {
		int sink = host_bound(h, HOST_ALONE, ways[i].how == HOST_GSO), fd = host_sender(h, true);
		uint64_t end = now_ns() + (uint64_t)(h->seconds * 1e9), n = 0;
		double cpu = 0;

		for (unsigned round = 0; round < ROUNDS_MIN || now_ns() < end; round++) {
			double before;

			for (unsigned k = 0; k < 32; k++)
				(void)host_send(h, fd, ways[i].how, ways[i].segments);
			before = host_thread_ns();
			n += ways[i].many ? receive_many(h, space, sink) : receive_singly(space, sink);
			cpu += host_thread_ns() - before;
		}
		if (n > 0)
			host_row(
			    h, "receive", ways[i].name, (double)n * 1e9 / cpu, cpu / (double)n, NULL, 0);
		close(sink);
		close(fd);
	}
	free(space);
}

static void
run(struct host *h, unsigned most)
{
	static const unsigned sockets[] = { 2, 4, 8, 16 }, flows[] = { 4, 16, 100, 1000 };

	/* Each row alone, two for each number of senders, two shares for each number of receivers. */
	h->seconds = h->o->seconds / (ROWS_ALONE + 4.0 * most);
	sending(h);
	receiving(h);
	for (unsigned n = 1; n <= most; n++)
		host_cores(h, n);
	h->seconds *= 2;
	for (unsigned n = 1; n <= most; n++)
		host_one_port(h, n);
	host_devices(h, "");
	for (unsigned i = 0; i < TP_COUNT(sockets); i++)
		for (unsigned k = 0; k < TP_COUNT(flows); k++)
			host_spread(h, sockets[i], flows[k]);
}

int
host_run(const struct load_options *o)
{
	struct host h = {
		.o = o, .rows = json_array(), .data = calloc(HOST_BATCH, o->payload), .at = o->peer
	};
	json_t *all;

	if (h.data == NULL || h.rows == NULL)
		fatal(EX_OSERR, "host: no memory");
	if (h.at.family == ADDR_NONE)
		(void)addr_parse(&h.at, "127.0.0.1");
	run(&h, o->threads > 1 ? o->threads : (unsigned)sysconf(_SC_NPROCESSORS_ONLN));
	if (o->json) {
		all = json_pack(
		    "{s:s s:i s:O}", "mode", "host", "payload", (int)o->payload, "rows", h.rows);
		json_dumpf(all, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
		putchar('\n');
		json_decref(all);
	}
	json_decref(h.rows);
	free(h.data);
	return 0;
}
