/* SPDX-License-Identifier: BSD-3-Clause */
/* check_io_sock.c: sock.c: the options of what is bound, the filter. */
#include "config.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check_io.h"

static int
option(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof value;

	ck_assert_int_eq(getsockopt(fd, level, name, &value, &len), 0);
	return value;
}

static bool
arrives(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) == 1;
}

START_TEST(test_listener)
{
	struct sock_options o = { 300000, 200000 };
	struct addr a = io_addr("127.0.0.1");
	size_t granted = 0;
	int one = sock_listener_udp(&a, &o, &granted);

	ck_assert_int_ge(one, 0);
	ck_assert_uint_ge(granted, 100000);
	ck_assert_int_eq(option(one, SOL_SOCKET, SO_REUSEPORT), 1);
	ck_assert_int_eq(option(one, IPPROTO_IP, IP_MTU_DISCOVER), IP_PMTUDISC_DONT);
	ck_assert_int_eq(option(one, IPPROTO_IP, IP_RECVERR), 1);
	a = io_bound(one);
	int two = sock_listener_udp(&a, &o, NULL);
	ck_assert_int_ge(two, 0);
	/* A relay socket may never share a listener's port. */
	ck_assert_int_eq(sock_relay_udp(&a, 0), -EADDRINUSE);
	close(one);
	close(two);
}
END_TEST

START_TEST(test_relay_filter)
{
	static const char *const where[] = { "127.0.0.1", "::1" };

	for (unsigned i = 0; i < 2; i++) {
		struct addr a = io_addr(where[i]);
		int fd = sock_relay_udp(&a, 65536);
		if (i == 1 && fd == -EADDRNOTAVAIL)
			return; /* no IPv6 here */
		ck_assert_int_ge(fd, 0);
		a = io_bound(fd);
		ck_assert_int_eq(sock_relay_udp(&a, 0), -EADDRINUSE);
		ck_assert_int_eq(sock_filter_has(fd), 1);
		int from = socket(i == 0 ? AF_INET : AF_INET6, SOCK_DGRAM, 0);
		struct sockaddr_storage ss;
		socklen_t len = addr_to_sockaddr(&a, &ss);
		ck_assert_int_eq(sendto(from, "x", 1, 0, (struct sockaddr *)&ss, len), 1);
		ck_assert(!arrives(fd, 50));
		ck_assert_int_eq(sock_filter_detach(fd), 0);
		ck_assert_int_eq(sock_filter_detach(fd), 0);
		ck_assert_int_eq(sock_filter_has(fd), 0);
		ck_assert_int_eq(sendto(from, "x", 1, 0, (struct sockaddr *)&ss, len), 1);
		ck_assert(arrives(fd, 60000));
		ck_assert_int_eq(sock_filter_attach(fd), 0);
		ck_assert_int_eq(sock_filter_has(fd), 1);
		close(from);
		close(fd);
	}
	ck_assert_int_eq(sock_filter_has(-1), -EBADF);
}
END_TEST

START_TEST(test_shared_filter)
{
	struct addr a = io_addr("127.0.0.1");
	struct sockaddr_storage ss;
	int program = sock_filter_program();

	if (program < 0)
		return; /* not permitted here */
	int fd = sock_relay_udp(&a, 65536), from = socket(AF_INET, SOCK_DGRAM, 0);
	ck_assert_int_ge(fd, 0);
	a = io_bound(fd);
	socklen_t len = addr_to_sockaddr(&a, &ss);
	ck_assert_int_eq(sock_filter_has(fd), SOCK_FILTER_OWN);
	for (int i = 0; i < 3; i++) { /* again and again */
		ck_assert_int_eq(sock_filter_detach(fd), 0);
		ck_assert_int_eq(sock_filter_has(fd), SOCK_FILTER_NONE);
		ck_assert_int_eq(sendto(from, "x", 1, 0, (struct sockaddr *)&ss, len), 1);
		ck_assert_int_eq(sock_filter_share(fd, program), 0);
		ck_assert_int_eq(sock_filter_has(fd), SOCK_FILTER_SHARED);
		ck_assert_int_eq(sendto(from, "y", 1, 0, (struct sockaddr *)&ss, len), 1);
		/* What came before it stays, until it is thrown away. */
		ck_assert(arrives(fd, 60000));
		ck_assert(sock_empty(fd));
		ck_assert_int_eq(sendto(from, "z", 1, 0, (struct sockaddr *)&ss, len), 1);
		ck_assert(!arrives(fd, 50));
	}
	ck_assert_int_eq(sock_filter_detach(fd), 0);
	for (int i = 0; i < 20; i++)
		ck_assert_int_eq(sendto(from, "x", 1, 0, (struct sockaddr *)&ss, len), 1);
	ck_assert_int_eq(sock_filter_share(fd, program), 0);
	ck_assert(sock_empty(fd));
	ck_assert(!arrives(fd, 50));
	ck_assert_int_eq(sock_filter_share(fd, from), -EINVAL); /* no program */
	close(program);
	close(from);
	close(fd);
}
END_TEST

START_TEST(test_unix)
{
	char path[] = "check_io.XXXXXX.sock";
	struct stat st;

	int tmp = mkstemps(path, 5);
	ck_assert_int_ge(tmp, 0);
	close(tmp);
	int fd = sock_listener_unix(path, 0660);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0660);
	ck_assert(S_ISSOCK(st.st_mode));
	unlink(path);
	close(fd);
	struct addr a = io_addr("127.0.0.1");
	fd = sock_listener_tcp(&a, 5);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(option(fd, SOL_SOCKET, SO_ACCEPTCONN), 1);
	close(fd);
}
END_TEST

Suite *
suite_sock(void)
{
	Suite *s = suite_create("sock");
	TCase *t = tcase_create("sock");

	tcase_add_test(t, test_listener);
	tcase_add_test(t, test_relay_filter);
	tcase_add_test(t, test_shared_filter);
	tcase_add_test(t, test_unix);
	suite_add_tcase(s, t);
	return s;
}
