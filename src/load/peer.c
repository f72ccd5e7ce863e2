/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * peer.c: sink, source and echo at the far end of every flow; it knows which relayed address belongs to
 * which flow.
 */
#include "config.h"

#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <unistd.h>

#include "load_int.h"

#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#define PEER_BUFFER (8 << 20)

/* The address that the kernel would use towards the server, unless one was given. */
static int
local_address(const struct load_options *o, struct addr *out)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&o->server, &ss);
	int fd, err = 0;

	if (o->peer.family != ADDR_NONE) {
		*out = o->peer;
		return 0;
	}
	fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&ss, len) != 0 ||
	    (len = sizeof ss, getsockname(fd, (struct sockaddr *)&ss, &len)) != 0)
		err = -errno;
	else
		err = addr_from_sockaddr(out, (struct sockaddr *)&ss);
	close(fd);
	out->port = 0;
	return err;
}

static int
open_one(struct worker *w, struct peer *p, unsigned i)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = (1ull << 32) | i };
	struct sockaddr_storage ss;
	socklen_t len;
	int size = PEER_BUFFER, on = 1;

	len = addr_to_sockaddr(&p->addr, &ss);
	p->fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (p->fd < 0)
		return -errno;
	if (setsockopt(p->fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
		(void)setsockopt(p->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	if (!w->o->no_gro)
		(void)setsockopt(p->fd, SOL_UDP, UDP_GRO, &on, sizeof on);
	if (bind(p->fd, (struct sockaddr *)&ss, len) != 0)
		return -errno;
	len = sizeof ss;
	if (getsockname(p->fd, (struct sockaddr *)&ss, &len) != 0 ||
	    epoll_ctl(w->ep, EPOLL_CTL_ADD, p->fd, &ev) != 0)
		return -errno;
	return addr_from_sockaddr(&p->addr, (struct sockaddr *)&ss);
}

int
peer_open(struct worker *w)
{
	struct addr local;
	int err = local_address(w->o, &local);

	for (unsigned i = 0; i < w->peer_count && err == 0; i++) {
		w->peers[i].addr = local;
		err = open_one(w, &w->peers[i], i);
	}
	return err;
}

void
peer_close(struct worker *w)
{
	for (unsigned i = 0; i < w->peer_count; i++)
		if (w->peers[i].fd >= 0)
			close(w->peers[i].fd);
}

void
peer_run(struct worker *w, struct flow *f, unsigned count, uint64_t time)
{
	tx_put(w, w->tx[DOWN], w->peers[f->peer].fd, &f->relayed_sa, f->relayed_len, f, DOWN, count, time);
}

/* The flow of any thread that has this relayed address.  The tables do not change any more while there
 * is traffic. */
static struct flow *
of_another(const struct worker *w, const struct addr *from)
{
	struct flow *f = NULL;

	for (unsigned i = 0; w->traffic && f == NULL && i < w->o->threads; i++)
		f = ctl_by_relayed(&w->all[i], from);
	return f;
}

/* Whose it is follows from where it came from, not from what it says. */
static void
input(struct worker *w, void *arg, const struct addr *from, const uint8_t *p, size_t n, uint64_t now)
{
	struct peer *peer = arg;
	struct flow *f = NULL;
	struct stamp s;

	if (payload_read(p, n, w->o->payload, w->session, &s) == PAYLOAD_OK && s.flow >= w->flows[0].id &&
	    s.flow - w->flows[0].id < w->n)
		f = &w->flows[s.flow - w->flows[0].id];
	if (f == NULL || !addr_eq(&f->relayed, from))
		f = ctl_by_relayed(w, from);
	if (f == NULL) {
		/* That flow has its own thread, whose account is not ours to write. */
		f = of_another(w, from);
		if (f != NULL)
			atomic_fetch_add_explicit(&f->astray, 1, memory_order_relaxed);
		else
			w->strange++;
		return;
	}
	if (&w->peers[f->peer] != peer)
		f->side[UP].misdelivered++;
	else
		worker_arrived(w, f, UP, p, n, now);
}

unsigned
peer_receive(struct worker *w, struct peer *p, uint64_t now)
{
	return rx_read(w, p->fd, RX_SLOTS, true, input, p, now);
}
