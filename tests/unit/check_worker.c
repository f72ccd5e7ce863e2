/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_worker.c: the worker as a process: relaying, a violent death and its successor, messages, how it
 * ends.
 */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check_worker.h"

#define CHANNEL 0x4001

static struct client client;
static struct addr peer;
static int peer_fd;

/* client -> peer and back by channel. */
static void
relay_once(uint32_t number)
{
	uint8_t out[CHANNEL_HEADER + 4], in[64];
	struct addr from;

	channel_header(out, CHANNEL, 4);
	put_u32(out + CHANNEL_HEADER, number);
	client_send(&client, out, sizeof out);
	ck_assert_int_eq(peer_recv(peer_fd, in, sizeof in, &from), 4);
	ck_assert_uint_eq(get_u32(in), number);
	ck_assert(addr_eq(&from, &client.relayed));
	peer_send(peer_fd, &client.relayed, in, 4);
	ck_assert(client_recv(&client));
	ck_assert_uint_eq(client.in_len, sizeof out);
	ck_assert_mem_eq(client.in, out, sizeof out);
}

/* Until `*p` is `value` or more: what is on its way needs as long as it needs. */
static void
pump_until(const volatile unsigned *p, unsigned value)
{
	for (unsigned i = 0; i < 3000 && *p < value; i++)
		world_pump(10);
	ck_assert_uint_ge(*p, value);
}

static void
drops_until(enum drop d, uint64_t value)
{
	for (unsigned i = 0; i < 3000 && world_drops(d) < value; i++)
		world_pump(10);
	ck_assert_uint_eq(world_drops(d), value);
}

static unsigned
pool_kept(void)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < SPAN; i++)
		kept += world.kept[i];
	return kept;
}

static void
start(void)
{
	world_make();
	world_spawn();
	ck_assert_uint_eq(world.ready.adopted, 0);
	client_open(&client);
	peer_fd = peer_open(&peer);
}

static void
session(void)
{
	client_allocate(&client);
	ck_assert_int_eq(client_request(&client, STUN_CHANNEL_BIND, &peer, CHANNEL, -1), STUN_SUCCESS);
}

START_TEST(test_relay)
{
	uint8_t buf[200], in[64], txid[STUN_TXID] = { 1 };
	struct stun_out o;
	struct addr from, seen;

	start();
	client_allocate(&client);
	ck_assert_uint_eq(world.asks, 1);
	/* Indications: the permission first, then both ways. */
	ck_assert_int_eq(client_request(&client, STUN_CREATE_PERMISSION, &peer, 0, -1), STUN_SUCCESS);
	stun_begin(&o, buf, sizeof buf, STUN_INDICATION, STUN_SEND, txid);
	stun_put_xaddr(&o, STUN_A_XOR_PEER_ADDRESS, &peer);
	stun_put_bytes(&o, STUN_A_DATA, "hello", 5);
	client_send(&client, buf, stun_end(&o));
	ck_assert_int_eq(peer_recv(peer_fd, in, sizeof in, &from), 5);
	ck_assert_mem_eq(in, "hello", 5);
	peer_send(peer_fd, &from, "back", 4);
	ck_assert(client_recv(&client));
	ck_assert_int_eq(client.msg.method, STUN_DATA);
	const struct stun_attr *d = stun_find(&client.msg, STUN_A_DATA);
	ck_assert_ptr_nonnull(d);
	ck_assert_uint_eq(d->len, 4);
	ck_assert_mem_eq(d->value, "back", 4);
	ck_assert(stun_get_xaddr(&client.msg, stun_find(&client.msg, STUN_A_XOR_PEER_ADDRESS), &seen));
	ck_assert(addr_eq(&seen, &peer));
	ck_assert_int_eq(client_request(&client, STUN_CHANNEL_BIND, &peer, CHANNEL, -1), STUN_SUCCESS);
	for (uint32_t i = 0; i < 100; i++)
		relay_once(i);
	/* A client that was not admitted is not answered. */
	struct addr other;
	ck_assert_int_eq(addr_parse(&other, "127.0.0.2"), 0);
	int stranger = sock_relay_udp(&other, 0);
	ck_assert_int_ge(stranger, 0);
	peer_send(stranger, &client.relayed, "x", 1);
	drops_until(DROP_NO_PERMISSION, 1);
	ck_assert(!world_pump_until(client.fd, 100));
	/* The end: the socket is given back, and was used. */
	unsigned before = world.releases, unused = world.unused;
	ck_assert_int_eq(client_request(&client, STUN_REFRESH, NULL, 0, 0), STUN_SUCCESS);
	pump_until(&world.releases, before + 1);
	ck_assert_uint_eq(world.releases, before + 1);
	ck_assert_uint_eq(world.unused, unused);
	for (unsigned i = 0; i < 3000 && strstr(world.lines, ": ended: ") == NULL; i++)
		world_pump(10);
	ck_assert_ptr_nonnull(strstr(world.lines, ": allocated: user alice client 127.0.0.1:"));
	ck_assert_ptr_nonnull(strstr(world.lines, ": ended: by its client: user alice client "));
	ck_assert_ptr_null(strstr(world.lines, PASSWORD));
	world_end();
}
END_TEST

