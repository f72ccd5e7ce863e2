/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * listeners.c: one socket per (listener row, shard).
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "super_int.h"

static bool
has_sockets(const struct ledger *l, const struct windows *w, unsigned row, bool stream)
{
	for (uint32_t fd = w->first; fd < l->fd_max; fd++)
		if (l->fd[fd].kind == LEDGER_LISTENER && l->fd[fd].row == row && l->fd[fd].stream == stream)
			return true;
	return false;
}

void
listener_close(struct ledger *l, const struct windows *w, unsigned row, bool stream)
{
	for (uint32_t fd = w->first; fd < l->fd_max; fd++)
		if (l->fd[fd].kind == LEDGER_LISTENER && l->fd[fd].row == row && l->fd[fd].stream == stream)
			ledger_close(l, (int)fd);
}

static int
open_stream(struct ledger *l, const struct windows *w, const struct conf *c, unsigned row, char *why,
    size_t why_len)
{
	const struct conf_listener *cl = &c->listeners[row];
	struct ledger_fd e = {
		.kind = LEDGER_LISTENER, .row = (uint8_t)row, .family = cl->addr.family, .stream = 1
	};
	int r;

	e.port = cl->addr.port;
	if ((r = port_probe(&cl->addr, true, cl->where, why, why_len)) < 0)
		return r;
	for (unsigned s = 0; s < w->shards; s++) {
		r = sock_listener_stream(&cl->addr, (int)c->backlog);
		if (r >= 0)
			r = ledger_move(l, w, s, r, e);
		if (r < 0) {
			port_sentence(r, &cl->addr, true, cl->where, why, why_len);
			return r;
		}
	}
	return 0;
}

static int
open_datagram(struct ledger *l, const struct windows *w, const struct conf *c, unsigned row,
    size_t *granted, char *why, size_t why_len)
{
	const struct conf_listener *cl = &c->listeners[row];
	struct sock_options o = { .receive_buffer = c->receive_buffer, .send_buffer = c->send_buffer };
	struct ledger_fd e = { .kind = LEDGER_LISTENER, .row = (uint8_t)row, .family = cl->addr.family };
	size_t got = SIZE_MAX;
	int r;

	e.port = cl->addr.port;
	if ((r = port_probe(&cl->addr, false, cl->where, why, why_len)) < 0)
		return r;
	for (unsigned s = 0; s < w->shards; s++) {
		r = sock_listener_udp(&cl->addr, &o, &got);
		if (r >= 0)
			r = ledger_move(l, w, s, r, e);
		if (r < 0) {
			port_sentence(r, &cl->addr, false, cl->where, why, why_len);
			return r;
		}
		if (got < *granted)
			*granted = got;
	}
	return 0;
}

/*
 * The new socket joins the group as its last member; when the old one leaves, the kernel puts the last
 * member into its place.  In between, for some microseconds, a datagram may come to another shard, where
 * it is dropped.
 */
int
listener_renew(const struct ledger *l, const struct conf *c, int fd)
{
	const struct ledger_fd *e = &l->fd[fd];
	const struct conf_listener *cl = &c->listeners[e->row];
	struct sock_options o = { .receive_buffer = c->receive_buffer, .send_buffer = c->send_buffer };
	int n = e->stream ? sock_listener_stream(&cl->addr, (int)c->backlog)
			  : sock_listener_udp(&cl->addr, &o, NULL),
	    r;

	if (n < 0)
		return n;
	r = dup2(n, fd) < 0 ? -errno : 0; /* one step: the number names a listener at any moment */
	close(n);
	return r;
}

/* A row of the same address that has TCP sockets and serves no TCP any more; -1. */
static int
donor(const struct ledger *l, const struct windows *w, const struct conf *c, unsigned row)
{
	for (unsigned k = 0; k < c->listener_count; k++) {
		const struct conf_listener *x = &c->listeners[k];
		if (k != row && addr_eq(&x->addr, &c->listeners[row].addr) &&
		    (x->retired || (x->transports & TRANSPORT_STREAMS) == 0) && has_sockets(l, w, k, true))
			return (int)k;
	}
	return -1;
}

void
listeners_inherit(struct ledger *l, const struct windows *w, const struct conf *c)
{
	for (unsigned row = 0; row < c->listener_count; row++) {
		int from = -1;
		if (!c->listeners[row].retired && (c->listeners[row].transports & TRANSPORT_STREAMS) != 0 &&
		    !has_sockets(l, w, row, true))
			from = donor(l, w, c, row);
		for (uint32_t fd = w->first; from >= 0 && fd < l->fd_max; fd++) {
			struct ledger_fd e = l->fd[fd];
			if (e.kind != LEDGER_LISTENER || e.row != from || !e.stream)
				continue;
			e.row = (uint8_t)row;
			ledger_set(l, (int)fd, e);
		}
	}
}

int
listener_open(struct ledger *l, const struct windows *w, const struct conf *c, unsigned row,
    struct opened *done, char *why, size_t why_len)
{
	uint8_t transports = c->listeners[row].transports;
	int err;

	if (c->listeners[row].retired)
		return 0;
	if ((transports & ~TRANSPORT_STREAMS) != 0 && !has_sockets(l, w, row, false)) {
		done->datagram[row] = true;
		if ((err = open_datagram(l, w, c, row, &done->granted, why, why_len)) < 0)
			return err;
	}
	if ((transports & TRANSPORT_STREAMS) != 0 && !has_sockets(l, w, row, true) &&
	    donor(l, w, c, row) < 0) {
		done->stream[row] = true;
		return open_stream(l, w, c, row, why, why_len);
	}
	return 0;
}
