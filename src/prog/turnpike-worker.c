/* SPDX-License-Identifier: BSD-3-Clause */
/* turnpike-worker.c: relays.  Started by turnpiked. */
#include "config.h"

#include <sys/prctl.h>

#include "tp/worker.h"

int
main(int argc, char **argv)
{
	(void)prctl(PR_SET_NAME, "turnpike-worker"); /* started by descriptor, it has that number as name */
	return worker_run(argc, argv);
}
