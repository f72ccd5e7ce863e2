/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_super_pool.c: the pool on real sockets of a loopback address of this process and messages that are
 * written down.
 */
#include "config.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../src/super/super_int.h"
#include "check_super.h"

#define LOW    22000 /* the kernel does not give these by itself */
#define PORTS  20
#define SHARDS 4

static struct ledger *ledger;
static struct pool *pool;
static struct windows win;
static struct {
	union msg m;
	unsigned shard;
} said[4096];
static unsigned said_count;
static struct port_map *ports;

static int
note(void *arg, unsigned shard, const void *msg, int fd)
{
	(void)arg;
	(void)fd;
	ck_assert_uint_lt(said_count, TP_COUNT(said));
	said[said_count].shard = shard;
	memcpy(&said[said_count++].m, msg, msg_size(((const struct msg_head *)msg)->type));
	return 0;
}

static unsigned
heard(uint32_t type, union msg *last)
{
	unsigned n = 0;

	if (last != NULL)
		memset(last, 0, sizeof *last);
	for (unsigned i = 0; i < said_count; i++)
		if (said[i].m.h.type == type) {
			n++;
			if (last != NULL)
				*last = said[i].m;
		}
	return n;
}

static void
setup(void)
{
	static struct conf conf;

	ledger = calloc(1, sizeof *ledger);
	pool = calloc(1, sizeof *pool);
	win = (struct windows){ .first = 200, .span = 64, .shards = SHARDS };
	ck_assert_int_ge(limit_files(), 512);
	pool_init(pool, ledger, &win, note, NULL);
	ports = calloc(1, sizeof *ports);
	ck_assert_int_eq(pool_ports(pool, ports), 0);
	memset(&conf, 0, sizeof conf);
	conf.relay_count = 1;
	conf.relay_receive_buffer = 65536;
	conf.relays[0].addr = (struct addr){ .family = ADDR_V4,
		.ip = { 127, 77, (uint8_t)(getpid() >> 8), (uint8_t)getpid() } };
	conf.relays[0].port_min = LOW;
	conf.relays[0].port_max = LOW + PORTS - 1;
	pool_rows(pool, &conf);
	said_count = 0;
}

static void
teardown(void)
{
	for (unsigned fd = win.first; fd < ledger->fd_max; fd++)
		if (ledger->fd[fd].kind != LEDGER_FREE)
			ledger_close(ledger, (int)fd);
	free(ledger);
	free(pool);
	free(ports);
}

static struct msg_relay
ask(unsigned shard, uint32_t request)
{
	return (struct msg_relay){ .h.type = MSG_RELAY, .shard = shard, .request = request, .v4 = 1 };
}

static unsigned
port_of(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	struct addr a;

	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
	ck_assert_int_eq(addr_from_sockaddr(&a, (struct sockaddr *)&ss), 0);
	return a.port;
}

START_TEST(test_windows)
{
	struct windows w;

	ck_assert_int_eq(windows_plan(&w, 20000, 4), 0);
	ck_assert_uint_eq(w.span, (20000 - w.first) / 4);
	ck_assert_int_eq(windows_plan(&w, 1024, 2), 0);
	ck_assert_int_lt(windows_plan(&w, 1024, 64), 0);
	ck_assert_int_eq(windows_plan(&w, (uint64_t)1 << 40, 128), 0);
	ck_assert_uint_le(w.first + 128 * w.span, LEDGER_FDS);
}
END_TEST

