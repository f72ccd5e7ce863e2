/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hostqueue.c: how evenly the kernel's own receive queues are used: the backlog of each processor while
 * packets flow, and the receive queues of network devices since boot.
 */
#include "config.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load_int.h"

#define IRQS_MAX 512

/* ---- per processor --------------------------------------------------------------------------- */

bool
host_softnet(struct host_queues *q, const char *root)
{
	char path[PATH_MAX], line[512];
	FILE *f;

	memset(q, 0, sizeof *q);
	snprintf(path, sizeof path, "%s/proc/net/softnet_stat", root);
	f = fopen(path, "re");
	if (f == NULL)
		return false;
	/* Hexadecimal: packets, those dropped for a full backlog, ...; one line a processor. */
	while (q->cpus < HOST_CPUS && fgets(line, sizeof line, f) != NULL)
		if (sscanf(line, "%x %x", &q->packets[q->cpus], &q->dropped[q->cpus]) == 2)
			q->cpus++;
	fclose(f);
	return q->cpus > 0;
}

void
host_softnet_row(struct host *h, const struct host_queues *before, const struct host_queues *after)
{
	uint64_t sum = 0, dropped = 0;
	uint32_t most = 0;
	unsigned used = 0;
	char name[80];

	for (unsigned i = 0; i < after->cpus && i < before->cpus; i++) {
		uint32_t n = after->packets[i] - before->packets[i]; /* they wrap */

		sum += n;
		dropped += after->dropped[i] - before->dropped[i];
		used += n > 0;
		most = n > most ? n : most;
	}
	if (sum == 0)
		return;
	snprintf(name, sizeof name, "%u of %u processors used, %llu dropped", used, after->cpus,
	    (unsigned long long)dropped);
	host_row(h, "rx queues", name, 0, 0, "busiest/mean", (double)most * after->cpus / (double)sum);
}

/* ---- devices --------------------------------------------------------------------------------- */

static unsigned
receive_queues(const char *root, const char *device)
{
	char path[PATH_MAX];
	struct dirent *e;
	unsigned n = 0;
	DIR *d;

	snprintf(path, sizeof path, "%s/sys/class/net/%s/queues", root, device);
	d = opendir(path);
	while (d != NULL && (e = readdir(d)) != NULL)
		n += strncmp(e->d_name, "rx-", 3) == 0;
	if (d != NULL)
		closedir(d);
	return n;
}

/* Numbers of the interrupts of a device; a virtio device's are its parent's. */
static unsigned
interrupts_of(const char *root, const char *device, unsigned irq[IRQS_MAX])
{
	static const char *const where[] = { "device/msi_irqs", "device/../msi_irqs" };
	char path[PATH_MAX];
	struct dirent *e;
	unsigned n = 0;

	for (unsigned i = 0; n == 0 && i < TP_COUNT(where); i++) {
		DIR *d;

		snprintf(path, sizeof path, "%s/sys/class/net/%s/%s", root, device, where[i]);
		d = opendir(path);
		while (d != NULL && (e = readdir(d)) != NULL && n < IRQS_MAX)
			if (sscanf(e->d_name, "%u", &irq[n]) == 1)
				n++;
		if (d != NULL)
			closedir(d);
	}
	return n;
}

/* Does this interrupt tell of received packets?  By the names that drivers give: eth0-rx-0,
 * ens5-TxRx-3, virtio0-input.1. */
static bool
receives(const char *line)
{
	static const char *const names[] = { "rx", "Rx", "RX", "input", "comp" };

	for (unsigned i = 0; i < TP_COUNT(names); i++)
		if (strstr(line, names[i]) != NULL)
			return true;
	return false;
}

struct queue_use {
	unsigned queues;
	uint64_t sum, most;
};

/* " 38:   0   6636   PCI-MSIX-...   2-edge   virtio2-input.0": a number for each processor, then words. */
static void
add_interrupt(struct queue_use *u, const char *line, const unsigned *irq, unsigned n)
{
	uint64_t count = 0;
	unsigned number;
	char *p;

	if (sscanf(line, "%u:", &number) != 1 || !receives(line))
		return;
	while (n > 0 && irq[n - 1] != number)
		n--;
	if (n == 0)
		return;
	p = strchr(line, ':') + 1;
	for (;;) {
		char *end;
		unsigned long long v = strtoull(p, &end, 10);

		if (end == p || (*end != ' ' && *end != '\t'))
			break;
		count += v;
		p = end;
	}
	u->queues++;
	u->sum += count;
	u->most = count > u->most ? count : u->most;
}

static void
device(struct host *h, const char *root, const char *name)
{
	unsigned irq[IRQS_MAX], n = interrupts_of(root, name, irq), rx = receive_queues(root, name);
	struct queue_use u = { 0 };
	char path[PATH_MAX], line[4096], what[128];
	FILE *f;

	snprintf(path, sizeof path, "%s/proc/interrupts", root);
	f = fopen(path, "re");
	while (f != NULL && n > 0 && fgets(line, sizeof line, f) != NULL)
		add_interrupt(&u, line, irq, n);
	if (f != NULL)
		fclose(f);
	snprintf(what, sizeof what, "%.32s: %u queue%s%s", name, rx, rx == 1 ? "" : "s",
	    u.sum > 0 ? ", interrupts since boot" : "");
	host_row(h, "rx queues", what, 0, 0, u.sum > 0 ? "busiest/mean" : NULL,
	    u.sum > 0 ? (double)u.most * u.queues / (double)u.sum : 0);
}

void
host_devices(struct host *h, const char *root)
{
	char path[PATH_MAX];
	struct dirent **e;
	int n;

	snprintf(path, sizeof path, "%s/sys/class/net", root);
	n = scandir(path, &e, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		if (e[i]->d_name[0] != '.' && strcmp(e[i]->d_name, "lo") != 0)
			device(h, root, e[i]->d_name);
		free(e[i]);
	}
	if (n >= 0)
		free(e);
}
