/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_super_carry.c: what one image of the supervisor hands to the next: everything comes back,
 * strangers are told apart.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../src/super/carry.h"
#include "../../src/super/super_int.h"
#include "check_super.h"

static const struct super_options options = { .argc = 0 };

static struct super *
fresh(void)
{
	struct super *s = calloc(1, sizeof *s);

	ck_assert_ptr_nonnull(s);
	s->o = &options;
	s->ledger = calloc(1, sizeof *s->ledger);
	ck_assert_ptr_nonnull(s->ledger);
	children_init(&s->children, s->ledger, &super_children_ops, s);
	pool_init(&s->pool, s->ledger, &s->win, super_pool_send, s);
	s->exe_fd = s->upgrade.back_exe = s->http_fd = s->certs_fd = -1;
	for (unsigned i = 0; i < ROLES; i++)
		s->binary[i] = s->upgrade.back_binary[i] = -1;
	return s;
}

static void
drop(struct super *s)
{
	free(s->ledger);
	free(s);
}

static struct super *
example(void)
{
	struct super *s = fresh();
	struct ledger_child *c;
	struct ledger_fd e = { .kind = LEDGER_POOL, .row = 1, .family = ADDR_V4 };

	s->win = (struct windows){ .first = 100, .span = 50, .shards = 2 };
	s->regions.shards = 2;
	s->regions.slot_max = 50;
	s->ledger->worker_count = 2;
	s->ledger->boot_ms = 12345;
	s->phase = SUPER_DRAINING;
	s->deadline = 99999;
	s->conf_fd = 7;
	s->filter_fd = 9;
	s->regions.epoll[1] = 33;
	s->upgrade.who = (struct requester){ .used = true, .request = 5, .generation = 6 };
	c = &s->ledger->child[children_row(&s->children, ROLE_WORKER, 1)];
	c->state = CHILD_READY;
	c->pid = 4711;
	c->generation = 17;
	c->first_shard = c->shard_count = 1;
	s->children.c[0].control = 44;
	e.port = 50000;
	e.shard = 1;
	ledger_set(s->ledger, 160, e);
	e.kind = LEDGER_RESERVED;
	e.port = 50001;
	ledger_set(s->ledger, 161, e);
	s->pool.reserved[3] = (struct pool_reserved){ .id = 8, .fd = 161, .expiry = 777 };
	s->suspect[0] = (struct suspect){ .deaths = 2, .slot = SLOT_NONE, .last = 55 };
	s->conf.listener_count = 1;
	s->conf.listeners[0].addr = (struct addr){ .family = ADDR_V4, .ip = { 10, 0, 0, 1 } };
	s->conf.listeners[0].retired = 1;
	return s;
}

START_TEST(test_round)
{
	struct super *a = example(), *b = fresh();
	char why[WHY_MAX];
	int fd = carry_save(a);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(carry_load(b, fd, why, sizeof why), 0);
	ck_assert_uint_eq(b->win.span, 50);
	ck_assert_uint_eq(b->phase, SUPER_DRAINING);
	ck_assert_uint_eq(b->ledger->draining, 1);
	ck_assert_uint_eq(b->ledger->boot_ms, 12345);
	ck_assert_uint_eq(b->deadline, 99999);
	ck_assert_int_eq(b->conf_fd, 7);
	ck_assert_int_eq(b->filter_fd, 9);
	ck_assert_int_eq(b->http_fd, -1); /* absent stays absent */
	ck_assert_int_eq(b->regions.epoll[1], 33);
	ck_assert_uint_eq(b->upgrade.who.request, 5);
	ck_assert(!b->upgrade.foreign && !b->upgrade.other_stats);
	ck_assert_uint_eq(b->ledger->child_count, 1);
	ck_assert_int_eq(b->ledger->child[0].pid, 4711);
	ck_assert_uint_eq(b->ledger->child[0].generation, 17);
	ck_assert_int_eq(b->children.c[0].control, 44);
	ck_assert_uint_eq(b->ledger->fd[160].port, 50000);
	ck_assert_uint_eq(b->ledger->fd[160].row, 1);
	ck_assert_uint_eq(b->ledger->reserved_sockets, 1);
	ck_assert_uint_eq(b->pool.reserved[0].id, 8);
	ck_assert_uint_eq(b->pool.reserved[0].expiry, 777);
	ck_assert_uint_eq(b->suspect[0].deaths, 2);
	ck_assert_uint_eq(b->conf.listener_count, 1);
	ck_assert_uint_eq(b->conf.listeners[0].retired, 1);
	close(fd);
	drop(a);
	drop(b);
}
END_TEST

