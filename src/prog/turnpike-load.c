/* SPDX-License-Identifier: BSD-3-Clause */
/* turnpike-load.c: load generator and prober for TURN servers. */
#include "config.h"

#include "tp/load.h"

int
main(int argc, char **argv)
{
	struct load_options o;

	log_init("load", 0, 0, LOG_L_INFO);
	load_options_parse(&o, argc, argv);
	return load_run(&o);
}
