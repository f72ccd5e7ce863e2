/* SPDX-License-Identifier: BSD-3-Clause */
/* check_super.c: unit tests of super. */
#include "config.h"

#include <sodium.h>
#include <stdlib.h>

#include "check_super.h"

int
main(void)
{
	SRunner *r;
	int failed;

	if (sodium_init() < 0)
		return EXIT_FAILURE;
	r = srunner_create(suite_children());
	srunner_add_suite(r, suite_carry());
	srunner_add_suite(r, suite_pool());
	srunner_add_suite(r, suite_start());
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
