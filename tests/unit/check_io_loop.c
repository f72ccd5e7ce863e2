/* SPDX-License-Identifier: BSD-3-Clause */
/* check_io_loop.c: loop.c: order, removal inside callbacks, timers, signals. */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "check_io.h"

static struct loop *loop;
static int a[2], b[2];
static unsigned calls;
static char order[16];

static void
setup(void)
{
	loop = loop_new();
	ck_assert_ptr_nonnull(loop);
	ck_assert_int_eq(pipe(a), 0);
	ck_assert_int_eq(pipe(b), 0);
	calls = 0;
	order[0] = '\0';
}

static void
teardown(void)
{
	loop_free(loop);
	for (int i = 0; i < 2; i++) {
		close(a[i]);
		close(b[i]);
	}
}

static void
note(char c)
{
	size_t n = strlen(order);

	ck_assert_uint_lt(n + 1, sizeof order);
	order[n] = c;
	order[n + 1] = '\0';
}

/* Both pipes are readable in one batch: the first handler removes the other. */
static void
remove_other(void *arg, int fd, uint32_t events)
{
	ck_assert_int_ne((int)(events & EPOLLIN), 0);
	calls++;
	loop_del(loop, fd == a[0] ? b[0] : a[0]);
	loop_del(loop, fd == a[0] ? b[0] : a[0]);
	loop_stop(arg, 5);
}

START_TEST(test_del_inside)
{
	ck_assert_int_eq(loop_add(loop, a[0], EPOLLIN, remove_other, loop), 0);
	ck_assert_int_eq(loop_add(loop, b[0], EPOLLIN, remove_other, loop), 0);
	ck_assert_int_eq(loop_add(loop, b[0], EPOLLIN, remove_other, loop), -EEXIST);
	ck_assert_int_eq(loop_mod(loop, 1000, EPOLLIN), -ENOENT);
	ck_assert_int_eq(write(a[1], "x", 1) + write(b[1], "x", 1), 2);
	ck_assert_int_eq(loop_run(loop), 5);
	ck_assert_uint_eq(calls, 1);
}
END_TEST

static void
del_not_stop(void *arg, int fd, uint32_t events)
{
	(void)arg;
	(void)events;
	calls++;
	loop_del(loop, fd == a[0] ? b[0] : a[0]);
}

static void
timer_stop(void *arg)
{
	note(*(char *)arg);
	loop_stop(loop, 0);
}

static void
timer_note(void *arg)
{
	note(*(char *)arg);
}

/* Not only is the loop left: the event of the removed one is never delivered later either. */
START_TEST(test_del_not_delivered)
{
	char z = 'z';

	ck_assert_int_eq(loop_add(loop, a[0], EPOLLIN | EPOLLET, del_not_stop, NULL), 0);
	ck_assert_int_eq(loop_add(loop, b[0], EPOLLIN | EPOLLET, del_not_stop, NULL), 0);
	ck_assert_int_eq(write(a[1], "x", 1) + write(b[1], "x", 1), 2);
	loop_after(loop, 20, timer_stop, &z);
	loop_run(loop);
	ck_assert_uint_eq(calls, 1);
}
END_TEST

START_TEST(test_timers)
{
	char names[] = "12345";

	loop_after(loop, 30, timer_stop, &names[4]);
	loop_after(loop, 20, timer_note, &names[2]);
	unsigned gone = loop_after(loop, 10, timer_note, &names[3]);
	loop_after(loop, 5, timer_note, &names[0]);
	loop_after(loop, 5, timer_note, &names[1]);
	ck_assert_uint_ne(gone, 0);
	loop_cancel(loop, gone);
	loop_cancel(loop, gone);
	loop_cancel(loop, 0);
	loop_run(loop);
	ck_assert_str_eq(order, "1235");
}
END_TEST

/* Many timers, cancelled at random places: what remains fires in order. */
static unsigned fired;
static tp_ms latest;
/* When a timer is due lies between these: this process may not have run for a while as it was made. */
static struct due {
	tp_ms from, to;
} dues[200];

static void
timer_in_order(void *arg)
{
	const struct due *d = arg;

	ck_assert_uint_ge(d->to, latest);
	if (d->from > latest)
		latest = d->from;
	if (++fired == 100)
		loop_stop(loop, 0);
}

START_TEST(test_timer_heap)
{
	unsigned id[200];

	fired = 0;
	latest = 0;
	for (unsigned i = 0; i < 200; i++) {
		unsigned k = i * 37 % 200;
		dues[k].from = clock_ms() + k / 10;
		id[k] = loop_after(loop, k / 10, timer_in_order, &dues[k]);
		dues[k].to = clock_ms() + k / 10;
	}
	for (unsigned i = 0; i < 200; i += 2)
		loop_cancel(loop, id[i * 53 % 200]);
	loop_run(loop);
	ck_assert_uint_eq(fired, 100);
}
END_TEST

static void
signal_seen(void *arg, int signo)
{
	(void)arg;
	note(signo == SIGUSR1 ? 'u' : '?');
	loop_stop(loop, signo);
}

START_TEST(test_signals)
{
	int signos[] = { SIGUSR1, SIGHUP };

	ck_assert_int_eq(loop_signals(loop, signos, 2, signal_seen, NULL), 0);
	ck_assert_int_eq(kill(getpid(), SIGUSR1), 0);
	ck_assert_int_eq(loop_run(loop), SIGUSR1);
	ck_assert_str_eq(order, "u");
}
END_TEST

Suite *
suite_loop(void)
{
	Suite *s = suite_create("loop");
	TCase *t = tcase_create("loop");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, test_del_inside);
	tcase_add_test(t, test_del_not_delivered);
	tcase_add_test(t, test_timers);
	tcase_add_test(t, test_timer_heap);
	tcase_add_test(t, test_signals);
	suite_add_tcase(s, t);
	return s;
}
