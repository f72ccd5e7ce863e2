/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conn_mark.c: connections that the event loop must look at: to flush, to parse, to end, to resume.
 *
 * An entry names its connection by slot and generation, so one that has ended since is passed over.
 */
#include "config.h"

#include <stdlib.h>
#include <sysexits.h>

#include "worker_int.h"

const struct end_rule conn_end_rules[END_WHYS] = {
	[END_NOT] = { DROP_NONE, -1 },
	[END_GONE] = { DROP_NONE, SEAL_A_CLOSE_NOTIFY },
	[END_GOODBYE] = { DROP_NONE, SEAL_A_CLOSE_NOTIFY },
	[END_ALERT] = { DROP_NONE, -1 },
	[END_DEADLINE] = { DROP_STREAM_DEADLINE, SEAL_A_CLOSE_NOTIFY },
	[END_IDLE] = { DROP_NONE, SEAL_A_CLOSE_NOTIFY },
	[END_LIMIT] = { DROP_NONE /* worklog_conn_limit() counts */, SEAL_A_CLOSE_NOTIFY },
	[END_HANDSHAKE_RATE] = { DROP_NONE /* conn_may_shake() counts */, -1 },
	[END_REPLACED] = { DROP_NONE, -1 }, /* its client has new keys and does not know these */
	[END_POISONED] = { DROP_POISONED, SEAL_A_CLOSE_NOTIFY },
	[END_DESYNC] = { DROP_STREAM_DESYNC, SEAL_A_CLOSE_NOTIFY },
	[END_PROXY] = { DROP_PROXY, -1 },
	[END_NOT_TLS] = { DROP_STREAM_DESYNC, -1 },
	[END_RECORD] = { DROP_STREAM_DESYNC, -1 }, /* conn.alert */
	[END_MAC] = { DROP_NONE, SEAL_A_CLOSE_NOTIFY },
	[END_KEYS] = { DROP_KEY_LIMIT, SEAL_A_CLOSE_NOTIFY },
	[END_HANDSHAKE] = { DROP_NONE, -1 },
	[END_LOST] = { DROP_NONE, -1 },
};

/* ---- lists ------------------------------------------------------------------------------------------ */

static void
grow(struct worker *w, struct conn_list *list)
{
	size_t max = list->max == 0 ? 256 : list->max * 2;
	struct conn_name *grown = realloc(list->at, max * sizeof *grown);

	if (grown == NULL) {
		stat_words(w->stat, "out of memory");
		fatal(EX_OSERR, "memory for %zu connections", max);
	}
	list->at = grown;
	list->max = max;
}

static void
list_add(struct worker *w, struct conn_list *list, const struct lane *l, const struct conn *c)
{
	if (list->first == list->count)
		list->first = list->count = 0;
	if (list->count == list->max && list->first > list->max / 2) {
		list->count -= list->first;
		memmove(list->at, list->at + list->first, list->count * sizeof *list->at);
		list->first = 0;
	}
	if (list->count == list->max)
		grow(w, list);
	list->at[list->count++] = (struct conn_name){ (uint32_t)(l - w->lane), conn_slot(&l->shard, c),
		c->gen };
}

struct conn *
conn_list_next(struct worker *w, struct conn_list *list, struct lane **l)
{
	while (list->first < list->count) {
		const struct conn_name *name = &list->at[list->first++];
		struct conn *c = conn_at(&w->lane[name->lane].shard, name->slot);
		if (c == NULL || c->gen != name->gen)
			continue;
		*l = &w->lane[name->lane];
		return c;
	}
	list->first = list->count = 0;
	return NULL;
}

void
conn_marks_free(struct conn_marks *m)
{
	free(m->touched.at);
	free(m->again.at);
	free(m->ending.at);
	for (unsigned i = 0; i < STALLS; i++)
		free(m->stalled[i].at);
}

/* ---- marks ------------------------------------------------------------------------------------------ */

void
conn_mark_end(struct worker *w, const struct lane *l, struct conn *c, enum end_why why)
{
	if (conn_ends(c))
		return;
	if (conn_end_rules[why].drop != DROP_NONE)
		stat_drop(w->stat, conn_end_rules[why].drop);
	c->alert = 0;
	conn_mark_again(w, l, c, why);
	CRASH_POINT("conn:marked");
}

void
conn_mark_again(struct worker *w, const struct lane *l, struct conn *c, enum end_why why)
{
	if (conn_ends(c))
		return;
	c->ending = (uint8_t)why;
	list_add(w, &w->marks.ending, l, c);
}

void
conn_mark_bad(struct worker *w, const struct lane *l, struct conn *c, int alert)
{
	if (conn_ends(c))
		return;
	conn_mark_end(w, l, c, END_RECORD);
	c->alert = (uint8_t)(alert + 1);
}

void
conn_touch(struct worker *w, const struct lane *l, struct conn *c)
{
	if ((c->touched & MARK_TOUCHED) != 0)
		return;
	c->touched |= MARK_TOUCHED;
	list_add(w, &w->marks.touched, l, c);
}

void
conn_again(struct worker *w, const struct lane *l, struct conn *c)
{
	if ((c->touched & MARK_AGAIN) != 0)
		return;
	c->touched |= MARK_AGAIN;
	list_add(w, &w->marks.again, l, c);
}

/* ---- stalls ----------------------------------------------------------------------------------------- */

void
conn_stall(struct worker *w, struct lane *l, struct conn *c, enum stall what)
{
	if (c->stalled != STALL_NONE)
		return;
	/* Sessions come first. */
	if (what == STALL_RING && session_find(&l->shard, &c->client, c->transport, c->listener) != NULL)
		what = STALL_RING_SESSION;
	c->stalled = (uint8_t)what;
	stat_add(w->stat, STAT_STREAMS_STALLED, 1);
	list_add(w, &w->marks.stalled[what], l, c);
	conn_touch(w, l, c); /* its registration changes */
}

void
conn_stall_on(struct worker *w, const struct lane *l, struct conn *c)
{
	list_add(w, &w->marks.stalled[c->stalled], l, c);
}