/* Killed again and again: the next one goes on with what the kernel and the regions kept. */
START_TEST(test_survives)
{
	start();
	session();
	relay_once(1);
	for (uint32_t i = 0; i < 10; i++) {
		uint8_t out[CHANNEL_HEADER + 4], in[8];
		struct addr from;
		world_kill();
		/* Sent without a reader: it waits in the kernel. */
		channel_header(out, CHANNEL, 4);
		put_u32(out + CHANNEL_HEADER, 1000 + i);
		client_send(&client, out, sizeof out);
		peer_send(peer_fd, &client.relayed, "wait", 4);
		world_spawn();
		ck_assert_uint_eq(world.ready.adopted, 1);
		ck_assert_uint_eq(world.ready.dropped, 0);
		ck_assert_int_eq(peer_recv(peer_fd, in, sizeof in, &from), 4);
		ck_assert_uint_eq(get_u32(in), 1000 + i);
		ck_assert(client_recv(&client));
		ck_assert_mem_eq(client.in + CHANNEL_HEADER, "wait", 4);
		relay_once(i);
	}
	/* Its key was kept, too: no question to turnpike-auth. */
	ck_assert_uint_eq(world.asks, 1);
	ck_assert_int_eq(client_request(&client, STUN_REFRESH, NULL, 0, 600), STUN_SUCCESS);
	ck_assert_uint_eq(world.asks, 1);
	/* Idle pool sockets were taken over, not made again, and only what is idle is in the pool. */
	ck_assert_uint_le(pool_kept(), 32 + 1);
	ck_assert_int_eq(client_request(&client, STUN_REFRESH, NULL, 0, 0), STUN_SUCCESS);
	world_end();
}
END_TEST

/* A socket that had a session which is gone is not handed to the next one. */
START_TEST(test_orphan_socket)
{
	start();
	for (unsigned n = 0; n < 3000 && pool_kept() == 0; n++)
		world_pump(10);
	world_pump(400); /* and what came is told of no more */
	unsigned i = 1;
	while (i < SPAN && !world.kept[i])
		i++;
	ck_assert_uint_lt(i, SPAN);
	world_kill();
	ck_assert_int_eq(sock_filter_detach(BASE + (int)i), 0);
	world.releases = world.unused = 0;
	world_spawn();
	pump_until(&world.releases, 1);
	world_pump(100);
	ck_assert_uint_eq(world.releases, 1);
	ck_assert_uint_eq(world.unused, 0);
	ck_assert(!world.kept[i]);
	world_end();
}
END_TEST

/* It died after the socket went into the epoll and before its filter was off, or before the session
 * said so. */
START_TEST(test_half_open)
{
	start();
	session();
	relay_once(1);
	for (unsigned filtered = 0; filtered < 2; filtered++) {
		struct shard s = { 0 };
		void *p = region_map(world.region[0], pages_of_shard(), true, false);
		void *keys = region_map(world.keys[0], pages_of_keys(), true, false);
		uint32_t slot = 0;
		struct session x;

		world_kill();
		ck_assert(p != NULL && keys != NULL);
		ck_assert_int_eq(shard_attach(&s, 0, p, keys, SLOT_MAX, true, NULL), 0);
		while (slot < shard_high(&s) && !session_read(&s, slot, &x))
			slot++;
		ck_assert_uint_lt(slot, shard_high(&s));
		ck_assert_uint_eq(s.slots[slot].flags & SESSION_RELAY_OPEN, SESSION_RELAY_OPEN);
		s.slots[slot].flags &= (uint8_t)~SESSION_RELAY_OPEN;
		if (filtered != 0)
			ck_assert_int_eq(sock_filter_attach(x.relay[0].fd), 0);
		region_unmap(p, pages_of_shard());
		region_unmap(keys, pages_of_keys());
		world_spawn();
		ck_assert_uint_eq(world.ready.adopted, 1);
		relay_once(2 + filtered);
	}
	world_end();
}
END_TEST

