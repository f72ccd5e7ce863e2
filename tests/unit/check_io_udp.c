/* SPDX-License-Identifier: BSD-3-Clause */
/* check_io_udp.c: udp_*.c: every engine through the same tests. */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "check_io.h"

static const struct udp_engine *const engines[] = { &udp_engine_plain, &udp_engine_mmsg, &udp_engine_gso };
static struct udp_counts counts;

static int
open_socket(struct addr *a)
{
	*a = io_addr("127.0.0.1");
	int fd = sock_relay_udp(a, 1u << 20);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(sock_filter_detach(fd), 0);
	*a = io_bound(fd);
	return fd;
}

static void
wait_for(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	ck_assert_int_eq(poll(&p, 1, 60000), 1);
}

/* Sent to ourselves, and yet not always there at once: the kernel may leave it to a thread. */
static ssize_t
take(int fd, void *buf, size_t len)
{
	wait_for(fd, POLLIN);
	return recv(fd, buf, len, MSG_DONTWAIT);
}

struct told {
	unsigned n;
	int fd, err;
	struct addr to;
};
static void
unsent(void *arg, int fd, const struct addr *to, size_t len, int err)
{
	struct told *t = arg;

	(void)len;
	t->n++;
	t->fd = fd;
	t->err = err;
	t->to = *to;
}

/* Three sockets interleaved, two of them to one destination: everything arrives, each in its order. */
START_TEST(test_order)
{
	const struct udp_engine *e = engines[_i];
	struct addr to, from[3];
	int sink = open_socket(&to), fd[3];
	struct udp_ring *r = udp_ring_new(600);
	struct udp_arena *arena = udp_arena_new(1u << 16);
	struct udp_pkt pkt[UDP_BATCH];
	uint16_t seen[3] = { 0 }, number[600];
	unsigned total = 0;

	memset(&counts, 0, sizeof counts);
	for (unsigned i = 0; i < 3; i++)
		fd[i] = open_socket(&from[i]);
	for (unsigned i = 0; i < 600; i++) {
		number[i] = (uint16_t)(i / 3);
		ck_assert(udp_ring_put(r, fd[i % 3], &to, (uint8_t *)&number[i], 2));
	}
	ck_assert(!udp_ring_put(r, fd[0], &to, (uint8_t *)&number[0], 2));
	ck_assert_uint_eq(udp_ring_count(r), 600);
	e->flush(r, NULL, NULL, &counts);
	ck_assert_uint_eq(udp_ring_count(r), 0);
	ck_assert_uint_eq(counts.tx_packets, 600);
	ck_assert_uint_eq(counts.tx_bytes, 1200);
	/* One call for a socket's run of 200, however its datagrams lay among the others'. */
	ck_assert_uint_eq(counts.tx_calls, e == &udp_engine_plain ? 600 : 3);
	while (total < 600) {
		wait_for(sink, POLLIN);
		int n = e->rx(sink, arena, pkt, UDP_BATCH, &counts);
		ck_assert_int_gt(n, 0);
		for (int i = 0; i < n; i++) {
			unsigned k = 0;
			while (!addr_eq(&pkt[i].from, &from[k]))
				ck_assert_uint_lt(++k, 3);
			ck_assert_uint_eq(pkt[i].len, 2);
			ck_assert_uint_eq(*(uint16_t *)(void *)pkt[i].p, seen[k]);
			seen[k]++;
		}
		total += (unsigned)n;
		udp_arena_reset(arena);
	}
	ck_assert_int_eq(e->rx(sink, arena, pkt, UDP_BATCH, &counts), 0);
	udp_ring_free(r);
	udp_arena_free(arena);
	for (unsigned i = 0; i < 3; i++)
		close(fd[i]);
	close(sink);
}
END_TEST

