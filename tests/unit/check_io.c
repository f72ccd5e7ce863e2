/* SPDX-License-Identifier: BSD-3-Clause */
/* check_io.c: unit tests of io: one suite per file. */
#include "config.h"

#include <stdlib.h>

#include "check_io.h"

struct addr
io_addr(const char *text)
{
	struct addr a;

	ck_assert_int_eq(addr_parse(&a, text), 0);
	return a;
}

struct addr
io_bound(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	struct addr a;

	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
	ck_assert_int_eq(addr_from_sockaddr(&a, (struct sockaddr *)&ss), 0);
	return a;
}

int
main(void)
{
	SRunner *r = srunner_create(suite_ipc());
	int failed;

	srunner_add_suite(r, suite_loop());
	srunner_add_suite(r, suite_sock());
	srunner_add_suite(r, suite_udp());
	srunner_add_suite(r, suite_sandbox());
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
