/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * row_close.c: a listener that a reload has removed serves its sessions; with the last of them its
 * sockets are closed, and with its last connection, which has a socket of its own, its number is free for
 * another listener.
 */
#include "config.h"

#include "super_int.h"

#define ROWS_MS 2000

static bool
has_retired(const struct conf *c)
{
	for (uint32_t row = 0; row < c->listener_count; row++)
		if (c->listeners[row].retired && c->listeners[row].closed != CONF_ROW_FREE)
			return true;
	return false;
}

/* Transports by row that something refers to it by. */
static void
find_used(const struct shard *h, uint8_t used[LISTENERS_MAX])
{
	uint32_t high = shard_high(h);
	struct session x;

	for (uint32_t slot = 0; slot < high; slot++)
		if (session_read(h, slot, &x) && x.listener < LISTENERS_MAX)
			used[x.listener] |= x.transport;
	high = conn_high(h);
	for (uint32_t slot = 0; slot < high; slot++) {
		const struct conn *k = conn_peek(h, slot);
		uint16_t row = k->listener;

		if (atomic_load_explicit(&k->state, memory_order_acquire) != CONN_FREE &&
		    row < LISTENERS_MAX)
			used[row] |= k->transport;
	}
}

static void
close_row(struct super *s, unsigned row)
{
	char text[ADDR_STRLEN];

	log_info("listeners: %s, which a reload has removed, is closed: its last session has ended",
	    addr_print(&s->conf.listeners[row].addr, text));
	listener_close(s->ledger, &s->win, row, false);
	listener_close(s->ledger, &s->win, row, true);
}

/* Every worker has to know before the port is given away: the configuration tells it. */
static void
publish(struct super *s)
{
	s->conf.generation++;
	if (super_conf_publish(s, &s->conf) < 0)
		log_errx("listeners: no memory for the configuration");
	else
		super_tell_conf(s);
}

void
super_rows_step(struct super *s, tp_ms now)
{
	uint8_t used[LISTENERS_MAX] = { 0 };
	bool closed = false;
	struct shard shards[SHARDS_MAX];
	unsigned n;

	/* During a roll an old worker may still have the row before it was retired. */
	if (now < s->rows_due || s->reloading || s->roll.mode != ROLL_NONE || !has_retired(&s->conf) ||
	    (s->phase != SUPER_RUNNING && s->phase != SUPER_DRAINING))
		return;
	s->rows_due = now + ROWS_MS;
	n = regions_shards(&s->regions, shards);
	for (unsigned i = 0; i < n; i++)
		find_used(&shards[i], used);
	for (uint32_t row = 0; row < s->conf.listener_count; row++) {
		struct conf_listener *l = &s->conf.listeners[row];
		unsigned next = (used[row] & ~TRANSPORT_STREAMS) != 0 ? CONF_ROW_OPEN
		    : used[row] != 0                                  ? CONF_ROW_CLOSED
								      : CONF_ROW_FREE;

		if (!l->retired || l->closed >= next) {
			s->row_next[row] = CONF_ROW_OPEN;
			continue;
		}
		/* Twice in a row: what was on its way at the first look has come to its end. */
		if (s->row_next[row] == next) {
			if (l->closed == CONF_ROW_OPEN)
				close_row(s, row);
			l->closed = (uint8_t)next;
			closed = true;
		}
		s->row_next[row] = (uint8_t)next;
	}
	if (closed)
		publish(s);
}
