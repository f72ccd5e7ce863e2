/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * turnpike-usher: TLS and DTLS handshakes.  Started by turnpiked.
 */
#include "config.h"

#include <sys/prctl.h>

#include "tp/usher.h"

int
main(int argc, char **argv)
{
	(void)prctl(PR_SET_NAME, "turnpike-usher");	/* started by descriptor, it has that number as name */
	return usher_main(argc, argv);
}
