/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tune: which engine a worker uses and which processor it runs on; chosen once, before the sandbox.
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
		for (unsigned row = 0; row < CONF_LISTENERS_MAX; row++)
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

/* The n-th processor of a set, counted round. */
static int
nth(const cpu_set_t *set, unsigned n)
{
	unsigned count = (unsigned)CPU_COUNT(set);

	if (count == 0)
		return -1;
	n %= count;
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, set) && n-- == 0)
			return cpu;
	return -1;
}

void
tune_cpu(struct worker *w, const char *affinity, uint64_t workers)
{
	cpu_set_t allowed, one;
	uint16_t list[CONF_CPUS_MAX];
	unsigned n = 0;
	int cpu = -1;

	w->stat->cpu = -1;
	if (sched_getaffinity(0, sizeof allowed, &allowed) < 0)
		return;
	if (strcmp(affinity, "auto") == 0) {
		/* With fewer workers than processors the scheduler knows better which of them are idle. */
		if (workers == 0 || workers >= (uint64_t)CPU_COUNT(&allowed))
			cpu = nth(&allowed, w->index);
	} else if (strcmp(affinity, "none") != 0 && conf_cpus(affinity, list, &n)) {
		cpu = list[w->index % n];
	}
	if (cpu < 0 || cpu >= CPU_SETSIZE)
		return;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	if (sched_setaffinity(0, sizeof one, &one) < 0) {
		log_warn("io.cpu_affinity: processor %d", cpu);
		return;
	}
	w->stat->cpu = cpu;
}
