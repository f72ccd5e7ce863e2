/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * turnpike-keeper: holds users and secrets.  Started by turnpiked.
 */
#include "config.h"

#include "tp/keep.h"

int
main(int argc, char **argv)
{
	return keeper_main(argc, argv);
}
