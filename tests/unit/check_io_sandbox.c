/* SPDX-License-Identifier: BSD-3-Clause */
/* check_io_sandbox.c: sandbox.c: what is left works, what is gone kills. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <linux/sockios.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check_io.h"

/* Runs `what` in a child that is confined as `role`; its wait status. */
static int
run(unsigned role, void (*what)(void))
{
	int status;
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		tzset();
		if (sandbox_harden(getppid()) < 0 || sandbox_seccomp(role) < 0)
			_exit(99);
		what();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return status;
}

static const unsigned roles[] = { ROLE_WORKER, ROLE_TLSD, ROLE_AUTHD, ROLE_ADMIN };

/* ---- what every role's code asks of libc ----- */

static void
all_ids(void)
{
	if (getpid() <= 0 || getppid() <= 0 || geteuid() == (uid_t)-1 || getegid() == (gid_t)-1 ||
	    getuid() == (uid_t)-1 || getgid() == (gid_t)-1)
		_exit(1);
}

static void
all_memory(void)
{
	static uint32_t word = 1;
	struct timespec past = { 0, 1 };
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *big = malloc(4u << 20), *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (p == MAP_FAILED || madvise(p, 4096, MADV_DONTNEED) < 0 || mprotect(p, 4096, PROT_READ) < 0 ||
	    munmap(p, 4096) < 0)
		_exit(1);
	if (big == NULL || (big = realloc(big, 16u << 20)) == NULL || f == NULL ||
	    fprintf(f, "%d", 1) != 1 || fclose(f) != 0)
		_exit(2);
	free(big);
	free(text);
	/* What lock_take() does when another process holds the word: 9 is FUTEX_WAIT_BITSET, not
	 * private. */
	if (syscall(SYS_futex, &word, 9, 1, &past, NULL, ~0u) == 0 || errno != ETIMEDOUT)
		_exit(3);
}

static void
all_time(void)
{
	struct timespec t, nap = { 0, 1 };
	uint8_t chance[16];
	time_t now;

	if (clock_gettime(CLOCK_MONOTONIC, &t) < 0 || clock_gettime(CLOCK_REALTIME, &t) < 0 ||
	    nanosleep(&nap, NULL) < 0 || time(&now) == -1 || getentropy(chance, sizeof chance) < 0)
		_exit(1);
}

static void
all_messages(void)
{
	int pair[2] = { -1, -1 };
	struct pollfd p = { .fd = -1, .events = POLLIN };
	struct iovec io = { "x", 1 };
	struct msghdr h = { .msg_iov = &io, .msg_iovlen = 1 };
	struct epoll_event e = { .events = EPOLLIN };
	struct stat st;

	if (poll(&p, 1, 0) != 0 || (sendmsg(pair[0], &h, MSG_NOSIGNAL) < 0 && errno != EBADF) ||
	    (recvmsg(pair[0], &h, 0) < 0 && errno != EBADF) ||
	    (send(-1, "x", 1, MSG_DONTWAIT) < 0 && errno != EBADF) ||
	    (recv(-1, &st, 1, 0) < 0 && errno != EBADF) || (read(-1, &st, 1) < 0 && errno != EBADF) ||
	    (write(-1, "x", 1) < 0 && errno != EBADF) || (writev(-1, &io, 1) < 0 && errno != EBADF) ||
	    (epoll_ctl(-1, EPOLL_CTL_ADD, 0, &e) < 0 && errno != EBADF) ||
	    (epoll_wait(-1, &e, 1, 0) < 0 && errno != EBADF) || (fstat(-1, &st) < 0 && errno != EBADF) ||
	    (fcntl(-1, F_GETFL) < 0 && errno != EBADF) || (close(-1) < 0 && errno != EBADF))
		_exit(1);
}

static void
all_signals(void)
{
	sigset_t none;

	sigemptyset(&none);
	if (sigprocmask(SIG_SETMASK, &none, NULL) < 0 || signal(SIGUSR1, SIG_IGN) == SIG_ERR)
		_exit(1);
}

/* ---- what one role's code asks of libc ----- */

