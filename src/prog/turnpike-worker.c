/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * turnpike-worker: relays.  Started by turnpiked.
 */
#include "config.h"

#include "tp/worker.h"

int
main(int argc, char **argv)
{
	return worker_run(argc, argv);
}
