/* SPDX-License-Identifier: BSD-3-Clause */
/* check_base_addr.c: addr.c: what is accepted, what is refused, and that printing and parsing agree. */
#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>

#include "check_base.h"

static const struct {
	const char *text, *printed;
} good[] = {
	{ "192.0.2.1", "192.0.2.1" },
	{ "192.0.2.1:3478", "192.0.2.1:3478" },
	{ "0.0.0.0", "0.0.0.0" },
	{ "255.255.255.255:65535", "255.255.255.255:65535" },
	{ "2001:db8::1", "2001:db8::1" },
	{ "2001:DB8:0:0:0:0:0:1", "2001:db8::1" },
	{ "[2001:db8::1]:3478", "[2001:db8::1]:3478" },
	{ "[2001:db8::1]", "2001:db8::1" },
	{ "::", "::" },
	{ "[::]:1", "[::]:1" },
	{ "::ffff:192.0.2.1", "::ffff:192.0.2.1" },
	{ "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" },
	{ "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
	    "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535" },
	{ "192.0.2.1:0", "192.0.2.1" },
};

static const char *const bad[] = {
	"",
	" ",
	":",
	"::1::",
	"[",
	"[]",
	"[]:1",
	"]",
	"192.0.2",
	"192.0.2.1.1",
	"192.0.2.256",
	"192.0.2.-1",
	"192.0.2.01",
	"0192.0.2.1",
	"192.00.2.1",
	"192.0.2.1 ",
	" 192.0.2.1",
	"192.0.2.1\n",
	"0xc0.0.2.1",
	"3221225985",
	"192.0.2.1:",
	"192.0.2.1:03478",
	"192.0.2.1:65536",
	"192.0.2.1:99999999999",
	"192.0.2.1:+1",
	"192.0.2.1:-1",
	"192.0.2.1: 1",
	"192.0.2.1:1 ",
	"192.0.2.1:1x",
	"192.0.2.1:0x1",
	"192.0.2.1:1:2",
	"192.0.2.1/32",
	"[192.0.2.1]:1",
	"[192.0.2.1]",
	"2001:db8::1%eth0",
	"[2001:db8::1%1]:1",
	"[2001:db8::1]x",
	"[2001:db8::1]:",
	"[2001:db8::1]:65536",
	"[2001:db8::1",
	"2001:db8::1]",
	"[[2001:db8::1]]",
	"2001:db8:::1",
	"12345::1",
	"::g",
	"1:2:3:4:5:6:7:8:9",
	"localhost",
	"example.org:3478",
	"[2001:db8::1] :1",
	" [2001:db8::1]:1",
	"::ffff:192.0.2.256",
	"1.2.3.4:5]",
	"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
};

START_TEST(parses)
{
	char buf[ADDR_STRLEN];
	struct addr a, again;

	ck_assert_int_eq(addr_parse(&a, good[_i].text), 0);
	ck_assert_str_eq(addr_print(&a, buf), good[_i].printed);
	ck_assert_int_eq(addr_parse(&again, buf), 0);
	ck_assert(addr_eq(&a, &again));
}
END_TEST

START_TEST(refuses)
{
	struct addr a, before;

	memset(&a, 0x5a, sizeof a);
	before = a;
	ck_assert_msg(addr_parse(&a, bad[_i]) == -EINVAL, "accepted \"%s\"", bad[_i]);
	ck_assert(addr_eq(&a, &before));
}
END_TEST

START_TEST(v4_leaves_the_rest_zero)
{
	static const uint8_t zero[12];
	struct addr a;

	memset(&a, 0xff, sizeof a);
	ck_assert_int_eq(addr_parse(&a, "192.0.2.1:80"), 0);
	ck_assert_uint_eq(a.family, ADDR_V4);
	ck_assert_uint_eq(a.port, 80);
	ck_assert_mem_eq(a.ip, "\xc0\x00\x02\x01", 4);
	ck_assert_mem_eq(a.ip + 4, zero, 12);
	ck_assert_uint_eq(a.zero, 0);
}
END_TEST

START_TEST(kernel_form_and_back)
{
	struct sockaddr_storage ss;
	struct addr a, b;
	socklen_t n;

	memset(&ss, 0xff, sizeof ss);
	ck_assert_int_eq(addr_parse(&a, good[_i].text), 0);
	n = addr_to_sockaddr(&a, &ss);
	ck_assert_uint_eq(
	    n, a.family == ADDR_V4 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
	memset(&b, 0xff, sizeof b);
	ck_assert_int_eq(addr_from_sockaddr(&b, (struct sockaddr *)&ss), 0);
	ck_assert(addr_eq(&a, &b));
}
END_TEST

START_TEST(kernel_form_details)
{
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(7), .sin6_scope_id = 3 };
	struct sockaddr un = { .sa_family = AF_UNIX };
	struct sockaddr_storage ss;
	struct addr a = { 0 };
	char buf[ADDR_STRLEN];

	ck_assert_uint_eq(addr_to_sockaddr(&a, &ss), 0);
	ck_assert_str_eq(addr_print(&a, buf), "none");
	ck_assert_int_eq(addr_from_sockaddr(&a, &un), -EAFNOSUPPORT);
	ck_assert_int_eq(inet_pton(AF_INET6, "::ffff:10.0.0.1", &in6.sin6_addr), 1);
	ck_assert_int_eq(addr_from_sockaddr(&a, (struct sockaddr *)&in6), 0);
	ck_assert_uint_eq(a.family, ADDR_V6);
	ck_assert_str_eq(addr_print_ip(&a, buf), "::ffff:10.0.0.1");
	ck_assert_str_eq(addr_print(&a, buf), "[::ffff:10.0.0.1]:7");
}
END_TEST

