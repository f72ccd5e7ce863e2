/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crash.c: death at a marked place, for the crash tests.  Empty in production builds.
 *
 * A process is told where to die by crash_arm(), or from outside: by a file "crash-orders" beside its
 * program, mapped before main() because a worker gives up all files later.  Its rows are a test's to
 * write at any time.
 */
#include "config.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tp/shm.h"

#ifdef TP_CRASH_POINTS

static const char *armed_name;
static unsigned long armed_at;   /* passage to die at; 0: not armed */
static unsigned long named, all; /* passages since crash_arm() */
#define NAMES_MAX 256
static struct crash_name names[NAMES_MAX];
static unsigned name_count;
static bool collecting;

/* tests/lib/marked.py writes these. */
#define ORDERS 8
struct order {
	_Atomic uint32_t left; /* passages until a death, of all processes together; 0: none */
	_Atomic uint32_t dead; /* the process that died of it */
	char name[24];
};
_Static_assert(sizeof(struct order) == 32, "what the tests write");
static struct order *orders;

static void __attribute__((constructor)) map_orders(void)
{
	char path[PATH_MAX + 16];
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX);
	char *slash;
	void *p;
	int fd;

	if (n <= 0 || n >= PATH_MAX)
		return;
	path[n] = '\0';
	if ((slash = strrchr(path, '/')) == NULL)
		return;
	snprintf(slash + 1, 16, "crash-orders");
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	p = mmap(NULL, ORDERS * sizeof *orders, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p != MAP_FAILED)
		orders = p;
	close(fd);
}

/* True for the process that is to die. */
static bool
last_passage(struct order *o)
{
	uint32_t left = atomic_load_explicit(&o->left, memory_order_relaxed);

	while (left > 0)
		if (atomic_compare_exchange_weak(&o->left, &left, left - 1))
			return left == 1;
	return false;
}

static void __attribute__((noreturn)) die(void)
{
	raise(SIGKILL); /* not kill(): a worker may signal only itself */
	for (;;)
		pause();
}

void
crash_arm(const char *name, unsigned long passage)
{
	armed_name = name;
	armed_at = passage;
	named = all = 0;
	name_count = 0;
}

void
crash_collect(bool on)
{
	collecting = on;
	name_count = 0;
}

unsigned
crash_names(struct crash_name *out, unsigned max)
{
	unsigned n = name_count < max ? name_count : max;

	memcpy(out, names, n * sizeof *out);
	return n;
}

static void
collect(const char *name)
{
	unsigned i = 0;

	while (i < name_count && strcmp(names[i].name, name) != 0)
		i++;
	if (i == NAMES_MAX)
		return;
	if (i == name_count)
		names[name_count++] = (struct crash_name){ .name = name };
	names[i].passed++;
}

void
crash_point(const char *name)
{
	for (unsigned i = 0; orders != NULL && i < ORDERS; i++)
		if (atomic_load_explicit(&orders[i].left, memory_order_acquire) > 0 &&
		    strcmp(orders[i].name, name) == 0 && last_passage(&orders[i])) {
			atomic_store(&orders[i].dead, (uint32_t)getpid());
			die();
		}
	all++;
	if (collecting)
		collect(name);
	if (armed_name != NULL && strcmp(armed_name, name) != 0)
		return;
	named++;
	if (armed_at != 0 && named == armed_at)
		die();
}

#else

typedef int crash_points_are_off; /* a translation unit must not be empty */

#endif