static struct super *
with_tlsds(void)
{
	struct super *s = example();
	struct ledger_fd e = { .kind = LEDGER_LISTENER, .family = ADDR_V4, .stream = 1 };

	s->certs_fd = 8;
	s->certs_size = 4096;
	s->tlsd_count = 2;
	for (int k = 0; k < MSG_TLSDS_MAX; k++)
		s->regions.stat_tlsd[k] = (struct region){ 200 + k, 220 + k };
	for (int i = 0; i < 2; i++)
		for (int k = 0; k < 2; k++) {
			s->tlsd_pair[i][k][0] = 80 + 4 * i + 2 * k;
			s->tlsd_pair[i][k][1] = 81 + 4 * i + 2 * k;
		}
	s->ledger->child[children_row(&s->children, ROLE_TLSD, 1)].state = CHILD_READY;
	ledger_set(s->ledger, 110, e);
	e = (struct ledger_fd){ .kind = LEDGER_STREAM, .row = 2 };
	e.shard = 1;
	ledger_set(s->ledger, 170, e);
	s->conf.listeners[0].transports = TRANSPORT_TCP | TRANSPORT_TLS;
	return s;
}

START_TEST(test_streams)
{
	struct super *a = with_tlsds(), *b = fresh();
	char why[WHY_MAX];
	int fd = carry_save(a);

	ck_assert_int_eq(carry_load(b, fd, why, sizeof why), 0);
	ck_assert_int_eq(b->certs_fd, 8);
	ck_assert_uint_eq(b->certs_size, 4096);
	ck_assert_uint_eq(b->tlsd_count, 2);
	ck_assert_int_eq(b->regions.stat_tlsd[MSG_TLSDS_MAX - 1].rw, 200 + MSG_TLSDS_MAX - 1);
	ck_assert_int_eq(b->regions.stat_tlsd[0].ro, 220);
	for (int i = 0; i < 2; i++)
		for (int k = 0; k < 2; k++) {
			ck_assert_int_eq(b->tlsd_pair[i][k][0], 80 + 4 * i + 2 * k);
			ck_assert_int_eq(b->tlsd_pair[i][k][1], 81 + 4 * i + 2 * k);
		}
	ck_assert_int_ge(children_find(&b->children, ROLE_TLSD, 1), 0);
	ck_assert_uint_eq(b->ledger->fd[110].stream, 1);
	ck_assert_uint_eq(b->ledger->fd[160].stream, 0);
	ck_assert_uint_eq(b->ledger->fd[170].kind, LEDGER_STREAM);
	ck_assert_uint_eq(b->ledger->fd[170].row, 2);
	ck_assert_uint_eq(b->ledger->fd[170].shard, 1);
	ck_assert_uint_eq(b->conf.listeners[0].transports, TRANSPORT_TCP | TRANSPORT_TLS);
	close(fd);
	drop(b);
	/* A pair that did not come: that turnpike-tls could not be reached. */
	b = fresh();
	a->tlsd_pair[1][0][1] = -1;
	fd = carry_save(a);
	ck_assert_int_eq(carry_load(b, fd, why, sizeof why), 0);
	ck_assert_uint_eq(b->tlsd_count, 0);
	close(fd);
	drop(a);
	drop(b);
}
END_TEST

static unsigned seen[256];

static void
see(void *arg, int fd)
{
	(void)arg;
	if (fd >= 0 && fd < (int)TP_COUNT(seen))
		seen[fd]++;
}

/* What is not named closes itself. */
START_TEST(test_descriptors)
{
	struct super *s = with_tlsds();

	memset(seen, 0, sizeof seen);
	held_each(s, true, see, NULL);
	for (unsigned k = 0; k < MSG_TLSDS_MAX; k++)
		ck_assert(seen[200 + k] == 1 && seen[220 + k] == 1);
	for (unsigned fd = 80; fd < 88; fd++)
		ck_assert_uint_eq(seen[fd], 1);
	ck_assert(seen[8] == 1 && seen[110] == 0 && seen[160] == 0 && seen[161] == 0 &&
	    seen[170] == 0); /* windows: spawn.c */
	drop(s);
}
END_TEST

/* ---- bytes of another build ------------------------------------------------------------------------ */

struct bytes {
	uint8_t *p;
	size_t len;
};

static struct bytes
saved(void)
{
	struct super *a = example();
	struct bytes b;
	struct stat st;
	int fd = carry_save(a);

	ck_assert_int_eq(fstat(fd, &st), 0);
	b.len = (size_t)st.st_size;
	b.p = malloc(b.len + 4096);
	ck_assert_int_eq(pread(fd, b.p, b.len, 0), (ssize_t)b.len);
	close(fd);
	drop(a);
	return b;
}

