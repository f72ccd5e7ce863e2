/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_seal_killed.c: the rules of tp/seal.h under kill -9: a child owns the session in shared memory and
 * echoes; it is killed at random and succeeded by another one; the libssl client must not notice.  Rings
 * stand in for the kernel's sockets.
 */
#include "config.h"

#include <check.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "seal_link.h"
#include "seal_suites.h"

#define WIRE  (4u << 20) /* each way, whole test */
#define KILLS 120
#define BATCH 24 /* records at once, so that a kill falls among them */

struct commit {
	uint64_t parsed, head; /* bytes of in[] and out[] */
	struct seal_pos pos;
};
struct shared {
	struct seal_session s;
	struct commit copy[2];
	_Atomic uint32_t which;
	_Atomic uint64_t arrived; /* in[]: written by the client */
	_Atomic uint64_t taken;   /* DTLS: what the "kernel" handed to a worker */
	_Atomic uint64_t idle_at; /* DTLS: a worker found no more than this, with nothing in its hands */
	_Atomic uint64_t sent;    /* out[]: given to the "kernel" */
	uint8_t in[WIRE], out[WIRE];
};
static struct shared *sh;
static struct link l;
static uint64_t rnd;
static struct seal_ctx ctx;
static unsigned kills;

static void
must(bool ok)
{
	if (!ok)
		_exit(3); /* the parent sees it */
}

/* ---- the worker ---------------------------------------------------------------------------- */

static void
publish(struct commit *c)
{
	uint32_t other = !atomic_load(&sh->which);

	sh->copy[other] = *c;
	atomic_store_explicit(&sh->which, other, memory_order_release);
	atomic_store(&sh->sent, c->head); /* only now */
}

static void
rekey(const struct commit *committed, struct commit *next, enum seal_way way)
{
	must(seal_rekey(&sh->s.keys, &sh->s.secrets, &committed->pos, &next->pos, way) == 0);
	must(seal_sync(&sh->s.keys, &sh->s.secrets, &next->pos) == 0);
}

static void
put_update(const struct commit *committed, struct commit *next, bool ask)
{
	int n = seal_update(
	    &sh->s.keys, &next->pos, &ctx, ask, sh->out + next->head, WIRE - next->head, &next->pos);

	must(n > 0);
	next->head += (uint64_t)n;
	rekey(committed, next, SEAL_TX);
}

/* One record from in[], its effect, one commit. False: none there. */
static bool
stream_step(struct commit *c)
{
	static uint8_t text[SEAL_RECORD_MAX];
	uint64_t have = atomic_load(&sh->arrived) - c->parsed;
	const uint8_t *rec = sh->in + c->parsed;
	struct commit next = *c;
	struct seal_in in;

	int len = seal_stream_len(&sh->s.keys, rec, have);
	must(len >= 0);
	if (len == 0 || (uint64_t)len > have)
		return false;
	must(seal_open(&sh->s.keys, &c->pos, &ctx, rec, (size_t)len, text, sizeof text, &in, &next.pos) ==
	    0);
	next.parsed += (uint64_t)len;
	if (in.kind == SEAL_KEY_UPDATE) {
		rekey(c, &next, SEAL_RX);
		if (in.answer)
			put_update(c, &next, false);
	} else {
		int n = seal_seal(&sh->s.keys, &next.pos, &ctx, SEAL_T_DATA, in.data, in.len,
		    sh->out + next.head, WIRE - next.head, &next.pos);
		must(in.kind == SEAL_DATA && n > 0);
		next.head += (uint64_t)n;
		if (sh->s.keys.proto == SEAL_TLS13 && next.pos.seq[SEAL_RX] % 5 == 0)
			put_update(c, &next, (next.pos.seq[SEAL_RX] & 1) != 0);
	}
	*c = next;
	publish(c);
	return true;
}

