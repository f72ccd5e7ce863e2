/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_stun_build.c: build.c: bytes on the wire, padding, running out of room, and that what is built
 * parses back equal.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "check_stun.h"

static const uint8_t txid[STUN_TXID] = "abcdefghijkl";

static struct addr
addr_of(const char *text)
{
	struct addr a;

	ck_assert_int_eq(addr_parse(&a, text), 0);
	return a;
}

static void
parse_back(struct stun_msg *m, struct stun_out *o)
{
	size_t n = stun_end(o);

	ck_assert_uint_gt(n, 0);
	ck_assert_uint_eq(n % 4, 0);
	ck_assert_int_eq(stun_parse(m, at_the_edge(o->w.base, n), n), STUN_OK);
}

START_TEST(padding_is_zero)
{
	uint8_t buf[64];

	for (size_t len = 0; len < 9; len++) {
		struct stun_out o;
		size_t n, used = STUN_HEADER + 4 + len;

		memset(buf, 0xff, sizeof buf);
		stun_begin(&o, buf, sizeof buf, STUN_REQUEST, STUN_BINDING, txid);
		stun_put_bytes(&o, STUN_A_SOFTWARE, "12345678", len);
		n = stun_end(&o);
		ck_assert_uint_eq(n, (used + 3) & ~(size_t)3);
		ck_assert_uint_eq(get_u16(buf + 2), n - STUN_HEADER);
		ck_assert_uint_eq(get_u16(buf + STUN_HEADER + 2), len);
		for (size_t i = used; i < n; i++)
			ck_assert_uint_eq(buf[i], 0);
		ck_assert_uint_eq(buf[n], 0xff);
	}
}
END_TEST

static size_t
build_all(uint8_t *buf, size_t cap)
{
	static const uint16_t unknown[] = { 0x7001, 0x7002, 0x7003 };
	struct addr v4 = addr_of("192.0.2.1:32853"), v6 = addr_of("[2001:db8::1]:9");
	struct stun_out o;

	stun_begin(&o, buf, cap, STUN_ERROR, STUN_ALLOCATE, txid);
	stun_put_error(&o, 420, true);
	stun_put_unknown(&o, unknown, 3);
	stun_put_xaddr(&o, STUN_A_XOR_MAPPED_ADDRESS, &v4);
	stun_put_xaddr(&o, STUN_A_XOR_RELAYED_ADDRESS, &v6);
	stun_put_addr(&o, STUN_A_ALTERNATE_SERVER, &v4);
	stun_put_address_error(&o, ADDR_V6, 440);
	stun_put_icmp(&o, 3, 4, 1400);
	stun_put_u32(&o, STUN_A_LIFETIME, 600);
	stun_put_mi(&o, txid, sizeof txid);
	stun_put_mi256(&o, txid, sizeof txid);
	stun_put_fingerprint(&o);
	return stun_end(&o);
}

START_TEST(wire_forms)
{
	uint8_t buf[400];
	struct stun_msg m;
	size_t n = build_all(buf, sizeof buf);
	struct addr a, v4 = addr_of("192.0.2.1:32853"), v6 = addr_of("[2001:db8::1]:9");

	ck_assert_int_eq(stun_parse(&m, at_the_edge(buf, n), n), STUN_OK);
	ck_assert_uint_eq(m.cls, STUN_ERROR);
	ck_assert_mem_eq(stun_find(&m, STUN_A_ERROR_CODE)->value, "\0\0\4\x14Unknown Attribute", 21);
	ck_assert_uint_eq(stun_find(&m, STUN_A_ERROR_CODE)->len, 21);
	ck_assert_uint_eq(stun_find(&m, STUN_A_UNKNOWN_ATTRIBUTES)->len, 6);
	ck_assert_mem_eq(stun_find(&m, STUN_A_UNKNOWN_ATTRIBUTES)->value, "\x70\1\x70\2\x70\3\0\0", 8);
	ck_assert(stun_get_xaddr(&m, stun_find(&m, STUN_A_XOR_MAPPED_ADDRESS), &a));
	ck_assert(addr_eq(&a, &v4));
	ck_assert(stun_get_xaddr(&m, stun_find(&m, STUN_A_XOR_RELAYED_ADDRESS), &a));
	ck_assert(addr_eq(&a, &v6));
	ck_assert_mem_eq(
	    stun_find(&m, STUN_A_XOR_MAPPED_ADDRESS)->value, "\0\1\xa1\x47\xe1\x12\xa6\x43", 8);
	ck_assert_mem_eq(stun_find(&m, STUN_A_ALTERNATE_SERVER)->value, "\0\1\x80\x55\xc0\0\2\1", 8);
	ck_assert_mem_eq(stun_find(&m, STUN_A_ADDRESS_ERROR_CODE)->value, "\2\0\4\x28", 4);
	/* type 3 in 7 bits, code 4 in 9 bits */
	ck_assert_mem_eq(stun_find(&m, STUN_A_ICMP)->value, "\0\0\x06\x04\0\0\x05\x78", 8);
	ck_assert(stun_check_mi(&m, txid, sizeof txid));
	ck_assert(stun_check_mi256(&m, txid, sizeof txid));
	ck_assert(m.has_fingerprint);
}
END_TEST