static uint64_t
sum_of(const uint8_t *p, size_t len)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * 0x100000001b3u;
	return h;
}

/* A record before END, which is made right again. */
static void
insert(struct bytes *b, uint16_t type, uint16_t flags)
{
	struct carry_record r = { .type = type, .flags = flags, .len = 3 };
	size_t end = b->len - sizeof(struct carry_record) - sizeof(struct carry_end);
	struct carry_end e;

	memmove(b->p + end + 16, b->p + end, b->len - end);
	memcpy(b->p + end, &r, sizeof r);
	memcpy(b->p + end + sizeof r, "abc\0\0\0\0\0", 8);
	b->len += 16;
	memcpy(&e, b->p + b->len - sizeof e, sizeof e);
	e.records++;
	e.sum = sum_of(b->p, end + 16);
	memcpy(b->p + b->len - sizeof e, &e, sizeof e);
}

static void
set_head(struct bytes *b, size_t offset, uint32_t value)
{
	size_t end = b->len - sizeof(struct carry_record) - sizeof(struct carry_end);
	struct carry_end e;

	memcpy(b->p + sizeof(struct carry_record) + offset, &value, sizeof value);
	memcpy(&e, b->p + b->len - sizeof e, sizeof e);
	e.sum = sum_of(b->p, end);
	memcpy(b->p + b->len - sizeof e, &e, sizeof e);
}

/* Loads and frees the bytes; *foreign may be NULL. */
static int
load(struct bytes *b, char *why, size_t len, bool *foreign)
{
	struct super *s = fresh();
	int fd = conf_seal("test", b->p, b->len), e = carry_load(s, fd, why, len);

	if (foreign != NULL)
		*foreign = s->upgrade.foreign;
	close(fd);
	drop(s);
	free(b->p);
	return e;
}

START_TEST(test_unknown)
{
	struct bytes b = saved();
	char why[WHY_MAX];

	insert(&b, 999, 0); /* may be left out */
	ck_assert_int_eq(load(&b, why, sizeof why, NULL), 0);
	b = saved();
	insert(&b, 999, CARRY_MUST);
	ck_assert_int_eq(load(&b, why, sizeof why, NULL), -EPROTO);
	ck_assert_ptr_nonnull(strstr(why, "(999)"));
}
END_TEST

START_TEST(test_layouts)
{
	static const size_t at[] = { offsetof(struct carry_head, layout_shard),
		offsetof(struct carry_head, layout_keys), offsetof(struct carry_head, layout_cross),
		offsetof(struct carry_head, version) };
	char why[WHY_MAX];
	bool foreign;

	for (unsigned i = 0; i < TP_COUNT(at); i++) {
		struct bytes b = saved();
		set_head(&b, at[i], 77);
		ck_assert_int_eq(load(&b, why, sizeof why, NULL), -EPROTO);
		ck_assert_ptr_nonnull(strstr(why, "77"));
	}
	struct bytes b = saved();
	set_head(&b, offsetof(struct carry_head, messages), 77);
	ck_assert_int_eq(load(&b, why, sizeof why, &foreign), 0);
	ck_assert(foreign);
}
END_TEST

START_TEST(test_damage)
{
	char why[WHY_MAX];
	struct bytes b = saved();

	b.len -= 9;
	ck_assert_int_eq(load(&b, why, sizeof why, NULL), -EPROTO);
	b = saved();
	b.p[b.len / 2] ^= 1;
	ck_assert_int_eq(load(&b, why, sizeof why, NULL), -EPROTO);
	b = saved();
	b.p[0] = CARRY_SHARD; /* HEAD comes first */
	ck_assert_int_eq(load(&b, why, sizeof why, NULL), -EPROTO);
	/* Lengths that lead out of the bytes, at every record's head. */
	for (size_t cut = 0; cut < 400; cut += 8) {
		uint32_t huge = 0xfffffff0u;
		b = saved();
		memcpy(b.p + cut + 4, &huge, sizeof huge);
		ck_assert_int_eq(load(&b, why, sizeof why, NULL), -EPROTO);
	}
}
END_TEST

Suite *
suite_carry(void)
{
	Suite *s = suite_create("carry");
	TCase *t = tcase_create("state");

	tcase_add_test(t, test_round);
	tcase_add_test(t, test_streams);
	tcase_add_test(t, test_descriptors);
	tcase_add_test(t, test_unknown);
	tcase_add_test(t, test_layouts);
	tcase_add_test(t, test_damage);
	suite_add_tcase(s, t);
	return s;
}
