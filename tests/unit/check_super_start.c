/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_super_start.c: rows across reloads, the lock of the runtime directory, what a spawned process
 * gets, the holder of a port.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../src/super/super_int.h"
#include "check_super.h"

static struct conf_listener
listener(uint16_t port)
{
	struct conf_listener l = { .addr = { .family = ADDR_V4, .ip = { 127, 0, 0, 1 } },
		.transports = TRANSPORT_UDP };

	l.addr.port = port;
	return l;
}

START_TEST(test_rows)
{
	static struct conf was, is, again;
	static struct port_map ports;

	was.listener_count = 2;
	was.listeners[0] = listener(1);
	was.listeners[1] = listener(2);
	is.listener_count = 2;
	is.listeners[0] = listener(3); /* 2 moves up in the file, 1 is gone, 3 is new */
	is.listeners[1] = listener(2);
	ck_assert_int_eq(conf_keep_rows(&was, &is, &ports), 0);
	ck_assert_uint_eq(is.listener_count, 3);
	ck_assert_uint_eq(is.listeners[0].addr.port, 1);
	ck_assert_uint_eq(is.listeners[0].retired, 1);
	ck_assert_uint_eq(is.listeners[1].addr.port, 2);
	ck_assert_uint_eq(is.listeners[1].retired, 0);
	ck_assert_uint_eq(is.listeners[2].addr.port, 3);

	again.listener_count = 1; /* 1 comes back: under its old number */
	again.listeners[0] = listener(1);
	ck_assert_int_eq(conf_keep_rows(&is, &again, &ports), 0);
	ck_assert_uint_eq(again.listener_count, 3);
	ck_assert_uint_eq(again.listeners[0].retired, 0);
	ck_assert_uint_eq(again.listeners[1].retired, 1);
	conf_strip_rows(&again);
	ck_assert_uint_eq(again.listener_count, 1);
	ck_assert_uint_eq(again.listeners[0].addr.port, 1);
}
END_TEST

static struct conf_relay
behind(uint8_t external)
{
	return (struct conf_relay){ .addr = { .family = ADDR_V4, .ip = { 10, 0, 0, 5 } },
		.external = { .family = external != 0 ? ADDR_V4 : ADDR_NONE, .ip = { external } },
		.port_min = 50000,
		.port_max = 50999 };
}

/* A session keeps the external address that it was told: another one makes another row. */
START_TEST(test_relay_rows)
{
	static struct conf was, is;
	static struct port_map ports;

	memset(&was, 0, sizeof was);
	memset(&ports, 0, sizeof ports);
	was.relay_count = 1;
	was.relays[0] = behind(5);
	for (unsigned i = 1; i < RELAYS_MAX; i++) {
		memset(&is, 0, sizeof is);
		is.relay_count = 1;
		is.relays[0] = behind((uint8_t)(i % 2 != 0 ? 0 : 5 + i)); /* removed, and changed */
		ck_assert_int_eq(conf_keep_rows(&was, &is, &ports), 0);
		ck_assert_uint_eq(is.relays[0].retired, 1);
		ck_assert_uint_eq(is.relays[0].external.ip[0], 5);
		was = is;
	}
	/* Every second one was the same row: 1 + 1 + 15. */
	ck_assert_uint_eq(was.relay_count, 17);
	for (unsigned i = 17; i < RELAYS_MAX; i++)
		was.relays[i] = behind((uint8_t)(100 + i)), was.relays[i].retired = 1;
	was.relay_count = RELAYS_MAX;
	/* The table is full: a former row is taken that has no socket any more, or none. */
	for (unsigned i = 0; i < RELAYS_MAX; i++)
		port_map_set(&ports, i, 50000 + i, i != 20);
	memset(&is, 0, sizeof is);
	is.relay_count = 1;
	is.relays[0] = behind(200);
	ck_assert_int_eq(conf_keep_rows(&was, &is, &ports), 0);
	ck_assert_uint_eq(is.relays[20].external.ip[0], 200);
	ck_assert_uint_eq(is.relays[20].retired, 0);
	port_map_set(&ports, 20, 50020, true);
	is.relay_count = 1;
	is.relays[0] = behind(201);
	ck_assert_int_eq(conf_keep_rows(&was, &is, &ports), -ENOSPC);
}
END_TEST

