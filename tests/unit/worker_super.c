/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * worker_super.c: the test's supervisor: regions, sockets, one worker at a time; and turnpike-auth that
 * knows one user.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check_worker.h"

struct world world;

static size_t
pages(size_t n)
{
	return (n + 4095) / 4096 * 4096;
}

size_t
pages_of_shard(void)
{
	return pages(shard_region_size(SLOT_MAX));
}

size_t
pages_of_keys(void)
{
	return pages(shard_keys_size(SLOT_MAX));
}

static void
make(int fds[2], size_t size)
{
	ck_assert_int_eq(region_make("test", pages(size), &fds[0], &fds[1]), 0);
}

static struct addr
loopback(void)
{
	struct addr a;

	ck_assert_int_eq(addr_parse(&a, "127.0.0.1"), 0);
	return a;
}

static int
bound_port(int fd, struct addr *a)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;

	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
	ck_assert_int_eq(addr_from_sockaddr(a, (struct sockaddr *)&ss), 0);
	return a->port;
}

static int
make_conf(void)
{
	static struct conf c;
	int fd = memfd_create("conf", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	conf_defaults(&c);
	c.generation = 1;
	text_copy(c.realm, sizeof c.realm, REALM);
	c.listener_count = 1;
	c.listeners[0].addr = world.server;
	c.listeners[0].transports = TRANSPORT_UDP | TRANSPORT_DTLS;
	c.relay_count = 1;
	c.relays[0].addr = loopback();
	c.relays[0].port_min = 20000;
	c.relays[0].port_max = 29999;
	c.peer_private.count = 1;
	ck_assert_int_eq(cidr_parse(&c.peer_private.rule[0], "127.0.0.0/8"), 0);
	ck_assert_int_eq(conf_validate(&c, sizeof c), 0);
	ck_assert_int_eq(write(fd, &c, sizeof c), (ssize_t)sizeof c);
	ck_assert_int_eq(
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL), 0);
	return fd;
}

void
world_make(void)
{
	struct sock_options o = { 1 << 20, 1 << 20 };
	struct addr a = loopback();
	struct cross cross;
	uint8_t seed[16];
	int fd, pair[2];

	memset(&world, 0, sizeof world);
	world.serve_pool = true;
	world.filter = -1;
	/* The worker's own 3 and 4 must not be numbers of what it inherits. */
	while ((fd = open("/dev/null", O_RDWR | O_CLOEXEC)) <= CHILD_FD_LOG)
		ck_assert_int_ge(fd, 0);
	ck_assert_int_ge(sodium_init(), 0);
	make(world.region, shard_region_size(SLOT_MAX));
	make(world.keys, shard_keys_size(SLOT_MAX));
	make(world.cross, cross_region_size());
	make(world.secret, SECRET_BYTES);
	make(world.stat, STAT_SIZE);
	make(world.ports, PORT_MAP_SIZE);
	world.stats = region_map(world.stat[0], STAT_SIZE, false, false);
	ck_assert_ptr_nonnull(world.stats);
	randombytes_buf(seed, sizeof seed);
	void *p = region_map(world.cross[0], pages(cross_region_size()), true, false);
	ck_assert_ptr_nonnull(p);
	ck_assert_int_eq(cross_attach(&cross, p, UINT32_MAX, seed), 0);
	region_unmap(p, pages(cross_region_size()));
	world.epoll = epoll_create1(EPOLL_CLOEXEC);
	fd = sock_listener_udp(&a, &o, NULL);
	ck_assert_int_ge(fd, 0);
	world.listener = dup3(fd, BASE, O_CLOEXEC);
	ck_assert_int_eq(world.listener, BASE);
	close(fd);
	bound_port(world.listener, &world.server);
	world.conf = make_conf();
	ck_assert_int_eq(ipc_pair(pair), 0);
	world.authd = pair[0];
	world.authd_child = pair[1];
	ck_assert_int_eq(ipc_pair(pair), 0);
	world.tlsd = pair[0];
	world.tlsd_child = pair[1];
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	world.log = pair[0];
	world.log_child = pair[1];
}

void
world_end(void)
{
	if (world.pid > 0)
		world_kill();
}

static void
exec_child(int control)
{
	char path[512];
	const char *top = getenv("top_builddir");

	snprintf(path, sizeof path, "%s/src/prog/turnpike-worker", top != NULL ? top : ".");
	if (dup2(control, CHILD_FD_CONTROL) < 0 || dup2(world.log_child, CHILD_FD_LOG) < 0)
		_exit(90);
	for (int fd = 0; fd < BASE + SPAN; fd++)
		if (fd != world.authd && fd != world.log && fd != world.control && fd != world.tlsd)
			(void)fcntl(fd, F_SETFD, 0);
	char *argv[] = { (char[]){ "turnpike-worker" }, (char[]){ "0" }, NULL };
	execv(path, argv);
	_exit(91);
}

