/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crash_state.c: deaths of workers between any two stores of shared state.
 *
 *   crash_state [script | points | kills | evil]      all of them by default
 *
 * TP_CONTROL=1: kills without replay of the redo record, which the audit must notice sooner or later.
 * TP_SCRIPTS: how often each passage of a marked point is died at (1; make soak: 100); TP_POINTS: how
 * often each marked point is died at, each time in another state (10; make check-crash: 100; make soak:
 * 1000); TP_KILLS: random kills (300); TP_SEED: the seed, printed otherwise; TP_ROUNDS: of evil (300).
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "crash.h"

static uint64_t
number(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text != NULL && *text != '\0' ? strtoull(text, NULL, 0) : otherwise;
}

int
main(int argc, char **argv)
{
	struct timespec t;
	uint64_t seed;
	unsigned kills = (unsigned)number("TP_KILLS", 300), rounds = (unsigned)number("TP_ROUNDS", 300);
	const char *what = argc > 1 ? argv[1] : "";

	clock_gettime(CLOCK_REALTIME, &t);
	seed = number("TP_SEED", (uint64_t)t.tv_nsec ^ (uint64_t)t.tv_sec << 20);
	printf("seed: TP_SEED=%llu\n", (unsigned long long)seed);
	for (uint64_t n = number("TP_SCRIPTS", 1); n > 0 && (*what == '\0' || strcmp(what, "script") == 0);
	     n--)
		script_run();
	if (*what == '\0' || strcmp(what, "points") == 0)
		points_run((unsigned)number("TP_POINTS", 10), seed);
	crash_control = number("TP_CONTROL", 0) != 0;
	if (*what == '\0' || strcmp(what, "kills") == 0)
		kills_run(kills, seed);
	crash_control = false;
	if (*what == '\0' || strcmp(what, "evil") == 0)
		evil_run(rounds, seed);
	return 0;
}
