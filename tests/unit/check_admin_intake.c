/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_admin_intake.c: records of the log have the sender and the time that the kernel knows, whatever
 * they say.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check_admin.h"
#include "../../src/admin/admin_int.h"

static struct stats stat_page;

static struct log_rec
claim(unsigned role, unsigned index, int64_t wall_us)
{
	struct log_rec r = { .magic = LOG_REC_MAGIC,
		.level = LOG_L_INFO,
		.role = (uint8_t)role,
		.index = (uint8_t)index,
		.pid = 4,
		.wall_us = wall_us,
		.len = 2 };

	memcpy(r.text, "ok", 2);
	return r;
}

static int64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void
say(int fd, struct log_rec r)
{
	ck_assert_int_eq(send(fd, &r, LOG_REC_HEAD + r.len, 0), (ssize_t)(LOG_REC_HEAD + r.len));
}

static struct intake *
make(int pair[2], struct view *v, struct ledger *l, bool drop)
{
	struct intake *in = malloc(sizeof *in);

	ck_assert_ptr_nonnull(in);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
	memset(v, 0, sizeof *v);
	v->ledger = l;
	v->admin = &stat_page;
	v->start.drop_privileges = drop;
	ck_assert_int_eq(intake_init(in, v, pair[0]), 0);
	return in;
}

START_TEST(a_child_is_itself)
{
	struct ledger *l = calloc(1, sizeof *l);
	struct view v;
	struct log_rec r;
	int pair[2];
	struct intake *in = make(pair, &v, l, false);

	ck_assert_int_eq(intake_next(in, &r), -EAGAIN);
	l->child_count = 1;
	l->child[0] = (struct ledger_child){ .role = ROLE_WORKER, .index = 3, .pid = (int32_t)getpid() };
	say(pair[1], claim(ROLE_SUPER, 0, now_us() - INT64_C(86400000000)));
	say(pair[1], claim(ROLE_ADMIN, 7, now_us() + 60000000));
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_int_eq(intake_next(in, &r), 1);
		ck_assert_uint_eq(r.role, ROLE_WORKER);
		ck_assert_uint_eq(r.index, 3);
		ck_assert_int_eq(r.pid, getpid());
		ck_assert(llabs(r.wall_us - now_us()) < 30000000);
	}
	/* Its row is another's now; what it left is still its own. */
	l->child[0].pid = 1;
	say(pair[1], claim(ROLE_AUTHD, 0, now_us()));
	ck_assert_int_eq(intake_next(in, &r), 1);
	ck_assert_uint_eq(r.role, ROLE_WORKER);
	/* The number was given again. */
	l->child[0] = (struct ledger_child){ .role = ROLE_TLSD, .index = 1, .pid = (int32_t)getpid() };
	intake_learn(in);
	say(pair[1], claim(ROLE_WORKER, 3, now_us()));
	ck_assert_int_eq(intake_next(in, &r), 1);
	ck_assert_uint_eq(r.role, ROLE_TLSD);
	free(in);
	free(l);
}
END_TEST

/* The supervisor's number is not in its table: it is told by its user where that is another one. */
START_TEST(a_stranger_is_not_the_supervisor)
{
	struct ledger *l = calloc(1, sizeof *l);
	struct view v;
	struct log_rec r;
	int pair[2];
	struct intake *in = make(pair, &v, l, true);
	uint64_t bad = stat_page.counter[STAT_MSG_BAD];
	pid_t pid;

	if (geteuid() != 0)
		goto out;
	say(pair[1], claim(ROLE_SUPER, 0, now_us()));
	ck_assert_int_eq(intake_next(in, &r), 1);
	ck_assert_uint_eq(r.role, ROLE_SUPER);
	pid = fork();
	if (pid == 0) {
		if (setuid(65534) < 0)
			_exit(1);
		say(pair[1], claim(ROLE_SUPER, 0, now_us()));
		say(pair[1], claim(ROLE_WORKER, 1, now_us()));
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	ck_assert_int_eq(intake_next(in, &r), 0);
	ck_assert_uint_eq(stat_page.counter[STAT_MSG_BAD], bad + 1);
	ck_assert_int_eq(intake_next(in, &r), 1);
	ck_assert_uint_eq(r.role, ROLE_WORKER);
out:
	free(in);
	free(l);
}
END_TEST

Suite *
suite_ctl_intake(void)
{
	Suite *s = suite_create("intake");
	TCase *t = tcase_create("intake");

	tcase_add_test(t, a_child_is_itself);
	tcase_add_test(t, a_stranger_is_not_the_supervisor);
	suite_add_tcase(s, t);
	return s;
}