/* What was asked for before a RECALL and comes after it goes back at once, unused: others need it. */
START_TEST(test_recall_overtakes)
{
	struct msg_recall r = { .h = { MSG_RECALL, 0 }, .row = 0, .keep = 0 };
	unsigned kept = 0;

	start();
	for (unsigned i = 0; i < 1000 && world.wants == 0; i++)
		world_pump(20);
	world_pump(100);
	world.releases = world.unused = 0;
	world_tell(&r, -1);
	give_relay(0);
	give_relay(0);
	for (unsigned i = 0; i < 1000; i++) {
		kept = 0;
		for (unsigned n = 0; n < SPAN; n++)
			kept += world.kept[n];
		if (kept == 0)
			break;
		world_pump(20);
	}
	ck_assert_uint_eq(kept, 0);
	ck_assert_uint_gt(world.releases, 2);
	ck_assert_uint_eq(world.unused, world.releases);
	world_end();
}
END_TEST

static unsigned
kept_now(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < SPAN; i++)
		n += world.kept[i];
	return n;
}

static unsigned
with_filter(int kind)
{
	unsigned n = 0;

	for (unsigned i = 0; i < SPAN; i++)
		n += world.kept[i] && sock_filter_has(BASE + (int)i) == kind;
	return n;
}

/* The descriptor of the client's relay socket, which is the worker's, too. */
static int
relay_fd(void)
{
	for (unsigned i = 1; i < SPAN; i++)
		if (world.kept[i] && world.port[i] == client.relayed.port)
			return BASE + (int)i;
	ck_abort_msg("no socket has port %u", client.relayed.port);
}

/* With SPAN numbers 50 sockets rest: the newest 25 are not given out, and when there are more than 38 one
 * of the others serves. */
#define REST_MAX  (SPAN / 8)
#define REST_KEEP (REST_MAX / 2)

static void
rest_rounds(unsigned rounds, unsigned keep, unsigned last[65536])
{
	static unsigned round;

	for (unsigned i = 0; i < rounds; i++) {
		client.nonce_len = 0;
		session();
		unsigned *at = &last[client.relayed.port];
		round++;
		ck_assert_msg(*at == 0 || round - *at > keep, "port %u again after %u", client.relayed.port,
		    round - *at);
		*at = round;
		relay_once(i);
		int fd = relay_fd();
		ck_assert_int_eq(sock_filter_has(fd), SOCK_FILTER_NONE);
		ck_assert_int_eq(client_request(&client, STUN_REFRESH, NULL, 0, 0), STUN_SUCCESS);
		ck_assert_int_eq(sock_filter_has(fd), SOCK_FILTER_SHARED);
	}
}

/* Sockets serve one session after the other, not soon, and nothing of one comes to the next; also past
 * a death. */
