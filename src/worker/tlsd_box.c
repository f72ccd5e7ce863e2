/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tlsd_box.c: messages to turnpike-tls processes.  They leave when the round is over, with one call: each
 * alone would wake a turnpike-tls, which takes this processor as often as not.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "worker_int.h"

_Static_assert(sizeof(struct msg_hs_stream) <= TLSD_BOX_STEP &&
	sizeof(struct msg_hs_ack) <= TLSD_BOX_STEP && sizeof(struct msg_hs_cancel) <= TLSD_BOX_STEP,
    "any of them fits");

unsigned
tlsd_of(const struct worker *w, const struct addr *client)
{
	unsigned sum = 0;

	for (unsigned i = 0; i < sizeof client->ip; i++)
		sum = sum * 31 + client->ip[i];
	return w->start.tlsd_count > 0 ? sum % w->start.tlsd_count : 0;
}

static inline union msg *
message(struct tlsd_box *b, unsigned i)
{
	return (union msg *)(void *)(b->bytes + i * TLSD_BOX_STEP);
}

/* The connection of an HS_STREAM, when it still waits for its handshake. */
static struct conn *
shaking(struct lane *l, const union msg *m)
{
	struct conn *c = lane_conn(l, &m->msg_hs_stream.who);

	return c != NULL && atomic_load_explicit(&c->state, memory_order_relaxed) == CONN_SHAKING ? c
												  : NULL;
}

static bool
is_stale(struct lane *l, const union msg *m)
{
	return m->h.type == MSG_HS_STREAM && shaking(l, m) == NULL;
}

/* Acknowledgements are asked for again, a cancelled handshake ends by its deadline. */
static void
lost(struct worker *w, struct lane *l, const union msg *m)
{
	struct conn *c;

	if (m->h.type == MSG_HS_DATAGRAM)
		stat_drop(w->stat, DROP_DTLS_BUSY);
	else if (m->h.type == MSG_HS_STREAM && (c = shaking(l, m)) != NULL)
		conn_stall(w, l, c, STALL_TLSD);
}

/* Tests let a worker die when messages of a kind are on their way. */
static void
gone(const struct tlsd_box *b, unsigned type)
{
	bool any = false;

	for (unsigned i = 0; i < b->count; i++)
		any |= ((const struct msg_head *)(const void *)(b->bytes + i * TLSD_BOX_STEP))->type ==
		    type;
	if (any && type == MSG_HS_STREAM)
		CRASH_POINT("shake:handed");
	if (any && type == MSG_HS_DATAGRAM)
		CRASH_POINT("dtls:passed");
	if (any && type == MSG_HS_ACK)
		CRASH_POINT("shake:acked");
}

static void
flush_one(struct worker *w, struct lane *l, unsigned tlsd)
{
	struct tlsd_box *b = &l->box[tlsd];
	const void *msg[IPC_MANY];
	int fd[IPC_MANY], rc;
	unsigned n = 0;

	for (unsigned i = 0; i < b->count; i++) {
		if (is_stale(l, message(b, i)))
			continue;
		msg[n] = message(b, i);
		fd[n++] = b->fd[i];
	}
	for (unsigned i = 0; i < n;) {
		rc = ipc_send_many(l->told.tlsd_fd[tlsd], msg + i, fd + i, n - i);
		if (rc > 0)
			i += (unsigned)rc;
		else
			lost(w, l, msg[i++]);
	}
	gone(b, MSG_HS_STREAM);
	gone(b, MSG_HS_DATAGRAM);
	gone(b, MSG_HS_ACK);
	b->count = 0;
}

void
tlsd_box_flush(struct worker *w)
{
	for (unsigned i = 0; i < w->lane_count; i++)
		for (unsigned k = 0; k < w->start.tlsd_count; k++)
			if (w->lane[i].box[k].count > 0)
				flush_one(w, &w->lane[i], k);
}

void *
tlsd_box(struct worker *w, struct lane *l, unsigned tlsd, uint32_t type, int fd)
{
	struct tlsd_box *b = &l->box[tlsd];
	union msg *m;

	assert(msg_size(type) <= TLSD_BOX_STEP);
	if (tlsd >= w->start.tlsd_count)
		return NULL;
	if (b->bytes == NULL && (b->bytes = calloc(IPC_MANY, TLSD_BOX_STEP)) == NULL)
		return NULL;
	if (b->count == IPC_MANY)
		flush_one(w, l, tlsd);
	m = message(b, b->count);
	m->h = (struct msg_head){ .type = type, .generation = w->start.h.generation };
	b->fd[b->count++] = fd;
	return m;
}
