/* SPDX-License-Identifier: BSD-3-Clause */
/* script.h: a scenario while it is played. */
#ifndef SCRIPT_H
#define SCRIPT_H

#include "client.h"

#define CLIENTS_MAX 16

struct script {
	const char *file;
	unsigned line;
	struct world *w;
	struct client client[CLIENTS_MAX];
	unsigned clients;
	enum turn_act act; /* of the last input */
	struct turn_out out;
	struct client *who;      /* that the last input was from or for */
	uint8_t sent[WORLD_BUF]; /* what the last client sent */
	size_t sent_len;
	struct stun_msg msg; /* of out, when it is STUN */
	bool is_stun;
	uint8_t copy[WORLD_BUF], before[WORLD_BUF]; /* what went out, and the answer before that */
	size_t copy_len, before_len;
	bool failed;
};

void script_fail(struct script *s, const char *what, const char *detail);
/* expect.c: the lines that judge the last input */
void script_expect(struct script *s, const struct words *l);
void script_count(struct script *s, const struct words *l);

#endif
