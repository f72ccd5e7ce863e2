/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_state_conn.c: connections and rings: what is committed stays, what is not never was; adoption;
 * counts by prefix.
 */
#include "config.h"

#include <sys/mman.h>

#include "check_state.h"

static struct conn *
open_conn(unsigned n)
{
	struct conn *c = conn_new(&shard, TRANSPORT_TCP);

	ck_assert_ptr_nonnull(c);
	c->fd = (int32_t)(100 + n);
	c->listener = 1;
	c->client = c->peer = addr4(0xcb007100u + n, (uint16_t)(1000 + n));
	c->prefix = 77;
	conn_publish(c, CONN_OPEN);
	return c;
}

static void
adopt(void)
{
	ck_assert_int_eq(shard_attach(&shard, 0, shard.region, shard.keys, shard.slot_max, true, NULL), 0);
	shard_adopt(&shard, NOW, NULL, NULL);
	audit_clean();
}

/* As the worker does it: bytes behind the head, then the record. */
static void
append(struct conn *c, const char *text)
{
	struct conn_rec *next = conn_next(c);
	size_t len = strlen(text);
	uint32_t old;

	ck_assert(ring_reserve(&shard, &next->out, c->out_sent, next->out_head, len, &old));
	memcpy(ring_at(&shard, &next->out, next->out_head), text, len);
	next->out_head += len;
	conn_commit(c);
	ring_give(&shard, old);
}

START_TEST(slots)
{
	struct conn *c[64], *again;

	for (unsigned i = 0; i < 64; i++)
		c[i] = open_conn(i);
	ck_assert_ptr_null(conn_new(&shard, TRANSPORT_TCP));
	audit_clean();
	uint32_t gen = c[7]->gen, slot = conn_slot(&shard, c[7]);
	c[7]->transport = TRANSPORT_TLS; /* it became TLS */
	conn_key(&shard, c[7])->bytes[3] = conn_secrets(&shard, c[7])[191] = 9;
	conn_free(&shard, c[7]);
	ck_assert_ptr_null(conn_at(&shard, slot));
	ck_assert_uint_eq(conn_key(&shard, c[7])->bytes[3], 0);
	ck_assert_uint_eq(conn_secrets(&shard, c[7])[191], 0);
	audit_clean();
	again = open_conn(99);
	ck_assert_ptr_eq(again, c[7]);
	ck_assert_uint_ne(again->gen, gen);
	ck_assert_ptr_null(conn_at(&shard, 64));
	ck_assert_ptr_null(conn_at(&shard, UINT32_MAX));
}
END_TEST

/* Pages of [from, to) that memory was spent on. */
static unsigned
resident(const void *from, const void *to)
{
	static unsigned char in[4096];
	uintptr_t a = (uintptr_t)from & ~(uintptr_t)4095, b = ((uintptr_t)to + 4095) & ~(uintptr_t)4095;
	size_t pages = (b - a) / 4096;
	unsigned n = 0;

	ck_assert_uint_le(pages, sizeof in);
	ck_assert_int_eq(mincore((void *)a, b - a, in), 0);
	for (size_t i = 0; i < pages; i++)
		n += in[i] & 1;
	return n;
}

/* An association is its head and what it needs of KEYS: whatever is done to it, the pages of streams
 * stay untouched. */
START_TEST(datagrams_need_no_records)
{
	struct conn *c[64];

	for (unsigned i = 0; i < 64; i++) {
		c[i] = conn_new(&shard, TRANSPORT_DTLS);
		ck_assert_ptr_nonnull(c[i]);
		c[i]->client = c[i]->peer = addr4(0xcb007100u + i, (uint16_t)(1000 + i));
		memset(conn_key(&shard, c[i]), 1, sizeof(struct conn_key));
		memset(conn_place(&shard, c[i]), 1, CONN_PLACE_LEN);
		conn_publish(c[i], CONN_OPEN);
		ck_assert_ptr_eq(conn_peek(&shard, i), c[i]);
		ck_assert_uint_eq(conn_slot(&shard, c[i]), i);
	}
	adopt();
	for (unsigned i = 0; i < 64; i++) {
		ck_assert_ptr_eq(conn_at(&shard, i), c[i]);
		ck_assert_uint_eq(conn_place(&shard, c[i])[CONN_PLACE_LEN - 1], 1);
	}
	for (unsigned i = 0; i < 64; i += 2)
		conn_free(&shard, c[i]);
	ck_assert_uint_eq(conn_place(&shard, c[2])[CONN_PLACE_LEN - 1], 0);
	ck_assert_uint_eq(conn_key(&shard, c[2])->bytes[0], 0);
	adopt();
	for (unsigned i = 0; i < 64; i += CONN_GROUP) {
		ck_assert_uint_eq(resident(c[i], c[i] + CONN_GROUP), 1);
		ck_assert_uint_eq(resident(conn_recs(c[i]), conn_recs(c[i]) + 2 * CONN_GROUP), 0);
	}
	ck_assert_uint_eq(
	    resident(conn_secrets(&shard, c[0]), conn_secrets(&shard, c[63]) + CONN_SECRETS_LEN), 0);
	/* A stream in a slot that had none finds its records, all zero. */
	struct conn *s = open_conn(1);
	ck_assert_uint_eq(conn_now(s)->out_head, 0);
	append(s, "one");
	adopt();
	ck_assert_uint_eq(conn_now(s)->out_head, 3);
}
END_TEST