static const char *const good_cidr[] = {
	"0.0.0.0/0",
	"10.0.0.0/8",
	"192.0.2.1/32",
	"192.0.2.128/25",
	"172.16.0.0/12",
	"::/0",
	"2001:db8::/32",
	"fe80::/10",
	"::1/128",
	"2001:db8:0:0:8000::/65",
};

static const char *const bad_cidr[] = {
	"",
	"/",
	"/8",
	"10.0.0.0/",
	"10.0.0.0/33",
	"10.0.0.0/08",
	"10.0.0.0/-1",
	"10.0.0.0/8 ",
	"10.0.0.0/8/8",
	"10.0.0.1/8",
	"10.0.0.0 /8",
	"10.0.0.0/ 8",
	"10/8",
	"10.0.0.0:1/8",
	"192.0.2.129/25",
	"::1/127",
	"2001:db8::1/32",
	"::/129",
	"[::]/0",
	"fe80::%1/10",
	"2001:db8::c000:0:0:0/65",
	"0.0.0.1/0",
	"010.0.0.0/8",
};

START_TEST(cidr_parses)
{
	char buf[ADDR_STRLEN];
	struct cidr c;

	ck_assert_int_eq(cidr_parse(&c, good_cidr[_i]), 0);
	ck_assert_str_eq(cidr_print(&c, buf), good_cidr[_i]);
}
END_TEST

START_TEST(cidr_refuses)
{
	struct cidr c, before;

	memset(&c, 0x5a, sizeof c);
	before = c;
	ck_assert_msg(cidr_parse(&c, bad_cidr[_i]) == -EINVAL, "accepted \"%s\"", bad_cidr[_i]);
	ck_assert_mem_eq(&c, &before, sizeof c);
}
END_TEST

static const struct {
	const char *cidr, *addr;
	bool in;
} member[] = {
	{ "0.0.0.0/0", "255.1.2.3", true },
	{ "0.0.0.0/0", "::1", false },
	{ "::/0", "1.2.3.4", false },
	{ "::/0", "ffff::", true },
	{ "10.0.0.0/8", "10.255.255.255", true },
	{ "10.0.0.0/8", "11.0.0.0", false },
	{ "172.16.0.0/12", "172.31.255.255:9", true },
	{ "172.16.0.0/12", "172.32.0.0", false },
	{ "192.0.2.1", "192.0.2.1:80", true },
	{ "192.0.2.1", "192.0.2.0", false },
	{ "fe80::/10", "febf::1", true },
	{ "fe80::/10", "fec0::1", false },
	{ "::1", "::1", true },
	{ "::1", "::", false },
	{ "2001:db8::8000:0:0:0/65", "2001:db8::8000:0:0:1", true },
	{ "2001:db8::8000:0:0:0/65", "2001:db8::7fff:0:0:1", false },
	{ "10.0.0.0/8", "::ffff:10.0.0.1", false },
};

START_TEST(cidr_members)
{
	struct cidr c;
	struct addr a;

	ck_assert_int_eq(cidr_parse(&c, member[_i].cidr), 0);
	ck_assert_int_eq(addr_parse(&a, member[_i].addr), 0);
	ck_assert_int_eq(cidr_has(&c, &a), member[_i].in);
}
END_TEST

START_TEST(no_address_is_in_nothing)
{
	struct cidr c = { 0 };
	struct addr a = { 0 };

	ck_assert(!cidr_has(&c, &a));
}
END_TEST

START_TEST(masks)
{
	static const struct {
		const char *in;
		unsigned bits;
		const char *out;
	} t[] = {
		{ "192.0.2.255:9", 24, "192.0.2.0" },
		{ "192.0.2.255:9", 32, "192.0.2.255" },
		{ "1.2.3.4", 0, "0.0.0.0" },
		{ "192.0.2.255", 25, "192.0.2.128" },
		{ "[2001:db8:1:2:3:4:5:6]:1", 64, "2001:db8:1:2::" },
		{ "2001:db8:1:2:3:4:5:6", 128, "2001:db8:1:2:3:4:5:6" },
		{ "ffff::", 3, "e000::" },
	};
	char buf[ADDR_STRLEN];
	struct addr a;

	for (size_t i = 0; i < TP_COUNT(t); i++) {
		ck_assert_int_eq(addr_parse(&a, t[i].in), 0);
		addr_mask(&a, &a, t[i].bits);
		ck_assert_str_eq(addr_print(&a, buf), t[i].out);
	}
}
END_TEST

Suite *
suite_addr(void)
{
	Suite *s = suite_create("addr");
	TCase *t = tcase_create("addr");

	tcase_add_loop_test(t, parses, 0, TP_COUNT(good));
	tcase_add_loop_test(t, refuses, 0, TP_COUNT(bad));
	tcase_add_test(t, v4_leaves_the_rest_zero);
	tcase_add_loop_test(t, kernel_form_and_back, 0, TP_COUNT(good));
	tcase_add_test(t, kernel_form_details);
	tcase_add_loop_test(t, cidr_parses, 0, TP_COUNT(good_cidr));
	tcase_add_loop_test(t, cidr_refuses, 0, TP_COUNT(bad_cidr));
	tcase_add_loop_test(t, cidr_members, 0, TP_COUNT(member));
	tcase_add_test(t, no_address_is_in_nothing);
	tcase_add_test(t, masks);
	suite_add_tcase(s, t);
	return s;
}
