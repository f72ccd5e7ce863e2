/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctl_local.h: what turnpikectl does by itself.
 */
#ifndef TP_CTL_LOCAL_H
#define TP_CTL_LOCAL_H

#include <jansson.h>

#include "tp/admin.h"

struct command_line {
	const char *runtime_dir;
	bool json;
	int argc;
	char *argv[CTL_WORDS_MAX];
};

/* Asks turnpike-admin one command without arguments.  -1 and *answer (the caller's), or the exit code
 * after a sentence. */
int ctl_ask_json(const struct command_line *c, const char *command, json_t **answer);
/* A sentence on stderr, or { "error": ... } on stdout; the code again. */
int ctl_fail(bool json, int code, const char *fmt, ...) TP_PRINTF(3, 4);
int ctl_top(const struct command_line *c);    /* ctl_top.c; the exit code */
int ctl_passwd(const struct command_line *c); /* ctl_passwd.c; the exit code */

#endif
