/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_admin.c: lines, heads, log formats, targets.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check_admin.h"
#include "tp/admin.h"
#include "tp/msg.h"

/* ---- lines ------------------------------------------------------------------------------------------ */

START_TEST(split_words)
{
	char line[] = "  close   user=\"a b\\\"c\\\\\" x\"y z\"  \"\" ", *w[CTL_WORDS_MAX];

	ck_assert_int_eq(ctl_split(line, w), 4);
	ck_assert_str_eq(w[0], "close");
	ck_assert_str_eq(w[1], "user=a b\"c\\");
	ck_assert_str_eq(w[2], "xy z");
	ck_assert_str_eq(w[3], "");
}
END_TEST

START_TEST(split_hostile)
{
	static const char *const bad[] = { "a \"b", "a \x01", "a\tb", "\x7f", "\"" };
	char line[CTL_LINE_MAX], *w[CTL_WORDS_MAX];

	for (unsigned i = 0; i < TP_COUNT(bad); i++) {
		strcpy(line, bad[i]);
		ck_assert_int_eq(ctl_split(line, w), -EINVAL);
	}
	line[0] = '\0';
	ck_assert_int_eq(ctl_split(line, w), 0);
	for (unsigned i = 0; i < CTL_WORDS_MAX; i++)
		strcpy(line + 2 * i, "x ");
	ck_assert_int_eq(ctl_split(line, w), CTL_WORDS_MAX);
	for (unsigned i = 0; i <= CTL_WORDS_MAX; i++)
		strcpy(line + 2 * i, "x ");
	ck_assert_int_eq(ctl_split(line, w), -EINVAL);
}
END_TEST

/* Whatever goes in comes out, or is refused. */
START_TEST(join_splits_back)
{
	static const char alphabet[] = "ab \"\\=:";
	unsigned seed = 7;
	char line[CTL_LINE_MAX + 1], *w[CTL_WORDS_MAX], words[8][12], *in[8];

	for (unsigned round = 0; round < 20000; round++) {
		int n = 1 + rand_r(&seed) % 8, len;

		for (int i = 0; i < n; i++) {
			int k = rand_r(&seed) % 11;
			for (int c = 0; c < k; c++)
				words[i][c] = alphabet[(unsigned)rand_r(&seed) % (sizeof alphabet - 1)];
			words[i][k] = '\0';
			in[i] = words[i];
		}
		len = ctl_join(line, sizeof line - 1, n, in);
		ck_assert_int_gt(len, 0);
		ck_assert_int_eq(line[len - 1], '\n');
		line[len - 1] = '\0';
		ck_assert_int_eq(ctl_split(line, w), n);
		for (int i = 0; i < n; i++)
			ck_assert_str_eq(w[i], words[i]);
	}
	in[0] = (char *)"new\nline";
	ck_assert_int_eq(ctl_join(line, sizeof line, 1, in), -EINVAL);
}
END_TEST

START_TEST(heads)
{
	unsigned code;
	size_t body, used;

	ck_assert_int_eq(ctl_head_parse("0 12\nbody", 9, &code, &body, &used), 0);
	ck_assert_uint_eq(code, 0);
	ck_assert_uint_eq(body, 12);
	ck_assert_uint_eq(used, 5);
	ck_assert_int_eq(ctl_head_parse("0 1", 3, &code, &body, &used), -EAGAIN);
	ck_assert_int_eq(ctl_head_parse("9 1\n", 4, &code, &body, &used), -EPROTO);
	ck_assert_int_eq(ctl_head_parse("0 x\n", 4, &code, &body, &used), -EPROTO);
	ck_assert_int_eq(ctl_head_parse("0 1 \n", 5, &code, &body, &used), -EPROTO);
	ck_assert_int_eq(
	    ctl_head_parse("00000000000000000000000000000000000", 34, &code, &body, &used), -EPROTO);
}
END_TEST

START_TEST(seconds)
{
	int64_t s = -1;

	ck_assert_int_eq(ctl_seconds("90", &s), 0);
	ck_assert_int_eq(s, 90);
	ck_assert_int_eq(ctl_seconds("1d", &s), 0);
	ck_assert_int_eq(s, 86400);
	ck_assert_int_eq(ctl_seconds("2h", &s), 0);
	ck_assert_int_eq(s, 7200);
	ck_assert_int_eq(ctl_seconds("", &s), -EINVAL);
	ck_assert_int_eq(ctl_seconds("d", &s), -EINVAL);
	ck_assert_int_eq(ctl_seconds("-1s", &s), -EINVAL);
	ck_assert_int_eq(ctl_seconds("99999999999999999999s", &s), -EINVAL);
}
END_TEST

