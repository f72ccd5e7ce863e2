/* SPDX-License-Identifier: BSD-3-Clause */
/* sandbox.c: what is left works, what is gone kills. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check_io.h"

/* Runs `what` in a child under the filter; its wait status. */
static int
run(void (*what)(void))
{
	static const struct sandbox_rule more[] = {
		{ SYS_setsockopt, { { 1, SANDBOX_EQ, 1 }, { 2, SANDBOX_EQ, 27 } } },
		{ SYS_setsockopt, { { 1, SANDBOX_EQ, 0 }, { 2, SANDBOX_EQ, 10 } } },
	};
	int status;
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		if (sandbox_harden(getppid()) < 0 || sandbox_seccomp(more, 2) < 0)
			_exit(99);
		what();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return status;
}

static void
fine(void)
{
	static uint32_t word = 1;
	struct timespec past = { 0, 1 };
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || munmap(p, 4096) < 0 || getppid() <= 0)
		_exit(1);
	if (setsockopt(-1, 1, 27, NULL, 0) == 0 || errno != EBADF || setsockopt(-1, 0, 10, NULL, 0) == 0)
		_exit(2);
	/* What lock_take() does when another process holds the word: 9 is FUTEX_WAIT_BITSET, not private. */
	if (syscall(SYS_futex, &word, 9, 1, &past, NULL, ~0u) == 0 || errno != ETIMEDOUT)
		_exit(3);
}
static void do_open(void) { (void)open("/dev/null", O_RDONLY); }
static void do_socket(void) { (void)socket(AF_INET, SOCK_DGRAM, 0); }
static void do_kill(void) { (void)kill(getppid(), 0); }
static void do_exec(void) { (void)execl("/bin/true", "true", (char *)NULL); }
static void do_map_exec(void) { (void)mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }
static void do_option(void) { (void)setsockopt(-1, 1, 10, NULL, 0); }
static void do_futex(void) { (void)syscall(SYS_futex, NULL, 3, 0, 0, 0, 0); }
static void do_tgkill(void) { (void)syscall(SYS_tgkill, getppid(), getppid(), 0); }
static void do_fork(void) { if (fork() == 0) _exit(0); }

START_TEST(test_seccomp)
{
	static void (*const forbidden[])(void) = {
		do_open, do_socket, do_kill, do_exec, do_map_exec, do_option, do_futex, do_tgkill, do_fork,
	};

	ck_assert_int_eq(run(fine), 0);
#ifndef TP_SANITIZER
	for (unsigned i = 0; i < TP_COUNT(forbidden); i++) {
		int status = run(forbidden[i]);
		ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "call %u: status %x", i, status);
	}
#else
	(void)forbidden;
#endif
}
END_TEST

START_TEST(test_landlock)
{
	pid_t pid = fork();
	int status;

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		if (sandbox_harden(getppid()) < 0)
			_exit(99);
		int rc = sandbox_landlock(-1);
		if (rc == -ENOSYS || rc == -EOPNOTSUPP)
			_exit(0);		/* a kernel without it */
		_exit(rc == 0 && open("/etc/passwd", O_RDONLY) < 0 && errno == EACCES ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}
END_TEST

/* What turnpike-admin keeps: its log file may be made anew beside the old one, and no other file anywhere. */
START_TEST(test_landlock_log)
{
	char dir[] = "/tmp/check-io-XXXXXX", file[64];
	int status, fd;
	pid_t pid;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(file, sizeof file, "%s/log", dir);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		fd = open(dir, O_PATH | O_DIRECTORY);
		if (sandbox_harden(getppid()) < 0)
			_exit(99);
		int rc = sandbox_landlock(fd);
		if (rc == -ENOSYS || rc == -EOPNOTSUPP)
			_exit(0);
		if (rc < 0 || open(file, O_WRONLY | O_CREAT | O_EXCL, 0600) < 0 || open(file, O_WRONLY | O_APPEND) < 0)
			_exit(1);
		_exit(open(file, O_RDONLY) < 0 && unlink(file) < 0 && open("/tmp/x", O_WRONLY | O_CREAT, 0600) < 0 &&
		    open("/etc/passwd", O_RDONLY) < 0 ? 0 : 2);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	(void)unlink(file);
	ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

/* What is not allowed fails, and the process goes on. */
START_TEST(test_refuse)
{
#ifndef TP_SANITIZER
	static const struct sandbox_rule more[] = { { SYS_socket, { { 0, SANDBOX_EQ, AF_UNIX }, { 0, SANDBOX_ANY, 0 } } } };
	pid_t pid = fork();
	int status;

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		if (sandbox_harden(getppid()) < 0 || sandbox_seccomp_refuse(more, 1) < 0)
			_exit(99);
		if (socket(AF_UNIX, SOCK_DGRAM, 0) < 0 || socket(AF_INET, SOCK_DGRAM, 0) >= 0 || errno != EPERM)
			_exit(1);
		_exit(open("/dev/null", O_RDONLY) < 0 && errno == EPERM && kill(getppid(), 0) < 0 && errno == EPERM ? 0 : 2);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
#endif
}
END_TEST

START_TEST(test_become)
{
	pid_t pid;
	int status;

	ck_assert_int_eq(sandbox_become(0, 65534), -EINVAL);
	if (geteuid() != 0)
		return;
	pid = fork();
	if (pid == 0)
		_exit(sandbox_become(65534, 65534) == 0 && getuid() == 65534 && getgid() == 65534 && setuid(0) < 0 ? 0 : 1);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(sandbox_harden(1000000), -ESRCH);
}
END_TEST

Suite *
suite_sandbox(void)
{
	Suite *s = suite_create("sandbox");
	TCase *t = tcase_create("sandbox");

	tcase_add_test(t, test_seccomp);
	tcase_add_test(t, test_landlock);
	tcase_add_test(t, test_landlock_log);
	tcase_add_test(t, test_refuse);
	tcase_add_test(t, test_become);
	suite_add_tcase(s, t);
	return s;
}
