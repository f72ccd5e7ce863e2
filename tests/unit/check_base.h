/* SPDX-License-Identifier: BSD-3-Clause */
/* check_base.h: the suites of check_base. */
#ifndef CHECK_BASE_H
#define CHECK_BASE_H

#include <check.h>

#include "tp/base.h"

Suite *suite_addr(void);
Suite *suite_text(void);
Suite *suite_cursor(void);
Suite *suite_log(void);

#endif
