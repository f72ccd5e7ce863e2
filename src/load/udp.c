/* SPDX-License-Identifier: BSD-3-Clause */
/* udp.c: the client's side over UDP: one connected socket a flow, so each flow has its own 5-tuple. */
#include "config.h"

#include <errno.h>
#include <netinet/udp.h>
#include <unistd.h>

#include "load_int.h"

#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#define CLIENT_BUFFER (1 << 20)
#define FEW_FLOWS     32 /* up to here a queue holds enough for recvmmsg to pay */

int
udp_socket(struct worker *w, struct flow *f, bool gro)
{
	struct sockaddr_storage ss;
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = f->index };
	socklen_t len = addr_to_sockaddr(&w->o->server, &ss);
	int size = CLIENT_BUFFER, on = 1, e;

	f->fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (f->fd < 0)
		return -errno;
	if (setsockopt(f->fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
		(void)setsockopt(f->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	if (gro)
		(void)setsockopt(f->fd, SOL_UDP, UDP_GRO, &on, sizeof on);
	if (connect(f->fd, (struct sockaddr *)&ss, len) == 0 &&
	    epoll_ctl(w->ep, EPOLL_CTL_ADD, f->fd, &ev) == 0)
		return 0;
	e = errno;
	close(f->fd);
	f->fd = -1;
	return -e;
}

unsigned
udp_reads(const struct worker *w)
{
	return w->n <= FEW_FLOWS ? 16 : 1;
}

static int
udp_open(struct worker *w, struct flow *f)
{
	return udp_socket(w, f, !w->o->no_gro);
}

static void
udp_close(struct worker *w, struct flow *f)
{
	(void)w;
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}

static int
udp_control(struct worker *w, struct flow *f, const uint8_t *p, size_t n)
{
	(void)w;
	/* The second try is for an ICMP error of an earlier packet, which is told in place of a send. */
	return send(f->fd, p, n, MSG_DONTWAIT) >= 0 || send(f->fd, p, n, MSG_DONTWAIT) >= 0 ? 0 : -errno;
}

static void
udp_run(struct worker *w, struct flow *f, unsigned count, uint64_t now)
{
	tx_put(w, w->tx[UP], f->fd, NULL, 0, f, UP, count, now);
}

static void
udp_flush(struct worker *w)
{
	tx_flush(w, w->tx[UP]);
}

static void
input(struct worker *w, void *arg, const struct addr *from, const uint8_t *p, size_t n, uint64_t now)
{
	(void)from;
	flow_input(w, arg, p, n, now);
}

static unsigned
udp_receive(struct worker *w, struct flow *f, uint64_t now)
{
	return rx_read(w, f->fd, udp_reads(w), false, input, f, now);
}

const struct client_way transport_udp = {
	.open = udp_open,
	.close = udp_close,
	.control = udp_control,
	.run = udp_run,
	.flush = udp_flush,
	.receive = udp_receive,
};