/* in[] and out[] hold datagrams with their length in front.  Taking one uses it up, as the kernel does. */
static bool
dtls_step(struct commit *c)
{
	static uint8_t rec[2048], text[2048];
	uint64_t at = atomic_load(&sh->taken);
	struct seal_dhead h;
	struct seal_in in;
	uint64_t seq;

	if (at == atomic_load(&sh->arrived)) {
		atomic_store(&sh->idle_at, at);
		return false;
	}
	size_t n = get_u16(sh->in + at);
	memcpy(rec, sh->in + at + 2, n);
	atomic_store(&sh->taken, at + 2 + n);
	must(seal_dtls_head(&h, rec, n) == (int)n);
	if (!seal_window_fresh(&sh->s.dtls, h.seq))
		return true;
	must(seal_dtls_open(&sh->s.keys, &ctx, rec, n, text, sizeof text, &in) == 0);
	seal_window_mark(&sh->s.dtls, h.seq);
	must(seal_dtls_take(&sh->s.dtls, &seq) == 0);
	c->head = atomic_load(&sh->sent);
	int len = seal_dtls_seal(
	    &sh->s.keys, &ctx, seq, SEAL_T_DATA, in.data, in.len, sh->out + c->head + 2, 2048);
	must(len > 0);
	put_u16(sh->out + c->head, (uint16_t)len);
	atomic_store(&sh->sent, c->head + 2 + (uint64_t)len);
	return true;
}

static void
worker(void)
{
	struct commit c = sh->copy[atomic_load(&sh->which)];
	bool dtls = sh->s.keys.proto == SEAL_DTLS12;

	must(seal_valid(&sh->s.keys));
	if (!dtls) {
		must(seal_sync(&sh->s.keys, &sh->s.secrets, &c.pos) == 0);
		atomic_store(&sh->sent, c.head); /* what was committed and perhaps not sent */
	}
	for (;;)
		if (!(dtls ? dtls_step(&c) : stream_step(&c)))
			sched_yield();
}

static pid_t
spawn(void)
{
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0)
		worker();
	return pid;
}

static pid_t
replace(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFSIGNALED(status), "worker found an error: %d", status);
	kills++;
	return spawn();
}

static void
pause_random(void)
{
	for (volatile uint64_t i = test_random(&rnd) % 60000; i > 0; i--)
		;
}

/* ---- the client ---------------------------------------------------------------------------- */

static void
setup_session(int i, uint64_t seed)
{
	rnd = seed + (uint64_t)i;
	ck_assert_int_eq(seal_ctx_init(&ctx), 0);
	link_open(&l, &link_cases[i], &ctx);
	sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(sh, MAP_FAILED);
	sh->s = l.s;
	sh->copy[0].pos = l.s.pos;
	kills = 0;
}

START_TEST(streams)
{
	static uint8_t data[BATCH * 100], got[BATCH * 100], wire[BATCH * 200];
	uint64_t fed = 0;

	if (link_cases[_i].proto == SEAL_DTLS12 || link_cases[_i].role != SEAL_SERVER || link_cases[_i].rsa)
		return;
	setup_session(_i, test_seed("streams"));
	pid_t pid = spawn();
	while (kills < KILLS) {
		size_t n = 0, have = 0;
		for (unsigned i = 0; i < BATCH; i++) {
			size_t one = 1 + test_random(&rnd) % 100;
			memset(data + n, (int)test_random(&rnd), one);
			if (l.k.proto == SEAL_TLS13 && test_random(&rnd) % 8 == 0)
				SSL_key_update(l.peer, (int)(test_random(&rnd) & 1));
			ck_assert_int_eq(SSL_write(l.peer, data + n, (int)one), (int)one);
			n += one;
		}
		size_t len = link_from_peer(&l, wire, sizeof wire);
		uint64_t at = atomic_load(&sh->arrived);
		ck_assert_uint_lt(at + len, WIRE);
		memcpy(sh->in + at, wire, len);
		atomic_store(&sh->arrived, at + len);
		pause_random();
		pid = replace(pid);
		for (unsigned spins = 0; have < n; spins++) {
			uint64_t head = atomic_load(&sh->sent);
			if (head > fed)
				link_to_peer(&l, sh->out + fed, head - fed);
			fed = head;
			int r = SSL_read(l.peer, got + have, (int)(n - have));
			have += r > 0 ? (size_t)r : 0;
			ck_assert(r > 0 || SSL_get_error(l.peer, r) == SSL_ERROR_WANT_READ);
			if (r <= 0 && spins % 64 == 63)
				ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), 0);
			sched_yield();
		}
		ck_assert_mem_eq(got, data, n);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	const struct seal_pos *pos = &sh->copy[atomic_load(&sh->which)].pos;
	printf("%u kills, %u+%u KeyUpdates\n", kills, pos->gen[SEAL_TX], pos->gen[SEAL_RX]);
	ck_assert(l.k.proto != SEAL_TLS13 || (pos->gen[SEAL_TX] > 5 && pos->gen[SEAL_RX] > 5));
	link_fini(&l);
}
END_TEST