START_TEST(no_room)
{
	uint8_t buf[400];
	size_t n = build_all(buf, sizeof buf);

	for (size_t cap = 0; cap < n; cap++) {
		memset(buf, 0xee, sizeof buf);
		ck_assert_uint_eq(build_all(buf, cap), 0);
		for (size_t i = cap; i < sizeof buf; i++)
			ck_assert_uint_eq(buf[i], 0xee);
	}
	ck_assert_uint_eq(build_all(buf, n), n);
}
END_TEST

START_TEST(misuse_is_an_error)
{
	static uint8_t big[70000];
	struct addr none = { 0 };
	uint8_t buf[100];
	struct stun_out o;

	stun_begin(&o, buf, sizeof buf, STUN_SUCCESS, STUN_BINDING, txid);
	stun_put_xaddr(&o, STUN_A_XOR_MAPPED_ADDRESS, &none);
	ck_assert_uint_eq(stun_end(&o), 0);
	stun_begin(&o, buf, sizeof buf, STUN_SUCCESS, STUN_BINDING, txid);
	stun_put_icmp(&o, 128, 0, 0);
	ck_assert_uint_eq(stun_end(&o), 0);
	stun_begin(&o, big, sizeof big, STUN_SUCCESS, STUN_BINDING, txid);
	stun_put_bytes(&o, STUN_A_DATA, big, 65536);
	ck_assert_uint_eq(stun_end(&o), 0);
	stun_begin(&o, big, sizeof big, STUN_SUCCESS, STUN_BINDING, txid);
	stun_put_bytes(&o, STUN_A_DATA, vectors[0].bytes, 100);
	stun_put_bytes(&o, STUN_A_DATA, big + 200, 65420); /* each fits, together they do not */
	ck_assert_uint_eq(stun_end(&o), 0);
}
END_TEST

START_TEST(rfc_vectors_are_rebuilt)
{
	const struct vector *v = &vectors[V_LONG_TERM];
	uint8_t buf[200], key[STUN_KEY_MAX];
	struct stun_msg m;
	struct stun_out o;

	ck_assert_int_eq(stun_parse(&m, v->bytes, v->len), STUN_OK);
	stun_begin(&o, buf, sizeof buf, STUN_REQUEST, STUN_BINDING, m.txid);
	for (unsigned i = 0; i < 3; i++)
		stun_put_bytes(&o, m.attr[i].type, m.attr[i].value, m.attr[i].len);
	stun_key(STUN_ALG_MD5, m.attr[0].value, m.attr[0].len, "example.org", 11, "TheMatrIX", 9, key);
	stun_put_mi(&o, key, 16);
	ck_assert_uint_eq(stun_end(&o), v->len);
	ck_assert_mem_eq(buf, v->bytes, v->len);
}
END_TEST

