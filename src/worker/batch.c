/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * batch.c: its beginning and its end.  Datagrams received and answers made since the beginning lie in the
 * arena until then.
 */
#include "config.h"

#include "worker_int.h"

void
batch_now(struct worker *w)
{
	w->turn.now = clock_ms();
	w->turn.unix_now = clock_unix();
}

static void
flush_touched(struct worker *w)
{
	struct lane *l;
	struct conn *c;

	while ((c = conn_list_next(w, &w->marks.touched, &l)) != NULL) {
		c->touched &= (uint32_t)~MARK_TOUCHED;
		if (!conn_ends(c))
			w->client[c->transport]->flush(w, l, c);
	}
}

void
batch_flush(struct worker *w)
{
	udp_flush_down(w);
	udp_flush_up(w);
	flush_touched(w);  /* after `up`, which refers to their rings */
	udp_flush_down(w); /* alerts of DTLS */
	udp_arena_reset(w->arena);
	udp_publish(w);
}
