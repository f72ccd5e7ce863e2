/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_worker_assoc.c: DTLS associations of a worker, with the test as its turnpike-tls and as the
 * clients: published once, replaced, many, left to a successor, ended when their numbers are used up.
 */
#include "config.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check_worker.h"

#define MANY 200 /* more than the first table of the index takes */

static struct seal_ctx ctx;

/* Keys that both ends have; `key` tells one handshake from another. */
static void
secrets_of(unsigned key, enum seal_role role, struct seal *k)
{
	uint8_t master[48] = { (uint8_t)key, (uint8_t)(key >> 8), 7 }, random[32] = { 1 };

	ck_assert_int_eq(
	    seal_start12(k, SEAL_DTLS12, role, SEAL_AES128_SHA256, master, random, random, 1000 + key),
	    SEAL_OK);
}

static void
client_secure(struct client *c, unsigned key)
{
	secrets_of(key, SEAL_CLIENT, &c->keys);
	memset(&c->pos, 0, sizeof c->pos);
	c->pos.tx = 1;
	c->seal = &ctx;
}

/* A hello with this cookie (NULL: none) as a datagram; as far as a worker looks at it. */
static size_t
hello(uint8_t *out, unsigned key, const uint8_t *cookie)
{
	uint8_t body[100] = { 0xfe, 0xfd, (uint8_t)key, (uint8_t)(key >> 8) };
	struct seal_frag f = { .record_seq = cookie != NULL,
		.message_seq = cookie != NULL,
		.total = sizeof body,
		.len = sizeof body,
		.bytes = body };

	if (cookie != NULL) {
		body[35] = SEAL_COOKIE_LEN;
		memcpy(body + 36, cookie, SEAL_COOKIE_LEN);
	}
	return seal_frag_write(out, &f);
}

/* The client returns a cookie; the name that the worker gave to its hello. */
static uint64_t
prove(struct client *c, unsigned key)
{
	uint8_t out[200], verify[SEAL_VERIFY_LEN];
	struct addr from;

	world.hello = 0;
	peer_send(c->fd, &world.server, out, hello(out, key, NULL));
	ck_assert_int_eq(peer_recv(c->fd, verify, sizeof verify, &from), SEAL_VERIFY_LEN);
	peer_send(c->fd, &world.server, out, hello(out, key, verify + SEAL_VERIFY_LEN - SEAL_COOKIE_LEN));
	for (unsigned i = 0; i < 200 && world.hello == 0; i++)
		world_pump(20);
	ck_assert_uint_ne(world.hello, 0);
	return world.hello;
}

/* What a turnpike-tls says when a handshake is done; the flight is a datagram of `flight` bytes. */
static struct msg_hs_done
done_of(struct client *client, unsigned key, size_t flight)
{
	struct seal_session s = { .dtls = { .tx = 1 }, .final = { .len = SEAL_FINISHED_LEN, .tx0 = 5 } };
	struct msg_hs_done m = { .h = { MSG_HS_DONE, 0 },
		.who = { .request = prove(client, key), .number = key, .client = client->addr, .dtls = 1 },
		.pieces = flight > 0,
		.piece = { (uint16_t)flight } };

	secrets_of(key, SEAL_SERVER, &s.keys);
	memset(m.flight, 0x16, flight);
	memcpy(m.session, &s, sizeof s);
	return m;
}

static void
publish(const struct msg_hs_done *m)
{
	unsigned before = world.acks;

	ck_assert_int_eq(ipc_send(world.tlsd, m, -1), 0);
	for (unsigned i = 0; i < 200 && world.acks == before; i++)
		world_pump(20);
	ck_assert_uint_eq(world.acks, before + 1);
	ck_assert_uint_eq(world.acked, m->who.number);
}

static void
start(struct client *c, unsigned key)
{
	ck_assert_int_eq(seal_ctx_init(&ctx), 0);
	world_make();
	world_spawn();
	client_open(c);
	client_secure(c, key);
}

