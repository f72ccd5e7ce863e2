/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * turnpike-keeper: holds users and secrets.  Started by turnpiked.
 */
#include "config.h"

#include <sys/prctl.h>

#include "tp/keep.h"

int
main(int argc, char **argv)
{
	(void)prctl(PR_SET_NAME, "turnpike-keeper");	/* started by descriptor, it has that number as name */
	return keeper_main(argc, argv);
}