void
world_tell(void *msg, int fd)
{
	((struct msg_head *)msg)->generation = world.generation;
	ck_assert_int_eq(ipc_send(world.control, msg, fd), 0);
}

static void
tell_start(void)
{
	struct msg_start s;
	struct msg_shard h = { .h = { MSG_SHARD, 0 },
		.region_fd = world.region[0],
		.keys_fd = world.keys[0],
		.epoll_fd = world.epoll,
		.fd_base = BASE,
		.fd_span = SPAN,
		.tlsd_fd = { world.tlsd_child } };
	struct msg_listener l = {
		.h = { MSG_LISTENER, 0 }, .fd = world.listener, .transport = TRANSPORT_UDP
	};
	struct msg_pool p = { .h = { MSG_POOL, 0 } };
	struct msg_go g = { .h = { MSG_GO, 0 } };

	memset(&s, 0xff, sizeof s);
	s.stand_by = 0;
	s.tlsd_count = 1;
	s.h.type = MSG_START;
	s.role = world.wrong_role ? ROLE_AUTHD : ROLE_WORKER;
	s.index = 0;
	s.shard_count = 1;
	s.slot_max = SLOT_MAX;
	s.conf_fd = world.conf;
	s.secret_fd = world.secret[1];
	s.cross_fd = world.cross[0];
	s.stat_fd = world.stat[0];
	s.ports_fd = world.ports[1];
	s.authd_fd = world.authd_child;
	s.filter_fd = world.filter;
	s.drop_privileges = 0;
	s.draining = 0;
	world_tell(&s, -1);
	world_tell(&h, -1);
	world_tell(&l, -1);
	for (unsigned i = 0; i < SPAN; i++) {
		if (world.kept[i])
			p.sock[p.count++] = (struct msg_pool_sock){ BASE + (int)i, world.port[i], 0,
				ADDR_V4 };
		if (p.count == MSG_POOL_MAX || (i == SPAN - 1 && p.count > 0)) {
			world_tell(&p, -1);
			p.count = 0;
		}
	}
	world_tell(&g, -1);
}

void
world_spawn(void)
{
	int pair[2];

	world.is_ready = false;
	world.generation++;
	ck_assert_int_eq(ipc_pair(pair), 0);
	world.control = pair[0];
	world.pid = fork();
	ck_assert_int_ge(world.pid, 0);
	if (world.pid == 0)
		exec_child(pair[1]);
	close(pair[1]);
	tell_start();
	for (unsigned i = 0; i < 3000 && !world.is_ready && !world.wrong_role; i++)
		world_pump(20);
	ck_assert_msg(
	    world.is_ready || world.wrong_role, "not ready: %s; %s", world.stats->words, world.lines);
}

int
world_wait(void)
{
	int status = -1;

	for (unsigned i = 0; i < 6000; i++) {
		pid_t pid = waitpid(world.pid, &status, WNOHANG);
		if (pid == world.pid) {
			world.pid = 0;
			return status;
		}
		usleep(10000);
	}
	ck_abort_msg("the worker does not end");
}

void
world_kill(void)
{
	kill(world.pid, SIGKILL);
	(void)world_wait();
	close(world.control);
}

uint64_t
world_drops(enum drop d)
{
	return *(volatile uint64_t *)&world.stats->drop[d];
}

/* ---- messages -------------------------------------------------------------------------------------- */

/* A relay socket at a free number of the window; -1: none. */
static int
new_relay(void)
{
	struct addr a = loopback();

	for (unsigned i = 1; i < SPAN; i++) {
		if (world.kept[i])
			continue;
		int fd = sock_relay_udp(&a, 1 << 18);
		ck_assert_int_ge(fd, 0);
		ck_assert_int_eq(dup3(fd, BASE + (int)i, O_CLOEXEC), BASE + (int)i);
		close(fd);
		world.kept[i] = true;
		world.port[i] = (uint16_t)bound_port(BASE + (int)i, &a);
		return BASE + (int)i;
	}
	return -1;
}

void
give_relay(uint32_t request)
{
	give_reserved(request, 0);
}

void
give_reserved(uint32_t request, uint32_t reservation)
{
	int fd = new_relay();
	struct msg_socket m = { .h = { MSG_SOCKET, 0 },
		.request = request,
		.reservation = reservation,
		.fd = fd,
		.family = ADDR_V4 };

	ck_assert_int_ge(fd, 0);
	m.port = world.port[fd - BASE];
	world_tell(&m, fd);
}

