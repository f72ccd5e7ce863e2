/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cpus.c: lists of processors, "0,2-5"; which of them a worker runs on.
 */
#include "config.h"

#include <limits.h>

#include "tp/conf.h"

static bool
take_cpu(const char **text, unsigned *out)
{
	const char *s = *text;
	unsigned v = 0;

	if (*s < '0' || *s > '9')
		return false;
	for (; *s >= '0' && *s <= '9'; s++) {
		v = v * 10 + (unsigned)(*s - '0');
		if (v >= CONF_CPUS_MAX)
			return false;
	}
	*text = s;
	*out = v;
	return true;
}

bool
conf_cpus(const char *text, uint16_t list[CONF_CPUS_MAX], unsigned *n)
{
	unsigned low, high;

	for (*n = 0;; text++) {
		if (!take_cpu(&text, &low))
			return false;
		high = low;
		if (*text == '-') {
			text++;
			if (!take_cpu(&text, &high) || high < low)
				return false;
		}
		for (; low <= high; low++) {
			if (*n == CONF_CPUS_MAX)
				return false;
			list[(*n)++] = (uint16_t)low;
		}
		if (*text != ',')
			return *text == '\0';
	}
}

/* ---- nodes of memory ------------------------------------------------------------------------- */

static bool
read_node(const char *root, unsigned id, struct conf_node *node)
{
	char path[PATH_MAX], line[4096] = "";
	uint16_t list[CONF_CPUS_MAX];
	unsigned n;
	FILE *f;

	snprintf(path, sizeof path, "%s/sys/devices/system/node/node%u/cpulist", root, id);
	f = fopen(path, "re");
	if (f == NULL)
		return false;
	if (fgets(line, sizeof line, f) != NULL)
		line[strcspn(line, "\n")] = '\0';
	fclose(f);
	if (!conf_cpus(line, list, &n)) /* also a node of memory alone */
		return false;
	node->id = id;
	CPU_ZERO(&node->cpus);
	for (unsigned i = 0; i < n; i++)
		CPU_SET(list[i], &node->cpus);
	return true;
}

unsigned
conf_nodes(const char *root, struct conf_node node[CONF_NODES_MAX])
{
	unsigned n = 0;

	for (unsigned id = 0; id < CONF_NODES_MAX; id++)
		n += read_node(root, id, &node[n]);
	return n;
}

/* ---- where a worker runs --------------------------------------------------------------------- */

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

static void
place_at(struct conf_place *p, int cpu, const struct conf_node *node, unsigned nodes)
{
	if (cpu < 0 || cpu >= CPU_SETSIZE)
		return;
	p->pinned = true;
	p->cpu = cpu;
	CPU_SET(cpu, &p->cpus);
	for (unsigned i = 0; nodes > 1 && i < nodes; i++)
		if (CPU_ISSET(cpu, &node[i].cpus))
			p->node = (int)node[i].id;
}

/*
 * Fewer workers than processors: the scheduler knows better which of them are idle, but a worker that it
 * carries to another node leaves its memory behind.  So each gets all processors of one node; the nodes
 * take turns, none with more workers than processors.
 */
static void
place_node(struct conf_place *p, unsigned index, const cpu_set_t *allowed, const struct conf_node *node,
    unsigned nodes)
{
	cpu_set_t set[CONF_NODES_MAX];
	int room[CONF_NODES_MAX], total = 0;
	unsigned at = nodes - 1, with = 0;

	for (unsigned i = 0; i < nodes; i++) {
		CPU_AND(&set[i], &node[i].cpus, allowed);
		total += room[i] = CPU_COUNT(&set[i]);
		with += room[i] > 0;
	}
	if (with < 2 || index >= (unsigned)total)
		return;
	for (unsigned k = 0; k <= index; k++) {
		do
			at = (at + 1) % nodes;
		while (room[at] == 0);
		room[at]--;
	}
	p->pinned = true;
	p->cpus = set[at];
	p->node = (int)node[at].id;
}

void
conf_place(struct conf_place *p, const char *affinity, uint64_t workers, unsigned index,
    const cpu_set_t *allowed, const struct conf_node *node, unsigned nodes)
{
	uint16_t list[CONF_CPUS_MAX];
	unsigned n = 0;

	*p = (struct conf_place){ .cpu = -1, .node = -1 };
	if (strcmp(affinity, "auto") == 0) {
		if (workers == 0 || workers >= (uint64_t)CPU_COUNT(allowed))
			place_at(p, nth(allowed, index), node, nodes);
		else if (nodes > 1)
			place_node(p, index, allowed, node, nodes);
	} else if (strcmp(affinity, "none") != 0 && conf_cpus(affinity, list, &n)) {
		place_at(p, list[index % n], node, nodes);
	}
}
