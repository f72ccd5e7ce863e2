/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_stun_msg.c: stun_msg.c: what is refused, what is hidden, and that nothing beyond the end is read.
 */
#include "config.h"

#include "check_stun.h"

static const uint8_t txid[STUN_TXID] = "abcdefghijkl";

/* A message of hand-written attributes: header and body as given, length put in. */
struct raw {
	uint8_t bytes[2048];
	size_t len;
};

static void
raw_begin(struct raw *r, uint16_t type)
{
	put_u16(r->bytes, type);
	put_u32(r->bytes + 4, STUN_COOKIE);
	memcpy(r->bytes + 8, txid, STUN_TXID);
	r->len = STUN_HEADER;
	put_u16(r->bytes + 2, 0);
}

static void
raw_attr(struct raw *r, uint16_t type, const void *value, uint16_t len)
{
	uint8_t *p = r->bytes + r->len;

	put_u16(p, type);
	put_u16(p + 2, len);
	if (len > 0)
		memcpy(p + 4, value, len);
	r->len += 4u + ((len + 3u) & ~3u);
	put_u16(r->bytes + 2, (uint16_t)(r->len - STUN_HEADER));
}

static int
raw_parse(struct stun_msg *m, const struct raw *r)
{
	return stun_parse(m, at_the_edge(r->bytes, r->len), r->len);
}

START_TEST(every_prefix_is_refused)
{
	size_t len = vectors[_i].len;
	struct stun_msg m;

	for (size_t n = 0; n < len; n++)
		ck_assert_int_eq(stun_parse(&m, at_the_edge(vectors[_i].bytes, n), n), STUN_F_SHORT);
	ck_assert_int_eq(stun_parse(&m, at_the_edge(vectors[_i].bytes, len), len), STUN_OK);
}
END_TEST

/* Cut anywhere and with the header made to agree: parsed without an overrun, or refused. */
START_TEST(every_cut_is_safe)
{
	uint8_t copy[sizeof vectors[0].bytes];

	for (size_t n = STUN_HEADER; n < vectors[_i].len; n++) {
		struct stun_msg m;
		int err;

		memcpy(copy, vectors[_i].bytes, n);
		put_u16(copy + 2, (uint16_t)(n - STUN_HEADER));
		err = stun_parse(&m, at_the_edge(copy, n), n);
		if (n % 4 != 0)
			ck_assert_int_eq(err, STUN_F_LENGTH);
		else
			ck_assert(err == STUN_OK || err == STUN_F_ATTRS);
	}
}
END_TEST

START_TEST(every_alignment)
{
	uint8_t buf[sizeof vectors[0].bytes + 8];

	for (unsigned shift = 0; shift < 8; shift++) {
		struct stun_msg m;

		memcpy(buf + shift, vectors[_i].bytes, vectors[_i].len);
		ck_assert_int_eq(stun_parse(&m, buf + shift, vectors[_i].len), STUN_OK);
		ck_assert_ptr_eq(m.raw, buf + shift);
		ck_assert_uint_eq(m.count, _i == V_REQUEST ? 6 : 4);
	}
}
END_TEST

/* One flipped bit under a FINGERPRINT never goes unnoticed. */
START_TEST(every_flip_is_noticed)
{
	uint8_t copy[sizeof vectors[0].bytes];
	const struct vector *v = &vectors[V_REQUEST];

	for (size_t bit = 0; bit < v->len * 8; bit++) {
		struct stun_msg m;

		memcpy(copy, v->bytes, v->len);
		copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
		if (stun_parse(&m, at_the_edge(copy, v->len), v->len) == STUN_OK)
			ck_assert(!m.has_fingerprint);
	}
}
END_TEST

START_TEST(header_faults)
{
	static const uint8_t more[4];
	struct stun_msg m;
	struct raw r;

	raw_begin(&r, 0x0001);
	ck_assert_int_eq(raw_parse(&m, &r), STUN_OK);
	ck_assert_uint_eq(m.count, 0);
	for (unsigned top = 0x40; top <= 0xc0; top += 0x40) {
		r.bytes[0] = (uint8_t)top;
		ck_assert_int_eq(raw_parse(&m, &r), STUN_F_TYPE);
	}
	raw_begin(&r, 0x0001);
	r.bytes[7] ^= 1;
	ck_assert_int_eq(raw_parse(&m, &r), STUN_F_COOKIE);
	raw_begin(&r, 0x0001);
	memcpy(r.bytes + r.len, more, 4);
	r.len += 4;
	ck_assert_int_eq(raw_parse(&m, &r), STUN_F_LENGTH); /* more bytes than it says */
	put_u16(r.bytes + 2, 2);
	r.len = STUN_HEADER + 2;
	ck_assert_int_eq(raw_parse(&m, &r), STUN_F_LENGTH); /* not a multiple of 4 */
}
END_TEST

