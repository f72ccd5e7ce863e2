/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * load_thread.c: one thread with its flows: set-up, steps of traffic, end.  Nothing is shared with other
 * workers.
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sysexits.h>
#include <time.h>

#include "load_int.h"

#define EVENTS       256
#define TICK_NS      20000000ull
#define STALL_NS     100000000ull /* window full and nothing arrives: what is out is lost */
#define QUIET_NS     200000000ull /* the end of a step: nothing arrived for this long; see --linger, too */
#define STOP_LOOK_NS 10000000ull  /* between looks at the flows heard since the stop was asked for */
#define STOP_MORE_NS                                                                                       \
	500000000ull /* beyond --stopped-after, so that a silent flow has stopped in the report, too */
#define PENDING_NS      5000000000ull /* and this long for what a connection would not take yet */
#define BLOCK           32            /* flows served in one direction before the other's turn */
#define BURST           256           /* packets sent between two looks at the sockets */
#define DATA_INDICATION 0x0017

uint64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

int
worker_init(struct worker *w)
{
	size_t n = w->o->payload, pad = w->o->indications || w->transport->padded ? (4 - n % 4) % 4 : 0;
	bool gso = !w->o->no_gso;
	int err;

	w->single = w->n == 1;
	w->flows = calloc(w->n, sizeof *w->flows);
	w->peers = calloc(w->peer_count, sizeof *w->peers);
	w->by_port = calloc(65536, sizeof *w->by_port);
	w->ep = epoll_create1(EPOLL_CLOEXEC);
	if (w->flows == NULL || w->peers == NULL || w->by_port == NULL)
		return -ENOMEM;
	if (w->ep < 0)
		return -errno;
	for (unsigned i = 0; i < w->n; i++) {
		w->flows[i].index = i;
		w->flows[i].peer = (uint16_t)(i % w->peer_count);
		w->flows[i].fd = -1;
	}
	for (unsigned i = 0; i < w->peer_count; i++)
		w->peers[i].fd = -1;
	err = peer_open(w);
	if (err != 0)
		return err;
	w->tx[UP] = tx_new(!w->o->indications        ? CHANNEL_HEADER
		: w->peers[0].addr.family == ADDR_V4 ? 36
						     : 48,
	    n, pad, gso);
	w->tx[DOWN] = tx_new(0, n, 0, gso);
	w->rx = rx_new();
	w->wire = malloc(STREAM_READ);
	w->plain = malloc(STREAM_READ);
	return w->wire != NULL && w->plain != NULL ? 0 : -ENOMEM;
}

void
worker_fini(struct worker *w)
{
	for (unsigned i = 0; w->flows != NULL && i < w->n; i++) {
		w->transport->close(w, &w->flows[i]);
		side_fini(&w->flows[i].side[UP]);
		side_fini(&w->flows[i].side[DOWN]);
	}
	if (w->peers != NULL)
		peer_close(w);
	tx_free(w->tx[UP]);
	tx_free(w->tx[DOWN]);
	tx_free(w->records);
	rx_free(w->rx);
	free(w->wire);
	free(w->plain);
	free(w->flows);
	free(w->peers);
	free(w->by_port);
}

/* ---- arrivals ---- */

static void
echo(struct worker *w, struct flow *f, uint64_t time)
{
	if (w->o->direction == LOAD_ECHO)
		peer_run(w, f, 1, time);
}

void
worker_arrived(struct worker *w, struct flow *f, unsigned dir, const uint8_t *p, size_t n, uint64_t now)
{
	struct side *s = &f->side[dir];
	struct stamp st;

	switch (payload_read(p, n, w->o->payload, w->session, &st)) {
	case PAYLOAD_DAMAGED:
		s->damaged++;
		return;
	case PAYLOAD_FOREIGN:
		w->foreign++;
		return;
	default:
		break;
	}
	if (st.flow != f->id || st.dir != dir || st.seq >= s->next_seq) {
		s->misdelivered++;
		return;
	}
	w->progress_at = now;
	if (st.seq >= s->high) {
		w->inflight -= (int64_t)(st.seq + 1 - s->high);
		s->high = st.seq + 1;
	}
	if (side_seen(s, st.seq, now) == SEEN_AGAIN)
		return;
	atomic_store_explicit(&w->got[dir], w->got[dir] + 1, memory_order_relaxed);
	hist_add(&w->hist[dir], now > st.time ? now - st.time : 0);
	if (dir == UP)
		echo(w, f, st.time);
}

