/* SPDX-License-Identifier: BSD-3-Clause */
/* conn_resume.c: stalled connections go on, in the order in which they were stalled. */
#include "config.h"

#include "worker_int.h"

#define RESUME_BURST 64u /* of each kind in one round */

/* Is there something for one more that waits for this? */
static bool
is_there(const struct worker *w, const struct lane *l, enum stall what)
{
	switch (what) {
	case STALL_RING:
		return tx_rings_left(l, false) > 0;
	case STALL_RING_SESSION:
		return tx_rings_left(l, true) > 0;
	case STALL_PENDING:
		return pending_has_room(w->pending);
	default:
		return true; /* the queue to a turnpike-tls: only another try can tell */
	}
}

static void
resume(struct worker *w, enum stall what)
{
	struct conn_list *list = &w->marks.stalled[what];
	size_t n = list->count - list->first;
	struct lane *l;

	for (size_t i = 0; i < n && i < RESUME_BURST; i++) {
		struct conn *c = conn_list_next(w, list, &l);
		if (c == NULL)
			return;
		if (!is_there(w, l, what)) {
			conn_stall_on(w, l, c);
			continue;
		}
		c->stalled = STALL_NONE;
		conn_again(w, l, c);
	}
}

void
conn_resume(struct worker *w)
{
	/* Sessions come first. */
	resume(w, STALL_RING_SESSION);
	resume(w, STALL_RING);
	resume(w, STALL_TLSD);
	resume(w, STALL_PENDING);
}
