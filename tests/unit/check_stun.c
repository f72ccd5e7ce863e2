/* SPDX-License-Identifier: BSD-3-Clause */
/* check_stun.c: unit tests of stun: one suite per file. */
#include "config.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check_stun.h"

#define EDGE (1u << 17)

uint8_t *
at_the_edge(const void *bytes, size_t len)
{
	static uint8_t *map;
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	if (map == NULL) {
		map = mmap(NULL, EDGE + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ck_assert(map != MAP_FAILED);
		ck_assert_int_eq(mprotect(map + EDGE, page, PROT_NONE), 0);
	}
	ck_assert_uint_le(len, EDGE);
	if (len > 0)
		memcpy(map + EDGE - len, bytes, len);
	return map + EDGE - len;
}

int
main(void)
{
	SRunner *r = srunner_create(suite_vectors());
	int failed;

	srunner_add_suite(r, suite_msg());
	srunner_add_suite(r, suite_attr());
	srunner_add_suite(r, suite_build());
	srunner_add_suite(r, suite_frame());
	srunner_add_suite(r, suite_sign());
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
