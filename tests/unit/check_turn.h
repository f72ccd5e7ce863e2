/* SPDX-License-Identifier: BSD-3-Clause */
/* check_turn.h: the suites of check_turn. */
#ifndef CHECK_TURN_H
#define CHECK_TURN_H

#include <check.h>

Suite *suite_policy(void);
Suite *suite_source(void);

#endif
