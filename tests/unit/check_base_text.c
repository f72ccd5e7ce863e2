/* SPDX-License-Identifier: BSD-3-Clause */
/* check_base_text.c: text.c */
#include "config.h"

#include <errno.h>

#include "check_base.h"

static const struct {
	const char *in;
	size_t len;
	const char *out;
	size_t room;
} escapes[] = {
	{ "plain", 5, "plain", 32 },
	{ "a\"b\\c", 5, "a\\x22b\\x5cc", 32 },
	{ "a\nb\r\t", 5, "a\\x0ab\\x0d\\x09", 32 },
	{ "\0\x7f\x80\xff", 4, "\\x00\\x7f\\x80\\xff", 32 },
	{ "\xc3\xa9", 2, "\\xc3\\xa9", 32 },
	{ "", 0, "", 32 },
	{ "exact", 5, "exact", 6 },
	{ "longer than fits", 16, "longe...", 9 },
	{ "ab\ncd", 5, "ab...", 7 }, /* never half an escape */
	{ "abc", 3, "abc", 4 },
	{ "abcd", 4, "..", 3 },
	{ "abcd", 4, "", 1 },
};

START_TEST(escape)
{
	char buf[40];

	memset(buf, '#', sizeof buf);
	ck_assert_ptr_eq(text_escape(buf, escapes[_i].room, escapes[_i].in, escapes[_i].len), buf);
	ck_assert_str_eq(buf, escapes[_i].out);
	ck_assert_int_eq(buf[escapes[_i].room], '#');
}
END_TEST

START_TEST(escape_without_room)
{
	char c = '#';

	text_escape(&c, 0, "abc", 3);
	ck_assert_int_eq(c, '#');
}
END_TEST

/* Any room, any bytes: terminated, printable, never beyond the room. */
START_TEST(escape_every_room)
{
	uint8_t all[256];
	char buf[1100];

	for (unsigned i = 0; i < 256; i++)
		all[i] = (uint8_t)(i * 37u);
	for (size_t room = 1; room < 1060; room++) {
		memset(buf, '#', sizeof buf);
		text_escape(buf, room, all, sizeof all);
		ck_assert_uint_lt(strlen(buf), room);
		ck_assert_int_eq(buf[room], '#');
		for (const char *p = buf; *p != '\0'; p++)
			ck_assert(*p >= 0x20 && *p < 0x7f && *p != '"');
	}
}
END_TEST

START_TEST(copy)
{
	char buf[6] = "#####";

	ck_assert_uint_eq(text_copy(buf, 5, "abc"), 3);
	ck_assert_str_eq(buf, "abc");
	ck_assert_uint_eq(text_copy(buf, 5, "abcdefg"), 7);
	ck_assert_str_eq(buf, "abcd");
	ck_assert_uint_eq(text_copy(buf, 1, "x"), 1);
	ck_assert_str_eq(buf, "");
	buf[0] = '#';
	ck_assert_uint_eq(text_copy(buf, 0, "x"), 1);
	ck_assert_int_eq(buf[0], '#');
}
END_TEST

START_TEST(hex)
{
	char buf[9] = "########";

	ck_assert_str_eq(text_hex(buf, "\x00\x9f\xa0\xff", 4), "009fa0ff");
	ck_assert_str_eq(text_hex(buf, "", 0), "");
}
END_TEST

static const struct {
	const char *text;
	int64_t unix_s;
} times[] = {
	{ "1970-01-01T00:00:00Z", 0 },
	{ "2030-01-01T00:00:00Z", 1893456000 },
	{ "2000-02-29T12:34:56Z", 951827696 },
	{ "2024-02-29T23:59:59Z", 1709251199 },
	{ "2038-01-19T03:14:08Z", 2147483648 },
	{ "1969-12-31T23:59:59Z", -1 },
	{ "2030-01-01T02:00:00+02:00", 1893456000 },
	{ "2029-12-31T18:30:00-05:30", 1893456000 },
	{ "2016-12-31T23:59:60Z", 1483228800 },
	{ "9999-12-31T23:59:59Z", 253402300799 },
	{ "2030-01-01T00:00:00-00:00", 1893456000 },
};

START_TEST(time_good)
{
	int64_t t = 5;

	ck_assert_int_eq(text_time(&t, times[_i].text), 0);
	ck_assert_int_eq(t, times[_i].unix_s);
}
END_TEST

static const char *const bad_times[] = {
	"",
	"2030",
	"2030-01-01",
	"2030-01-01T00:00:00",
	"2030-01-01 00:00:00Z",
	"2030-1-01T00:00:00Z",
	"2030-13-01T00:00:00Z",
	"2030-00-01T00:00:00Z",
	"2030-02-29T00:00:00Z",
	"2100-02-29T00:00:00Z",
	"2030-04-31T00:00:00Z",
	"2030-01-32T00:00:00Z",
	"2030-01-00T00:00:00Z",
	"2030-01-01T24:00:00Z",
	"2030-01-01T00:60:00Z",
	"2030-01-01T00:00:61Z",
	"2030-01-01T00:00:00z",
	"2030-01-01T00:00:00Zx",
	" 2030-01-01T00:00:00Z",
	"2030-01-01T00:00:00Z ",
	"2030-01-01T00:00:00+2:00",
	"2030-01-01T00:00:00+24:00",
	"2030-01-01T00:00:00+02:60",
	"2030-01-01T00:00:00+0200",
	"2030-01-01T00:00:00+02:00x",
	"+030-01-01T00:00:00Z",
	"-030-01-01T00:00:00Z",
	"2030-01-01T00:00:00.5Z",
	"12030-01-01T00:00:00Z",
	"0000-01-01T00:00:00Z",
};

START_TEST(time_bad)
{
	int64_t t = 5;

	ck_assert_msg(text_time(&t, bad_times[_i]) == -EINVAL, "accepted \"%s\"", bad_times[_i]);
	ck_assert_int_eq(t, 5);
}
END_TEST

Suite *
suite_text(void)
{
	Suite *s = suite_create("text");
	TCase *t = tcase_create("text");

	tcase_add_loop_test(t, escape, 0, TP_COUNT(escapes));
	tcase_add_test(t, escape_without_room);
	tcase_add_test(t, escape_every_room);
	tcase_add_test(t, copy);
	tcase_add_test(t, hex);
	tcase_add_loop_test(t, time_good, 0, TP_COUNT(times));
	tcase_add_loop_test(t, time_bad, 0, TP_COUNT(bad_times));
	suite_add_tcase(s, t);
	return s;
}
