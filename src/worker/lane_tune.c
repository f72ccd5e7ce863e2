/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lane_tune.c: which engine a worker uses and which processor it runs on; chosen once, before the sandbox.
 */
#include "config.h"

#include <errno.h>
#include <sched.h>

#include "worker_int.h"

/* A listener of any row, -1 when there is none: workers cannot make a socket to try things on. */
static int
some_listener(const struct worker *w)
{
	for (unsigned i = 0; i < w->lane_count; i++)
		for (unsigned row = 0; row < LISTENERS_MAX; row++)
			if (w->lane[i].listener[row] >= 0)
				return w->lane[i].listener[row];
	return -1;
}

void
tune_engine(struct worker *w, uint32_t wanted)
{
	int fd = some_listener(w);

	switch ((enum conf_engine)wanted) {
	case CONF_ENGINE_PLAIN:
		w->engine = &udp_engine_plain;
		break;
	case CONF_ENGINE_MMSG:
		w->engine = &udp_engine_mmsg;
		break;
	case CONF_ENGINE_GSO:
	case CONF_ENGINE_AUTO:
		w->engine = fd >= 0 && udp_probe_gso(fd) ? &udp_engine_gso : &udp_engine_mmsg;
		if (fd >= 0 && wanted == CONF_ENGINE_GSO && w->engine != &udp_engine_gso)
			log_warnx("io.engine: this kernel has no UDP_GRO or UDP_SEGMENT: mmsg instead");
		break;
	}
	(void)text_copy(w->stat->engine, sizeof w->stat->engine, w->engine->name);
}

void
tune_cpu(struct worker *w, const char *affinity, uint64_t workers)
{
	struct conf_node node[CONF_NODES_MAX];
	struct conf_place place;
	cpu_set_t allowed;

	w->stat->cpu = -1;
	w->stat->node = 0;
	if (sched_getaffinity(0, sizeof allowed, &allowed) < 0)
		return;
	conf_place(&place, affinity, workers, w->index, &allowed, node, conf_nodes("", node));
	if (!place.pinned)
		return;
	if (sched_setaffinity(0, sizeof place.cpus, &place.cpus) < 0) {
		log_warn("io.cpu_affinity: processor %d", place.cpu >= 0 ? place.cpu : place.node);
		return;
	}
	w->stat->cpu = place.cpu;
	w->stat->node = (uint32_t)(place.node + 1);
}
