/* SPDX-License-Identifier: BSD-3-Clause */
/* check_io_ipc.c: ipc.c, ipc_msg.c: what is let through, and what happens to descriptors that are not. */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "check_io.h"

static int pair[2];
static union msg in;
static int in_fd;

static void
setup(void)
{
	ck_assert_int_eq(ipc_pair(pair), 0);
}

static void
teardown(void)
{
	close(pair[0]);
	close(pair[1]);
}

static unsigned
open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	ck_assert_ptr_nonnull(d);
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

/* Sends raw bytes with any number of descriptors. */
static void
send_raw(const void *bytes, size_t len, const int *fds, unsigned n)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int) * 16)];
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n > 0) {
		m.msg_control = control.space;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * n);
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * n);
	}
	ck_assert_int_eq(sendmsg(pair[0], &m, 0), (ssize_t)len);
}

static int
receive(unsigned from, unsigned to)
{
	return ipc_recv(pair[1], from, to, &in, &in_fd);
}

START_TEST(test_plain)
{
	struct msg_want w = { .h = { MSG_WANT, 7 }, .shard = 1, .row = 2, .count = 3 };

	ck_assert_int_eq(receive(ROLE_WORKER, ROLE_SUPER), 0);
	ck_assert_int_eq(ipc_send(pair[0], &w, -1), 0);
	ck_assert_int_eq(receive(ROLE_WORKER, ROLE_SUPER), 1);
	ck_assert_int_eq(in_fd, -1);
	ck_assert_mem_eq(&in, &w, sizeof w);
	ck_assert_int_eq(ipc_send(pair[0], &w, 0), -EINVAL);
	w.h.type = MSG_TYPES;
	ck_assert_int_eq(ipc_send(pair[0], &w, -1), -EINVAL);
}
END_TEST

START_TEST(test_with_fd)
{
	struct msg_socket s = { .h = { MSG_SOCKET, 0 }, .fd = 99 };
	int p[2];
	char c = 0;

	ck_assert_int_eq(pipe(p), 0);
	ck_assert_int_eq(ipc_send(pair[0], &s, -1), -EINVAL);
	ck_assert_int_eq(ipc_send(pair[0], &s, p[1]), 0);
	ck_assert_int_eq(receive(ROLE_SUPER, ROLE_WORKER), 1);
	ck_assert_int_ge(in_fd, 0);
	ck_assert_int_ne(fcntl(in_fd, F_GETFD) & FD_CLOEXEC, 0);
	ck_assert_int_eq(write(in_fd, "x", 1), 1);
	ck_assert_int_eq(read(p[0], &c, 1), 1);
	ck_assert_int_eq(c, 'x');
	close(in_fd);
	close(p[0]);
	close(p[1]);
}
END_TEST

START_TEST(test_wrong_sender)
{
	struct msg_want w = { .h = { MSG_WANT, 0 } };
	static const struct {
		unsigned from, to;
	} bad[] = {
		{ ROLE_AUTHD, ROLE_SUPER },
		{ ROLE_WORKER, ROLE_AUTHD },
		{ ROLE_SUPER, ROLE_WORKER },
		{ ROLES, ROLE_SUPER },
		{ ROLE_WORKER, ROLES },
	};

	for (unsigned i = 0; i < TP_COUNT(bad); i++) {
		ck_assert_int_eq(ipc_send(pair[0], &w, -1), 0);
		ck_assert_int_eq(receive(bad[i].from, bad[i].to), -EPROTO);
	}
}
END_TEST

START_TEST(test_wrong_length)
{
	struct {
		struct msg_want w;
		uint8_t more;
	} m = { .w = { .h = { MSG_WANT, 0 } } };
	static uint8_t huge[sizeof(union msg) + 1];

	send_raw(&m, sizeof m.w - 1, NULL, 0);
	ck_assert_int_eq(receive(ROLE_WORKER, ROLE_SUPER), -EPROTO);
	send_raw(&m, sizeof m.w + 1, NULL, 0);
	ck_assert_int_eq(receive(ROLE_WORKER, ROLE_SUPER), -EPROTO);
	send_raw(&m, 3, NULL, 0);
	ck_assert_int_eq(receive(ROLE_WORKER, ROLE_SUPER), -EPROTO);
	memcpy(huge, &m, sizeof m.w);
	send_raw(huge, sizeof huge, NULL, 0);
	ck_assert_int_eq(receive(ROLE_WORKER, ROLE_SUPER), -EPROTO);
	send_raw(&m, sizeof m.w, NULL, 0);
	ck_assert_int_eq(receive(ROLE_WORKER, ROLE_SUPER), 1);
}
END_TEST