START_TEST(record)
{
	struct conn *c = open_conn(1);

	append(c, "one");
	struct conn_rec *next = conn_next(c);
	next->out_head = 99; /* and dies */
	adopt();
	ck_assert_uint_eq(conn_now(c)->out_head, 3);
	append(c, "two");
	ck_assert_int_eq(memcmp(ring_at(&shard, &conn_now(c)->out, 0), "onetwo", 6), 0);
	ck_assert_uint_eq(conn_now(c)->out_head, 6);
}
END_TEST

START_TEST(ring_changes)
{
	struct conn *c = open_conn(1);
	static char big[RING_BYTES - 9];
	struct ring_ref r = { 0 };
	uint32_t first, old;

	memset(big, 'x', sizeof big - 1);
	append(c, big);
	first = conn_now(c)->out.ring;
	c->out_sent = conn_now(c)->out_head - 3;
	append(c, "0123456789abcdef"); /* does not fit behind: three bytes move */
	ck_assert_uint_ne(conn_now(c)->out.ring, first);
	ck_assert_int_eq(
	    memcmp(ring_at(&shard, &conn_now(c)->out, c->out_sent), "xxx0123456789abcdef", 19), 0);
	audit_clean();
	/* What must be kept and what comes are more than a ring. */
	struct conn_rec *next = conn_next(c);
	ck_assert(!ring_reserve(&shard, &next->out, c->out_sent, next->out_head, RING_BYTES - 18, &old));
	ck_assert(ring_take(&shard, &r, 5));
	ck_assert_uint_eq(r.ring, first);
	ck_assert_uint_eq(ring_room(&r, 8), RING_BYTES - 3);
	ring_give(&shard, r.ring);
	ring_give(&shard, 0);
	ring_give(&shard, shard.ring_max + 1);
	audit_clean();
}
END_TEST

START_TEST(rings_run_out)
{
	struct ring_ref r;
	unsigned n = 0;

	while (ring_take(&shard, &r, 0))
		n++;
	ck_assert_uint_eq(n, shard.ring_max);
	ck_assert_uint_gt(audit_count(), 0); /* no connection has them */
	adopt();
	ck_assert(ring_take(&shard, &r, 0));
}
END_TEST

/* Pages that are in memory. */
static size_t
ring_pages(const struct ring_ref *r)
{
	const uint8_t *at = ring_at(&shard, r, r->base);

	return resident(at, at + RING_BYTES);
}

START_TEST(rings_rest)
{
	struct ring_ref r[48];
	unsigned cold = 0;

	ck_assert_uint_eq(ring_rest(&shard), 0);
	for (unsigned turn = 0; turn < 2; turn++) {
		for (unsigned i = 0; i < 48; i++) {
			ck_assert(ring_take(&shard, &r[i], 0));
			memset(ring_at(&shard, &r[i], 0), (int)(i + 1), RING_BYTES);
		}
		for (unsigned i = 1; i < 48; i++)
			ring_give(&shard, r[i].ring);
		ck_assert_uint_eq(ring_rest(&shard), 31); /* sixteen stay warm */
		ck_assert_uint_eq(ring_rest(&shard), 0);
		ck_assert_uint_gt(ring_pages(&r[0]), 0); /* it is in use */
		for (size_t i = 0; i < RING_BYTES; i++)
			ck_assert_uint_eq(ring_at(&shard, &r[0], 0)[i], 1);
		cold = 0;
		for (unsigned i = 1; i < 48; i++)
			cold += ring_pages(&r[i]) == 0;
		ck_assert_uint_eq(cold, 31);
		ring_give(&shard, r[0].ring);
	}
	/* A successor knows of none; none is in use, so all but the warm go. */
	adopt();
	ck_assert_uint_eq(ring_rest(&shard), 32);
	ck_assert(ring_take(&shard, &r[0], 0));
	ring_give(&shard, r[0].ring);
	audit_clean();
}
END_TEST

