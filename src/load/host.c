/* SPDX-License-Identifier: BSD-3-Clause */
/* host: what this machine's UDP stack does with no server in the way. */
#include "config.h"

#include <sysexits.h>

#include "load_int.h"

int
host_run(const struct load_options *o)
{
	(void)o;
	fatal(EX_USAGE, "host: not here yet");
}
