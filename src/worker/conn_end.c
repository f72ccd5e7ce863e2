/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conn_end.c: the one place where connections end.
 *
 *	goodbye -> out of the tables -> its allocation -> its slot -> its descriptor
 */
#include "config.h"

#include "worker_int.h"

/* The alert that its client gets; -1: none. */
static int
alert_of(const struct conn *c)
{
	return c->ending == END_RECORD ? c->alert - 1 : conn_end_rules[c->ending].alert;
}

static void
end_session(struct worker *w, struct lane *l, const struct conn *c)
{
	const struct session *x = session_find(&l->shard, &c->client, c->transport, c->listener);

	if (x != NULL && x->conn == conn_slot(&l->shard, c) + 1)
		(void)core_close(w, l, (struct session_ref){ session_slot(&l->shard, x), x->gen },
		    REASON_END_CONNECTION);
}

static void
end(struct worker *w, struct lane *l, struct conn *c)
{
	struct pending_entry *e = c->wait != 0 ? pending_get(w->pending, c->wait) : NULL;
	uint64_t prefix = c->prefix;
	int fd = c->fd;

	if (atomic_load_explicit(&c->state, memory_order_relaxed) == CONN_SHAKING) {
		/* Of one that was not handed over turnpike-tls knows nothing. */
		if (c->stalled != STALL_TLSD)
			handshake_cancel(w, l, c);
	} else {
		w->client[c->transport]->goodbye(w, l, c, alert_of(c));
	}
	if (e != NULL)
		pending_free(w, e);
	if (c->transport == TRANSPORT_DTLS)
		assoc_forget(l, c);
	udp_flush_up(w); /* datagrams to peers that lie in its rings */
	end_session(w, l, c);
	conn_free(&l->shard, c);
	if (prefix != 0)
		cross_conn_add(&w->cross, l->shard.index, prefix, -1);
	stat_add(w->stat, STAT_STREAMS_CLOSED, 1);
	conn_forget_fd(w, l, fd);
}

void
conn_end_marked(struct worker *w)
{
	struct lane *l;
	struct conn *c;

	while ((c = conn_list_next(w, &w->marks.ending, &l)) != NULL)
		end(w, l, c);
}
