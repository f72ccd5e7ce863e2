/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * turnpike-steward: logs, control socket, metrics.  Started by turnpiked.
 */
#include "config.h"

#include <sys/prctl.h>

#include "tp/ctl.h"

int
main(int argc, char **argv)
{
	(void)prctl(PR_SET_NAME, "turnpike-steward");	/* started by descriptor, it has that number as name */
	return steward_main(argc, argv);
}
