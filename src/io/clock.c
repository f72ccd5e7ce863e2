/* SPDX-License-Identifier: BSD-3-Clause */
/* clock.c: the two clocks. */
#include "config.h"

#include <time.h>

#include "tp/io.h"

tp_ms
clock_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (tp_ms)ts.tv_sec * 1000u + (tp_ms)ts.tv_nsec / 1000000u;
}

int64_t
clock_unix(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec;
}