static void
data_indication(struct worker *w, struct flow *f, const uint8_t *p, size_t n, uint64_t now)
{
	const struct stun_attr *data;
	struct stun_msg m;
	struct addr peer;

	if (stun_parse(&m, p, n) != STUN_OK || (data = stun_find(&m, STUN_A_DATA)) == NULL) {
		f->side[DOWN].damaged++;
		return;
	}
	if (!stun_get_xaddr(&m, stun_find(&m, STUN_A_XOR_PEER_ADDRESS), &peer) ||
	    !addr_eq(&peer, &w->peers[f->peer].addr)) {
		f->side[DOWN].misdelivered++;
		return;
	}
	worker_arrived(w, f, DOWN, data->value, data->len, now);
}

void
flow_input(struct worker *w, struct flow *f, const uint8_t *p, size_t n, uint64_t now)
{
	struct channel_data c;

	if (n >= 2 && frame_kind(p[0]) == FRAME_CHANNEL) {
		if (w->o->bare && get_u16(p) == BARE_CHANNEL)
			ctl_input(w, f, p, n, now);
		else if (channel_parse(&c, p, n) != STUN_OK)
			f->side[DOWN].damaged++;
		else if (c.number != f->channel)
			f->side[DOWN].misdelivered++;
		else
			worker_arrived(w, f, DOWN, c.data, c.len, now);
	} else if (n >= 2 && get_u16(p) == DATA_INDICATION) {
		data_indication(w, f, p, n, now);
	} else {
		ctl_input(w, f, p, n, now);
	}
}

static unsigned
client_event(struct worker *w, struct flow *f, uint32_t events, uint64_t now)
{
	if (f->fd >= 0 && (events & EPOLLOUT) && w->transport->writable != NULL)
		w->transport->writable(w, f, now);
	return f->fd >= 0 && (events & ~(uint32_t)EPOLLOUT) ? w->transport->receive(w, f, now) : 0;
}

/* Looks at the sockets once, waiting at most `wait_ms`.  Datagrams handled. */
static unsigned
look(struct worker *w, int wait_ms)
{
	struct epoll_event ev[EVENTS];
	unsigned count = 0;
	uint64_t now;
	int n = epoll_wait(w->ep, ev, EVENTS, wait_ms);

	now = now_ns();
	for (int i = 0; i < n; i++) {
		uint32_t index = (uint32_t)ev[i].data.u64;

		if (ev[i].data.u64 >> 32)
			count += peer_receive(w, &w->peers[index], now);
		else
			count += client_event(w, &w->flows[index], ev[i].events, now);
	}
	tx_flush(w, w->tx[DOWN]); /* echoes */
	return count;
}

/* ---- set-up and end ---- */

void
worker_flow_changed(struct worker *w, struct flow *f, uint64_t now)
{
	switch (f->step) {
	case CTL_READY:
		atomic_fetch_add_explicit(&w->ready, 1, memory_order_relaxed);
		if (w->recycle) {
			ctl_free(w, f, now);
			return;
		}
		break;
	case CTL_FAILED:
		w->errors[f->error < ERRORS_MAX ? f->error : 0]++;
		atomic_fetch_add_explicit(&w->failed, 1, memory_order_relaxed);
		break;
	default:
		break;
	}
	w->outstanding--;
}

void
worker_why(struct worker *w, const char *why)
{
	if (w->why[0] == '\0')
		text_copy(w->why, sizeof w->why, why);
}

static bool
stopping(const struct worker *w)
{
	return atomic_load_explicit(w->stop, memory_order_relaxed);
}

static void
tick(struct worker *w, uint64_t now)
{
	if (now < w->tick_at)
		return;
	w->tick_at = now + TICK_NS;
	ctl_tick(w, now);
}

static void
start_flow(struct worker *w, struct flow *f)
{
	w->outstanding++;
	ctl_start(w, f, now_ns());
}

void
worker_setup(struct worker *w)
{
	while ((w->started < w->n && !stopping(w)) || w->outstanding > 0) {
		while (w->started < w->n && w->outstanding < w->o->setup_window && !stopping(w))
			start_flow(w, &w->flows[w->started++]);
		look(w, 5);
		tick(w, now_ns());
	}
}

