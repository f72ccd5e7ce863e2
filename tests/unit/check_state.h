/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_state.h: a shard and a CROSS to test in, and the suites of room state.
 */
#ifndef TP_CHECK_STATE_H
#define TP_CHECK_STATE_H

#include <check.h>

#include "state_int.h"

#define NOW 1000000u /* ms */

extern struct shard shard, reader;
extern struct cross cross;

void setup_shard(uint32_t slot_max); /* sparse: large ones cost nothing */
void teardown_shard(void);
void setup_small(void); /* 64 slots */
struct addr addr4(uint32_t ip, uint16_t port);
struct addr addr6(uint32_t n, uint16_t port);
/* A slot filled for the n-th client, with sockets of its own. */
struct session *fill(unsigned n, uint64_t user);
struct session *open_session(unsigned n, uint64_t user);
/* Audit of everything while no process writes: no breach. */
void audit_clean(void);
unsigned audit_count(void);

Suite *suite_session(void);
Suite *suite_perm(void);
Suite *suite_cross(void);
Suite *suite_rate(void);
Suite *suite_conn(void);

#endif
