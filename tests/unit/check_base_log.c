/* SPDX-License-Identifier: BSD-3-Clause */
/* check_base_log.c: log.c: the form on stderr, the datagram, what happens without a reader. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check_base.h"

static int sock[2];

static void
setup(void)
{
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sock), 0);
	log_init("worker", 2, 3, LOG_L_INFO);
	log_sink_fd(sock[0]);
}

static void
teardown(void)
{
	log_sink_fd(-1);
	close(sock[0]);
	close(sock[1]);
}

/* The next record, its text terminated. */
static void
take(struct log_rec *rec, char text[LOG_TEXT_MAX + 1])
{
	ssize_t n = recv(sock[1], rec, sizeof *rec, 0);

	ck_assert_int_ge(n, (ssize_t)LOG_REC_HEAD);
	ck_assert_uint_eq(rec->magic, LOG_REC_MAGIC);
	ck_assert_uint_eq((size_t)n, LOG_REC_HEAD + rec->len);
	memcpy(text, rec->text, rec->len);
	text[rec->len] = '\0';
}

static bool
is_empty(void)
{
	char c;

	return recv(sock[1], &c, 1, 0) < 0 && errno == EAGAIN;
}

START_TEST(record)
{
	struct log_rec rec;
	char text[LOG_TEXT_MAX + 1];

	errno = ENOENT;
	log_warn("file: %s", "open");
	ck_assert_int_eq(errno, ENOENT);
	take(&rec, text);
	ck_assert_str_eq(text, "file: open: No such file or directory");
	ck_assert_uint_eq(rec.level, LOG_L_WARN);
	ck_assert_uint_eq(rec.role, 2);
	ck_assert_uint_eq(rec.index, 3);
	ck_assert_int_eq(rec.pid, getpid());
	ck_assert_int_gt(rec.wall_us, 1600000000000000ll);
	ck_assert_uint_eq(rec.suppressed, 0);
}
END_TEST

START_TEST(levels)
{
	struct log_rec rec;
	char text[LOG_TEXT_MAX + 1];

	log_debug("no");
	ck_assert(is_empty());
	log_level_set(LOG_L_DEBUG);
	ck_assert_int_eq(log_level_get(), LOG_L_DEBUG);
	log_debug("yes");
	take(&rec, text);
	ck_assert_uint_eq(rec.level, LOG_L_DEBUG);
	log_level_set(LOG_L_ERROR);
	log_warnx("no");
	log_info("no");
	ck_assert(is_empty());
	log_errx("yes");
	take(&rec, text);
	ck_assert_str_eq(text, "yes");
	ck_assert_str_eq(log_level_name(LOG_L_WARN), "WARN");
	ck_assert_str_eq(log_level_name((enum log_level)77), "unknown");
}
END_TEST

START_TEST(control_bytes_are_escaped_quotes_are_not)
{
	struct log_rec rec;
	char text[LOG_TEXT_MAX + 1];

	log_info("user \"%s\": a\\b", "x\ny\x1b[0m");
	take(&rec, text);
	ck_assert_str_eq(text, "user \"x\\x0ay\\x1b[0m\": a\\b");
}
END_TEST

START_TEST(long_text_is_cut)
{
	char text[LOG_TEXT_MAX + 1], big[3000];
	struct log_rec rec;

	memset(big, 'x', sizeof big);
	big[sizeof big - 1] = '\0';
	log_info("%s", big);
	take(&rec, text);
	ck_assert_uint_eq(rec.len, LOG_TEXT_MAX);
	memset(big, '\n', sizeof big - 1);
	log_info("%s", big);
	take(&rec, text);
	ck_assert_uint_le(rec.len, LOG_TEXT_MAX);
	ck_assert_str_eq(text + rec.len - 3, "...");
}
END_TEST

START_TEST(full_queue_is_counted)
{
	uint64_t before = log_lost();

	errno = 7;
	for (unsigned i = 0; i < 100000 && log_lost() == before; i++)
		log_info("record %u", i);
	ck_assert_uint_eq(log_lost(), before + 1);
	ck_assert_int_eq(errno, 7);
	close(sock[1]);
	log_info("nobody");
	ck_assert_uint_eq(log_lost(), before + 2);
}
END_TEST

/* Two bursts in possibly different seconds: the counts of what came and what was swallowed add up. */
START_TEST(limited)
{
	struct log_class class = { 0 };
	struct log_rec rec;
	char text[LOG_TEXT_MAX + 1];
	unsigned came = 0, told = 0;

	for (unsigned i = 0; i < 1000; i++) {
		log_limited(&class, 2, LOG_L_WARN, "bad packet %u", i);
		while (!is_empty())
			came++;
	}
	/* At most two a second, and the loop takes far less than 100. */
	ck_assert_uint_ge(came, 2);
	ck_assert_uint_lt(came, 200);
	ck_assert_uint_gt(class.suppressed, 0);
	class.second = 0; /* as if the next second had come */
	told = class.suppressed;
	log_limited(&class, 2, LOG_L_WARN, "bad packet");
	take(&rec, text);
	ck_assert_str_eq(text, "bad packet");
	ck_assert_uint_eq(rec.suppressed, told);
	ck_assert_uint_eq(class.suppressed, 0);
	log_limited(&class, 2, LOG_L_DEBUG, "below the level");
	ck_assert(is_empty());
}
END_TEST

/* What a child writes to stderr while it runs body(), and how it ends. */
static int
capture(void (*body)(void), char *out, size_t out_len)
{
	int fds[2], status;
	ssize_t n;
	size_t at = 0;
	pid_t pid;

	ck_assert_int_eq(pipe(fds), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		dup2(fds[1], STDERR_FILENO);
		log_sink_fd(-1);
		body();
		_exit(0);
	}
	close(fds[1]);
	while ((n = read(fds[0], out + at, out_len - 1 - at)) > 0)
		at += (size_t)n;
	out[at] = '\0';
	close(fds[0]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return status;
}

static void
say_two(void)
{
	log_warnx("relay: %s", "nothing");
	log_info("second");
}

static void
die(void)
{
	errno = EACCES;
	fatal(78, "config: %s", "open");
}

START_TEST(on_stderr)
{
	char out[500];
	int status = capture(say_two, out, sizeof out);

	ck_assert_int_eq(status, 0);
	ck_assert_str_eq(out, "turnpike-worker[3] WARN relay: nothing\nturnpike-worker[3] INFO second\n");
}
END_TEST

START_TEST(fatal_exits)
{
	char out[500];
	int status = capture(die, out, sizeof out);

	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), 78);
	ck_assert_str_eq(out, "turnpike-worker[3] ERROR config: open: Permission denied\n");
}
END_TEST

Suite *
suite_log(void)
{
	Suite *s = suite_create("log");
	TCase *t = tcase_create("log");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, record);
	tcase_add_test(t, levels);
	tcase_add_test(t, control_bytes_are_escaped_quotes_are_not);
	tcase_add_test(t, long_text_is_cut);
	tcase_add_test(t, full_queue_is_counted);
	tcase_add_test(t, limited);
	tcase_add_test(t, on_stderr);
	tcase_add_test(t, fatal_exits);
	suite_add_tcase(s, t);
	return s;
}