/* Every port of the range, from one shard and from all of them. */
START_TEST(test_whole_range)
{
	bool seen[PORTS] = { false };
	union msg m;

	for (uint32_t i = 0; i < PORTS; i++) {
		struct msg_relay r = ask(_i == 0 ? i % SHARDS : 0, i + 1);
		pool_relay(pool, &r, 1000 + i);
		ck_assert_uint_eq(heard(MSG_SOCKET, &m), i + 1);
		ck_assert(window_has(&win, r.shard, m.msg_socket.fd));
		ck_assert_uint_eq(m.msg_socket.port, port_of(m.msg_socket.fd));
		ck_assert_int_eq(sock_filter_has(m.msg_socket.fd), 1);
		ck_assert(!seen[m.msg_socket.port - LOW]);
		seen[m.msg_socket.port - LOW] = true;
	}
	ck_assert_uint_eq(ledger->relay_sockets, PORTS);
	struct msg_relay r = ask(1, 99);
	pool_relay(pool, &r, 2000);
	ck_assert_uint_eq(heard(MSG_RELAY_NONE, NULL), 0); /* others are asked first */
	pool_tick(pool, 2000 + POOL_WAIT_MS);
	ck_assert_uint_eq(heard(MSG_RELAY_NONE, &m), 1);
	ck_assert_uint_eq(m.msg_relay_none.request, 99);
	r.request = 100;
	pool_relay(pool, &r, 2001 + POOL_WAIT_MS); /* known to be dry: at once */
	ck_assert_uint_eq(heard(MSG_RELAY_NONE, NULL), 2);
}
END_TEST

/* Ports that lie idle in other shards' pools are asked back and given to the one that waits. */
START_TEST(test_recall)
{
	struct msg_release back = { .h.type = MSG_RELEASE, .shard = 2, .unused = 1, .fd = -1 };
	struct msg_relay r;
	unsigned n;
	union msg m;

	for (unsigned s = 0; s < SHARDS; s++)
		(void)pool_fill(pool, s, 0, POOL_START, 10);
	ck_assert_uint_gt(ledger->pool_sockets, 0);
	ck_assert_uint_lt(ledger->pool_sockets, PORTS);
	n = PORTS - ledger->pool_sockets;
	for (uint32_t i = 0; i < n; i++) {
		r = ask(0, i + 1);
		pool_relay(pool, &r, 20);
	}
	ck_assert_uint_eq(heard(MSG_SOCKET, NULL), n);
	r = ask(0, 500);
	pool_relay(pool, &r, 30);
	ck_assert_uint_eq(heard(MSG_RECALL, &m), SHARDS);
	ck_assert_uint_eq(m.msg_recall.keep, 0);
	for (unsigned fd = win.first; fd < ledger->fd_max; fd++)
		if (ledger->fd[fd].kind == LEDGER_POOL && ledger->fd[fd].shard == 2)
			back.fd = (int)fd;
	n = ledger->fd[back.fd].port;
	ck_assert_int_eq(pool_release(pool, &back, 40), 0);
	heard(MSG_SOCKET, &m);
	ck_assert_uint_eq(m.msg_socket.request, 500);
	ck_assert_uint_eq(m.msg_socket.port, n);
	ck_assert(window_has(&win, 0, m.msg_socket.fd));
	ck_assert_int_lt(pool_release(pool, &back, 40), 0); /* twice, or another's: refused */
	back.fd = m.msg_socket.fd;
	ck_assert_int_lt(pool_release(pool, &back, 40), 0);
	back.fd = 1 << 30;
	ck_assert_int_lt(pool_release(pool, &back, 40), 0);
}
END_TEST

