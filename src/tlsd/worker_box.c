/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * worker_box.c: messages to workers.  They leave together, when a round of the loop ends or some have
 * gathered: each alone would wake its worker, which often takes this processor and finds one datagram to
 * send.
 */
#include "config.h"

#include <assert.h>
#include <sodium.h>
#include <stdlib.h>

#include "tlsd_int.h"

#define GATHER 8

/* A message that is lost in a full queue blocks nothing: sessions are offered again, flights repeated,
 * and for the rest the worker has deadlines. */
static void
flush_one(struct peer *p)
{
	struct msgs_out *o = &p->out;
	const void *msg[GATHER];
	int none[GATHER], rc = 0;
	bool offers = false;
	size_t at = 0;

	for (unsigned i = 0; i < o->count; i++) {
		const struct msg_head *h = (const void *)(o->bytes + at);
		offers |= h->type == MSG_HS_DONE;
		msg[i] = h;
		none[i] = -1;
		at += o->step[i];
	}
	for (unsigned i = 0; i < o->count && rc >= 0; i += (unsigned)rc)
		rc = ipc_send_many(p->u->proc.start.peer_fd[p->shard], msg + i, none, o->count - i);
	if (offers)
		CRASH_POINT("tls:offered");
	sodium_memzero(o->bytes, o->len); /* keys */
	o->len = o->count = 0;
}

void
toworker_flush(struct tlsd *u)
{
	u->gathered = 0;
	for (unsigned i = 0; i < SHARDS_MAX; i++)
		if (u->peer[i].out.count > 0)
			flush_one(&u->peer[i]);
}

static void
on_round(void *arg)
{
	toworker_flush(arg);
}

void
toworker(struct tlsd *u, unsigned shard, const void *msg)
{
	const struct msg_head *h = msg;
	struct peer *p = &u->peer[shard];
	struct msgs_out *o = &p->out;
	size_t len = msg_size(h->type), step = (len + 15) & ~(size_t)15;

	assert(shard < SHARDS_MAX && step <= MSG_OUT_STEP);
	if (o->bytes == NULL)
		o->bytes = calloc(GATHER, MSG_OUT_STEP);
	if (o->bytes == NULL) {
		(void)ipc_send(u->proc.start.peer_fd[shard], msg, -1);
		return;
	}
	memcpy(o->bytes + o->len, msg, len);
	o->step[o->count++] = (uint16_t)step;
	o->len += (uint32_t)step;
	if (u->gathered++ == 0 && loop_after(u->proc.loop, 0, on_round, u) == 0)
		toworker_flush(u); /* no memory for a timer */
	else if (o->count == GATHER)
		flush_one(p);
}