static void
answer_key(const struct msg_key_ask *q)
{
	struct msg_key_answer a = { .h = { MSG_KEY_ANSWER, q->h.generation },
		.request = q->request,
		.verdict = GRANT_OK,
		.alg = STUN_ALG_MD5,
		.conf_generation = 1,
		.stable_len = sizeof USER - 1,
		.name_len = sizeof USER - 1 };

	a.key_len = (uint8_t)stun_key(STUN_ALG_MD5, USER, sizeof USER - 1, REALM, sizeof REALM - 1,
	    PASSWORD, sizeof PASSWORD - 1, a.key);
	memcpy(a.stable, USER, sizeof USER - 1);
	memcpy(a.name, USER, sizeof USER - 1);
	ck_assert_int_eq(ipc_send(world.authd, &a, -1), 0);
}

static void
from_worker(const union msg *m)
{
	switch (m->h.type) {
	case MSG_READY:
		world.ready = m->msg_ready;
		world.is_ready = true;
		break;
	case MSG_WANT:
		world.wants++;
		for (uint32_t i = 0; i < m->msg_want.count && world.serve_pool; i++)
			give_relay(0);
		break;
	case MSG_RELAY:
		world.relays++;
		if (world.no_relays) {
			struct msg_relay_none n = { .h = { MSG_RELAY_NONE, 0 },
				.request = m->msg_relay.request };
			world_tell(&n, -1);
		} else {
			give_relay(m->msg_relay.request);
		}
		break;
	case MSG_RELEASE:
		if (m->msg_release.fd == -1) {
			world.unreserved = m->msg_release.reservation;
			break;
		}
		ck_assert(m->msg_release.fd > BASE && m->msg_release.fd < BASE + SPAN);
		ck_assert(world.kept[m->msg_release.fd - BASE]);
		/* It is out of the epoll: our copy of the socket would keep the registration alive. */
		ck_assert(
		    epoll_ctl(world.epoll, EPOLL_CTL_DEL, m->msg_release.fd, NULL) < 0 && errno == ENOENT);
		world.kept[m->msg_release.fd - BASE] = false;
		world.releases++;
		world.unused += m->msg_release.unused;
		close(m->msg_release.fd);
		break;
	case MSG_CLOSED:
		world.closed = m->msg_closed;
		world.is_closed = true;
		break;
	default:
		ck_abort_msg("message %s", msg_name(m->h.type));
	}
}

static void
read_log(void)
{
	struct log_rec r;
	size_t n = strlen(world.lines);

	while (recv(world.log, &r, sizeof r, MSG_DONTWAIT) >= (ssize_t)LOG_REC_HEAD)
		if (n + r.len + 2u < sizeof world.lines)
			n += (size_t)snprintf(
			    world.lines + n, sizeof world.lines - n, "%.*s\n", r.len, r.text);
}

static void
read_all(void)
{
	union msg m;
	int fd;

	while (ipc_recv(world.control, ROLE_WORKER, ROLE_SUPER, &m, &fd) == 1)
		from_worker(&m);
	while (ipc_recv(world.authd, ROLE_WORKER, ROLE_AUTHD, &m, &fd) == 1) {
		if (m.h.type == MSG_FOLLOWED_ASK)
			continue;
		world.asks++;
		if (!world.mute_authd)
			answer_key(&m.msg_key_ask);
	}
	while (ipc_recv(world.tlsd, ROLE_WORKER, ROLE_TLSD, &m, &fd) == 1) {
		world.acks += m.h.type == MSG_HS_ACK;
		world.strays += m.h.type == MSG_HS_DATAGRAM;
		if (m.h.type == MSG_HS_DATAGRAM && m.msg_hs_datagram.hello != 0)
			world.hello = m.msg_hs_datagram.who.request;
		if (m.h.type == MSG_HS_ACK)
			world.acked = m.msg_hs_ack.who.number;
	}
	read_log();
}

bool
world_pump_until(int fd, int ms)
{
	tp_ms end = clock_ms() + (tp_ms)ms;

	for (;;) {
		struct pollfd p[] = { { .fd = fd, .events = POLLIN },
			{ .fd = world.control, .events = POLLIN }, { .fd = world.authd, .events = POLLIN },
			{ .fd = world.log, .events = POLLIN }, { .fd = world.tlsd, .events = POLLIN } };
		tp_ms now = clock_ms();
		if (now >= end)
			return false;
		if (poll(p, TP_COUNT(p), (int)(end - now)) <= 0)
			continue;
		read_all();
		if ((p[0].revents & POLLIN) != 0)
			return true;
		if ((p[1].revents & POLLHUP) != 0)
			return false;
	}
}

void
world_pump(int ms)
{
	(void)world_pump_until(-1, ms);
}