static void
check_data_indication(const char *peer_text, size_t len)
{
	uint8_t buf[STUN_DATA_HEADROOM + 100 + 3 + 1], *start, *payload = buf + STUN_DATA_HEADROOM;
	struct addr peer = addr_of(peer_text), a;
	const struct stun_attr *d;
	struct stun_msg m;
	size_t n;

	memset(buf, 0xee, sizeof buf);
	for (size_t i = 0; i < len; i++)
		payload[i] = (uint8_t)(i + 1);
	start = stun_data_indication(payload, len, &peer, txid, &n);
	ck_assert(start >= buf);
	ck_assert_ptr_eq(start + (peer.family == ADDR_V4 ? 36 : 48), payload);
	ck_assert_uint_eq(payload[(len + 3) & ~3u], 0xee);
	if (start > buf)
		ck_assert_uint_eq(start[-1], 0xee);
	ck_assert_int_eq(stun_parse(&m, at_the_edge(start, n), n), STUN_OK);
	ck_assert_uint_eq(m.cls, STUN_INDICATION);
	ck_assert_uint_eq(m.method, STUN_DATA);
	ck_assert_mem_eq(m.txid, txid, STUN_TXID);
	ck_assert_uint_eq(m.count, 2);
	ck_assert(stun_get_xaddr(&m, stun_find(&m, STUN_A_XOR_PEER_ADDRESS), &a));
	ck_assert(addr_eq(&a, &peer));
	d = stun_find(&m, STUN_A_DATA);
	ck_assert_uint_eq(d->len, len);
	for (size_t i = 0; i < len; i++)
		ck_assert_uint_eq(d->value[i], (uint8_t)(i + 1));
	for (const uint8_t *p = d->value + len; p < m.raw + n; p++)
		ck_assert_uint_eq(*p, 0);
}

START_TEST(data_indications)
{
	for (size_t len = 0; len <= 100; len++) {
		check_data_indication("192.0.2.1:32853", len);
		check_data_indication("[2001:db8::1]:32853", len);
	}
}
END_TEST

START_TEST(data_indication_too_long)
{
	static uint8_t buf[STUN_DATA_HEADROOM + 65536 + 3];
	struct addr v4 = addr_of("192.0.2.1:1"), v6 = addr_of("[::1]:1");
	size_t n = 1;

	ck_assert_ptr_nonnull(stun_data_indication(buf + STUN_DATA_HEADROOM, 65516, &v4, txid, &n));
	ck_assert_uint_eq(n, FRAME_STREAM_MAX);
	ck_assert_uint_eq(get_u16(buf + STUN_DATA_HEADROOM - 36 + 2), 65532);
	ck_assert_ptr_null(stun_data_indication(buf + STUN_DATA_HEADROOM, 65517, &v4, txid, &n));
	ck_assert_uint_eq(n, 0);
	ck_assert_ptr_nonnull(stun_data_indication(buf + STUN_DATA_HEADROOM, 65504, &v6, txid, &n));
	ck_assert_ptr_null(stun_data_indication(buf + STUN_DATA_HEADROOM, 65535, &v6, txid, &n));
}
END_TEST

/* ---- property: what is built parses back equal --------------------------------------------- */

static uint64_t rng;

static uint32_t
rnd(uint32_t below)
{
	rng ^= rng << 13; /* xorshift64 */
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)(rng >> 32) % below;
}

static void
rnd_bytes(uint8_t *p, size_t n)
{
	while (n-- > 0)
		*p++ = (uint8_t)rnd(256);
}

struct put {
	uint16_t type;
	uint8_t kind, len;
	uint8_t bytes[64];
	struct addr a;
	uint32_t v;
};
enum { PUT_BYTES, PUT_U32, PUT_XADDR, PUT_KINDS };

static void
rnd_put(struct put *p)
{
	memset(p, 0, sizeof *p);
	p->kind = (uint8_t)rnd(PUT_KINDS);
	p->len = (uint8_t)rnd(sizeof p->bytes + 1);
	p->v = rnd(UINT32_MAX);
	rnd_bytes(p->bytes, p->len);
	p->a.family = rnd(2) ? ADDR_V4 : ADDR_V6;
	p->a.port = (uint16_t)rnd(65536);
	rnd_bytes(p->a.ip, addr_iplen(&p->a));
	do /* those three have rules of their own */
		p->type = (uint16_t)rnd(65536);
	while (p->type == STUN_A_MESSAGE_INTEGRITY || p->type == STUN_A_MESSAGE_INTEGRITY_SHA256 ||
	    p->type == STUN_A_FINGERPRINT);
}

