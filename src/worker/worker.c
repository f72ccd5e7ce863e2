/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * worker: its life.
 */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <sodium.h>
#include <stdlib.h>
#include <sysexits.h>

#include "tp/worker.h"
#include "worker_int.h"

static unsigned
index_of(int argc, char **argv)
{
	char *end;

	if (argc == 2 && argv[1][0] >= '0' && argv[1][0] <= '9') {
		unsigned long n = strtoul(argv[1], &end, 10);
		if (*end == '\0' && n < SHARDS_MAX)
			return (unsigned)n;
	}
	fatal(EX_USAGE, "turnpike-worker is started by turnpiked");
}

/* What lies on the heap.  Regions and descriptors end with the process. */
static void
worker_free(struct worker *w)
{
	for (unsigned i = 0; i < w->lane_count; i++) {
		free(w->lane[i].use);
		free(w->lane[i].habit);
		free(w->lane[i].sock);
		for (unsigned row = 0; row < TURN_RELAYS_MAX; row++)
			free(w->lane[i].rest[row].ring);
		free(w->lane[i].inherited);
		free(w->lane[i].streams);
		free(w->lane[i].assoc.at);
	}
	free(w->lane);
	seal_ctx_fini(&w->seal);
	free(w->rows);
	free(w->touched);
	free(w->policy[0]);
	free(w->policy[1]);
	free(w->outbox.bytes);
	pending_end(w->pending);
	udp_arena_free(w->arena);
	udp_ring_free(w->down);
	udp_ring_free(w->up);
	free(w);
}

int
worker_run(int argc, char **argv)
{
	/* The descriptors are the supervisor's: without it there is nothing on these numbers. */
	unsigned index = index_of(argc, argv);
	struct worker *w = calloc(1, sizeof *w);

	log_init("worker", ROLE_WORKER, index, LOG_L_INFO);
	if (w == NULL || sodium_init() < 0)
		fatal(EX_OSERR, "start");
	log_sink_fd(CHILD_FD_LOG);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);	/* of a terminal: the supervisor decides */
	signal(SIGTERM, SIG_IGN);
	w->index = index;
	w->control = CHILD_FD_CONTROL;
	worker_start(w);
	events_run(w);
	path_flush(w);
	worker_free(w);
	return EX_OK;
}
