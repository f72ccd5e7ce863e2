/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * events.c: the loop.  The worker's own epoll holds its shards' epolls (which outlive it), its two message
 * sockets and its tick.  A shard that is ready gives one batch, then the others have their turn.
 */
#include "config.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <sysexits.h>
#include <unistd.h>

#include "worker_int.h"

#define EVENTS_MAX    64 /* of one shard's epoll at a time */
#define SETTLE_STEP   256
#define QUIET_PACKETS 100 /* a second */

static int
watch(struct worker *w, int fd, uint64_t data)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = data };

	return epoll_ctl(w->events.outer, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

int
events_open(struct worker *w)
{
	struct itimerspec every = { .it_interval.tv_nsec = TICK_MS * 1000000,
		.it_value.tv_nsec = TICK_MS * 1000000 };
	struct events *e = &w->events;
	int err;

	e->outer = epoll_create1(EPOLL_CLOEXEC);
	e->tick = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (e->outer < 0 || e->tick < 0 || timerfd_settime(e->tick, 0, &every, NULL) < 0)
		return -errno;
	w->outbox.sock = w->control;
	w->outbox.outer = e->outer;
	if ((err = watch(w, w->control, OUTER_CONTROL)) < 0 || (err = watch(w, w->authd, OUTER_AUTHD)) < 0)
		return err;
	for (unsigned i = 0; i < w->lane_count; i++)
		for (unsigned k = 0; k < w->start.tlsd_count; k++)
			if ((err = watch(
				 w, w->lane[i].told.tlsd_fd[k], OUTER_TLSD + i * MSG_TLSDS_MAX + k)) < 0)
				return err;
	return watch(w, e->tick, OUTER_TICK);
}

int
events_shard(struct worker *w, struct lane *l)
{
	int err;

	for (unsigned row = 0; row < LISTENERS_MAX; row++) {
		if (l->listener[row] < 0)
			continue;
		err = lane_watch(l, l->listener[row], EPOLLIN, tag_make(TAG_LISTENER, row, 0, 0));
		if (err < 0 || (err = w->engine->listener(l->listener[row])) < 0)
			return err;
	}
	if ((err = accept_listen(w, l, true)) < 0)
		return err;
	return watch(w, l->told.epoll_fd, OUTER_SHARD + (uint64_t)(l - w->lane));
}

static uint64_t
received(const struct worker *w)
{
	return w->stat->counter[STAT_CLIENT_RX_PACKETS] + w->stat->counter[STAT_PEER_RX_PACKETS];
}

static void
shard_event(struct worker *w, struct lane *l, uint64_t tag, uint32_t events)
{
	switch (tag_kind(tag)) {
	case TAG_LISTENER:
		udp_listener(w, l, tag_which(tag), events);
		return;
	case TAG_RELAY:
		udp_relay(w, l, tag, events);
		return;
	case TAG_STREAM:
		stream_event(w, l, tag, events);
		return;
	case TAG_ACCEPT:
		accept_ready(w, l, tag_which(tag));
		return;
	case TAG_REST:
		rest_event(w, l, tag, events);
		return;
	default:
		stat_drop(w->stat, DROP_STALE_EVENT);
	}
}

static void
shard_ready(struct worker *w, struct lane *l)
{
	TP_UNSET struct epoll_event ev[EVENTS_MAX];
	int n = epoll_wait(l->told.epoll_fd, ev, EVENTS_MAX, 0);
	uint64_t before = received(w);

	for (int i = 0; i < n; i++)
		if (tag_kind(ev[i].data.u64) == TAG_RELAY)
			session_prefetch_at(&l->shard, tag_slot(ev[i].data.u64));
	for (int i = 0; i < n; i++) {
		shard_event(w, l, ev[i].data.u64, ev[i].events);
		conn_end_marked(w);
	}
	shard_packets_add(&l->shard, received(w) - before);
}

/* ---- the tick -------------------------------------------------------------------------------------- */

struct swept {
	struct worker *w;
	struct lane *l;
};

static void
session_swept(void *arg, struct turn_out *out)
{
	struct swept *s = arg;

	assert(out == &s->w->out);
	(void)core_effects(s->w, s->l, TURN_DONE);
}

/* A tenth of the slots each time: every one is looked at once a second. */
static void
sweep(struct worker *w, struct lane *l)
{
	struct swept s = { w, l };
	uint32_t high = shard_high(&l->shard);

	if (high > 0)
		l->cursor = turn_sweep(
		    &w->turn, &l->shard, l->cursor, high / TICKS_PER_SEC + 1, &w->out, session_swept, &s);
}

/* What the kernel did before we came: the sum over our listeners, once a second. */
static void
look_at_listeners(struct worker *w)
{
	uint64_t drops = 0, backlog = 0, refused = 0, waiting = 0, d, b;

	for (unsigned i = 0; i < w->lane_count; i++)
		for (unsigned row = 0; row < LISTENERS_MAX; row++) {
			const struct lane *l = &w->lane[i];
			if (l->listener[row] >= 0 && udp_pressure(l->listener[row], &d, &b) == 0) {
				drops += d;
				backlog += b;
			}
			if (l->stream[row] >= 0 && stream_pressure(l->stream[row], &d, &b) == 0) {
				refused += d;
				waiting += b;
			}
		}
	w->stat->counter[STAT_LISTENER_DROPS] = drops;
	w->stat->counter[STAT_LISTENER_BACKLOG] = backlog;
	w->stat->counter[STAT_ACCEPT_DROPS] = refused;
	w->stat->counter[STAT_ACCEPT_BACKLOG] = waiting;
}

/* Are there listeners whose records this worker seals? */
static bool
worker_seals(const struct worker *w)
{
	for (unsigned row = 0; row < LISTENERS_MAX; row++)
		if ((w->rows[row].transports & (TRANSPORT_TLS | TRANSPORT_DTLS)) != 0)
			return true;
	return false;
}

/* A second with next to nothing to do: what a burst left behind goes back, once nothing waits in it. */
static void
look_for_quiet(struct worker *w)
{
	uint64_t now = received(w);

	w->events.quiet = now - w->events.received < QUIET_PACKETS;
	w->events.received = now;
}

static void
once_a_second(struct worker *w)
{
	look_at_listeners(w);
	look_for_quiet(w);
	stat_usage(w->stat, w->proc.usage_fd);
	w->events.second = true;
}

static void
sweep_all(struct worker *w)
{
	w->stat->busy.phase = BUSY_SWEEP;
	for (unsigned i = 0; i < w->lane_count; i++) {
		sweep(w, &w->lane[i]);
		conn_sweep(w, &w->lane[i]);
		rest_expire(w, &w->lane[i]);
	}
	w->stat->busy.phase = BUSY_IDLE;
}

static void
tick(struct worker *w)
{
	struct events *e = &w->events;
	uint64_t times;

	if (read(e->tick, &times, sizeof times) != (ssize_t)sizeof times)
		return;
	atomic_store_explicit(&w->stat->heartbeat_ms, w->turn.now, memory_order_relaxed);
	atomic_fetch_add_explicit(&w->stat->ticks, 1, memory_order_relaxed);
	worklog_tick(w);
	sweep_all(w);
	core_expire(w);
	accept_tick(w);
	worker_keys(w);
	if (e->ticks == 0 && worker_seals(w))
		(void)seal_ctx_warm(&w->seal);
	if (++e->ticks % TICKS_PER_SEC == 0)
		once_a_second(w);
	w->stat->counter[STAT_LOG_LOST] += log_lost() - e->log_lost;
	e->log_lost = log_lost();
}

static void
control_ready(struct worker *w, uint32_t events)
{
	if ((events & EPOLLOUT) != 0)
		outbox_writable(w);
	w->stat->busy.phase = BUSY_MESSAGE;
	if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
		control_readable(w);
	w->stat->busy.phase = BUSY_IDLE;
}

static void
ready(struct worker *w, const struct epoll_event *ev)
{
	uint64_t data = ev->data.u64;

	if (data == OUTER_CONTROL)
		control_ready(w, ev->events);
	else if (data == OUTER_AUTHD)
		control_authd(w);
	else if (data == OUTER_TICK)
		tick(w);
	else if (data >= OUTER_TLSD)
		handshake_readable(
		    w, &w->lane[(data - OUTER_TLSD) / MSG_TLSDS_MAX], (data - OUTER_TLSD) % MSG_TLSDS_MAX);
	else if (data - OUTER_SHARD < w->lane_count)
		shard_ready(w, &w->lane[data - OUTER_SHARD]);
}

/* What was put off until everything that is ready had its turn. */
static void
round_end(struct worker *w)
{
	struct events *e = &w->events;

	if (e->unsettled)
		e->unsettled = relays_settle(w, SETTLE_STEP);
	conn_resume(w);
	streams_again(w);
	conn_end_marked(w);
	relays_wish(w, !e->unsettled);
	batch_flush(w);
	conn_end_marked(w); /* keys that are used up */
	batch_flush(w);
	tlsd_box_flush(w); /* after the last flights that are acknowledged */
	pending_flush(w);
	if (e->quiet)
		udp_arena_rest(w->arena);
	e->quiet = false;
	for (unsigned i = 0; e->second && i < w->lane_count; i++)
		(void)ring_rest(&w->lane[i].shard);
	e->second = false;
}

/* To the supervisor: what is released comes before what is new. */
static void
tell_supervisor(struct worker *w)
{
	if (outbox_flush(w))
		accept_flush(w);
	if (w->outbox.gone)
		w->events.stop = true;
}

/* Is there something to do before the next event? */
static bool
has_work(const struct worker *w)
{
	const struct conn_list *again = &w->marks.again;

	return w->events.unsettled || again->first < again->count;
}

void
events_run(struct worker *w)
{
	TP_UNSET struct epoll_event ev[EVENTS_MAX];
	struct events *e = &w->events;

	for (;;) {
		tell_supervisor(w);
		if (e->stop)
			break;
		int n = epoll_wait(e->outer, ev, EVENTS_MAX, has_work(w) ? 0 : -1);
		if (n < 0 && errno != EINTR) {
			stat_words(w->stat, "epoll_wait failed");
			fatal(EX_OSERR, "epoll_wait");
		}
		batch_now(w);
		for (int i = 0; i < n && !e->stop; i++) {
			ready(w, &ev[i]);
			conn_end_marked(w);
		}
		round_end(w);
	}
	tlsd_box_flush(w);
	(void)outbox_flush(w);
}
