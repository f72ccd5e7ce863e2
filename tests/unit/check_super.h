/* SPDX-License-Identifier: BSD-3-Clause */
/* check_super.h: the suites of check_super. */
#ifndef CHECK_SUPER_H
#define CHECK_SUPER_H

#include <check.h>

Suite *suite_carry(void);
Suite *suite_children(void);
Suite *suite_pool(void);
Suite *suite_start(void);

#endif
