/* SPDX-License-Identifier: BSD-3-Clause */
/* seal_suites.h: the cipher suites that the unit tests of seal go through. */
#ifndef TP_TEST_SEAL_SUITES_H
#define TP_TEST_SEAL_SUITES_H

#include <check.h>

Suite *suite_vectors(void);
Suite *suite_stream(void);
Suite *suite_content(void);
Suite *suite_dtls(void);
Suite *suite_random(void);
Suite *suite_killed(void);

#endif