/* A dead peer beside a live one on one socket: the live one gets every datagram, flush after flush. */
START_TEST(test_dead_peer)
{
	const struct udp_engine *e = engines[_i];
	struct addr self, live, dead;
	int fd = open_socket(&self), sink = open_socket(&live), gone = open_socket(&dead);
	struct udp_ring *r = udp_ring_new(64);
	struct told told = { 0 };
	struct udp_icmp icmp;
	uint8_t byte = 1, buf[4];
	unsigned got = 0, errors = 0;

	close(gone);
	memset(&counts, 0, sizeof counts);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 10; i++) {
			udp_ring_put(r, fd, &dead, &byte, 1);
			udp_ring_put(r, fd, &live, &byte, 1);
		}
		e->flush(r, unsent, &told, &counts);
	}
	while (got < 200 && take(sink, buf, sizeof buf) == 1)
		got++;
	ck_assert_uint_eq(got, 200);
	ck_assert_int_lt(recv(sink, buf, sizeof buf, MSG_DONTWAIT), 0);
	ck_assert_uint_eq(told.n, 0);
	wait_for(fd, POLLIN); /* POLLERR */
	while (udp_error_next(fd, &icmp) == 1) {
		ck_assert(addr_eq(&icmp.peer, &dead));
		ck_assert_uint_eq(icmp.family, ADDR_V4);
		ck_assert_uint_eq(icmp.type, 3);
		ck_assert_uint_eq(icmp.code, 3);
		errors++;
	}
	ck_assert_uint_gt(errors, 0);
	ck_assert_int_eq(udp_error_next(fd, &icmp), 0);
	udp_ring_free(r);
	close(fd);
	close(sink);
}
END_TEST

/* A datagram that can never be sent is told once; those around it go out. */
START_TEST(test_bad_message)
{
	const struct udp_engine *e = engines[_i];
	static uint8_t big[70000];
	struct addr self, live, nowhere = io_addr("255.255.255.255:9");
	int fd = open_socket(&self), sink = open_socket(&live);
	struct udp_ring *r = udp_ring_new(8);
	struct told told = { 0 };
	uint8_t buf[4], n[3] = { 1, 2, 3 };

	memset(&counts, 0, sizeof counts);
	udp_ring_put(r, fd, &live, &n[0], 1);
	udp_ring_put(r, fd, &live, big, sizeof big);
	udp_ring_put(r, fd, &live, &n[1], 1);
	udp_ring_put(r, fd, &nowhere, &n[0], 1); /* EACCES: broadcast is not permitted */
	udp_ring_put(r, fd, &live, &n[2], 1);
	e->flush(r, unsent, &told, &counts);
	ck_assert_uint_eq(told.n, 2);
	ck_assert_int_eq(told.err, EACCES);
	ck_assert(addr_eq(&told.to, &nowhere));
	ck_assert_uint_eq(counts.tx_errors, 2);
	ck_assert_uint_eq(counts.tx_packets, 3);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_int_eq(take(sink, buf, sizeof buf), 1);
		ck_assert_uint_eq(buf[0], n[i]);
	}
	udp_ring_free(r);
	close(fd);
	close(sink);
}
END_TEST

