/* SPDX-License-Identifier: BSD-3-Clause */
/* check_seal.c: the runner of the unit tests of seal. */
#include "config.h"

#include <check.h>
#include <stdlib.h>

#include "seal_suites.h"

int
main(void)
{
	SRunner *r = srunner_create(suite_vectors());

	srunner_add_suite(r, suite_stream());
	srunner_add_suite(r, suite_content());
	srunner_add_suite(r, suite_dtls());
	srunner_add_suite(r, suite_random());
	srunner_add_suite(r, suite_killed());
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
