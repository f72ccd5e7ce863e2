/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * loop.c: descriptors, timers and signals as callbacks, for the processes that are not the data path.
 *
 * A watch that is removed while its event waits in the current batch is only marked; its memory is freed
 * when the batch is done, so nothing is ever called for a descriptor that loop_del() has seen.
 */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "tp/io.h"

#define EVENTS_MAX 64

struct watch {
	int fd;
	bool dead;
	loop_fd_h *cb;
	void *arg;
	struct watch *next; /* of the dead */
};
struct timer {
	tp_ms when;
	unsigned id;
	loop_timer_h *cb;
	void *arg;
};
struct loop {
	int epoll, signals;
	struct watch **watch; /* by descriptor number */
	size_t watch_max;
	struct watch *dead;
	struct timer *heap; /* earliest first; ties by id, in the order they were asked for */
	size_t timers, timer_max;
	unsigned last_id;
	loop_signal_h *on_signal;
	void *signal_arg;
	bool stop;
	int value;
};

struct loop *
loop_new(void)
{
	struct loop *l = calloc(1, sizeof *l);

	if (l == NULL)
		return NULL;
	l->signals = -1;
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (l->epoll < 0) {
		free(l);
		return NULL;
	}
	return l;
}

static void
bury(struct loop *l)
{
	while (l->dead != NULL) {
		struct watch *w = l->dead;
		l->dead = w->next;
		free(w);
	}
}

void
loop_free(struct loop *l)
{
	if (l == NULL)
		return;
	for (size_t i = 0; i < l->watch_max; i++)
		free(l->watch[i]);
	bury(l);
	free(l->watch);
	free(l->heap);
	if (l->signals >= 0)
		close(l->signals);
	close(l->epoll);
	free(l);
}

/* ---- descriptors ------------------------------------------------------------------------- */

static int
watch_room(struct loop *l, int fd)
{
	if ((size_t)fd < l->watch_max)
		return 0;
	size_t max = l->watch_max == 0 ? 64 : l->watch_max;
	while (max <= (size_t)fd)
		max *= 2;
	struct watch **grown = realloc(l->watch, max * sizeof *grown);
	if (grown == NULL)
		return -ENOMEM;
	memset(grown + l->watch_max, 0, (max - l->watch_max) * sizeof *grown);
	l->watch = grown;
	l->watch_max = max;
	return 0;
}

int
loop_add(struct loop *l, int fd, uint32_t events, loop_fd_h *cb, void *arg)
{
	if (fd < 0)
		return -EBADF;
	int err = watch_room(l, fd);
	if (err < 0)
		return err;
	if (l->watch[fd] != NULL)
		return -EEXIST;
	struct watch *w = calloc(1, sizeof *w);
	if (w == NULL)
		return -ENOMEM;
	*w = (struct watch){ .fd = fd, .cb = cb, .arg = arg };
	struct epoll_event ev = { .events = events, .data.ptr = w };
	if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &ev) < 0) {
		err = -errno;
		free(w);
		return err;
	}
	l->watch[fd] = w;
	return 0;
}

int
loop_mod(struct loop *l, int fd, uint32_t events)
{
	if (fd < 0 || (size_t)fd >= l->watch_max || l->watch[fd] == NULL)
		return -ENOENT;
	struct epoll_event ev = { .events = events, .data.ptr = l->watch[fd] };
	return epoll_ctl(l->epoll, EPOLL_CTL_MOD, fd, &ev) < 0 ? -errno : 0;
}

void
loop_del(struct loop *l, int fd)
{
	if (fd < 0 || (size_t)fd >= l->watch_max || l->watch[fd] == NULL)
		return;
	struct watch *w = l->watch[fd];
	l->watch[fd] = NULL;
	epoll_ctl(l->epoll, EPOLL_CTL_DEL, fd, NULL);
	w->dead = true;
	w->next = l->dead;
	l->dead = w;
}

/* ---- timers: a binary heap ------------------------------------------------------------------ */

static bool
earlier(const struct timer *a, const struct timer *b)
{
	return a->when < b->when || (a->when == b->when && a->id < b->id);
}