static void
worker_sockets(void)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	int n;

	if ((accept4(-1, NULL, NULL, SOCK_CLOEXEC) < 0 && errno != EBADF) ||
	    (getpeername(-1, (void *)&ss, &len) < 0 && errno != EBADF) ||
	    (getsockname(-1, (void *)&ss, &len) < 0 && errno != EBADF) ||
	    (recvmmsg(-1, NULL, 1, 0, NULL) < 0 && errno != EBADF) ||
	    (sendmmsg(-1, NULL, 1, MSG_DONTWAIT) < 0 && errno != EBADF) ||
	    (dup3(-1, 200, O_CLOEXEC) < 0 && errno != EBADF) ||
	    (fcntl(-1, F_DUPFD_CLOEXEC, 3) < 0 && errno != EBADF) ||
	    (fcntl(-1, F_GET_SEALS) < 0 && errno != EBADF) ||
	    (ioctl(-1, SIOCINQ, &n) < 0 && errno != EBADF) ||
	    (ioctl(-1, SIOCOUTQ, &n) < 0 && errno != EBADF))
		_exit(1);
	if (sock_filter_detach(-1) != -EBADF || sock_filter_share(-1, -1) != -EBADF ||
	    sock_filter_has(-1) == 0 || sock_empty(-1))
		_exit(2);
	if (setsockopt(-1, IPPROTO_IP, IP_MTU_DISCOVER, NULL, 0) == 0 ||
	    setsockopt(-1, IPPROTO_IPV6, IPV6_MTU_DISCOVER, NULL, 0) == 0 ||
	    setsockopt(-1, IPPROTO_UDP, UDP_GRO, NULL, 0) == 0)
		_exit(3);
}

static int
by_value(const void *a, const void *b)
{
	return *(const int *)a < *(const int *)b ? -1 : *(const int *)a > *(const int *)b;
}

/* glibc asks how much memory there is before it sorts more than fits on its stack. */
static void
sorting(void)
{
	size_t n = 1 << 16;
	int *list = calloc(n, sizeof *list);

	if (list == NULL)
		_exit(1);
	for (size_t i = 0; i < n; i++)
		list[i] = (int)(n - i);
	qsort(list, n, sizeof *list, by_value);
	_exit(list[0] == 1 ? 0 : 2);
}

static void
authd_guard(void)
{
	char page[4096] = "";

	if ((mlock(page, sizeof page) < 0 && errno != ENOMEM && errno != EPERM) ||
	    munlock(page, sizeof page) < 0)
		_exit(1);
}

static void
admin_clients(void)
{
	int one = 1;

	if ((accept4(-1, NULL, NULL, SOCK_NONBLOCK) < 0 && errno != EBADF) ||
	    (shutdown(-1, SHUT_WR) < 0 && errno != EBADF) ||
	    (setsockopt(-1, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0 && errno != EBADF) ||
	    (setsockopt(-1, IPPROTO_TCP, TCP_CORK, &one, sizeof one) < 0 && errno != EBADF) ||
	    (getsockopt(-1, SOL_SOCKET, SO_PEERCRED, NULL, NULL) < 0 && errno != EBADF) ||
	    (fcntl(-1, F_SETFL, O_NONBLOCK) < 0 && errno != EBADF) ||
	    (fcntl(-1, F_SETFD, FD_CLOEXEC) < 0 && errno != EBADF) ||
	    (pread(-1, &one, 1, 0) < 0 && errno != EBADF) || (dup2(-1, 200) < 0 && errno != EBADF))
		_exit(1);
}

/* A log that is opened again: a file, syslog, and the local time that syslog's lines have. */
static void
admin_log(void)
{
	time_t t = 0;
	struct tm tm;
	int fd = open("/dev/null", O_WRONLY | O_APPEND | O_CLOEXEC);

	if (fd < 0 || (fchmod(fd, 0666) < 0 && errno != EPERM && errno != EROFS) || close(fd) < 0)
		_exit(1);
	if ((fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) < 0 || close(fd) < 0)
		_exit(2);
	if (localtime_r(&t, &tm) == NULL || tm.tm_hour != 9) /* TZ of this test is nine hours ahead */
		_exit(3);
}

START_TEST(test_permitted)
{
	static void (*const all[])(void) = { all_ids, all_memory, all_time, all_messages, all_signals };

	setenv("TZ", "Test-9", 1);
	for (unsigned r = 0; r < TP_COUNT(roles); r++)
		for (unsigned i = 0; i < TP_COUNT(all); i++)
			ck_assert_msg(
			    run(roles[r], all[i]) == 0, "%s: part %u", proc_role_name(roles[r]), i);
	ck_assert_int_eq(run(ROLE_WORKER, worker_sockets), 0);
	ck_assert_int_eq(run(ROLE_AUTHD, authd_guard), 0);
	ck_assert_int_eq(run(ROLE_ADMIN, sorting), 0);
	ck_assert_int_eq(run(ROLE_TLSD, sorting), 0);
	ck_assert_int_eq(run(ROLE_ADMIN, admin_clients), 0);
	ck_assert_int_eq(run(ROLE_ADMIN, admin_log), 0);
}
END_TEST

/* ---- what kills ----- */

static void
do_open(void)
{
	(void)open("/dev/null", O_RDONLY);
}
static void
do_socket(void)
{
	(void)socket(AF_INET, SOCK_DGRAM, 0);
}
static void
do_connect(void)
{
	(void)connect(-1, NULL, 0);
}
static void
do_bind(void)
{
	(void)bind(-1, NULL, 0);
}
static void
do_listen(void)
{
	(void)listen(-1, 1);
}
static void
do_kill(void)
{
	(void)kill(getppid(), 0);
}
static void
do_exec(void)
{
	(void)execl("/bin/true", "true", (char *)NULL);
}
static void
do_map_exec(void)
{
	(void)mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}
static void
do_protect(void)
{
	(void)mprotect(NULL, 4096, PROT_READ | PROT_EXEC);
}
static void
do_option(void)
{
	(void)setsockopt(-1, SOL_SOCKET, SO_REUSEADDR, NULL, 0);
}
static void
do_fastopen_option(void)
{
	(void)setsockopt(-1, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, NULL, 0);
}
static void
do_futex(void)
{
	(void)syscall(SYS_futex, NULL, 3, 0, 0, 0, 0);
}
static void
do_tgkill(void)
{
	(void)syscall(SYS_tgkill, getppid(), getppid(), 0);
}
static void
do_fork(void)
{
	if (fork() == 0)
		_exit(0);
}
static void
do_ptrace(void)
{
	(void)syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0);
}
static void
do_prctl(void)
{
	(void)prctl(PR_SET_DUMPABLE, 1);
}
static void
do_limit(void)
{
	struct rlimit r = { 1, 1 };
	(void)setrlimit(RLIMIT_NOFILE, &r);
}
/* What flags can do: a send that connects, and the end of a listener. */
static void
do_sendto_connect(void)
{
	(void)sendto(-1, "x", 1, MSG_FASTOPEN | MSG_NOSIGNAL, NULL, 0);
}
static void
do_sendmsg_connect(void)
{
	(void)sendmsg(-1, NULL, MSG_FASTOPEN);
}
static void
do_sendmmsg_connect(void)
{
	(void)sendmmsg(-1, NULL, 1, MSG_FASTOPEN);
}
static void
do_shutdown_read(void)
{
	(void)shutdown(-1, SHUT_RD);
}
static void
do_shutdown_both(void)
{
	(void)shutdown(-1, SHUT_RDWR);
}
static void
do_shutdown_write(void)
{
	(void)shutdown(-1, SHUT_WR);
}

