/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cmd_doctor.c: what `turnpikectl doctor` must know of the running daemon; it judges by itself, with the
 * rights of its user (turnpike-admin may not read /proc).
 */
#include "config.h"

#include <stdlib.h>

#include "admin_int.h"

int
cmd_doctor(struct job *j)
{
	const struct view *v = j->view;
	json_t *o;
	char *hex;

	if (j->argc != 0 || !j->as_json)
		return job_say(j, CTL_USAGE, "doctor: turnpikectl's part is missing: an older one?");
	if (v->conf == NULL)
		return job_say(j, CTL_REFUSED, "no configuration");
	hex = malloc(2 * sizeof *v->conf + 1);
	if (hex == NULL)
		return job_say(j, CTL_REFUSED, "out of memory");
	text_hex(hex, v->conf, sizeof *v->conf);
	o = json_pack("{s:o, s:o, s:s}", "status", status_data(j->view, j->now), "counters",
	    counters_data(v, false), "configuration", hex);
	free(hex);
	return job_data(j, CTL_OK, o, NULL);
}
