/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * turnpike-steward: logs, control socket, metrics.  Started by turnpiked.
 */
#include "config.h"

#include "tp/ctl.h"

int
main(int argc, char **argv)
{
	return steward_main(argc, argv);
}