/* Reads echoes until all `want` came or the worker has none to send any more; returns how many came.  No
 * number comes twice, no content comes twice. */
static unsigned
dtls_echoes(uint64_t *fed, uint64_t *last, unsigned want, pid_t pid)
{
	static uint8_t got[2048];
	bool seen[BATCH] = { false };
	unsigned found = 0;
	bool idle = false;

	while (found < want && !idle) {
		idle = atomic_load(&sh->idle_at) == atomic_load(&sh->arrived); /* before the last look */
		while (*fed < atomic_load(&sh->sent)) {
			size_t len = get_u16(sh->out + *fed);
			uint64_t number = get_u64(sh->out + *fed + 2 + 3);
			ck_assert_uint_gt(number, *last);
			*last = number;
			link_to_peer(&l, sh->out + *fed + 2, len);
			*fed += 2 + len;
			int n = SSL_read(l.peer, got, sizeof got);
			ck_assert_int_ge(n, 1);
			ck_assert_uint_lt(got[0], BATCH);
			ck_assert_uint_eq(got[n - 1], got[0]);
			ck_assert(!seen[got[0]]);
			seen[got[0]] = true;
			found++;
		}
		ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), 0);
		sched_yield();
	}
	return found;
}

START_TEST(datagrams)
{
	static uint8_t data[400], wire[2048];
	uint64_t fed = 0, last = 0;
	unsigned lost = 0, sent = 0;

	if (link_cases[_i].proto != SEAL_DTLS12 || link_cases[_i].role != SEAL_SERVER || link_cases[_i].rsa)
		return;
	setup_session(_i, test_seed("datagrams"));
	pid_t pid = spawn();
	for (; kills < KILLS; sent += BATCH) {
		uint64_t at = atomic_load(&sh->arrived);
		for (unsigned i = 0; i < BATCH; i++) {
			size_t n = 1 + test_random(&rnd) % sizeof data;
			memset(data, (int)i, n);
			size_t len = link_peer_writes(&l, data, n, wire, sizeof wire);
			for (unsigned twice = 0; twice < 2; twice++, at += 2 + len) { /* and its replay */
				ck_assert_uint_lt(at + 2 + len, WIRE);
				put_u16(sh->in + at, (uint16_t)len);
				memcpy(sh->in + at + 2, wire, len);
			}
		}
		atomic_store(&sh->arrived, at);
		pause_random();
		pid = replace(pid);
		lost += BATCH - dtls_echoes(&fed, &last, BATCH, pid);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	printf("%u kills, %u of %u lost\n", kills, lost, sent);
	ck_assert_uint_le(lost, kills);
	link_fini(&l);
}
END_TEST

Suite *
suite_killed(void)
{
	Suite *s = suite_create("seal killed");
	TCase *t = tcase_create("killed");

	tcase_add_unchecked_fixture(t, link_keys, NULL);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, streams, 0, (int)link_case_count);
	tcase_add_loop_test(t, datagrams, 0, (int)link_case_count);
	suite_add_tcase(s, t);
	return s;
}