START_TEST(test_pidfile)
{
	char dir[] = "/tmp/check-super-XXXXXX", run[PATH_MAX];
	pid_t holder, child;
	int fd, status;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(run, sizeof run, "%s/run", dir);
	fd = pidfile_lock(run, &holder); /* the directory is made */
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pidfile_write(fd, getpid()), 0);
	child = fork();
	if (child == 0) {
		int r = pidfile_lock(run, &holder);
		_exit(r == -EWOULDBLOCK && holder == getppid() ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	close(fd); /* killed: the file stays, the lock does not */
	fd = pidfile_lock(run, &holder);
	ck_assert_int_ge(fd, 0);
	pidfile_remove(run);
	close(fd);
	ck_assert_int_eq(rmdir(run), 0);
	rmdir(dir);
}
END_TEST

/* A small shell script as child: its descriptors, its environment, its arguments. */
START_TEST(test_spawn)
{
	char *argv[] = { (char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c",
		(char *)(uintptr_t) "for f in /proc/self/fd/*; do n=${f##*/}; [ -e /proc/$$/fd/$n ] && printf '%s ' $n; done >&3; "
				    "tr '\\0' '\\n' </proc/$$/environ >&3",
		NULL };
	int out[2], keep = open("/dev/null", O_RDONLY | O_CLOEXEC), status;
	static struct ledger l;
	struct windows w = { .first = 300, .span = 8, .shards = 2 };
	struct ledger_fd entry = { .kind = LEDGER_POOL };
	char text[4096], want[64];
	ssize_t n, len = 0;

	ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
	/* Numbers that are no child's: 3 and 4 are overwritten there. */
	int high = fcntl(out[1], F_DUPFD_CLOEXEC, 50), kept = fcntl(keep, F_DUPFD_CLOEXEC, 60);
	close(out[1]);
	int mine = ledger_move(&l, &w, 0, open("/dev/null", O_RDONLY | O_CLOEXEC), entry);
	int other = ledger_move(&l, &w, 1, open("/dev/null", O_RDONLY | O_CLOEXEC), entry);
	ck_assert_int_eq(mine, 300);
	ck_assert_int_eq(other, 308);
	struct spawn s = { .path = "/bin/sh",
		.binary = -1,
		.argv = argv,
		.control = high,
		.log = -1,
		.keep = &kept,
		.authd_count = 1,
		.ledger = &l,
		.win = &w,
		.first_shard = 0,
		.shard_count = 1,
		.keep_stderr = true };
	setenv("LEAK", "secret", 1);
	pid_t pid = spawn_child(&s);
	ck_assert_int_gt(pid, 0);
	close(high);
	while ((n = read(out[0], text + len, sizeof text - 1 - (size_t)len)) > 0)
		len += n;
	text[len] = '\0';
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	snprintf(want, sizeof want, " %d ", kept);
	ck_assert_ptr_nonnull(strstr(text, want));
	ck_assert_ptr_nonnull(strstr(text, " 300 "));
	ck_assert_ptr_null(strstr(text, " 308 "));
	ck_assert_ptr_null(strstr(text, "LEAK"));
	ck_assert_ptr_null(strstr(text, "PATH="));
}
END_TEST

START_TEST(test_holder)
{
	struct addr a = { .family = ADDR_V4, .ip = { 127, 0, 0, 77 } };
	char why[WHY_MAX], want[64], text[128];
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&a, &ss);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), one = 1;

	/* With SO_REUSEPORT, as another instance would have it. */
	ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one), 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&ss, len), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
	ck_assert_int_eq(addr_from_sockaddr(&a, (struct sockaddr *)&ss), 0);
	ck_assert_int_eq(port_probe(&a, false, "here.yaml:3", why, sizeof why), -EADDRINUSE);
	snprintf(want, sizeof want, "(pid %d)", (int)getpid());
	ck_assert(port_holder(&a, false, text, sizeof text));
	ck_assert_ptr_nonnull(strstr(text, want));
	ck_assert_ptr_nonnull(strstr(why, want));
	ck_assert_ptr_nonnull(strstr(why, "here.yaml:3"));
	close(fd);
	ck_assert_int_eq(port_probe(&a, false, "", why, sizeof why), 0);
}
END_TEST

Suite *
suite_start(void)
{
	Suite *s = suite_create("start");
	TCase *t = tcase_create("start");

	tcase_add_test(t, test_rows);
	tcase_add_test(t, test_relay_rows);
	tcase_add_test(t, test_pidfile);
	tcase_add_test(t, test_spawn);
	tcase_add_test(t, test_holder);
	suite_add_tcase(s, t);
	return s;
}