static void
sift_up(struct timer *h, size_t i)
{
	struct timer t = h[i];

	while (i > 0 && earlier(&t, &h[(i - 1) / 2])) {
		h[i] = h[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	h[i] = t;
}

static void
sift_down(struct timer *h, size_t n, size_t i)
{
	struct timer t = h[i];

	for (;;) {
		size_t kid = 2 * i + 1;
		if (kid >= n)
			break;
		if (kid + 1 < n && earlier(&h[kid + 1], &h[kid]))
			kid++;
		if (!earlier(&h[kid], &t))
			break;
		h[i] = h[kid];
		i = kid;
	}
	h[i] = t;
}

static void
heap_take(struct loop *l, size_t i)
{
	l->timers--;
	if (i == l->timers)
		return;
	l->heap[i] = l->heap[l->timers];
	sift_up(l->heap, i);
	sift_down(l->heap, l->timers, i);
}

unsigned
loop_after(struct loop *l, tp_ms span, loop_timer_h *cb, void *arg)
{
	if (l->timers == l->timer_max) {
		size_t max = l->timer_max == 0 ? 32 : l->timer_max * 2;
		struct timer *grown = realloc(l->heap, max * sizeof *grown);
		if (grown == NULL)
			return 0;
		l->heap = grown;
		l->timer_max = max;
	}
	if (++l->last_id == 0)
		l->last_id = 1;
	l->heap[l->timers] = (struct timer){ clock_ms() + span, l->last_id, cb, arg };
	sift_up(l->heap, l->timers++);
	return l->last_id;
}

void
loop_cancel(struct loop *l, unsigned id)
{
	for (size_t i = 0; id != 0 && i < l->timers; i++) {
		if (l->heap[i].id == id) {
			heap_take(l, i);
			return;
		}
	}
}

static int
timeout_of(const struct loop *l)
{
	if (l->timers == 0)
		return -1;
	tp_ms now = clock_ms(), when = l->heap[0].when;
	if (when <= now)
		return 0;
	return when - now > 60000 ? 60000 : (int)(when - now);
}

static void
run_timers(struct loop *l)
{
	/* A timer that a callback starts with span 0 runs in the next round: descriptors get their turn. */
	unsigned last = l->last_id;
	tp_ms now = clock_ms();

	while (!l->stop && l->timers > 0 && l->heap[0].when <= now && (int)(l->heap[0].id - last) <= 0) {
		struct timer t = l->heap[0];
		heap_take(l, 0);
		t.cb(t.arg);
	}
}

/* ---- signals ----------------------------------------------------------------------------------- */

static void
signal_ready(void *arg, int fd, uint32_t events)
{
	struct loop *l = arg;
	struct signalfd_siginfo si;

	(void)events;
	while (!l->stop && read(fd, &si, sizeof si) == (ssize_t)sizeof si)
		l->on_signal(l->signal_arg, (int)si.ssi_signo);
}

int
loop_signals(struct loop *l, const int *signos, unsigned n, loop_signal_h *cb, void *arg)
{
	sigset_t set;

	sigemptyset(&set);
	for (unsigned i = 0; i < n; i++)
		sigaddset(&set, signos[i]);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	int fd = signalfd(l->signals, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	l->on_signal = cb;
	l->signal_arg = arg;
	if (l->signals >= 0)
		return 0;
	int err = loop_add(l, fd, EPOLLIN, signal_ready, l);
	if (err < 0) {
		close(fd);
		return err;
	}
	l->signals = fd;
	return 0;
}

/* ---- running ------------------------------------------------------------------------------------ */

int
loop_run(struct loop *l)
{
	struct epoll_event ev[EVENTS_MAX];

	l->stop = false;
	while (!l->stop) {
		int n = epoll_wait(l->epoll, ev, EVENTS_MAX, timeout_of(l));
		if (n < 0 && errno != EINTR)
			return -errno;
		for (int i = 0; i < n && !l->stop; i++) {
			struct watch *w = ev[i].data.ptr;
			if (!w->dead)
				w->cb(w->arg, w->fd, ev[i].events);
		}
		bury(l);
		run_timers(l);
	}
	return l->value;
}

void
loop_stop(struct loop *l, int value)
{
	l->stop = true;
	l->value = value;
}
