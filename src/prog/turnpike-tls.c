/* SPDX-License-Identifier: BSD-3-Clause */
/* turnpike-tls.c: TLS and DTLS handshakes.  Started by turnpiked. */
#include "config.h"

#include <sys/prctl.h>

#include "tp/tlsd.h"

int
main(int argc, char **argv)
{
	(void)prctl(PR_SET_NAME, "turnpike-tls"); /* started by descriptor, it has that number as name */
	return tlsd_main(argc, argv);
}
