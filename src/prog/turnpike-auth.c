/* SPDX-License-Identifier: BSD-3-Clause */
/* turnpike-auth.c: holds users and secrets.  Started by turnpiked. */
#include "config.h"

#include <sys/prctl.h>

#include "tp/authd.h"

int
main(int argc, char **argv)
{
	(void)prctl(PR_SET_NAME, "turnpike-auth"); /* started by descriptor, it has that number as name */
	return authd_main(argc, argv);
}