/* Slots of one batch do not overlap, have their margins, and are given out once until the reset. */
START_TEST(test_arena)
{
	const struct udp_engine *e = engines[_i];
	struct addr self, to;
	int from = open_socket(&self), fd = open_socket(&to);
	struct udp_arena *arena = udp_arena_new(1u << 18);
	struct udp_pkt a[40], b[40], one;
	static uint8_t big[65507];
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&to, &ss);

	memset(&counts, 0, sizeof counts);
	for (uint8_t i = 0; i < 80; i++)
		ck_assert_int_eq(sendto(from, &i, 1, 0, (struct sockaddr *)&ss, len), 1);
	ck_assert_int_eq(e->rx(fd, arena, a, 40, &counts), 40);
	ck_assert_int_eq(e->rx(fd, arena, b, 40, &counts), UDP_BATCH - 40);
	ck_assert_int_eq(e->rx(fd, arena, b, 40, &counts), -ENOBUFS);
	for (uint8_t i = 0; i < 40; i++) {
		ck_assert_uint_eq(a[i].p[0], i);
		memset(a[i].p - UDP_HEADROOM, 0xEE, UDP_HEADROOM);
		memset(a[i].p + a[i].len, 0xEE, UDP_TAIL);
	}
	for (uint8_t i = 0; i < UDP_BATCH - 40; i++)
		ck_assert_uint_eq(b[i].p[0], i + 40);
	udp_arena_reset(arena);
	ck_assert_int_eq(e->rx(fd, arena, a, 40, &counts), 16);
	/* The relay area: small ones side by side, then full, then the largest again after a reset. */
	memset(big, 0xAB, sizeof big);
	uint8_t *before = udp_arena_take(arena, 100);
	ck_assert_ptr_nonnull(before);
	memset(before, 1, 100);
	ck_assert_int_eq(
	    sendto(from, big, sizeof big, 0, (struct sockaddr *)&ss, len), (ssize_t)sizeof big);
	ck_assert_int_eq(udp_recv_one(fd, arena, &one), 1);
	ck_assert_uint_eq(one.len, sizeof big);
	ck_assert(addr_eq(&one.from, &self));
	ck_assert_mem_eq(one.p, big, sizeof big);
	ck_assert(one.p - UDP_HEADROOM >= before + 100 + UDP_TAIL);
	ck_assert_int_eq(udp_recv_one(fd, arena, &one), 0);
	while (udp_arena_take(arena, 1000) != NULL)
		;
	ck_assert_int_eq(udp_recv_one(fd, arena, &one), -ENOBUFS);
	udp_arena_reset(arena);
	ck_assert_int_eq(udp_recv_one(fd, arena, &one), 0);
	/* Pages of a burst go back, and the arena serves as before. */
	uint8_t *kept = udp_arena_take(arena, 1000);
	ck_assert_ptr_nonnull(kept);
	memset(kept, 0x5A, 1000);
	udp_arena_reset(arena);
	udp_arena_rest(arena);
	for (unsigned i = 0; i < 1000; i++)
		ck_assert_uint_eq(kept[i], 0);
	ck_assert_ptr_eq(udp_arena_take(arena, 1000), kept);
	memset(kept, 0x5A, 1000);
	udp_arena_reset(arena);
	udp_arena_rest(arena); /* little was in it: nothing to give back */
	ck_assert_uint_eq(kept[999], 0x5A);
	ck_assert_int_eq(sendto(from, big, 100, 0, (struct sockaddr *)&ss, len), 100);
	ck_assert_int_eq(e->rx(fd, arena, a, 40, &counts), 1);
	ck_assert_mem_eq(a[0].p, big, 100);
	udp_arena_free(arena);
	close(from);
	close(fd);
}
END_TEST

/* Two destinations by turns on one socket, all lengths from none to long, single ones and runs that end
 * short: each gets its own in order and whole, also by an engine's own merged receive. */
