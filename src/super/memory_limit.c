/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * memory_limit.c: the memory limit of a control group (a container, MemoryMax=).
 *
 * At the limit the kernel kills processes, and sessions are in memory that belongs to none of them: a
 * death frees nothing.  So new allocations are refused while less than an eighth of the limit, and at
 * least 4 MiB, is left.  Page cache is not counted: the kernel takes it back.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "super_int.h"

#define LOOK_MS     250
#define RESERVE_MIN (4u << 20)
#define NO_LIMIT    (UINT64_C(1) << 60) /* what version 1 has for none is a little less than 2^63 */

struct version {
	const char *controller; /* in /proc/self/cgroup */
	const char *mounts[2];
	const char *limit, *usage, *cache, *shmem;
};
static const struct version versions[] = {
	{ ":memory:", { "/sys/fs/cgroup/memory", NULL }, "memory.limit_in_bytes", "memory.usage_in_bytes",
	    "total_cache ", "total_shmem " },
	{ "0::", { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" }, "memory.max", "memory.current", "file ",
	    "shmem " },
};

static ssize_t
read_at(int fd, char *text, size_t len)
{
	ssize_t n = fd < 0 ? -1 : pread(fd, text, len - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return n;
}

static int
open_in(const char *root, const char *mount, const char *group, const char *name)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof path, "%s%s%s/%s", root, mount, group, name) >= (int)sizeof path)
		return -1;
	return open(path, O_RDONLY | O_CLOEXEC);
}

static uint64_t
number_in(int fd)
{
	char text[64];

	return read_at(fd, text, sizeof text) > 0 && text[0] >= '0' && text[0] <= '9'
	    ? strtoull(text, NULL, 10)
	    : UINT64_MAX;
}

static void
forget(struct memory_limit *m)
{
	if (m->usage_fd >= 0)
		close(m->usage_fd);
	if (m->stat_fd >= 0)
		close(m->stat_fd);
	*m = (struct memory_limit){ .usage_fd = -1, .stat_fd = -1 };
}

/* The limit of this group, when it is the lowest so far. */
static void
look_at(
    struct memory_limit *m, const char *root, const char *mount, const char *group, const struct version *v)
{
	int fd = open_in(root, mount, group, v->limit);
	uint64_t limit = number_in(fd);

	if (fd >= 0)
		close(fd);
	if (limit >= NO_LIMIT || (m->limit != 0 && limit >= m->limit))
		return;
	forget(m);
	m->usage_fd = open_in(root, mount, group, v->usage);
	m->stat_fd = open_in(root, mount, group, "memory.stat");
	m->cache = v->cache;
	m->shmem = v->shmem;
	m->limit = limit;
}

/* A limit holds for all groups below it.  A container may see its own group as the top, under another
 * path. */
static void
look_up(struct memory_limit *m, const char *root, const char *mount, char *group, const struct version *v)
{
	for (;;) {
		char *slash = strrchr(group, '/');
		if (strcmp(group, "/") == 0)
			group[0] = '\0';
		look_at(m, root, mount, group, v);
		if (slash == NULL || group[0] == '\0')
			return;
		*slash = '\0';
	}
}

void
memory_limit_find(struct memory_limit *m, const char *root)
{
	char text[4096], group[PATH_MAX];
	int fd = open_in(root, "/proc/self", "", "cgroup");
	ssize_t n = read_at(fd, text, sizeof text);

	if (fd >= 0)
		close(fd);
	*m = (struct memory_limit){ .usage_fd = -1, .stat_fd = -1 };
	for (unsigned i = 0; n > 0 && i < TP_COUNT(versions); i++) {
		const char *at = strstr(text, versions[i].controller);
		for (unsigned k = 0; at != NULL && k < 2 && versions[i].mounts[k] != NULL; k++) {
			const char *from = at + strlen(versions[i].controller);
			snprintf(group, sizeof group, "%.*s", (int)strcspn(from, "\n"), from);
			look_up(m, root, versions[i].mounts[k], group, &versions[i]);
		}
	}
	if (m->usage_fd < 0) {
		forget(m);
		return;
	}
	m->refuse = m->limit / 8 < RESERVE_MIN ? RESERVE_MIN : m->limit / 8;
	m->refuse = m->limit > m->refuse ? m->limit - m->refuse : 0;
}

static uint64_t
row_of(const char *text, const char *name)
{
	size_t len = strlen(name);

	for (const char *at = text; at != NULL && *at != '\0'; at = strchr(at, '\n')) {
		at += *at == '\n';
		if (strncmp(at, name, len) == 0)
			return strtoull(at + len, NULL, 10);
	}
	return 0;
}

static uint64_t
used_of(const struct memory_limit *m)
{
	uint64_t used = number_in(m->usage_fd), cache, shmem;
	char text[8192];

	if (used == UINT64_MAX)
		return 0;
	(void)read_at(m->stat_fd, text, sizeof text);
	cache = row_of(text, m->cache);
	shmem = row_of(text, m->shmem); /* it counts as cache, and cannot be taken back */
	cache = cache > shmem ? cache - shmem : 0;
	return used > cache ? used - cache : 0;
}

/* ---- the supervisor's -------------------------------------------------------------------------- */

static void
change(struct super *s, bool on, uint64_t used)
{
	const struct memory_limit *m = &s->memory;

	s->memory_short = on;
	if (on)
		log_warnx(
		    "memory: %llu of %llu MiB that the control group may have are used: new allocations are refused; raise the "
		    "limit, or lower limits.allocations_total",
		    (unsigned long long)(used >> 20), (unsigned long long)(m->limit >> 20));
	else
		log_info("memory: %llu of %llu MiB are used: new allocations are served again",
		    (unsigned long long)(used >> 20), (unsigned long long)(m->limit >> 20));
	super_tell_drain(s);
}

void
super_memory_step(struct super *s, tp_ms now)
{
	const struct memory_limit *m = &s->memory;
	uint64_t used;

	if (m->limit == 0 || now < s->memory_due)
		return;
	s->memory_due = now + LOOK_MS;
	used = used_of(m);
	if (!s->memory_short && used > m->refuse)
		change(s, true, used);
	else if (s->memory_short && used < m->refuse - m->refuse / 32)
		change(s, false, used);
}

void
super_memory_tell(const struct super *s)
{
	const struct memory_limit *m = &s->memory;

	if (m->limit == 0)
		return;
	log_info(
	    "memory: the control group may have %llu MiB, %llu are used: new allocations are refused above %llu MiB",
	    (unsigned long long)(m->limit >> 20), (unsigned long long)(used_of(m) >> 20),
	    (unsigned long long)(m->refuse >> 20));
}