START_TEST(test_rest)
{
	static unsigned last[65536];
	struct msg_recall r = { .h = { MSG_RECALL, 0 }, .row = 0, .keep = 0 };
	unsigned made;

	world_make();
	world.filter = sock_filter_program();
	if (world.filter < 0)
		return; /* not permitted here */
	world_spawn();
	client_open(&client);
	peer_fd = peer_open(&peer);
	rest_rounds(2 * REST_MAX, REST_KEEP, last);
	ck_assert_uint_gt(world.stats->counter[STAT_SOCKETS_AGAIN], 0);
	ck_assert_uint_eq(world.releases, 0);
	made = kept_now();
	rest_rounds(2 * REST_MAX, REST_KEEP, last);
	ck_assert_uint_eq(kept_now(), made); /* none was made again */
	/* A datagram that slipped into a resting socket's queue: read by the worker, and gone before
	 * the next session. */
	for (int fd = BASE + 1; fd < BASE + (int)SPAN; fd++) {
		struct addr to;
		if (!world.kept[fd - BASE] || sock_filter_has(fd) != SOCK_FILTER_SHARED)
			continue;
		ck_assert_int_eq(addr_parse(&to, "127.0.0.1"), 0);
		to.port = world.port[fd - BASE];
		ck_assert_int_eq(sock_filter_detach(fd), 0);
		peer_send(peer_fd, &to, "stale", 5);
		ck_assert_int_eq(sock_filter_share(fd, world.filter), 0);
	}
	rest_rounds(2 * REST_MAX, REST_KEEP, last);
	ck_assert_uint_eq(world_drops(DROP_NO_PERMISSION), 0);
	ck_assert_uint_eq(world.releases, 0);
	/* What rested goes on resting; what was fresh is fresh. */
	world_kill();
	world_spawn();
	for (unsigned i = 0; i < 1000 && with_filter(SOCK_FILTER_SHARED) != REST_KEEP; i++)
		world_pump(20);
	ck_assert_uint_eq(with_filter(SOCK_FILTER_SHARED), REST_KEEP);
	ck_assert_uint_gt(with_filter(SOCK_FILTER_OWN), 0);
	rest_rounds(2 * REST_MAX, REST_MAX / 4, last);
	/* Ports are needed elsewhere: all come back. */
	world_tell(&r, -1);
	for (unsigned i = 0; i < 1000 && kept_now() > 0; i++)
		world_pump(20);
	ck_assert_uint_eq(kept_now(), 0);
	client.nonce_len = 0;
	session();
	relay_once(1);
	world_end();
}
END_TEST

/* A reserved pair for a request that is over: no token was made, so both go back, the sibling by its id. */
START_TEST(test_unreserve)
{
	start();
	session();
	world.serve_pool = false;
	world.releases = world.unreserved = 0;
	give_reserved(12345, 77);
	pump_until(&world.releases, 1);
	for (unsigned i = 0; i < 3000 && world.unreserved == 0; i++)
		world_pump(10);
	ck_assert_uint_eq(world.unreserved, 77);
	ck_assert_uint_eq(world.releases, 1);
	relay_once(1);
}
END_TEST

START_TEST(test_messages)
{
	struct msg_close c = { .h = { MSG_CLOSE, 0 }, .request = 77 };
	struct msg_recall r = { .h = { MSG_RECALL, 0 }, .row = 0, .keep = 0 };
	struct msg_socket s = {
		.h = { MSG_SOCKET, 0 }, .fd = BASE, .port = world.server.port, .family = ADDR_V4
	};
	struct msg_drain d = { .h = { MSG_DRAIN, 0 }, .on = 1 };
	struct client late;
	uint8_t out[CHANNEL_HEADER + 4] = { 0 };

	start();
	session();
	relay_once(1);
	/* A socket for a number that is in use, or outside: refused, and the worker goes on. */
	s.port = world.server.port;
	world_tell(&s, world.listener);
	s.fd = 5;
	world_tell(&s, world.listener);
	relay_once(2);
	for (unsigned i = 0; i < 3000 && *(volatile uint64_t *)&world.stats->counter[STAT_MSG_BAD] < 2; i++)
		world_pump(10);
	ck_assert_uint_eq(world.stats->counter[STAT_MSG_BAD], 2);
	/* Idle sockets go back, unused: all but the session's. */
	for (unsigned i = 0; i < 3000 && pool_kept() < 2; i++)
		world_pump(10);
	world.releases = world.unused = 0;
	world_tell(&r, -1);
	for (unsigned i = 0; i < 3000 && pool_kept() > 1; i++)
		world_pump(10);
	ck_assert_uint_eq(pool_kept(), 1);
	ck_assert_uint_gt(world.releases, 0);
	ck_assert_uint_eq(world.unused, world.releases);
	/* With an empty pool a socket is asked for. */
	world.serve_pool = false;
	client_open(&late);
	client_allocate(&late);
	ck_assert_uint_eq(world.relays, 1);
	client_close(&late);
	/* None to be had. */
	world.no_relays = true;
	client_open(&late);
	ck_assert_int_eq(client_request(&late, STUN_ALLOCATE, NULL, 0, -1), STUN_ERROR);
	ck_assert_int_eq(client_request(&late, STUN_ALLOCATE, NULL, 0, -1), STUN_ERROR);
	ck_assert_uint_eq(late.code, 508);
	world_tell(&d, -1);
	ck_assert_int_eq(client_request(&late, STUN_ALLOCATE, NULL, 0, -1), STUN_ERROR);
	ck_assert_uint_eq(late.code, 508);
	relay_once(3);
	/* Closed by the operator. */
	c.slot = 0;
	c.gen = 1;
	world_tell(&c, -1);
	for (unsigned i = 0; i < 3000 && !world.is_closed; i++)
		world_pump(10);
	ck_assert_uint_eq(world.closed.request, 77);
	ck_assert_uint_eq(world.closed.count, 1);
	channel_header(out, CHANNEL, 4);
	client_send(&client, out, sizeof out);
	drops_until(DROP_NO_ALLOCATION, 1);
	ck_assert(!world_pump_until(peer_fd, 100));
	client_close(&late);
	world_end();
}
END_TEST