START_TEST(adoption)
{
	struct conn *good = open_conn(1), *half = conn_new(&shard, TRANSPORT_TCP), *bad[5];
	struct session *x = fill(1, 1);
	struct cross_limits none = { 0 };

	append(good, "kept");
	good->wait = good->touched = 1;
	for (unsigned i = 0; i < 5; i++)
		bad[i] = open_conn(10 + i);
	bad[0]->fd = -1;
	bad[1]->in_recv = 5;  /* and no ring */
	bad[2]->out_sent = 1; /* more than there was */
	conn_recs(bad[3])->flags = CONN_FLAGS;
	bad[4]->transport = TRANSPORT_UDP;
	(void)half;
	x->conn = conn_slot(&shard, bad[4]) + 1;
	x->transport = TRANSPORT_TCP;
	x->listener = 1;
	x->client = bad[4]->client;
	ck_assert_int_eq(cross_open(&cross, &shard, x, &none, NULL), 0);
	ck_assert_int_eq(shard_attach(&shard, 0, shard.region, shard.keys, shard.slot_max, true, NULL), 0);
	struct shard_adopted n = shard_adopt(&shard, NOW, NULL, NULL);
	ck_assert_uint_eq(n.dropped, 1); /* the session whose connection is none */
	ck_assert_ptr_eq(conn_at(&shard, conn_slot(&shard, good)), good);
	ck_assert_uint_eq(good->wait, 0);
	ck_assert_uint_eq(good->touched, 0);
	for (unsigned i = 0; i < 5; i++)
		ck_assert_ptr_null(conn_at(&shard, conn_slot(&shard, bad[i])));
	audit_clean();
}
END_TEST

START_TEST(session_needs_its_connection)
{
	struct conn *c = open_conn(3);
	struct session *x = fill(3, 1);
	struct cross_limits none = { 0 };

	x->conn = conn_slot(&shard, c) + 1;
	x->transport = TRANSPORT_TCP;
	x->listener = 1;
	x->client = c->client;
	ck_assert_int_eq(cross_open(&cross, &shard, x, &none, NULL), 0);
	ck_assert(conn_is_of(&shard, x));
	audit_clean();
	adopt();
	ck_assert(conn_is_of(&shard, x));
	c->client.port++;
	ck_assert(!conn_is_of(&shard, x));
	ck_assert_uint_eq(audit_count(), 1);
}
END_TEST

START_TEST(counts)
{
	struct conn_limits l = { .per_prefix = 2, .total = 4 };

	ck_assert(cross_conn_fits(&cross, 2, 77, &l));
	cross_conn_add(&cross, 0, 77, 1);
	cross_conn_add(&cross, 1, 77, 1);
	ck_assert(!cross_conn_fits(&cross, 2, 77, &l));
	ck_assert(cross_conn_fits(&cross, 2, 78, &l));
	ck_assert(cross_conn_fits(&cross, 2, 0, &l)); /* not counted by prefix */
	cross_conn_add(&cross, 1, 78, 1);
	cross_conn_add(&cross, 1, 79, 1);
	ck_assert(!cross_conn_fits(&cross, 2, 80, &l));
	cross_conn_add(&cross, 1, 79, -1);
	ck_assert(cross_conn_fits(&cross, 2, 80, &l));
	l = (struct conn_limits){ 0 };
	ck_assert(cross_conn_fits(&cross, 2, 77, &l));
	/* A successor counts what is there. */
	open_conn(1);
	open_conn(2);
	open_conn(3);
	cross_conn_recount(&cross, &shard);
	l.per_prefix = 4;
	ck_assert(!cross_conn_fits(&cross, 2, 77, &l));
	l.per_prefix = 5;
	ck_assert(cross_conn_fits(&cross, 2, 77, &l));
}
END_TEST

Suite *
suite_conn(void)
{
	Suite *s = suite_create("conn");
	TCase *t = tcase_create("conn");

	tcase_add_checked_fixture(t, setup_small, teardown_shard);
	tcase_add_test(t, slots);
	tcase_add_test(t, datagrams_need_no_records);
	tcase_add_test(t, record);
	tcase_add_test(t, ring_changes);
	tcase_add_test(t, rings_run_out);
	tcase_add_test(t, rings_rest);
	tcase_add_test(t, adoption);
	tcase_add_test(t, session_needs_its_connection);
	tcase_add_test(t, counts);
	suite_add_tcase(s, t);
	return s;
}
