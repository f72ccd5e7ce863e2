/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crash.c: death at a marked place, for the crash tests.  Empty in production builds.
 */
#include "config.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "tp/shm.h"

#ifdef TP_CRASH_POINTS

static const char *armed_name;
static unsigned long armed_at;		/* passage to die at; 0: not armed */
static unsigned long named, all;	/* passages since crash_arm() */
#define NAMES_MAX 256
static struct crash_name names[NAMES_MAX];
static unsigned name_count;
static bool collecting;

void
crash_arm(const char *name, unsigned long passage)
{
	armed_name = name;
	armed_at = passage;
	named = all = 0;
	name_count = 0;
}

unsigned long
crash_count(void)
{
	return all;
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
	all++;
	if (collecting)
		collect(name);
	if (armed_name != NULL && strcmp(armed_name, name) != 0)
		return;
	named++;
	if (armed_at != 0 && named == armed_at) {
		kill(getpid(), SIGKILL);
		for (;;)
			pause();
	}
}

#else

typedef int crash_points_are_off;	/* a translation unit must not be empty */

#endif
