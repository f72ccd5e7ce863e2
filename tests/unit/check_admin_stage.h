/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_admin_stage.h: the test plays the supervisor and a worker; these are its properties.
 */
#ifndef CHECK_ADMIN_STAGE_H
#define CHECK_ADMIN_STAGE_H

#include <jansson.h>
#include <stdio.h>
#include <sys/types.h>

#include "check_admin.h"
#include "tp/conf.h"
#include "tp/admin.h"
#include "tp/io.h"
#include "tp/authd.h"
#include "tp/ledger.h"

#define SLOTS    64
#define SECRET   "a-secret-that-is-long-enough"
#define RELAY_FD 700
#define CONN_FD  702

struct play {
	char dir[32];
	pid_t authd, admin;
	int authd_control, admin_control, worker[2], ctl_authd[2], log[2], conf_fd;
	struct region {
		int rw, ro;
	} stat[4], shard, cross, ledger_fd; /* stat: worker, turnpike-auth, turnpike-admin, super */
	struct ledger *ledger;
	struct stats *worker_stat;
	struct shard s;
	struct cross c;
	struct session *x;
	unsigned http_port;
};
extern struct play play;

int play_memfd_of(const void *bytes, size_t len);
int play_users_fd(const char *password);
int play_conf_fd(uint64_t generation);
union msg play_expect(int sock, unsigned from, unsigned to, uint32_t type);
void play_send_ok(int sock, const void *m, int fd);
void play_start_admin(void);
void play_setup(void);
void play_teardown(void);
char *play_slurp(FILE *f);
char *play_ctl(const char *words, int *code);
void play_expect_text(const char *words, int code, const char *part);
json_t *play_expect_json(const char *words, int code);

#endif
