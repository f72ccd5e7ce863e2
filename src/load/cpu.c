/* SPDX-License-Identifier: BSD-3-Clause */
/* cpu.c: user and system time of other processes, from /proc. */
#include "config.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "load_int.h"

struct proc {
	int pid, parent;
	unsigned long long ticks;
};

/* The name in parentheses may hold anything, so the fields are counted from the last ')'. */
static bool
read_stat(int pid, struct proc *p)
{
	char path[64], line[1024], *rest;
	unsigned long long t[4];
	size_t n;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (f == NULL)
		return false;
	n = fread(line, 1, sizeof line - 1, f);
	fclose(f);
	line[n] = '\0';
	rest = strrchr(line, ')');
	if (rest == NULL ||
	    sscanf(rest + 1, " %*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %llu %llu", &p->parent,
		&t[0], &t[1], &t[2], &t[3]) != 5)
		return false;
	p->pid = pid;
	p->ticks = t[0] + t[1] + t[2] + t[3];
	return true;
}

static struct proc *
all(size_t *count)
{
	struct proc *list = NULL;
	size_t n = 0, room = 0;
	struct dirent *e;
	DIR *d = opendir("/proc");

	while (d != NULL && (e = readdir(d)) != NULL) {
		int pid = atoi(e->d_name);

		if (pid <= 0)
			continue;
		if (n == room) {
			struct proc *more = realloc(list, (room = room * 2 + 256) * sizeof *more);

			if (more == NULL)
				break;
			list = more;
		}
		if (read_stat(pid, &list[n]))
			n++;
	}
	if (d != NULL)
		closedir(d);
	*count = n;
	return list;
}

static bool
is_root(const struct cpu_set *s, int pid)
{
	for (unsigned i = 0; i < s->count; i++)
		if (s->roots[i] == pid)
			return true;
	return false;
}

static bool
belongs(const struct cpu_set *s, const struct proc *list, size_t n, const struct proc *p)
{
	int pid = p->pid, parent = p->parent;

	for (unsigned depth = 0; depth < 32; depth++) {
		size_t i;

		if (is_root(s, pid))
			return true;
		if (!s->tree || parent <= 1)
			return false;
		for (i = 0; i < n && list[i].pid != parent; i++)
			;
		if (i == n)
			return false;
		pid = parent;
		parent = list[i].parent;
	}
	return false;
}

static double
sum(const struct cpu_set *s, unsigned *count)
{
	unsigned long long ticks = 0;
	struct proc *list, one;
	size_t n;

	*count = 0;
	if (!s->tree) {
		for (unsigned i = 0; i < s->count; i++)
			if (read_stat(s->roots[i], &one)) {
				ticks += one.ticks;
				++*count;
			}
	} else {
		list = all(&n);
		for (size_t i = 0; i < n; i++)
			if (belongs(s, list, n, &list[i])) {
				ticks += list[i].ticks;
				++*count;
			}
		free(list);
	}
	return (double)ticks * 1e6 / (double)sysconf(_SC_CLK_TCK);
}

double
cpu_used_us(const struct cpu_set *s)
{
	unsigned n;

	return s->count == 0 ? 0 : sum(s, &n);
}

unsigned
cpu_processes(const struct cpu_set *s)
{
	unsigned n = 0;

	if (s->count > 0)
		sum(s, &n);
	return n;
}

double
cpu_self_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}
