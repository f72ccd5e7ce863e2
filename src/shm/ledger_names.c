/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ledger_names.c: names of the states of processes in the ledger.
 */
#include "config.h"

#include "tp/ledger.h"

static const char *const state_names[] = {
	[CHILD_NONE] = "none",
	[CHILD_STARTING] = "starting",
	[CHILD_READY] = "ready",
	[CHILD_STOPPING] = "stopping",
	[CHILD_BACKOFF] = "backoff",
	[CHILD_PARKED] = "parked",
};

const char *
child_state_name(unsigned s)
{
	return s < TP_COUNT(state_names) ? state_names[s] : "unknown";
}