static void
must_die(unsigned role, void (*const *what)(void), unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		int status = run(role, what[i]);

		ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "%s, call %u: status %x",
		    proc_role_name(role), i, (unsigned)status);
	}
}

START_TEST(test_forbidden)
{
#ifndef TP_SANITIZER
	static void (*const all[])(void) = {
		do_connect,
		do_bind,
		do_listen,
		do_kill,
		do_exec,
		do_map_exec,
		do_protect,
		do_futex,
		do_tgkill,
		do_fork,
		do_ptrace,
		do_prctl,
		do_limit,
		do_socket,
		do_option,
		do_fastopen_option,
		do_sendto_connect,
		do_sendmsg_connect,
		do_sendmmsg_connect,
		do_shutdown_read,
		do_shutdown_both,
	};
	static void (*const but_admin[])(void) = { do_open, do_shutdown_write };

	for (unsigned r = 0; r < TP_COUNT(roles); r++)
		must_die(roles[r], all, TP_COUNT(all));
	for (unsigned r = 0; r < TP_COUNT(roles); r++)
		if (roles[r] != ROLE_ADMIN)
			must_die(roles[r], but_admin, TP_COUNT(but_admin));
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
			_exit(0); /* a kernel without it */
		_exit(rc == 0 && open("/etc/passwd", O_RDONLY) < 0 && errno == EACCES ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}
END_TEST

/* What turnpike-admin keeps: its log file may be made again beside the old one, and no other file
 * anywhere. */
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
		if (rc < 0 || open(file, O_WRONLY | O_CREAT | O_EXCL, 0600) < 0 ||
		    open(file, O_WRONLY | O_APPEND) < 0)
			_exit(1);
		_exit(open(file, O_RDONLY) < 0 && unlink(file) < 0 &&
			    open("/tmp/x", O_WRONLY | O_CREAT, 0600) < 0 &&
			    open("/etc/passwd", O_RDONLY) < 0
			? 0
			: 2);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	(void)unlink(file);
	ck_assert_int_eq(rmdir(dir), 0);
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
		_exit(sandbox_become(65534, 65534) == 0 && getuid() == 65534 && getgid() == 65534 &&
			    setuid(0) < 0
			? 0
			: 1);
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

	tcase_add_test(t, test_permitted);
	tcase_add_test(t, test_forbidden);
	tcase_add_test(t, test_landlock);
	tcase_add_test(t, test_landlock_log);
	tcase_add_test(t, test_become);
	suite_add_tcase(s, t);
	return s;
}