/* ---- log -------------------------------------------------------------------------------------------- */

static struct log_rec
record(const char *text, size_t len, uint32_t suppressed)
{
	struct log_rec r = { .magic = LOG_REC_MAGIC,
		.level = LOG_L_WARN,
		.role = ROLE_WORKER,
		.index = 3,
		.pid = 77,
		.suppressed = suppressed,
		.wall_us = INT64_C(1763719200123456),
		.len = (uint16_t)len };

	memcpy(r.text, text, len);
	return r;
}

START_TEST(log_formats)
{
	struct log_rec r = record("a \"quoted\\\" text", 16, 5);
	char out[LOGLINE_MAX];
	json_t *o;

	logline_text(&r, out);
	ck_assert_str_eq(
	    out, "2025-11-21T10:00:00.123456Z WARN  worker[3] a \"quoted\\\" text (suppressed 5)\n");
	logline_json(&r, out);
	o = json_loads(out, JSON_REJECT_DUPLICATES, NULL);
	ck_assert_ptr_nonnull(o);
	ck_assert_str_eq(json_string_value(json_object_get(o, "message")), "a \"quoted\\\" text");
	ck_assert_str_eq(json_string_value(json_object_get(o, "level")), "warn");
	ck_assert_str_eq(json_string_value(json_object_get(o, "time")), "2025-11-21T10:00:00.123456Z");
	ck_assert_int_eq(json_integer_value(json_object_get(o, "suppressed")), 5);
	json_decref(o);
	logline_syslog(&r, out);
	ck_assert_int_eq(strncmp(out, "<28>", 4), 0);
	ck_assert_ptr_nonnull(strstr(out, "turnpike[77]: worker[3]: a "));
	logline_journal(&r, out);
	ck_assert_ptr_nonnull(strstr(out, "PRIORITY=4\n"));
	ck_assert_ptr_nonnull(strstr(out, "\nMESSAGE=worker[3]: a "));
}
END_TEST

/* A taken-over worker cannot forge lines or fields. */
START_TEST(log_hostile)
{
	size_t (*const formats[])(const struct log_rec *, char *) = {
		logline_text,
		logline_json,
		logline_syslog,
		logline_journal,
	};
	struct log_rec r = record("x\nPRIORITY=0\nMESSAGE=forged\x80\xff\0y", 32, 0);
	char out[LOGLINE_MAX], big[LOG_TEXT_MAX];

	for (unsigned i = 0; i < TP_COUNT(formats); i++) {
		size_t n = formats[i](&r, out);

		ck_assert_uint_eq(n, strlen(out));
		ck_assert_ptr_null(strstr(out, "\nPRIORITY=0"));
		for (size_t k = 0; k < n; k++)
			ck_assert(out[k] == '\n' || (out[k] >= 0x20 && out[k] < 0x7f));
		if (i < 2)
			ck_assert_ptr_eq(strchr(out, '\n'), out + n - 1);
	}
	memset(big, '"', sizeof big);
	r = record(big, sizeof big, 1);
	for (unsigned i = 0; i < TP_COUNT(formats); i++)
		ck_assert_uint_lt(formats[i](&r, out), 4096);
	r.wall_us = INT64_MIN;
	logline_text(&r, out);
	r.wall_us = INT64_MAX;
	logline_text(&r, out);
}
END_TEST

/* Fields become members of JSON and of the journal; what is not in the list, comes twice or overruns is
 * refused. */