START_TEST(too_long)
{
	static uint8_t big[65552];
	struct stun_msg m;

	put_u16(big, 1);
	put_u32(big + 4, STUN_COOKIE);
	put_u16(big + 20, STUN_A_DATA);
	put_u16(big + 2, 65512);
	put_u16(big + 22, 65508);
	ck_assert_int_eq(stun_parse(&m, at_the_edge(big, 65532), 65532), STUN_OK);
	ck_assert_uint_eq(stun_find(&m, STUN_A_DATA)->len, 65508);
	/* Longer than a datagram, as a stream may carry it: up to what the length can say. */
	put_u16(big + 2, 65516);
	put_u16(big + 22, 65512);
	ck_assert_int_eq(stun_parse(&m, at_the_edge(big, 65536), 65536), STUN_OK);
	put_u16(big + 2, 65532);
	put_u16(big + 22, 65504); /* and MESSAGE-INTEGRITY at its end, beyond 16 bits of offset */
	put_u16(big + 24 + 65504, STUN_A_MESSAGE_INTEGRITY);
	put_u16(big + 26 + 65504, 20);
	ck_assert_int_eq(stun_parse(&m, at_the_edge(big, FRAME_STREAM_MAX), FRAME_STREAM_MAX), STUN_OK);
	ck_assert_uint_eq(m.mi_off, 24 + 65504);
	ck_assert(!stun_check_mi(&m, (const uint8_t *)"key", 3));
	put_u16(big + 2, 65535);
	ck_assert_int_eq(
	    stun_parse(&m, at_the_edge(big, FRAME_STREAM_MAX), FRAME_STREAM_MAX), STUN_F_SHORT);
}
END_TEST

START_TEST(class_and_method)
{
	static const struct {
		uint16_t type, method;
		uint8_t cls;
	} t[] = {
		{ 0x0001, STUN_BINDING, STUN_REQUEST },
		{ 0x0011, STUN_BINDING, STUN_INDICATION },
		{ 0x0101, STUN_BINDING, STUN_SUCCESS },
		{ 0x0111, STUN_BINDING, STUN_ERROR },
		{ 0x0003, STUN_ALLOCATE, STUN_REQUEST },
		{ 0x0113, STUN_ALLOCATE, STUN_ERROR },
		{ 0x0016, STUN_SEND, STUN_INDICATION },
		{ 0x0017, STUN_DATA, STUN_INDICATION },
		{ 0x3fff, 0xfff, STUN_ERROR },
		{ 0x3eef, 0xfff, STUN_REQUEST },
		{ 0x0020, 0x010, STUN_REQUEST },
		{ 0x0200, 0x080, STUN_REQUEST },
	};
	struct stun_msg m;
	struct stun_out o;
	struct raw r;
	uint8_t buf[STUN_HEADER];

	for (size_t i = 0; i < TP_COUNT(t); i++) {
		raw_begin(&r, t[i].type);
		ck_assert_int_eq(raw_parse(&m, &r), STUN_OK);
		ck_assert_uint_eq(m.method, t[i].method);
		ck_assert_uint_eq(m.cls, t[i].cls);
		stun_begin(&o, buf, sizeof buf, (enum stun_class)t[i].cls, t[i].method, txid);
		ck_assert_uint_eq(stun_end(&o), STUN_HEADER);
		ck_assert_mem_eq(buf, r.bytes, STUN_HEADER);
	}
}
END_TEST

START_TEST(attribute_overruns)
{
	static const uint16_t len[] = { 1, 4, 5, 8, 0x7fff, 0xfffc, 0xfffd, 0xffff };
	struct stun_msg m;
	struct raw r;

	for (size_t i = 0; i < TP_COUNT(len); i++) {
		raw_begin(&r, 0x0001);
		raw_attr(&r, STUN_A_SOFTWARE, "ok", 2);
		raw_attr(&r, STUN_A_USERNAME, NULL, 0);
		put_u16(r.bytes + r.len - 2, len[i]);
		ck_assert_int_eq(raw_parse(&m, &r), STUN_F_ATTRS);
	}
}
END_TEST