START_TEST(test_runs)
{
	static const uint16_t lengths[] = { 100, 100, 100, 40, 40, 0, 0, 7, 900, 900, 900, 900, 100, 1,
		1400, 1400, 20 };
	const struct udp_engine *e = engines[_i];
	struct addr self, to[2];
	int fd = open_socket(&self), sink[2] = { open_socket(&to[0]), open_socket(&to[1]) };
	struct udp_ring *r = udp_ring_new(1000);
	struct udp_arena *arena = udp_arena_new(1u << 16);
	struct udp_pkt pkt[UDP_BATCH];
	static uint8_t bytes[1000][1400];
	unsigned put = 0;

	memset(&counts, 0, sizeof counts);
	for (unsigned i = 0; i < 2; i++)
		ck_assert_int_eq(e->listener(sink[i]), 0);
	for (; put < 1000; put++) {
		memset(bytes[put], (int)(put / 2), sizeof bytes[put]);
		/* Each destination sees every length, a long run of one length among them. */
		uint16_t len = put >= 500 && put < 800 ? 60 : lengths[put / 2 % TP_COUNT(lengths)];
		ck_assert(udp_ring_put(r, fd, &to[put % 2], bytes[put], len));
	}
	e->flush(r, NULL, NULL, &counts);
	ck_assert_uint_eq(counts.tx_packets, 1000);
	if (e == &udp_engine_gso) {
		ck_assert_uint_gt(counts.gso_sends, 10);
		ck_assert_uint_gt(counts.gso_segments, 600);
	} else {
		ck_assert_uint_eq(counts.gso_sends, 0);
	}
	for (unsigned k = 0; k < 2; k++) {
		for (unsigned seen = k; seen < 1000;) {
			wait_for(sink[k], POLLIN);
			int n = e->rx(sink[k], arena, pkt, UDP_BATCH, &counts);
			ck_assert_int_gt(n, 0);
			for (int i = 0; i < n; i++) {
				uint32_t at = 0;
				do {
					uint16_t want = seen >= 500 && seen < 800
					    ? 60
					    : lengths[seen / 2 % TP_COUNT(lengths)];
					uint32_t len = pkt[i].seg > 0 && pkt[i].len - at > pkt[i].seg
					    ? pkt[i].seg
					    : pkt[i].len - at;
					ck_assert_uint_eq(len, want);
					ck_assert(!pkt[i].truncated);
					ck_assert(addr_eq(&pkt[i].from, &self));
					ck_assert_mem_eq(pkt[i].p + at, bytes[seen], len);
					at += len;
					seen += 2;
				} while (at < pkt[i].len);
			}
			udp_arena_reset(arena);
		}
		ck_assert_int_eq(e->rx(sink[k], arena, pkt, UDP_BATCH, &counts), 0);
	}
	if (e == &udp_engine_gso) /* loopback carries a merged send unsplit */
		ck_assert_uint_gt(counts.gro_segments, 600);
	else
		ck_assert_uint_eq(counts.gro_segments, 0);
	udp_ring_free(r);
	udp_arena_free(arena);
	close(fd);
	close(sink[0]);
	close(sink[1]);
}
END_TEST

/* A socket that cannot merge (here: no checksums): asked in one call, then one by one, nothing lost. */
START_TEST(test_no_gso)
{
	const struct udp_engine *e = engines[_i];
	struct addr self, to;
	int fd = open_socket(&self), sink = open_socket(&to), on = 1;
	struct udp_ring *r = udp_ring_new(100);
	struct told told = { 0 };
	uint8_t number[200], buf[4];

	memset(&counts, 0, sizeof counts);
	ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_NO_CHECK, &on, sizeof on), 0);
	for (unsigned i = 0; i < 200; i++) {
		number[i] = (uint8_t)i;
		if (!udp_ring_put(r, fd, &to, &number[i], 1)) {
			e->flush(r, unsent, &told, &counts);
			ck_assert(udp_ring_put(r, fd, &to, &number[i], 1));
		}
	}
	e->flush(r, unsent, &told, &counts);
	ck_assert_uint_eq(told.n, 0);
	ck_assert_uint_eq(counts.tx_packets, 200);
	ck_assert_uint_eq(counts.gso_refused, e == &udp_engine_gso ? 2 : 0); /* runs of 64 and 36 */
	for (unsigned i = 0; i < 200; i++) {
		ck_assert_int_eq(take(sink, buf, sizeof buf), 1);
		ck_assert_uint_eq(buf[0], i);
	}
	udp_ring_free(r);
	close(fd);
	close(sink);
}
END_TEST