START_TEST(log_fields)
{
	static const char good[] = "event=refused\0user=1234\0code=401\0client=192.0.2.1:5",
			  *bad[] = { "message=forged", "event=a\0event=b", "event", "Event=a", "=a",
				  "event=a\nb" };
	static const size_t bad_len[] = { 15, 16, 6, 8, 3, 10 };
	struct log_rec r = record("text", 4, 0);
	char out[LOGLINE_MAX];
	json_t *o;

	memcpy(r.text + 4, good, sizeof good);
	r.fields_len = sizeof good;
	ck_assert(logline_check(&r, LOG_REC_HEAD + 4 + sizeof good));
	logline_json(&r, out);
	o = json_loads(out, JSON_REJECT_DUPLICATES, NULL);
	ck_assert_ptr_nonnull(o);
	ck_assert_str_eq(json_string_value(json_object_get(o, "user")), "1234");
	ck_assert_int_eq(json_integer_value(json_object_get(o, "code")), 401);
	ck_assert_str_eq(json_string_value(json_object_get(o, "client")), "192.0.2.1:5");
	json_decref(o);
	logline_journal(&r, out);
	ck_assert_ptr_nonnull(strstr(out, "\nTURNPIKE_USER=1234\n"));
	ck_assert_ptr_nonnull(strstr(out, "\nTURNPIKE_CLIENT=192.0.2.1:5\nMESSAGE="));
	for (unsigned i = 0; i < TP_COUNT(bad); i++) {
		memcpy(r.text + 4, bad[i], bad_len[i]);
		r.fields_len = (uint16_t)bad_len[i];
		ck_assert_msg(!logline_check(&r, LOG_REC_HEAD + 4 + bad_len[i]), "%s", bad[i]);
	}
}
END_TEST

START_TEST(log_check)
{
	struct log_rec r = record("text", 4, 0), x;

	ck_assert(logline_check(&r, LOG_REC_HEAD + 4));
	ck_assert(!logline_check(&r, LOG_REC_HEAD + 3));
	ck_assert(!logline_check(&r, LOG_REC_HEAD + 5));
	ck_assert(!logline_check(&r, 3));
	x = r, x.magic = 1;
	ck_assert(!logline_check(&x, LOG_REC_HEAD + 4));
	x = r, x.level = 4;
	ck_assert(!logline_check(&x, LOG_REC_HEAD + 4));
	x = r, x.role = ROLES;
	ck_assert(!logline_check(&x, LOG_REC_HEAD + 4));
	x = r, x.len = LOG_TEXT_MAX + 1;
	ck_assert(!logline_check(&x, LOG_REC_HEAD + LOG_TEXT_MAX + 1));
}
END_TEST

START_TEST(target_file)
{
	char dir[] = "/tmp/tp-check-XXXXXX", path[64], link[64];
	struct log_rec r = record("one", 3, 0);
	struct target t = { .fd = -1 };
	struct stat st;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/log", dir);
	snprintf(link, sizeof link, "%s/link", dir);
	ck_assert_int_eq(target_open(&t, path, false, false), 0);
	target_write(&t, &r);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(st.st_mode & 07777, 0640);
	/* Rotation: moved away, opened again. */
	ck_assert_int_eq(rename(path, link), 0);
	ck_assert_int_eq(target_open(&t, path, true, false), 0);
	target_write(&t, &r);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_gt(st.st_size, 0);
	unlink(link);
	/* A link in its place is not followed, and the old target goes on. */
	ck_assert_int_eq(symlink(path, link), 0);
	ck_assert_int_eq(target_open(&t, link, false, false), -ELOOP);
	ck_assert_str_eq(t.name, path);
	target_write(&t, &r);
	ck_assert_uint_eq(t.lost, 0);
	ck_assert_int_eq(target_open(&t, "elsewhere", false, false), -EINVAL);
	target_close(&t);
	unlink(link);
	unlink(path);
	rmdir(dir);
}
END_TEST

/* A full pipe on stderr costs a counted line, not a wait. */
START_TEST(target_full)
{
	struct log_rec r = record("x", 1, 0);
	int fds[2];
	struct target t = { .kind = TARGET_STDERR };

	ck_assert_int_eq(pipe(fds), 0);
	t.fd = fds[1];
	for (unsigned i = 0; i < 4000; i++)
		target_write(&t, &r);
	ck_assert_uint_gt(t.lost, 0);
	close(fds[0]);
	close(fds[1]);
}
END_TEST

Suite *
suite_ctl_units(void)
{
	Suite *s = suite_create("ctl");
	TCase *t = tcase_create("units");

	tcase_add_test(t, split_words);
	tcase_add_test(t, split_hostile);
	tcase_add_test(t, join_splits_back);
	tcase_add_test(t, heads);
	tcase_add_test(t, seconds);
	tcase_add_test(t, log_formats);
	tcase_add_test(t, log_hostile);
	tcase_add_test(t, log_check);
	tcase_add_test(t, log_fields);
	tcase_add_test(t, target_file);
	tcase_add_test(t, target_full);
	suite_add_tcase(s, t);
	return s;
}

int
main(void)
{
	SRunner *r = srunner_create(suite_ctl_units());
	int failed;

	srunner_add_suite(r, suite_ctl_play());
	srunner_add_suite(r, suite_ctl_intake());
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
