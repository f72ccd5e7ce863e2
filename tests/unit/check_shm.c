/* SPDX-License-Identifier: BSD-3-Clause */
/* check_shm.c: sealed regions, lock words between processes, counters, derived secrets. */
#include "config.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tp/shm.h"

#define SIZE 65536

static int rw, ro;

static void
make(void)
{
	ck_assert_int_eq(region_make("check", SIZE, &rw, &ro), 0);
}

static void
unmake(void)
{
	close(rw);
	close(ro);
}

START_TEST(region_is_sealed)
{
	struct stat st;

	ck_assert_int_eq(fstat(rw, &st), 0);
	ck_assert_int_eq(st.st_size, SIZE);
	ck_assert_int_eq(st.st_blocks, 0);
	ck_assert_int_eq(st.st_mode & 07777, 0600);
	ck_assert_int_eq(fcntl(rw, F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
	    F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	ck_assert_int_eq(fcntl(rw, F_GET_SEALS) & F_SEAL_WRITE, 0);
	ck_assert_int_eq(ftruncate(rw, SIZE / 2), -1);
	ck_assert_int_eq(errno, EPERM);
	ck_assert_int_eq(ftruncate(rw, SIZE * 2), -1);
	ck_assert_int_eq(errno, EPERM);
	ck_assert_int_eq(fcntl(rw, F_ADD_SEALS, F_SEAL_WRITE), -1);
	ck_assert_int_ne(fcntl(rw, F_GETFD) & FD_CLOEXEC, 0);
	ck_assert_int_ne(fcntl(ro, F_GETFD) & FD_CLOEXEC, 0);
}
END_TEST

START_TEST(read_only_is_read_only)
{
	uint8_t *map = region_map(ro, SIZE, false, false);

	ck_assert_ptr_nonnull(map);
	ck_assert_int_eq(ftruncate(ro, 0), -1);
	ck_assert_int_eq(fallocate(ro, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
	ck_assert_int_eq(errno, EBADF);
	ck_assert_int_eq(write(ro, "x", 1), -1);
	ck_assert_int_eq(mprotect(map, SIZE, PROT_READ | PROT_WRITE), -1);
	ck_assert_int_eq(errno, EACCES);
	ck_assert_ptr_eq(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, ro, 0), MAP_FAILED);
	ck_assert_ptr_null(region_map(ro, SIZE, true, false));
	ck_assert_int_eq(errno, EACCES);
	ck_assert_int_eq(madvise(map, SIZE, MADV_REMOVE), -1);
	region_unmap(map, SIZE);
}
END_TEST

START_TEST(what_is_written_is_read)
{
	uint8_t *w = region_map(rw, SIZE, true, true), *r = region_map(ro, SIZE, false, false);

	ck_assert_ptr_nonnull(w);
	ck_assert_ptr_nonnull(r);
	w[SIZE - 1] = 7;
	ck_assert_uint_eq(r[SIZE - 1], 7);
	region_unmap(w, SIZE);
	region_unmap(r, SIZE);
}
END_TEST

static int
dies_touching(volatile uint8_t *at)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		signal(SIGSEGV, SIG_DFL);
		_exit(*at == 0 ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

START_TEST(guard_pages)
{
	uint8_t *map = region_map(rw, SIZE, true, false);

	ck_assert_int_ne(dies_touching(map - 1), 0);
	ck_assert_int_ne(dies_touching(map + SIZE), 0);
	ck_assert_int_eq(dies_touching(map), 0);
	region_unmap(map, SIZE);
}
END_TEST

START_TEST(map_refuses)
{
	int plain = memfd_create("plain", MFD_CLOEXEC), pipes[2];

	ck_assert_int_eq(ftruncate(plain, SIZE), 0);
	ck_assert_ptr_null(region_map(plain, SIZE, true, false));  /* could be shrunk under us */
	ck_assert_ptr_null(region_map(rw, SIZE * 2, true, false)); /* smaller than promised */
	ck_assert_ptr_null(region_map(rw, SIZE - 1, true, false));
	ck_assert_ptr_null(region_map(rw, 0, true, false));
	ck_assert_int_eq(pipe(pipes), 0);
	ck_assert_ptr_null(region_map(pipes[0], SIZE, false, false));
	ck_assert_int_eq(region_make("odd", 100, &rw, &ro), -EINVAL);
	close(pipes[0]);
	close(pipes[1]);
	close(plain);
}
END_TEST

/* ---- locks ------------------------------------------------------------------------------------------ */

struct shared {
	_Alignas(64) lock_word lock;
	_Alignas(64) lock_word other;
	uint64_t n;
	_Atomic uint32_t go;
};

static struct shared *
shared_make(void)
{
	struct shared *s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(s, MAP_FAILED);
	return s;
}

START_TEST(lock_alone)
{
	lock_word w = 0;

	ck_assert_int_eq(lock_take(&w, 0, 0), 0);
	ck_assert(lock_held_by(&w, 0));
	ck_assert(!lock_held_by(&w, 1));
	ck_assert_int_eq(lock_take(&w, 0, 0), -ETIMEDOUT);
	ck_assert_int_eq(lock_take(&w, 1, LOCK_WAIT_MS), -ETIMEDOUT);
	lock_give(&w, 1); /* not its own */
	ck_assert(lock_held_by(&w, 0));
	lock_give(&w, 0);
	ck_assert(!lock_held_by(&w, 0));
	ck_assert_int_eq(lock_take(&w, 1, 0), 0);
	lock_give(&w, 1);
}
END_TEST

START_TEST(lock_garbage_ends)
{
	lock_word w = 0x12345678;

	ck_assert_int_eq(lock_take(&w, 3, LOCK_WAIT_MS), -ETIMEDOUT);
	w = LOCK_WAITERS; /* no process holds it */
	ck_assert_int_eq(lock_take(&w, 3, LOCK_WAIT_MS), 0);
}
END_TEST

START_TEST(lock_excludes)
{
	struct shared *s = shared_make();
	enum { N = 3, ROUNDS = 20000 };
	pid_t pid[N];
	int status;

	for (uint32_t i = 0; i < N; i++)
		if ((pid[i] = fork()) == 0) {
			for (unsigned k = 0; k < ROUNDS; k++) {
				while (lock_take(&s->lock, i, 100) != 0)
					;
				*(volatile uint64_t *)&s->n = *(volatile uint64_t *)&s->n + 1;
				lock_give(&s->lock, i);
			}
			_exit(0);
		}
	for (unsigned i = 0; i < N; i++)
		ck_assert(waitpid(pid[i], &status, 0) == pid[i] && status == 0);
	ck_assert_uint_eq(s->n, (uint64_t)N * ROUNDS);
	ck_assert_uint_eq(s->lock & ~LOCK_WAITERS, 0);
	munmap(s, 4096);
}
END_TEST

START_TEST(lock_recovers)
{
	struct shared *s = shared_make();
	int status;
	pid_t holder = fork(), waiter;

	if (holder == 0) {
		lock_take(&s->lock, 5, 0);
		lock_take(&s->other, 6, 0);
		kill(getpid(), SIGKILL);
	}
	waitpid(holder, &status, 0);
	waiter = fork();
	if (waiter == 0)
		_exit(lock_take(&s->lock, 1, 10000) == 0 ? 0 : 1);
	while (!(atomic_load(&s->lock) & LOCK_WAITERS))
		usleep(1000);
	lock_recover(&s->lock, 2, 64, 5);
	ck_assert_int_eq(waitpid(waiter, &status, 0), waiter);
	ck_assert_int_eq(status, 0);
	ck_assert(lock_held_by(&s->lock, 1));
	ck_assert(lock_held_by(&s->other, 6)); /* another's stays */
	munmap(s, 4096);
}
END_TEST

/* ---- counters, secrets --------------------------------------------------------------------------------
 */

START_TEST(stat_tables)
{
	static struct stats s;

	for (unsigned i = 0; i < STAT_COUNTERS; i++) {
		/* Those of distributions have their names in spread_rows. */
		ck_assert_str_ne(stat_rows[i].name, "");
		ck_assert(i >= STAT_H_SETUP ? stat_rows[i].kind == 'H'
					    : stat_rows[i].help[0] != '\0' &&
			    (stat_rows[i].kind == 'C' || stat_rows[i].kind == 'G'));
	}
	for (unsigned i = 0; i < DROPS; i++)
		ck_assert_str_ne(drop_rows[i].label, "");
	stat_add(&s, STAT_ALLOC_MADE, 3);
	stat_drop(&s, DROP_JUNK);
	stat_error(&s, STAT_M_ALLOCATE, 401);
	ck_assert_uint_eq(s.counter[STAT_ERROR_401 + STAT_M_ALLOCATE], 1);
	ck_assert_str_eq(
	    stat_rows[STAT_ERROR_401 + STAT_M_ALLOCATE].labels, "method=\"Allocate\",code=\"401\"");
	stat_error(&s, STAT_M_ALLOCATE, 999); /* no such row */
	ck_assert_int_eq(stat_error_row(300), 0);
	ck_assert_int_eq(stat_error_row(999), -1);
	ck_assert_uint_eq(s.error[stat_error_row(401)], 1);
	stat_init(&s, 2, 1, 9, 1234);
	ck_assert_uint_eq(s.counter[STAT_ALLOC_MADE], 3); /* kept over a restart */
	ck_assert_uint_eq(s.drop[DROP_JUNK], 1);
	ck_assert_uint_eq(s.generation, 9);
	ck_assert_uint_eq(s.heartbeat_ms, 1234);
	ck_assert_uint_eq(s.busy.slot, UINT32_MAX);
	stat_words(&s, "%0400d", 1);
	ck_assert_uint_eq(strlen(s.words), STAT_WORDS - 1);
}
END_TEST

START_TEST(stat_batches)
{
	static const unsigned n[] = { 1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 33, 64, 65, 1000 };
	static const unsigned want[] = { 0, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7 };

	for (unsigned i = 0; i < TP_COUNT(n); i++)
		ck_assert_uint_eq(stat_batch_bucket(n[i]), want[i]);
}
END_TEST

START_TEST(secrets_differ)
{
	uint8_t master[SECRET_BYTES] = { 1 }, a[32], b[32];

	secret_derive(a, master, "tpnonce0", 1);
	secret_derive(b, master, "tpnonce0", 1);
	ck_assert_mem_eq(a, b, 32);
	secret_derive(b, master, "tpnonce0", 2);
	ck_assert_mem_ne(a, b, 32);
	secret_derive(b, master, "tpcookie", 1);
	ck_assert_mem_ne(a, b, 32);
	ck_assert_mem_ne(a, master, 32);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("shm");
	TCase *region = tcase_create("region"), *rest = tcase_create("rest");
	SRunner *run;
	int failed;

	tcase_add_checked_fixture(region, make, unmake);
	tcase_add_test(region, region_is_sealed);
	tcase_add_test(region, read_only_is_read_only);
	tcase_add_test(region, what_is_written_is_read);
	tcase_add_test(region, guard_pages);
	tcase_add_test(region, map_refuses);
	tcase_add_test(rest, lock_alone);
	tcase_add_test(rest, lock_garbage_ends);
	tcase_add_test(rest, lock_excludes);
	tcase_add_test(rest, lock_recovers);
	tcase_add_test(rest, stat_tables);
	tcase_add_test(rest, stat_batches);
	tcase_add_test(rest, secrets_differ);
	tcase_set_timeout(rest, 60);
	suite_add_tcase(suite, region);
	suite_add_tcase(suite, rest);
	run = srunner_create(suite);
	srunner_run_all(run, CK_NORMAL);
	failed = srunner_ntests_failed(run);
	srunner_free(run);
	return failed == 0 ? 0 : 1;
}
