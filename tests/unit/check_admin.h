/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_admin.h: suites of room ctl, and the OpenMetrics checker that they share.
 */
#ifndef CHECK_ADMIN_H
#define CHECK_ADMIN_H

#include <check.h>

Suite *suite_ctl_units(void);
Suite *suite_ctl_play(void);
Suite *suite_ctl_intake(void);
/* Fails the test unless the text is OpenMetrics as far as we use it; changes the text. */
void openmetrics_check(char *text);

#endif
