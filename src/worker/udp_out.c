/* SPDX-License-Identifier: BSD-3-Clause */
/* udp_out.c: datagrams on their way out, and the counters of what went and came. */
#include "config.h"

#include <errno.h>

#include "worker_int.h"

static void
unsent(void *arg, int fd, const struct addr *to, size_t len, int err)
{
	struct worker *w = arg;

	(void)fd;
	(void)to;
	(void)len;
	stat_drop(w->stat, err == EMSGSIZE ? DROP_TOO_LARGE : DROP_SEND_ERROR);
}

static void
flush_ring(struct worker *w, struct udp_ring *r, struct udp_counts *c)
{
	if (udp_ring_count(r) > 0)
		w->engine->flush(r, unsent, w, c);
}

void
udp_flush_up(struct worker *w)
{
	flush_ring(w, w->udp.up, &w->udp.tx_up);
}

void
udp_flush_down(struct worker *w)
{
	flush_ring(w, w->udp.down, &w->udp.tx_down);
}

void
udp_to_client(struct worker *w, struct lane *l, unsigned row, const struct addr *to, const uint8_t *p,
    size_t len, bool brief)
{
	int fd = row < LISTENERS_MAX ? l->listener[row] : -1;

	if (fd < 0) {
		stat_drop(w->stat, DROP_SEND_ERROR);
		return;
	}
	uint8_t *copy = brief ? udp_arena_take(w->arena, len) : NULL;
	if (copy != NULL)
		p = memcpy(copy, p, len);
	if (!udp_ring_put(w->udp.down, fd, to, p, len)) {
		udp_flush_down(w);
		(void)udp_ring_put(w->udp.down, fd, to, p, len);
	}
	if (brief && copy == NULL)
		udp_flush_down(w); /* no room for a copy: it goes now */
}

void
udp_to_peer(struct worker *w, const struct turn_out *o)
{
	bool (*put)(struct udp_ring *, int, const struct addr *, const uint8_t *,
	    size_t) = o->dont_fragment ? udp_ring_put_df : udp_ring_put;

	if (!put(w->udp.up, o->fd, &o->to, o->p, o->len)) {
		udp_flush_up(w);
		(void)put(w->udp.up, o->fd, &o->to, o->p, o->len);
	}
}

/* ---- counters --------------------------------------------------------------------------------------- */

static void
publish_batches(uint64_t *to, const uint64_t *now, uint64_t *seen)
{
	for (unsigned i = 0; i < STAT_BATCH_BUCKETS; i++) {
		to[i] += now[i] - seen[i];
		seen[i] = now[i];
	}
}

static void
publish_tx(struct worker *w, const struct udp_counts *now, struct udp_counts *seen,
    enum stat_counter packets, enum stat_counter bytes)
{
	uint64_t again = now->tx_again - seen->tx_again;

	stat_add(w->stat, packets, now->tx_packets - seen->tx_packets);
	stat_add(w->stat, bytes, now->tx_bytes - seen->tx_bytes);
	stat_add(w->stat, STAT_TX_BATCHES, now->tx_calls - seen->tx_calls);
	stat_add(w->stat, STAT_TX_NOBUFS, now->tx_nobufs - seen->tx_nobufs);
	stat_add(w->stat, STAT_TX_MERGED, now->gso_sends - seen->gso_sends);
	stat_add(w->stat, STAT_TX_SEGMENTS, now->gso_segments - seen->gso_segments);
	stat_add(w->stat, STAT_TX_APART, now->gso_refused - seen->gso_refused);
	if (again > 0) {
		stat_add(w->stat, STAT_TX_AGAIN, again);
		w->stat->drop[DROP_SEND_FULL] += again;
	}
	publish_batches(w->stat->tx_batch, now->tx_batch, seen->tx_batch);
	publish_batches(w->stat->gso_batch, now->gso_batch, seen->gso_batch);
	*seen = *now;
}

void
udp_publish(struct worker *w)
{
	struct udp_out *u = &w->udp;

	publish_tx(w, &u->tx_down, &u->seen_down, STAT_CLIENT_TX_PACKETS, STAT_CLIENT_TX_BYTES);
	publish_tx(w, &u->tx_up, &u->seen_up, STAT_PEER_TX_PACKETS, STAT_PEER_TX_BYTES);
	stat_add(w->stat, STAT_RX_BATCHES, u->rx.rx_calls - u->seen_rx.rx_calls);
	stat_add(w->stat, STAT_RX_MERGED, u->rx.gro_receives - u->seen_rx.gro_receives);
	stat_add(w->stat, STAT_RX_SEGMENTS, u->rx.gro_segments - u->seen_rx.gro_segments);
	publish_batches(w->stat->rx_batch, u->rx.rx_batch, u->seen_rx.rx_batch);
	publish_batches(w->stat->gro_batch, u->rx.gro_batch, u->seen_rx.gro_batch);
	u->seen_rx = u->rx;
}
