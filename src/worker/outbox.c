/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * outbox.c: messages to the supervisor.  They leave once per round: each alone would wake the supervisor,
 * which takes this processor as often as not.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sysexits.h>

#include "worker_int.h"

#define OUTBOX_MAX (64u << 20)

static void
append(struct worker *w, const void *msg, size_t size)
{
	struct outbox *o = &w->outbox;

	if (o->head > 0 && o->tail + size > o->max) {
		memmove(o->bytes, o->bytes + o->head, o->tail - o->head);
		o->tail -= o->head;
		o->head = 0;
	}
	while (o->tail + size > o->max) {
		size_t max = o->max == 0 ? 65536 : o->max * 2;
		uint8_t *grown = max <= OUTBOX_MAX ? realloc(o->bytes, max) : NULL;
		if (grown == NULL) {
			/* A successor finds what is left to release; going on with a lost message would
			 * not. */
			stat_words(w->stat, "the supervisor does not read");
			fatal(EX_SOFTWARE, "control: too many messages wait for the supervisor");
		}
		o->bytes = grown;
		o->max = max;
	}
	memcpy(o->bytes + o->tail, msg, size);
	o->tail += size;
}

void
outbox_put(struct worker *w, void *msg)
{
	struct msg_head *h = msg;

	h->generation = w->start.h.generation;
	append(w, msg, msg_size(h->type));
}

/* False: the socket is full. */
static bool
send_out(struct outbox *o)
{
	while (o->head < o->tail) {
		int rc = ipc_send_run(o->sock, o->bytes + o->head, o->tail - o->head);
		if (rc == -EAGAIN)
			return false;
		if (rc < 0) {
			o->gone = true;
			return true;
		}
		o->head += (size_t)rc;
	}
	o->head = o->tail = 0;
	return true;
}

static void
want_write(const struct outbox *o, bool on)
{
	struct epoll_event ev = { .events = EPOLLIN | (on ? EPOLLOUT : 0u), .data.u64 = OUTER_CONTROL };

	(void)epoll_ctl(o->outer, EPOLL_CTL_MOD, o->sock, &ev);
}

bool
outbox_flush(struct worker *w)
{
	struct outbox *o = &w->outbox;

	if (o->full)
		return false;
	if (o->head == o->tail || send_out(o))
		return true;
	o->full = true;
	want_write(o, true);
	return false;
}

void
outbox_writable(struct worker *w)
{
	struct outbox *o = &w->outbox;

	if (!o->full || !send_out(o))
		return;
	o->full = false;
	want_write(o, false);
}
