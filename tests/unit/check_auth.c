/* SPDX-License-Identifier: BSD-3-Clause */
/* check_auth.c: unit tests of the room auth (the order of checks has scenarios: tests/scenario). */
#include "config.h"

#include <stdlib.h>

#include "check_auth.h"

int
main(void)
{
	SRunner *r = srunner_create(suite_nonce());
	int failed;

	srunner_add_suite(r, suite_rest());
	srunner_add_suite(r, suite_cache());
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