START_TEST(attribute_count)
{
	struct stun_msg m;
	struct raw r;

	raw_begin(&r, 0x0001);
	for (unsigned i = 0; i < STUN_ATTRS_MAX; i++)
		raw_attr(&r, STUN_A_SOFTWARE, "x", 1);
	ck_assert_int_eq(raw_parse(&m, &r), STUN_OK);
	ck_assert_uint_eq(m.count, STUN_ATTRS_MAX);
	raw_attr(&r, STUN_A_SOFTWARE, "x", 1);
	ck_assert_int_eq(raw_parse(&m, &r), STUN_F_ATTRS);
	/* Hidden ones count as well. */
	raw_begin(&r, 0x0001);
	raw_attr(&r, STUN_A_MESSAGE_INTEGRITY, "01234567890123456789", 20);
	for (unsigned i = 0; i < STUN_ATTRS_MAX; i++)
		raw_attr(&r, STUN_A_SOFTWARE, "x", 1);
	ck_assert_int_eq(raw_parse(&m, &r), STUN_F_ATTRS);
}
END_TEST

START_TEST(first_of_duplicates)
{
	const struct stun_attr *a;
	struct stun_msg m;
	struct raw r;

	raw_begin(&r, 0x0008);
	raw_attr(&r, STUN_A_USERNAME, "one", 3);
	raw_attr(&r, STUN_A_REALM, "r", 1);
	raw_attr(&r, STUN_A_USERNAME, "two", 3);
	raw_attr(&r, STUN_A_USERNAME, "three", 5);
	ck_assert_int_eq(raw_parse(&m, &r), STUN_OK);
	a = stun_find(&m, STUN_A_USERNAME);
	ck_assert_mem_eq(a->value, "one", 3);
	a = stun_find_next(&m, a);
	ck_assert_mem_eq(a->value, "two", 3);
	a = stun_find_next(&m, a);
	ck_assert_mem_eq(a->value, "three", 5);
	ck_assert_ptr_null(stun_find_next(&m, a));
	ck_assert_ptr_null(stun_find_next(&m, stun_find(&m, STUN_A_REALM)));
	ck_assert_ptr_null(stun_find(&m, STUN_A_NONCE));
}
END_TEST

START_TEST(hidden_behind_integrity)
{
	static const uint8_t mac[32];
	struct stun_msg m;
	struct raw r;

	raw_begin(&r, 0x0003);
	raw_attr(&r, STUN_A_USERNAME, "u", 1);
	raw_attr(&r, STUN_A_MESSAGE_INTEGRITY, mac, 20);
	raw_attr(&r, STUN_A_REALM, "hidden", 6);
	raw_attr(&r, 0x7777, "hidden and unknown", 18);
	raw_attr(&r, STUN_A_MESSAGE_INTEGRITY, mac, 20);
	raw_attr(&r, STUN_A_MESSAGE_INTEGRITY_SHA256, mac, 24);
	raw_attr(&r, STUN_A_NONCE, "hidden", 6);
	raw_attr(&r, STUN_A_MESSAGE_INTEGRITY_SHA256, mac, 32);
	raw_attr(&r, STUN_A_FINGERPRINT, mac, 4);
	put_u32(r.bytes + r.len - 4, stun_crc32(r.bytes, r.len - 8) ^ 0x5354554e);
	ck_assert_int_eq(raw_parse(&m, &r), STUN_OK);
	ck_assert_uint_eq(m.count, 4);
	ck_assert_uint_eq(m.attr[0].type, STUN_A_USERNAME);
	ck_assert_uint_eq(m.attr[1].type, STUN_A_MESSAGE_INTEGRITY);
	ck_assert_uint_eq(m.attr[2].type, STUN_A_MESSAGE_INTEGRITY_SHA256);
	ck_assert_uint_eq(m.attr[3].type, STUN_A_FINGERPRINT);
	ck_assert_uint_eq(m.unknown_count, 0);
	ck_assert_uint_eq(m.mi_off, STUN_HEADER + 8);
	ck_assert_uint_eq(m.mi256_off, STUN_HEADER + 8 + 24 + 12 + 24 + 24);
	ck_assert_uint_eq(m.mi256_len, 24);
	ck_assert(m.has_fingerprint);
}
END_TEST

/* MESSAGE-INTEGRITY behind -SHA256 is hidden: it must not be used. */
START_TEST(sha1_after_sha256)
{
	static const uint8_t mac[32];
	struct stun_msg m;
	struct raw r;

	raw_begin(&r, 0x0003);
	raw_attr(&r, STUN_A_MESSAGE_INTEGRITY_SHA256, mac, 32);
	raw_attr(&r, STUN_A_MESSAGE_INTEGRITY, mac, 20);
	ck_assert_int_eq(raw_parse(&m, &r), STUN_OK);
	ck_assert_uint_eq(m.count, 1);
	ck_assert_uint_eq(m.mi_off, 0);
}
END_TEST