/* turnpike-auth does not answer: a request waits, and is dropped in the end. */
START_TEST(test_pending)
{
	uint8_t buf[600];

	start();
	world.mute_authd = true;
	ck_assert_int_eq(client_request(&client, STUN_ALLOCATE, NULL, 0, -1), STUN_ERROR);
	struct stun_out o;
	uint8_t txid[STUN_TXID] = { 9 };
	stun_begin(&o, buf, sizeof buf, STUN_REQUEST, STUN_ALLOCATE, txid);
	stun_put_u32(&o, STUN_A_REQUESTED_TRANSPORT, 17u << 24);
	stun_put_bytes(&o, STUN_A_USERNAME, USER, sizeof USER - 1);
	stun_put_bytes(&o, STUN_A_REALM, REALM, sizeof REALM - 1);
	stun_put_bytes(&o, STUN_A_NONCE, client.nonce, client.nonce_len);
	stun_put_mi(&o, client.key, client.key_len);
	size_t len = stun_end(&o);
	/* Retransmissions of what waits ask once. */
	for (unsigned i = 0; i < 5; i++)
		client_send(&client, buf, len);
	pump_until(&world.asks, 1);
	ck_assert(!world_pump_until(client.fd, 100));
	ck_assert_uint_eq(world.asks, 1);
	drops_until(DROP_PENDING_EXPIRED, 1);
	ck_assert(!world_pump_until(client.fd, 100));
	/* turnpike-auth is back: the next retransmission is answered. */
	world.mute_authd = false;
	client_send(&client, buf, len);
	ck_assert(client_recv(&client));
	ck_assert_int_eq(client.msg.cls, STUN_SUCCESS);
	ck_assert_uint_eq(world.asks, 2);
	world_end();
}
END_TEST

START_TEST(test_poison)
{
	struct msg_poison p = { .h = { MSG_POISON, 0 }, .until_ms = clock_ms() + 100000 };
	struct client late;

	start();
	session();
	p.source = client.addr;
	world_tell(&p, -1);
	relay_once(1); /* its session is served */
	client_open(&late);
	uint8_t binding[STUN_HEADER] = { 0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42 };
	client_send(&late, binding, sizeof binding);
	drops_until(DROP_POISONED, 1);
	ck_assert(!world_pump_until(late.fd, 100));
	world_end();
}
END_TEST

START_TEST(test_stop)
{
	struct msg_stop m = { .h = { MSG_STOP, 0 } };

	start();
	world_tell(&m, -1);
	ck_assert_int_eq(world_wait(), 0);
	close(world.control);
	/* The supervisor's death is seen by the closed socket, too. */
	world_spawn();
	close(world.control);
	ck_assert_int_eq(world_wait(), 0);
}
END_TEST

START_TEST(test_wrong_start)
{
	world_make();
	world.wrong_role = true;
	world_spawn();
	int status = world_wait();
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) != 0);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("worker");
	TCase *t = tcase_create("worker");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, test_relay);
	tcase_add_test(t, test_survives);
	tcase_add_test(t, test_orphan_socket);
	tcase_add_test(t, test_half_open);
	tcase_add_test(t, test_recall_overtakes);
	tcase_add_test(t, test_rest);
	tcase_add_test(t, test_messages);
	tcase_add_test(t, test_pending);
	tcase_add_test(t, test_poison);
	tcase_add_test(t, test_unreserve);
	tcase_add_test(t, test_stop);
	tcase_add_test(t, test_wrong_start);
	suite_add_tcase(s, t);
	suite_add_tcase(s, tcase_assoc());
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
