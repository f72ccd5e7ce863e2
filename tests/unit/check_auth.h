/* SPDX-License-Identifier: BSD-3-Clause */
/* check_auth.h: the suites of check_auth. */
#ifndef CHECK_AUTH_H
#define CHECK_AUTH_H

#include <check.h>

Suite *suite_nonce(void);
Suite *suite_rest(void);
Suite *suite_cache(void);

#endif