/* A relay socket that merges: the one receive of every engine understands it. */
START_TEST(test_merged_relay)
{
	const struct udp_engine *e = engines[_i];
	struct addr self, to;
	int fd = open_socket(&self), sink = open_socket(&to);
	struct udp_ring *r = udp_ring_new(64);
	struct udp_arena *arena = udp_arena_new(1u << 18);
	struct udp_pkt k;
	uint8_t bytes[30 * 50];

	memset(&counts, 0, sizeof counts);
	for (unsigned i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)i;
	ck_assert_int_eq(udp_engine_gso.relay(sink), 0);
	ck_assert_int_eq(e->relay(fd), 0);
	for (unsigned i = 0; i < 30; i++)
		ck_assert(udp_ring_put(r, fd, &to, bytes + i * 50, 50));
	e->flush(r, NULL, NULL, &counts);
	for (unsigned at = 0; at < sizeof bytes; at += k.len) {
		wait_for(sink, POLLIN);
		ck_assert_int_eq(udp_recv_one(sink, arena, &k), 1);
		ck_assert_uint_eq(k.seg, k.len > 50 ? 50 : 0);
		ck_assert_mem_eq(k.p, bytes + at, k.len);
		if (e == &udp_engine_gso)
			ck_assert_uint_eq(k.len, sizeof bytes);
	}
	ck_assert_int_eq(udp_recv_one(sink, arena, &k), 0);
	udp_ring_free(r);
	udp_arena_free(arena);
	close(fd);
	close(sink);
}
END_TEST

/* Another engine takes over a listener that merges, with something merged in its queue: nothing is read
 * as one. */
START_TEST(test_change_of_engine)
{
	const struct udp_engine *e = engines[_i];
	struct addr self, to;
	int fd = open_socket(&self), sink = open_socket(&to), on = -1;
	socklen_t on_len = sizeof on;
	struct udp_ring *r = udp_ring_new(64);
	struct udp_arena *arena = udp_arena_new(1u << 18);
	struct udp_pkt pkt[UDP_BATCH];
	uint8_t bytes[30 * 50];

	memset(&counts, 0, sizeof counts);
	memset(bytes, 7, sizeof bytes);
	ck_assert_int_eq(udp_engine_gso.listener(sink), 0);
	for (unsigned i = 0; i < 30; i++)
		ck_assert(udp_ring_put(r, fd, &to, bytes + i * 50, 50));
	udp_engine_gso.flush(r, NULL, NULL, &counts);
	ck_assert_int_eq(e->listener(sink), 0);
	wait_for(sink, POLLIN);
	ck_assert_int_eq(e->rx(sink, arena, pkt, UDP_BATCH, &counts), 1);
	ck_assert_uint_eq(pkt[0].len, sizeof bytes);
	ck_assert_uint_eq(pkt[0].seg, 50);
	/* With an empty queue it is turned off, and what comes then comes apart. */
	ck_assert_int_eq(e->listener(sink), 0);
	ck_assert_int_eq(getsockopt(sink, 17, 104 /* UDP_GRO */, &on, &on_len), 0);
	ck_assert_int_eq(on, e == &udp_engine_gso);
	udp_ring_free(r);
	udp_arena_free(arena);
	close(fd);
	close(sink);
}
END_TEST

