/* SPDX-License-Identifier: BSD-3-Clause */
/* hs_flight.c: bytes that a handshake wrote, and their way to the client. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "tlsd_int.h"

bool
flight_add(struct flight *f, const uint8_t *p, size_t n)
{
	uint32_t need, room;
	uint8_t *more;

	if (n > FLIGHT_MAX - f->len)
		return false;
	need = f->len + (uint32_t)n;
	if (need > f->room) {
		for (room = f->room > 0 ? f->room : 4096; room < need; room *= 2)
			;
		more = realloc(f->p, room);
		if (more == NULL)
			return false;
		f->p = more;
		f->room = room;
	}
	memcpy(f->p + f->len, p, n);
	f->len = need;
	return true;
}

void
flight_reset(struct flight *f)
{
	f->len = 0;
	f->pieces = 0;
}

void
flight_fini(struct flight *f)
{
	free(f->p);
	memset(f, 0, sizeof *f);
}

void
flight_reply(struct hs *h)
{
	struct flight *f = &h->u->out;
	struct msg_hs_reply m = {
		.h = { .type = MSG_HS_REPLY, .generation = h->u->proc.start.h.generation }, .who = h->who
	};
	uint32_t at = 0;

	for (uint32_t i = 0; i < f->pieces; at += f->piece[i++]) {
		m.len = f->piece[i];
		memcpy(m.datagram, f->p + at, m.len);
		toworker(h->u, h->who.shard, &m);
	}
	flight_reset(f);
}

int
flight_flush(struct hs *h)
{
	uint32_t sent = 0;
	int err = 0;

	if (h->out.len == 0)
		return 0;
	while (sent < h->out.len && err == 0) {
		ssize_t n = send(h->fd, h->out.p + sent, h->out.len - sent, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n >= 0)
			sent += (uint32_t)n;
		else if (errno != EINTR)
			err = -errno;
	}
	memmove(h->out.p, h->out.p + sent, h->out.len - sent);
	h->out.len -= sent;
	return err == -EAGAIN ? 0 : err;
}