static void
do_put(struct stun_out *o, const struct put *p)
{
	if (p->kind == PUT_BYTES)
		stun_put_bytes(o, p->type, p->bytes, p->len);
	else if (p->kind == PUT_U32)
		stun_put_u32(o, p->type, p->v);
	else
		stun_put_xaddr(o, p->type, &p->a);
}

static bool
is_equal(const struct stun_msg *m, const struct stun_attr *a, const struct put *p)
{
	struct addr addr;
	uint32_t v;

	if (a->type != p->type)
		return false;
	if (p->kind == PUT_BYTES)
		return a->len == p->len && memcmp(a->value, p->bytes, p->len) == 0;
	if (p->kind == PUT_U32)
		return stun_get_u32(a, &v) && v == p->v;
	return stun_get_xaddr(m, a, &addr) && addr_eq(&addr, &p->a);
}

static void
one_round(void)
{
	uint8_t buf[6000], id[STUN_TXID], key[40];
	unsigned n = rnd(STUN_ATTRS_MAX - 3), signs = rnd(8);
	enum stun_class cls = (enum stun_class)rnd(4);
	uint16_t method = (uint16_t)rnd(0x1000);
	struct put put[STUN_ATTRS_MAX];
	struct stun_out o;
	struct stun_msg m;
	size_t key_len = rnd(sizeof key + 1);

	rnd_bytes(id, sizeof id);
	rnd_bytes(key, sizeof key);
	stun_begin(&o, buf, sizeof buf, cls, method, id);
	for (unsigned i = 0; i < n; i++) {
		rnd_put(&put[i]);
		do_put(&o, &put[i]);
	}
	if (signs & 1)
		stun_put_mi(&o, key, key_len);
	if (signs & 2)
		stun_put_mi256(&o, key, key_len);
	if (signs & 4)
		stun_put_fingerprint(&o);
	parse_back(&m, &o);
	ck_assert_int_eq(m.cls, cls);
	ck_assert_uint_eq(m.method, method);
	ck_assert_mem_eq(m.txid, id, sizeof id);
	ck_assert_uint_eq(m.count, n + (signs & 1) + (signs >> 1 & 1) + (signs >> 2 & 1));
	for (unsigned i = 0; i < n; i++)
		ck_assert(is_equal(&m, &m.attr[i], &put[i]));
	ck_assert_int_eq(stun_check_mi(&m, key, key_len), (signs & 1) != 0);
	ck_assert_int_eq(stun_check_mi256(&m, key, key_len), (signs & 2) != 0);
	ck_assert_int_eq(m.has_fingerprint, (signs & 4) != 0);
	key[0] ^= 1;
	ck_assert(key_len == 0 || !stun_check_mi(&m, key, key_len));
}

START_TEST(built_parses_back)
{
	const char *given = getenv("TP_SEED");
	uint64_t seed = given != NULL ? strtoull(given, NULL, 0)
				      : (uint64_t)time(NULL) << 16 ^ (uint64_t)getpid();

	printf("built_parses_back: TP_SEED=%llu\n", (unsigned long long)seed);
	fflush(stdout);
	rng = seed * 0x9e3779b97f4a7c15u | 1; /* never zero, and near seeds differ */
	for (unsigned i = 0; i < 3000; i++)
		one_round();
}
END_TEST

Suite *
suite_build(void)
{
	Suite *s = suite_create("build");
	TCase *t = tcase_create("build");

	tcase_add_test(t, padding_is_zero);
	tcase_add_test(t, wire_forms);
	tcase_add_test(t, no_room);
	tcase_add_test(t, misuse_is_an_error);
	tcase_add_test(t, rfc_vectors_are_rebuilt);
	tcase_add_test(t, data_indications);
	tcase_add_test(t, data_indication_too_long);
	tcase_add_test(t, built_parses_back);
	suite_add_tcase(s, t);
	return s;
}
