/* SPDX-License-Identifier: BSD-3-Clause */
/* check_base.c: unit tests of base: one suite per file. */
#include "config.h"

#include <stdlib.h>

#include "check_base.h"

int
main(void)
{
	SRunner *r = srunner_create(suite_addr());
	int failed;

	srunner_add_suite(r, suite_text());
	srunner_add_suite(r, suite_cursor());
	srunner_add_suite(r, suite_log());
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