void
worker_teardown(struct worker *w)
{
	unsigned next = 0;

	while (next < w->n || w->outstanding > 0) {
		for (; next < w->n && w->outstanding < w->o->setup_window; next++) {
			struct flow *f = &w->flows[next];

			if (f->step < CTL_READY || f->step > CTL_REBIND || f->closed)
				continue;
			w->outstanding++;
			ctl_free(w, f, now_ns());
		}
		if (w->outstanding > 0)
			look(w, 5);
		tick(w, now_ns());
	}
}

/* Set-ups that may have begun by now. */
static uint64_t
rounds_due(const struct worker *w, uint64_t began)
{
	uint64_t most = w->rounds_max != 0 ? w->rounds_max : UINT64_MAX, earned;

	if (w->o->rate <= 0)
		return most;
	earned = 1 + (uint64_t)((double)(now_ns() - began) * w->o->rate / w->o->threads / 1e9);
	return earned < most ? earned : most;
}

/* Set-up and connect mode: each flow ends as soon as it is ready and begins again from another port. */
void
worker_rounds(struct worker *w)
{
	uint64_t began = now_ns(), end = began + (uint64_t)(w->o->seconds * 1e9);

	w->recycle = true;
	while ((now_ns() < end && !stopping(w)) || w->outstanding > 0) {
		uint64_t due = rounds_due(w, began);

		for (unsigned i = 0; i < w->n && now_ns() < end && !stopping(w); i++) {
			struct flow *f = &w->flows[i];

			if (ctl_waiting(f) || w->rounds >= due)
				continue;
			w->transport->close(w, f);
			w->rounds++;
			start_flow(w, f);
		}
		if (w->outstanding == 0 && w->rounds_max != 0 && w->rounds >= w->rounds_max)
			break;
		look(w, 1);
		tick(w, now_ns());
	}
	w->step_ns = now_ns();
}

/* ---- traffic ---- */

static void
send_to(struct worker *w, unsigned dir, struct flow *f, unsigned count, uint64_t now)
{
	if (f->step < CTL_READY || f->step > CTL_REBIND)
		return;
	if (dir == UP)
		w->transport->run(w, f, count, now);
	else
		peer_run(w, f, count, now);
}

/* The next run in the order: BLOCK flows up, the same flows down, the next block. */
static void
next_run(struct worker *w, unsigned count, uint64_t now)
{
	unsigned both = w->o->direction == LOAD_BOTH ? 2 : 1, base, size, at;

	if (w->cursor >= w->n * both)
		w->cursor = 0;
	base = w->cursor / (BLOCK * both) * BLOCK;
	size = w->n - base < BLOCK ? w->n - base : BLOCK;
	at = w->cursor++ - base * both;
	if (both == 2)
		send_to(w, at < size ? UP : DOWN, &w->flows[base + at % size], count, now);
	else
		send_to(w, w->o->direction == LOAD_DOWN ? DOWN : UP, &w->flows[base + at], count, now);
}

static uint64_t
sent_now(const struct worker *w)
{
	return w->sent[UP] + (w->o->direction == LOAD_ECHO ? 0 : w->sent[DOWN]);
}

/* Packets that may leave now: what the window lets out, or what the rate has earned. */
static int64_t
allowance(struct worker *w, uint64_t began, uint64_t base, uint64_t now)
{
	int64_t due, debt;

	if (w->step.rate <= 0)
		return (int64_t)w->window - w->inflight;
	due = (int64_t)((double)(now - began) * w->step.rate / 1e9) - (int64_t)(sent_now(w) - base) -
	    (int64_t)w->skipped;
	/* A generator that fell behind does not catch up in one burst: that would measure buffers. */
	debt = due - (int64_t)(w->step.rate * 0.02) - (int64_t)w->o->run;
	if (debt > 0) {
		w->skipped += (uint64_t)debt;
		due -= debt;
	}
	return due;
}