START_TEST(test_wrong_type)
{
	struct msg_want m = { .h = { 0, 0 } };
	static const uint32_t types[] = { MSG_NONE, MSG_TYPES, UINT32_MAX, 0x80000001u };

	for (unsigned i = 0; i < TP_COUNT(types); i++) {
		m.h.type = types[i];
		send_raw(&m, sizeof m, NULL, 0);
		ck_assert_int_eq(receive(ROLE_WORKER, ROLE_SUPER), -EPROTO);
		ck_assert_uint_eq(msg_size(types[i]), 0);
	}
}
END_TEST

/* Descriptors that the receiver did not ask for are closed, however many. */
START_TEST(test_stray_fds)
{
	struct msg_want w = { .h = { MSG_WANT, 0 } };
	struct msg_socket s = { .h = { MSG_SOCKET, 0 } };
	int fds[16];
	unsigned before;

	for (unsigned i = 0; i < 16; i++)
		fds[i] = pair[0];
	before = open_fds();
	send_raw(&w, sizeof w, fds, 1);
	ck_assert_int_eq(receive(ROLE_WORKER, ROLE_SUPER), -EPROTO);
	send_raw(&s, sizeof s, fds, 16);
	ck_assert_int_eq(receive(ROLE_SUPER, ROLE_WORKER), -EPROTO);
	send_raw(&s, sizeof s, fds, 2);
	ck_assert_int_eq(receive(ROLE_SUPER, ROLE_WORKER), -EPROTO);
	send_raw(&s, sizeof s, NULL, 0);
	ck_assert_int_eq(receive(ROLE_SUPER, ROLE_WORKER), -EPROTO);
	ck_assert_int_eq(in_fd, -1);
	ck_assert_uint_eq(open_fds(), before);
}
END_TEST

START_TEST(test_closed)
{
	struct msg_want w = { .h = { MSG_WANT, 0 } };

	ck_assert_int_eq(ipc_send(pair[0], &w, -1), 0);
	close(pair[0]);
	ck_assert_int_eq(receive(ROLE_WORKER, ROLE_SUPER), 1);
	ck_assert_int_eq(receive(ROLE_WORKER, ROLE_SUPER), -EPIPE);
	ck_assert_int_eq(ipc_send(pair[1], &w, -1), -EPIPE);
	pair[0] = dup(pair[1]);
}
END_TEST

START_TEST(test_full)
{
	struct msg_want w = { .h = { MSG_WANT, 0 } };
	int rc = 0;

	for (unsigned i = 0; i < 100000 && rc == 0; i++)
		rc = ipc_send(pair[0], &w, -1);
	ck_assert_int_eq(rc, -EAGAIN);
	ck_assert_int_eq(receive(ROLE_WORKER, ROLE_SUPER), 1);
}
END_TEST

START_TEST(test_table)
{
	for (uint32_t t = 1; t < MSG_TYPES; t++) {
		unsigned senders = 0;
		for (unsigned from = 0; from < ROLES; from++)
			for (unsigned to = 0; to < ROLES; to++)
				senders += msg_may(t, from, to);
		ck_assert_uint_gt(senders, 0);
		ck_assert_uint_ge(msg_size(t), sizeof(struct msg_head));
	}
	ck_assert_str_eq(msg_name(MSG_WANT), "WANT");
	ck_assert_str_eq(proc_role_name(ROLE_ADMIN), "admin");
	ck_assert_str_eq(proc_role_name(ROLES), "unknown");
	ck_assert(msg_has_fd(MSG_CONF) && !msg_has_fd(MSG_WANT));
}
END_TEST

Suite *
suite_ipc(void)
{
	Suite *s = suite_create("ipc");
	TCase *t = tcase_create("ipc");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, test_plain);
	tcase_add_test(t, test_with_fd);
	tcase_add_test(t, test_wrong_sender);
	tcase_add_test(t, test_wrong_length);
	tcase_add_test(t, test_wrong_type);
	tcase_add_test(t, test_stray_fds);
	tcase_add_test(t, test_closed);
	tcase_add_test(t, test_full);
	tcase_add_test(t, test_table);
	suite_add_tcase(s, t);
	return s;
}