/* Merged receives: as many as may fill their slots, then the arena has to be emptied. */
START_TEST(test_merged_bound)
{
	struct addr self[20], to;
	int fd[20], sink = open_socket(&to);
	struct udp_ring *r = udp_ring_new(40);
	struct udp_arena *arena = udp_arena_new(1u << 18);
	struct udp_pkt pkt[UDP_BATCH];
	uint8_t bytes[100] = { 0 };

	memset(&counts, 0, sizeof counts);
	ck_assert_int_eq(udp_engine_gso.listener(sink), 0);
	for (unsigned i = 0; i < 20; i++) {
		fd[i] = open_socket(&self[i]);
		for (unsigned k = 0; k < 2; k++)
			ck_assert(udp_ring_put(r, fd[i], &to, bytes + k * 50, 50));
	}
	udp_engine_gso.flush(r, NULL, NULL, &counts);
	ck_assert_uint_eq(counts.gso_sends, 20);
	ck_assert_int_eq(udp_engine_gso.rx(sink, arena, pkt, UDP_BATCH, &counts), 16);
	ck_assert_int_eq(udp_engine_gso.rx(sink, arena, pkt, UDP_BATCH, &counts), -ENOBUFS);
	udp_arena_reset(arena);
	ck_assert_int_eq(udp_engine_gso.rx(sink, arena, pkt, UDP_BATCH, &counts), 4);
	ck_assert_uint_eq(counts.gro_receives, 20);
	ck_assert_uint_eq(counts.gro_segments, 40);
	udp_ring_free(r);
	udp_arena_free(arena);
	for (unsigned i = 0; i < 20; i++)
		close(fd[i]);
	close(sink);
}
END_TEST

static int
mtu_discover(int fd)
{
	int value = -1;
	socklen_t len = sizeof value;

	ck_assert_int_eq(getsockopt(fd, 0, 10 /* IP_MTU_DISCOVER */, &value, &len), 0);
	return value;
}

/* Does each datagram have DF set that asked for it, and only those, in the order in which they were put? */
START_TEST(test_df)
{
	static const uint8_t number[12] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 };
	const struct udp_engine *engine = engines[_i];
	struct udp_ring *r = udp_ring_new(16);
	struct udp_counts c = { 0 };
	struct addr self, other, to;
	int fd[2] = { open_socket(&self), open_socket(&other) }, sink = open_socket(&to);
	uint8_t big[2000] = { 0 }, got;
	unsigned last[2] = { 0, 0 };

	for (unsigned i = 0; i < 12; i++) /* runs of three, two sockets in turn */
		ck_assert(
		    (i / 3 % 2 != 0 ? udp_ring_put_df : udp_ring_put)(r, fd[i % 2], &to, &number[i], 1));
	engine->flush(r, NULL, NULL, &c);
	for (unsigned i = 0; i < 12; i++) {
		ck_assert_int_eq(take(sink, &got, 1), 1);
		ck_assert_uint_ge(got, last[got % 2]);
		last[got % 2] = got;
	}
	ck_assert_uint_eq(c.tx_packets, 12);
	ck_assert_int_eq(mtu_discover(fd[0]), 0);
	ck_assert_int_eq(mtu_discover(fd[1]), 0);
	/* A socket with nothing else: the option is off again although its datagram was the last. */
	ck_assert(udp_ring_put_df(r, fd[0], &to, big, sizeof big));
	engine->flush(r, NULL, NULL, &c);
	ck_assert_int_eq(mtu_discover(fd[0]), 0);
	udp_ring_free(r);
	close(fd[0]);
	close(fd[1]);
	close(sink);
}
END_TEST

Suite *
suite_udp(void)
{
	Suite *s = suite_create("udp");
	TCase *t = tcase_create("udp");

	tcase_add_loop_test(t, test_order, 0, (int)TP_COUNT(engines));
	tcase_add_loop_test(t, test_dead_peer, 0, (int)TP_COUNT(engines));
	tcase_add_loop_test(t, test_bad_message, 0, (int)TP_COUNT(engines));
	tcase_add_loop_test(t, test_arena, 0, (int)TP_COUNT(engines));
	tcase_add_loop_test(t, test_runs, 0, (int)TP_COUNT(engines));
	tcase_add_loop_test(t, test_no_gso, 0, (int)TP_COUNT(engines));
	tcase_add_loop_test(t, test_merged_relay, 0, (int)TP_COUNT(engines));
	tcase_add_loop_test(t, test_change_of_engine, 0, (int)TP_COUNT(engines));
	tcase_add_test(t, test_merged_bound);
	tcase_add_loop_test(t, test_df, 0, (int)TP_COUNT(engines));
	suite_add_tcase(s, t);
	return s;
}
