/* SPDX-License-Identifier: BSD-3-Clause */
/* turnpike-admin.c: logs, control socket, metrics.  Started by turnpiked. */
#include "config.h"

#include <sys/prctl.h>

#include "tp/admin.h"

int
main(int argc, char **argv)
{
	(void)prctl(PR_SET_NAME, "turnpike-admin"); /* started by descriptor, it has that number as name */
	return admin_main(argc, argv);
}