static void
end(void)
{
	seal_ctx_fini(&ctx);
	world_end();
}

static void
binding(struct client *c)
{
	ck_assert_int_eq(client_request(c, STUN_BINDING, NULL, 0, -1), STUN_SUCCESS);
}

/* The next datagram as it is on the wire. */
static size_t
wire(struct client *c, uint8_t *p, size_t room)
{
	struct addr from;
	ssize_t n = peer_recv(c->fd, p, room, &from);

	ck_assert_int_gt(n, 0);
	return (size_t)n;
}

static uint64_t
counter(enum stat_counter row)
{
	return *(volatile uint64_t *)&world.stats->counter[row];
}

/* Once published it is only acknowledged, its flight again (with fresh numbers) until the client was
 * heard. */
START_TEST(published_once)
{
	struct client c;
	uint8_t buf[300];

	start(&c, 1);
	struct msg_hs_done m = done_of(&c, 1, 77);
	publish(&m);
	ck_assert_uint_eq(wire(&c, buf, sizeof buf), 77);
	publish(&m);
	size_t n = wire(&c, buf, sizeof buf);
	ck_assert_uint_eq(n, SEAL_DTLS_HEAD + 1 + SEAL_DTLS_HEAD + 8 + SEAL_FINISHED_LEN + 16);
	ck_assert_uint_eq(buf[0], SEAL_T_CCS);
	ck_assert_uint_eq(get_u64(buf + 3), 5);
	binding(&c);
	publish(&m);
	ck_assert(!world_pump_until(c.fd, 100));
	ck_assert_uint_eq(counter(STAT_STREAMS_OPENED), 1);
	/* Killed between publishing and acknowledging: its successor is asked once more. */
	world_kill();
	ck_assert_int_eq(ipc_send(world.tlsd, &m, -1), 0);
	unsigned acks = world.acks;
	world_spawn();
	for (unsigned i = 0; i < 200 && world.acks == acks; i++)
		world_pump(20);
	ck_assert_uint_eq(world.acks, acks + 1);
	binding(&c);
	ck_assert_uint_eq(counter(STAT_STREAMS_OPENED), 1);
	end();
}
END_TEST

/* A new handshake takes the place of the old one, whose allocation ends with it. */
START_TEST(replaced)
{
	struct client c, old;
	uint8_t buf[300];

	start(&c, 1);
	struct msg_hs_done m = done_of(&c, 1, 0);
	publish(&m);
	client_allocate(&c);
	unsigned releases = world.releases;
	old = c;
	m = done_of(&c, 2, 9);
	publish(&m);
	ck_assert_uint_eq(wire(&c, buf, sizeof buf), 9);
	world_pump(100);
	ck_assert_uint_eq(world.releases, releases + 1);
	ck_assert_uint_eq(counter(STAT_STREAMS_CLOSED), 1);
	client_send(&old, "of the old keys", 15);
	client_secure(&c, 2);
	binding(&c);
	ck_assert_uint_eq(world_drops(DROP_DTLS_MAC), 1);
	end();
}
END_TEST

/* What no honest turnpike-tls sends is acknowledged or counted, and nothing comes of it. */
START_TEST(nonsense)
{
	struct client c;

	start(&c, 1);
	struct msg_hs_done good = done_of(&c, 1, 0), m = good;
	memset(m.session, 0xff, sizeof m.session);
	publish(&m);
	ck_assert_uint_eq(counter(STAT_MSG_BAD), 1);
	m = good;
	m.who.row = 7; /* no such listener */
	publish(&m);
	m.who.row = UINT32_MAX;
	publish(&m);
	m = good;
	m.who.shard = 3;
	publish(&m);
	ck_assert_uint_eq(counter(STAT_STREAMS_OPENED), 0);
	m = good;
	m.pieces = 255;
	memset(m.piece, 0xff, sizeof m.piece);
	publish(&m);
	ck_assert_uint_eq(counter(STAT_STREAMS_OPENED), 1);
	binding(&c);
	end();
}
END_TEST

