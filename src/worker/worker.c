/* SPDX-License-Identifier: BSD-3-Clause */
/* worker.c: its life. */
#include "config.h"

#include <stdlib.h>
#include <sysexits.h>

#include "tp/worker.h"
#include "worker_int.h"

/* What lies on the heap.  Regions and descriptors end with the process. */
static void
worker_free(struct worker *w)
{
	for (unsigned i = 0; i < w->lane_count; i++) {
		free(w->lane[i].use);
		free(w->lane[i].habit);
		free(w->lane[i].sock);
		for (unsigned row = 0; row < RELAYS_MAX; row++)
			free(w->lane[i].rest[row].ring);
		free(w->lane[i].inherited);
		free(w->lane[i].streams);
		free(w->lane[i].assoc.at);
		for (unsigned k = 0; k < MSG_TLSDS_MAX; k++)
			free(w->lane[i].box[k].bytes);
	}
	free(w->lane);
	seal_ctx_fini(&w->seal);
	free(w->rows);
	conn_marks_free(&w->marks);
	free(w->policy[0]);
	free(w->policy[1]);
	free(w->plain);
	free(w->outbox.bytes);
	free(w->once);
	free(w->hellos);
	pending_end(w->pending);
	udp_arena_free(w->arena);
	udp_ring_free(w->udp.down);
	udp_ring_free(w->udp.up);
	free(w);
}

int
worker_run(int argc, char **argv)
{
	static const struct child_role role = {
		.role = ROLE_WORKER, .own_loop = true, .start = worker_told_start, .message = worker_told
	};
	struct worker *w = calloc(1, sizeof *w);
	int code = w == NULL ? EX_OSERR : child_begin(&w->proc, &role, w, argc, argv);

	if (code != 0)
		return code;
	w->index = w->proc.index;
	w->control = CHILD_FD_CONTROL;
	worker_start(w);
	events_run(w);
	batch_flush(w);
	worker_free(w);
	return EX_OK;
}