START_TEST(fingerprint_faults)
{
	struct stun_msg m;
	struct raw r;

	raw_begin(&r, 0x0001);
	raw_attr(&r, STUN_A_FINGERPRINT, "1234", 4);
	ck_assert_int_eq(raw_parse(&m, &r), STUN_F_FINGERPRINT);
	put_u32(r.bytes + r.len - 4, stun_crc32(r.bytes, r.len - 8) ^ 0x5354554e);
	ck_assert_int_eq(raw_parse(&m, &r), STUN_OK);
	raw_attr(&r, STUN_A_SOFTWARE, "x", 1);
	put_u32(r.bytes + 24, stun_crc32(r.bytes, 20) ^ 0x5354554e);
	ck_assert_int_eq(raw_parse(&m, &r), STUN_F_FINGERPRINT); /* right, but not last */
	raw_begin(&r, 0x0001);
	raw_attr(&r, STUN_A_FINGERPRINT, "123", 3);
	ck_assert_int_eq(raw_parse(&m, &r), STUN_F_FINGERPRINT);
	raw_begin(&r, 0x0001);
	raw_attr(&r, STUN_A_FINGERPRINT, "12345678", 8);
	ck_assert_int_eq(raw_parse(&m, &r), STUN_F_FINGERPRINT);
}
END_TEST

START_TEST(unknown_attributes)
{
	struct stun_msg m;
	struct raw r;

	raw_begin(&r, 0x0001);
	raw_attr(&r, 0xc057, "optional", 8);
	raw_attr(&r, 0x8000, "opt", 3);
	for (uint16_t i = 0; i < 30; i++) {
		raw_attr(&r, (uint16_t)(0x7000 + i), NULL, 0);
		raw_attr(&r, (uint16_t)(0x7000 + i), NULL, 0);
	}
	ck_assert_int_eq(raw_parse(&m, &r), STUN_OK);
	ck_assert_uint_eq(m.unknown_count, 30);
	for (unsigned i = 0; i < 30; i++)
		ck_assert_uint_eq(m.unknown[i], 0x7000 + i);
}
END_TEST

START_TEST(names)
{
	ck_assert_str_eq(stun_method_name(STUN_ALLOCATE), "Allocate");
	ck_assert_str_eq(stun_method_name(STUN_CREATE_PERMISSION), "CreatePermission");
	ck_assert_str_eq(stun_method_name(0x7ff), "unknown");
	ck_assert_str_eq(stun_error_phrase(438), "Stale Nonce");
	ck_assert_str_eq(stun_error_phrase(0), "unknown");
	ck_assert_str_eq(stun_fault_name(STUN_F_COOKIE), "cookie");
	ck_assert_str_eq(stun_fault_name(-99), "unknown");
}
END_TEST

/* Each has a name of its own. */
START_TEST(every_name)
{
	static const uint16_t methods[] = { STUN_BINDING, STUN_ALLOCATE, STUN_REFRESH, STUN_SEND, STUN_DATA,
		STUN_CREATE_PERMISSION, STUN_CHANNEL_BIND, STUN_CONNECT, STUN_CONNECTION_BIND,
		STUN_CONNECTION_ATTEMPT };

	for (unsigned i = 0; i < TP_COUNT(methods); i++) {
		ck_assert_str_ne(stun_method_name(methods[i]), "unknown");
		for (unsigned k = 0; k < i; k++)
			ck_assert_str_ne(stun_method_name(methods[i]), stun_method_name(methods[k]));
	}
	for (int f = STUN_F_TYPE; f <= STUN_F_SHORT; f++) {
		ck_assert_str_ne(stun_fault_name(f), "unknown");
		for (int k = STUN_F_TYPE; k < f; k++)
			ck_assert_str_ne(stun_fault_name(f), stun_fault_name(k));
	}
}
END_TEST

Suite *
suite_msg(void)
{
	Suite *s = suite_create("msg");
	TCase *t = tcase_create("msg");

	tcase_add_loop_test(t, every_prefix_is_refused, 0, V_COUNT);
	tcase_add_loop_test(t, every_cut_is_safe, 0, V_COUNT);
	tcase_add_loop_test(t, every_alignment, 0, V_COUNT);
	tcase_add_test(t, every_flip_is_noticed);
	tcase_add_test(t, header_faults);
	tcase_add_test(t, too_long);
	tcase_add_test(t, class_and_method);
	tcase_add_test(t, attribute_overruns);
	tcase_add_test(t, attribute_count);
	tcase_add_test(t, first_of_duplicates);
	tcase_add_test(t, hidden_behind_integrity);
	tcase_add_test(t, sha1_after_sha256);
	tcase_add_test(t, fingerprint_faults);
	tcase_add_test(t, unknown_attributes);
	tcase_add_test(t, names);
	tcase_add_test(t, every_name);
	suite_add_tcase(s, t);
	return s;
}