START_TEST(test_even_and_reserved)
{
	struct msg_relay r = ask(1, 7);
	unsigned even;
	union msg m;

	r.even = 1;
	for (int i = 0; i < 5; i++) {
		pool_relay(pool, &r, 10);
		heard(MSG_SOCKET, &m);
		ck_assert_uint_eq(m.msg_socket.port % 2, 0);
		ck_assert_uint_eq(m.msg_socket.reservation, 0);
	}
	r.reserve = 1;
	pool_relay(pool, &r, 10);
	heard(MSG_SOCKET, &m);
	even = m.msg_socket.port;
	ck_assert_uint_eq(even % 2, 0);
	ck_assert_uint_ne(m.msg_socket.reservation, 0);
	ck_assert_uint_eq(ledger->reserved_sockets, 1);

	/* From another shard, once. */
	struct msg_relay redeem = {
		.h.type = MSG_RELAY, .shard = 3, .request = 8, .reservation = m.msg_socket.reservation
	};
	pool_relay(pool, &redeem, 20000);
	heard(MSG_SOCKET, &m);
	ck_assert_uint_eq(m.msg_socket.request, 8);
	ck_assert_uint_eq(m.msg_socket.port, even + 1);
	ck_assert_uint_eq(port_of(m.msg_socket.fd), even + 1);
	ck_assert(window_has(&win, 3, m.msg_socket.fd));
	ck_assert_uint_eq(heard(MSG_RELAY_NONE, NULL), 0);
	pool_relay(pool, &redeem, 20001);
	ck_assert_uint_eq(heard(MSG_RELAY_NONE, NULL), 1);
}
END_TEST

/* Refused after it was made: the port is free at once, not when the token would be over. */
START_TEST(test_unreserve)
{
	struct msg_relay r = ask(1, 7);
	struct msg_release back = { .h.type = MSG_RELEASE, .shard = 1, .fd = -1 };
	uint32_t held;
	union msg m;

	r.even = r.reserve = 1;
	pool_relay(pool, &r, 10);
	heard(MSG_SOCKET, &m);
	held = port_map_open(ports, 0);
	back.reservation = m.msg_socket.reservation;
	back.shard = 2;
	ck_assert_int_lt(pool_release(pool, &back, 20), 0); /* another shard's */
	back.shard = 1;
	ck_assert_int_eq(pool_release(pool, &back, 20), 0);
	ck_assert_uint_eq(ledger->reserved_sockets, 0);
	ck_assert_uint_eq(port_map_open(ports, 0), held - 1);
	ck_assert_int_eq(pool_release(pool, &back, 20), 0); /* over meanwhile */
}
END_TEST

START_TEST(test_reservation_ends)
{
	struct msg_relay r = ask(1, 7);
	union msg m;

	r.even = r.reserve = 1;
	pool_relay(pool, &r, 1000);
	ck_assert_uint_eq(heard(MSG_SOCKET, &m), 1);
	pool_tick(pool, 1000 + TOKEN_LIFETIME * 1000);
	ck_assert_uint_eq(ledger->reserved_sockets, 1);
	pool_tick(pool, 1000 + (TOKEN_LIFETIME + 1) * 1000);
	ck_assert_uint_eq(ledger->reserved_sockets, 0);
	ck_assert_uint_eq(ledger->relay_sockets, 1);
	struct msg_relay redeem = {
		.h.type = MSG_RELAY, .shard = 3, .request = 8, .reservation = m.msg_socket.reservation
	};
	pool_relay(pool, &redeem, 40000);
	ck_assert_uint_eq(heard(MSG_RELAY_NONE, NULL), 1);
}
END_TEST

/* Ports are unpredictable: two pools of ten differ in order (one in 20!/10! that they do not). */
START_TEST(test_random)
{
	unsigned first[10], same = 0;
	union msg m;

	for (int round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < 10; i++) {
			struct msg_relay r = ask(0, i + 1);
			pool_relay(pool, &r, 10);
			heard(MSG_SOCKET, &m);
			if (round == 0)
				first[i] = m.msg_socket.port;
			else
				same += first[i] == m.msg_socket.port;
		}
		teardown();
		setup();
	}
	ck_assert_uint_lt(same, 10);
}
END_TEST

Suite *
suite_pool(void)
{
	Suite *s = suite_create("pool");
	TCase *t = tcase_create("sockets");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, test_windows);
	tcase_add_loop_test(t, test_whole_range, 0, 2);
	tcase_add_test(t, test_recall);
	tcase_add_test(t, test_even_and_reserved);
	tcase_add_test(t, test_unreserve);
	tcase_add_test(t, test_reservation_ends);
	tcase_add_test(t, test_random);
	suite_add_tcase(s, t);
	return s;
}
