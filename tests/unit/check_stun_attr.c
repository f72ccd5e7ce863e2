/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_stun_attr.c: attr.c: each getter with every length, and with contents that are allowed and not.
 */
#include "config.h"

#include "check_stun.h"

static struct stun_attr
attr_of(const void *bytes, uint16_t len)
{
	return (struct stun_attr){ .type = 1, .len = len, .value = at_the_edge(bytes, len) };
}

START_TEST(only_the_right_length)
{
	static const uint8_t zero[40];
	struct stun_msg m = { .txid = "abcdefghijk" };

	for (uint16_t len = 0; len < sizeof zero; len++) {
		uint8_t value[40] = { 0, len == 20 ? 2 : 1 }, family = 9;
		struct stun_attr a = attr_of(value, len), z = attr_of(zero, len);
		struct addr out;
		uint16_t n;
		uint32_t v;
		bool b;

		a = attr_of(value, len);
		ck_assert_int_eq(stun_get_xaddr(&m, &a, &out), len == 8 || len == 20);
		z = attr_of(zero, len);
		ck_assert_int_eq(stun_get_u32(&z, &v), len == 4);
		ck_assert_int_eq(stun_get_channel(&z, &n), len == 4);
		ck_assert_int_eq(stun_get_alg(&z, &n), len == 4);
		ck_assert_int_eq(stun_get_family(&z, &family), len == 4);
		ck_assert_int_eq(stun_get_even_port(&z, &b), len == 1);
	}
}
END_TEST

START_TEST(absent_is_false)
{
	struct stun_msg m = { 0 };
	struct addr out;
	uint8_t family;
	uint16_t n;
	uint32_t v;
	bool b;

	ck_assert(!stun_get_u32(NULL, &v));
	ck_assert(!stun_get_xaddr(&m, NULL, &out));
	ck_assert(!stun_get_channel(NULL, &n));
	ck_assert(!stun_get_even_port(NULL, &b));
	ck_assert(!stun_get_family(NULL, &family));
	ck_assert(!stun_get_alg(NULL, &n));
}
END_TEST

START_TEST(values)
{
	struct stun_attr a = attr_of("\x40\x01\x12\x34", 4);
	uint8_t family;
	uint16_t n;
	uint32_t v;
	bool b;

	ck_assert(stun_get_u32(&a, &v));
	ck_assert_uint_eq(v, 0x40011234);
	ck_assert(stun_get_channel(&a, &n)); /* the reserved half is ignored */
	ck_assert_uint_eq(n, 0x4001);
	ck_assert(!stun_get_alg(&a, &n)); /* parameters announced */
	a = attr_of("\x00\x02\x00\x00", 4);
	ck_assert(stun_get_alg(&a, &n));
	ck_assert_uint_eq(n, STUN_ALG_SHA256);
	a = attr_of("\x80", 1);
	ck_assert(stun_get_even_port(&a, &b));
	ck_assert(b);
	a = attr_of("\x7f", 1);
	ck_assert(stun_get_even_port(&a, &b));
	ck_assert(!b);
	for (unsigned i = 0; i < 256; i++) {
		uint8_t w[4] = { (uint8_t)i, 0xff, 0xff, 0xff };

		a = attr_of(w, 4);
		ck_assert(stun_get_family(&a, &family));
		ck_assert_uint_eq(family, i == 1 ? ADDR_V4 : i == 2 ? ADDR_V6 : 0);
	}
}
END_TEST

START_TEST(addresses)
{
	static const uint8_t v4[8] = { 0xee, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43 };
	struct stun_msg m = { .txid = "abcdefghijk" };
	struct stun_attr a = attr_of(v4, 8);
	struct addr want, out;
	uint8_t wrong[20];

	memset(&out, 0xff, sizeof out);
	ck_assert_int_eq(addr_parse(&want, "192.0.2.1:32853"), 0);
	ck_assert(stun_get_xaddr(&m, &a, &out)); /* the first byte is to be ignored */
	ck_assert(addr_eq(&out, &want));
	for (unsigned f = 0; f < 256; f++) {
		memcpy(wrong, v4, 8);
		memset(wrong + 8, 0, 12);
		wrong[1] = (uint8_t)f;
		a = attr_of(wrong, 8);
		ck_assert_int_eq(stun_get_xaddr(&m, &a, &out), f == 1);
		a = attr_of(wrong, 20);
		ck_assert_int_eq(stun_get_xaddr(&m, &a, &out), f == 2);
	}
}
END_TEST

Suite *
suite_attr(void)
{
	Suite *s = suite_create("attr");
	TCase *t = tcase_create("attr");

	tcase_add_test(t, only_the_right_length);
	tcase_add_test(t, absent_is_false);
	tcase_add_test(t, values);
	tcase_add_test(t, addresses);
	suite_add_tcase(s, t);
	return s;
}