/* ---- many ------------------------------------------------------------------------------------ */

static struct client crowd[MANY];

/* Only one socket at a time: the worker's numbers begin soon. */
static void
dial(struct client *c, bool up)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&c->addr, &ss);

	if (!up) {
		close(c->fd);
		return;
	}
	c->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(c->fd, 0);
	ck_assert_int_lt(c->fd, BASE);
	ck_assert_int_eq(bind(c->fd, (struct sockaddr *)&ss, len), 0);
}

/* close_notify, and the one that answers it. */
static void
hang_up(struct client *c)
{
	uint8_t buf[200], plain[200];
	struct seal_in in;

	client_seal(c, SEAL_T_ALERT, "\1", 2);
	size_t n = wire(c, buf, sizeof buf);
	ck_assert_int_eq(seal_dtls_open(&c->keys, &ctx, buf, n, plain, sizeof plain, &in), 0);
	ck_assert_int_eq(in.kind, SEAL_CLOSE);
}

static void
all_answered(const bool *gone)
{
	for (unsigned i = 0; i < MANY; i++) {
		dial(&crowd[i], true);
		if (gone[i]) {
			client_seal(&crowd[i], SEAL_T_DATA, "x", 1);
			ck_assert(!world_pump_until(crowd[i].fd, 5));
		} else {
			binding(&crowd[i]);
		}
		dial(&crowd[i], false);
	}
}

/* Published, used, closed, and turnpike-tls was not told and offers it again: nothing of it is accepted
 * any more, least of all a datagram of the client that an attacker has kept.  Not after a death of the
 * worker either. */
START_TEST(never_again)
{
	uint8_t buf[200];
	struct client c;

	start(&c, 1);
	struct msg_hs_done m = done_of(&c, 1, 0);
	publish(&m);
	struct client then = c;
	binding(&c);
	client_seal(&c, SEAL_T_ALERT, "\1", 2);
	(void)wire(&c, buf, sizeof buf);
	ck_assert_uint_eq(counter(STAT_STREAMS_CLOSED), 1);
	for (uint8_t i = 1; i <= 3; i++) {
		m.again = i;
		publish(&m);
		if (i == 2) {
			world_kill();
			world_spawn();
		}
	}
	ck_assert_uint_eq(counter(STAT_STREAMS_OPENED), 1);
	c = then;
	client_seal(&c, SEAL_T_DATA, "\0\1\0\0\x21\x12\xa4\x42one two thr", 20);
	ck_assert(!world_pump_until(c.fd, 50));
	/* Another hello of the same client does not bring it back. */
	(void)prove(&c, 2);
	publish(&m);
	ck_assert_uint_eq(counter(STAT_STREAMS_OPENED), 1);
	end();
}
END_TEST

/* A turnpike-tls that was taken over: sessions and datagrams for clients that proved nothing. */
START_TEST(not_without_a_proof)
{
	struct client c;
	uint8_t buf[200];
	struct msg_hs_reply r = { .h = { MSG_HS_REPLY, 0 }, .who = { .dtls = 1 }, .len = 40 };

	start(&c, 1);
	struct msg_hs_done m = done_of(&c, 1, 9), other = m;
	other.who.client.port++;
	publish(&other);
	other = m;
	other.who.request ^= 2;
	publish(&other);
	other.who.request = 0;
	publish(&other);
	ck_assert_uint_eq(counter(STAT_STREAMS_OPENED), 0);
	r.who.client = c.addr;
	ck_assert_int_eq(ipc_send(world.tlsd, &r, -1), 0);
	ck_assert(world_pump_until(c.fd, 10000));
	ck_assert_uint_eq(wire(&c, buf, sizeof buf), 40);
	publish(&m);
	ck_assert_uint_eq(wire(&c, buf, sizeof buf), 9);
	ck_assert_uint_eq(counter(STAT_STREAMS_OPENED), 1);
	uint64_t drops = world_drops(DROP_DTLS_STRAY);
	ck_assert_int_eq(ipc_send(world.tlsd, &r, -1), 0);
	for (unsigned i = 0; i < 200 && world_drops(DROP_DTLS_STRAY) == drops; i++)
		world_pump(20);
	ck_assert_uint_eq(world_drops(DROP_DTLS_STRAY), drops + 1);
	/* The association that is there is not ended by a session that was not asked for. */
	other = m;
	other.session[20] ^= 1;
	publish(&other);
	binding(&c);
	end();
}
END_TEST

