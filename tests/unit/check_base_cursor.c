/* SPDX-License-Identifier: BSD-3-Clause */
/* check_base_cursor.c: the cursors of base.h: nothing beyond the end, the error sticks. */
#include "config.h"

#include "check_base.h"

START_TEST(reads_and_sticks)
{
	static const uint8_t b[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };
	struct rd r = rd_over(b, sizeof b);

	ck_assert_uint_eq(rd_u8(&r), 1);
	ck_assert_uint_eq(rd_u16(&r), 0x0203);
	ck_assert_uint_eq(rd_u32(&r), 0x04050607);
	ck_assert_uint_eq(rd_u64(&r), 0x08090a0b0c0d0e0full);
	ck_assert_uint_eq(rd_left(&r), 1);
	ck_assert_uint_eq(rd_u16(&r), 0);
	ck_assert(r.bad);
	ck_assert_uint_eq(rd_left(&r), 0);
	ck_assert_uint_eq(rd_u8(&r), 0); /* the byte is there, but the error sticks */
	ck_assert_ptr_null(rd_bytes(&r, 0));
}
END_TEST

START_TEST(refuses_huge_lengths)
{
	uint8_t b[4] = { 0 };
	struct rd r = rd_over(b, sizeof b);
	struct wr w = wr_over(b, sizeof b);

	ck_assert_ptr_null(rd_bytes(&r, SIZE_MAX));
	ck_assert(r.bad);
	ck_assert_ptr_null(wr_room(&w, SIZE_MAX));
	ck_assert(w.bad);
}
END_TEST

START_TEST(writes_and_sticks)
{
	uint8_t b[18];
	struct wr w = wr_over(b, 17);

	memset(b, 0xee, sizeof b);
	wr_u8(&w, 1);
	wr_u16(&w, 0x0203);
	wr_u32(&w, 0x04050607);
	wr_u64(&w, 0x08090a0b0c0d0e0full);
	wr_zero(&w, 1);
	ck_assert_uint_eq(wr_len(&w), 16);
	ck_assert(!w.bad);
	wr_u16(&w, 0xffff);
	ck_assert(w.bad);
	wr_u8(&w, 0xff);
	ck_assert_mem_eq(b, "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x00\xee\xee", 18);
	ck_assert_uint_eq(get_u64(b + 7), 0x08090a0b0c0d0e0full);
}
END_TEST

START_TEST(seconds_round_up)
{
	ck_assert_uint_eq(TP_SEC_UP((tp_ms)0), 0);
	ck_assert_uint_eq(TP_SEC_UP((tp_ms)1), 1);
	ck_assert_uint_eq(TP_SEC_UP((tp_ms)1000), 1);
	ck_assert_uint_eq(TP_SEC_UP((tp_ms)1001), 2);
}
END_TEST

Suite *
suite_cursor(void)
{
	Suite *s = suite_create("cursor");
	TCase *t = tcase_create("cursor");

	tcase_add_test(t, reads_and_sticks);
	tcase_add_test(t, refuses_huge_lengths);
	tcase_add_test(t, writes_and_sticks);
	tcase_add_test(t, seconds_round_up);
	suite_add_tcase(s, t);
	return s;
}