static bool
send_due(struct worker *w, uint64_t began, uint64_t base, uint64_t now)
{
	int64_t left = allowance(w, began, base, now);
	unsigned run = w->o->run, packets = 0, idle = 0;
	uint64_t before = sent_now(w);

	if (w->step.packets != 0) {
		uint64_t gone = before - base;

		if (gone >= w->step.packets)
			return false;
		if (left > (int64_t)(w->step.packets - gone))
			left = (int64_t)(w->step.packets - gone) < run ? run
								       : (int64_t)(w->step.packets - gone);
	}
	while (left >= (int64_t)run && packets < BURST && idle++ < BURST * 4) {
		next_run(w, run, now);
		packets += run;
		left -= run;
	}
	w->transport->flush(w);
	tx_flush(w, w->tx[DOWN]);
	return packets > 0;
}

static void
write_off(struct worker *w)
{
	for (unsigned i = 0; i < w->n; i++)
		for (unsigned d = 0; d < 2; d++)
			w->flows[i].side[d].high = w->flows[i].side[d].next_seq;
	w->inflight = 0;
	w->stalls++;
}

static void
nap(struct worker *w, bool hold)
{
	struct timespec t = { .tv_nsec = (long)w->o->nap_us * 1000 };

	/* Sleeping by the clock, not on the sockets, spares the server the waking of a reader at every
	 * packet. */
	if (hold)
		look(w, 1);
	else if (w->o->nap_us > 0)
		nanosleep(&t, NULL);
}

static bool
pending(const struct worker *w)
{
	for (unsigned i = 0; w->transport->pending != NULL && i < w->n; i++)
		if (w->transport->pending(&w->flows[i]))
			return true;
	return false;
}

static bool
missing(const struct worker *w)
{
	for (unsigned i = 0; i < w->n; i++)
		if (side_lost(&w->flows[i].side[UP]) + side_lost(&w->flows[i].side[DOWN]) > 0)
			return true;
	return false;
}

static void
drain(struct worker *w)
{
	uint64_t began = now_ns(), quiet = began, linger = (uint64_t)(w->o->linger * 1e9), now;

	while (now = now_ns(),
	    now - quiet < QUIET_NS || (now - quiet < linger && missing(w)) ||
		(pending(w) && now - began < PENDING_NS))
		if (look(w, 10) > 0)
			quiet = now_ns();
}

/* Every flow has been heard in each direction since then: none need be suspected of having stopped. */
static bool
heard_since(const struct worker *w, uint64_t then)
{
	for (unsigned i = 0; i < w->n; i++) {
		const struct flow *f = &w->flows[i];

		if (f->step < CTL_READY || f->step > CTL_REBIND || f->closed)
			continue;
		for (unsigned d = 0; d < 2; d++)
			if (f->side[d].sent > 0 && f->side[d].last <= then)
				return false;
	}
	return true;
}

/* Asked to stop.  A hold that may end at any moment gives each flow time to be heard once more: silence
 * is what it is there to tell. */
static bool
may_stop(struct worker *w, uint64_t now)
{
	if (!stopping(w))
		return false;
	if (w->o->mode != LOAD_HOLD)
		return true;
	if (w->stop_at == 0)
		w->stop_at = w->stop_look = now;
	if (now < w->stop_look)
		return false;
	w->stop_look = now + STOP_LOOK_NS;
	return now - w->stop_at > (uint64_t)(w->o->stopped_after * 1e9) + STOP_MORE_NS ||
	    heard_since(w, w->stop_at);
}

void
worker_step(struct worker *w)
{
	uint64_t began = now_ns(), end = began + (uint64_t)(w->step.seconds * 1e9), now = began,
		 base = sent_now(w);
	bool hold = w->o->mode == LOAD_HOLD;

	w->traffic = true;
	w->skipped = 0;
	w->inflight = 0;
	w->progress_at = began;
	for (unsigned i = 0; i < w->n; i++)
		for (unsigned d = 0; d < 2; d++) {
			w->flows[i].side[d].high = w->flows[i].side[d].next_seq;
			w->flows[i].side[d].last = began;
		}
	while ((now = now_ns()) < end && !may_stop(w, now)) {
		bool busy = send_due(w, began, base, now);

		busy |= look(w, 0) > 0;
		if (w->step.packets != 0 && sent_now(w) - base >= w->step.packets)
			break;
		tick(w, now);
		if (w->step.rate <= 0 && w->inflight > 0 && now > w->progress_at + STALL_NS) {
			write_off(w);
			w->progress_at = now;
		}
		if (!busy)
			nap(w, hold);
	}
	w->step_ns = now - began;
	drain(w);
}