START_TEST(many)
{
	static bool gone[MANY];
	struct client c;

	start(&c, 1);
	for (unsigned i = 0; i < MANY; i++) {
		memset(&crowd[i], 0, sizeof crowd[i]);
		ck_assert_int_eq(addr_parse(&crowd[i].addr, "127.0.7.1:0"), 0);
		crowd[i].addr.ip[3] = (uint8_t)(1 + i);
		crowd[i].addr.port = (uint16_t)(30000 + i);
		client_secure(&crowd[i], i);
		dial(&crowd[i], true);
		struct msg_hs_done m = done_of(&crowd[i], i, 0);
		dial(&crowd[i], false);
		publish(&m);
	}
	all_answered(gone);
	/* Out of the index, in an order that leaves holes of every kind. */
	for (unsigned k = 0; k < MANY / 2; k++) {
		unsigned i = k * 37 % MANY;
		dial(&crowd[i], true);
		hang_up(&crowd[i]);
		dial(&crowd[i], false);
		gone[i] = true;
	}
	all_answered(gone);
	world_kill();
	world_spawn();
	all_answered(gone);
	end();
}
END_TEST

/* ---- numbers --------------------------------------------------------------------------------- */

static void
set_next_number(uint64_t n)
{
	struct shard s = { 0 };
	void *p = region_map(world.region[0], pages_of_shard(), true, false);
	void *keys = region_map(world.keys[0], pages_of_keys(), true, false);

	ck_assert(p != NULL && keys != NULL);
	ck_assert_int_eq(shard_attach(&s, 0, p, keys, SLOT_MAX, true, NULL), 0);
	ck_assert_ptr_nonnull(conn_at(&s, 0));
	((volatile struct seal_dtls *)(void *)conn_place(&s, conn_at(&s, 0)))->tx = n;
	region_unmap(p, pages_of_shard());
	region_unmap(keys, pages_of_keys());
}

/* The last number for data, then close_notify, and its allocation ends; not lasting silence. */
START_TEST(numbers_run_out)
{
	struct client c;
	uint8_t buf[200], plain[200];
	struct seal_in in;

	start(&c, 1);
	struct msg_hs_done m = done_of(&c, 1, 0);
	publish(&m);
	client_allocate(&c);
	unsigned releases = world.releases;
	set_next_number(SEAL_SEQ_MAX - SEAL_SEQ_LAST - 1);
	binding(&c);
	client_seal(&c, SEAL_T_DATA, "\0\1\0\0\x21\x12\xa4\x42one two thr", 20);
	size_t n = wire(&c, buf, sizeof buf);
	ck_assert_int_eq(seal_dtls_open(&c.keys, &ctx, buf, n, plain, sizeof plain, &in), 0);
	ck_assert_int_eq(in.kind, SEAL_CLOSE);
	ck_assert_uint_eq(world_drops(DROP_KEY_LIMIT), 1);
	world_pump(100);
	ck_assert_uint_eq(world.releases, releases + 1);
	ck_assert_uint_eq(counter(STAT_STREAMS_CLOSED), 1);
	end();
}
END_TEST

TCase *
tcase_assoc(void)
{
	TCase *t = tcase_create("associations");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, published_once);
	tcase_add_test(t, replaced);
	tcase_add_test(t, nonsense);
	tcase_add_test(t, never_again);
	tcase_add_test(t, not_without_a_proof);
	tcase_add_test(t, many);
	tcase_add_test(t, numbers_run_out);
	return t;
}
