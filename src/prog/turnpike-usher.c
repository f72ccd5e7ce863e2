/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * turnpike-usher: TLS and DTLS handshakes.  Started by turnpiked.
 */
#include "config.h"

#include "tp/usher.h"

int
main(int argc, char **argv)
{
	return usher_main(argc, argv);
}
