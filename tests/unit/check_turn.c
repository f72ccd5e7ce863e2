/* SPDX-License-Identifier: BSD-3-Clause */
/* check_turn.c: unit tests of the room turn. */
#include "config.h"

#include <stdlib.h>

#include "check_turn.h"

int
main(void)
{
	SRunner *r = srunner_create(suite_policy());
	int failed;

	srunner_add_suite(r, suite_source());
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
