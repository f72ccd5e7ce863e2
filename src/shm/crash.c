/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crash.c: death at a marked place, for the crash tests.  Empty in production builds.
 */
#include "config.h"

#include <signal.h>
#include <unistd.h>

#include "tp/shm.h"

#ifdef TP_CRASH_POINTS

static const char *armed_name;
static unsigned long armed_at;		/* passage to die at; 0: not armed */
static unsigned long named, all;	/* passages since crash_arm() */

void
crash_arm(const char *name, unsigned long passage)
{
	armed_name = name;
	armed_at = passage;
	named = all = 0;
}

unsigned long
crash_count(void)
{
	return all;
}

void
crash_point(const char *name)
{
	all++;
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
