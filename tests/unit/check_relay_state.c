/* SPDX-License-Identifier: BSD-3-Clause */
/* check_relay_state.c: the changes of a relay socket's state, and what the kernel has after each. */
#include "config.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../src/worker/worker_int.h"

static const struct {
	enum fd_use from, to;
} allowed[] = {
	{ FD_NONE, FD_FRESH },
	{ FD_NONE, FD_INHERITED },
	{ FD_INHERITED, FD_OPEN },
	{ FD_INHERITED, FD_FRESH },
	{ FD_INHERITED, FD_RESTED },
	{ FD_INHERITED, FD_RESTING },
	{ FD_FRESH, FD_OPEN },
	{ FD_RESTED, FD_OPEN },
	{ FD_OPEN, FD_RESTING },
	{ FD_RESTED, FD_RESTING },
	{ FD_RESTING, FD_RESTED },
	{ FD_INHERITED, FD_NONE },
	{ FD_FRESH, FD_NONE },
	{ FD_OPEN, FD_NONE },
	{ FD_RESTING, FD_NONE },
	{ FD_RESTED, FD_NONE },
};

static struct worker *w;
static struct lane *l;
static int fd;
static const uint64_t tag = (uint64_t)TAG_RELAY << 60;

static void
setup(void)
{
	w = calloc(1, sizeof *w);
	l = calloc(1, sizeof *l);
	ck_assert(w != NULL && l != NULL);
	w->serving = true;
	w->engine = &udp_engine_plain;
	w->start.filter_fd = sock_filter_program();
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	l->told.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	ck_assert(fd >= 0 && l->told.epoll_fd >= 0);
	l->told.fd_base = fd;
	l->told.fd_span = 1;
	l->use = calloc(1, 1);
	l->sock = calloc(1, sizeof *l->sock);
	ck_assert(l->use != NULL && l->sock != NULL);
	ck_assert_int_eq(sock_filter_attach(fd), 0);
}

static bool
is_listed(void)
{
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = tag };

	return epoll_ctl(l->told.epoll_fd, EPOLL_CTL_MOD, fd, &e) == 0;
}

static void
change(enum fd_use to, int filter, bool listed)
{
	ck_assert_int_eq(relay_change(w, l, fd, to, tag), 0);
	ck_assert_int_eq(*lane_use(l, fd), to);
	ck_assert_int_eq(sock_filter_has(fd), filter);
	ck_assert_int_eq(is_listed(), listed);
}

static bool
is_allowed(unsigned from, unsigned to)
{
	for (unsigned i = 0; i < TP_COUNT(allowed); i++)
		if (allowed[i].from == from && allowed[i].to == to)
			return true;
	return false;
}

START_TEST(each_pair)
{
	for (unsigned from = 0; from < FD_USES; from++)
		for (unsigned to = 0; to < FD_USES; to++) {
			ck_assert_int_eq(relay_may_change(from, to), is_allowed(from, to));
			if (!is_allowed(from, to)) {
				*lane_use(l, fd) = (uint8_t)from;
				ck_assert_int_eq(relay_change(w, l, fd, to, tag), -EINVAL);
				ck_assert_int_eq(*lane_use(l, fd), from);
			}
		}
	ck_assert_int_eq(sock_filter_has(fd), SOCK_FILTER_OWN);
	ck_assert(!is_listed());
	ck_assert_ptr_eq(relay_state_name(FD_STREAM), NULL);
}
END_TEST

START_TEST(a_life)
{
	change(FD_FRESH, SOCK_FILTER_OWN, false);
	change(FD_OPEN, SOCK_FILTER_NONE, true);
	if (w->start.filter_fd >= 0) {
		change(FD_RESTING, SOCK_FILTER_SHARED, true);
		change(FD_RESTED, SOCK_FILTER_SHARED, true);
		change(FD_OPEN, SOCK_FILTER_NONE, true);
	}
	ck_assert_int_eq(relay_change(w, l, fd, FD_NONE, 0), 0);
	ck_assert_int_eq(fcntl(fd, F_GETFD), -1);
	ck_assert_int_eq(*lane_use(l, fd), FD_NONE);
}
END_TEST

/* What waits in the queue is of the session before. */
START_TEST(not_empty)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof a;

	ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	if (w->start.filter_fd < 0)
		return;
	change(FD_FRESH, SOCK_FILTER_OWN, false);
	change(FD_OPEN, SOCK_FILTER_NONE, true);
	for (unsigned i = 0; i < 4096; i++)
		(void)sendto(fd, "late", 4, MSG_DONTWAIT, (struct sockaddr *)&a, sizeof a);
	change(FD_RESTING, SOCK_FILTER_SHARED, true);
	change(FD_RESTED, SOCK_FILTER_SHARED, true);
	/* As much as one look takes is thrown away; what is left is another's, and it is not opened. */
	for (unsigned i = 0; i < 100; i++) {
		int err = relay_change(w, l, fd, FD_OPEN, tag);
		if (err == 0)
			break;
		ck_assert_int_eq(err, -EBUSY);
		ck_assert_int_eq(*lane_use(l, fd), FD_RESTED);
		ck_assert_int_eq(sock_filter_has(fd), SOCK_FILTER_SHARED);
	}
	ck_assert_int_eq(*lane_use(l, fd), FD_OPEN);
	ck_assert_int_eq(recv(fd, &len, sizeof len, MSG_DONTWAIT), -1);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("relay state");
	TCase *t = tcase_create("relay state");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, each_pair);
	tcase_add_test(t, a_life);
	tcase_add_test(t, not_empty);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
