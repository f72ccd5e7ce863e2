/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_admin_stage.c: what a supervisor and a worker make, for a real turnpike-auth, a real
 * turnpike-admin and turnpikectl to play with.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check_admin_stage.h"
#include "tp/conf.h"
#include "tp/admin.h"
#include "tp/io.h"
#include "tp/authd.h"
#include "tp/ledger.h"

struct play play;

/* ---- making what a supervisor makes ---------------------------------------------------------------- */

int
play_memfd_of(const void *bytes, size_t len)
{
	int fd = memfd_create("check", MFD_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, bytes, len), (ssize_t)len);
	return fd;
}

int
play_users_fd(const char *password)
{
	struct {
		struct users u;
		struct users_secret s;
		struct users_user x;
	} all;

	memset(&all, 0, sizeof all);
	all.u = (struct users){ .magic = USERS_MAGIC,
		.layout = USERS_LAYOUT,
		.secret_count = 1,
		.user_count = 1,
		.realm = "example.org" };
	all.s.len = (uint16_t)strlen(SECRET);
	memcpy(all.s.value, SECRET, all.s.len);
	all.x.name_len = 5;
	memcpy(all.x.name, "alice", 5);
	all.x.pass_len = (uint16_t)strlen(password);
	memcpy(all.x.pass, password, all.x.pass_len);
	return play_memfd_of(&all, sizeof all);
}

static struct addr
address(const char *text)
{
	struct addr a;

	ck_assert_int_eq(addr_parse(&a, text), 0);
	return a;
}

int
play_conf_fd(uint64_t generation)
{
	static struct conf c;

	memset(&c, 0, sizeof c);
	conf_defaults(&c);
	c.magic = CONF_MAGIC;
	c.layout = CONF_LAYOUT;
	c.generation = generation;
	strcpy(c.realm, "example.org");
	c.listener_count = 1;
	c.listeners[0].addr = address("127.0.0.1:3478");
	c.listeners[0].transports = TRANSPORT_UDP | TRANSPORT_TCP | TRANSPORT_TLS | TRANSPORT_DTLS;
	c.relay_count = 1;
	c.relays[0] = (struct conf_relay){
		.addr = address("127.0.0.1"), .port_min = 49152, .port_max = 65535
	};
	snprintf(c.log_target, sizeof c.log_target, "%s/log", play.dir);
	ck_assert_int_eq(conf_validate(&c, sizeof c), 0);
	return play_memfd_of(&c, sizeof c);
}

static void *
region(struct region *r, size_t size)
{
	void *map;

	ck_assert_int_eq(region_make("check", size, &r->rw, &r->ro), 0);
	map = region_map(r->rw, size, true, false);
	ck_assert_ptr_nonnull(map);
	return map;
}

static void
make_state(void)
{
	static const uint8_t seed[16] = { 1, 2, 3 };
	size_t ledger_size = LEDGER_SIZE;
	struct region keys;

	play.worker_stat = region(&play.stat[0], STAT_SIZE);
	for (unsigned i = 1; i < 4; i++)
		region(&play.stat[i], STAT_SIZE);
	stat_init(play.worker_stat, ROLE_WORKER, 0, 1, clock_ms());
	stat_add(play.worker_stat, STAT_CLIENT_RX_PACKETS, 42);
	stat_drop(play.worker_stat, DROP_JUNK);
	stat_error(play.worker_stat, STAT_M_ALLOCATE, 401);
	play.worker_stat->rx_batch[2] = 5;
	play.worker_stat->gso_batch[7] = 6;
	play.ledger = region(&play.ledger_fd, ledger_size);
	ck_assert_int_eq(cross_attach(&play.c, region(&play.cross, cross_region_size()), 0, seed), 0);
	ck_assert_int_eq(shard_attach(&play.s, 0, region(&play.shard, shard_region_size(SLOTS)),
			     region(&keys, shard_keys_size(SLOTS)), SLOTS, true, seed),
	    0);
	shard_adopt(&play.s, clock_ms(), NULL, NULL);
}

static void
make_session(void)
{
	const struct cross_limits none = { 0 };
	struct addr peer = address("192.0.2.9:1000");
	struct session *x = session_new(&play.s);

	ck_assert_ptr_nonnull(x);
	x->client = address("192.0.2.1:5000");
	x->transport = TRANSPORT_UDP;
	x->relay[0] = (struct relay_ref){ .fd = RELAY_FD, .port = 50001, .row = 0, .family = ADDR_V4 };
	x->relay[1].fd = -1;
	x->created = (uint32_t)(clock_ms() / 1000);
	x->expiry = x->created + 600;
	x->lifetime = 600;
	x->user = auth_user_hash(&play.c, "example.org", 11, "alice", 5);
	memcpy(x->user_text, "alice", 5);
	session_key(&play.s, x)->len = 16;
	session_key(&play.s, x)->alg = 1;
	ck_assert_int_eq(cross_open(&play.c, &play.s, x, &none, NULL), 0);
	ck_assert_int_eq(perm_set(&play.s, x, &peer, false, clock_ms(), 10), 0);
	ck_assert_int_eq(chan_bind(&play.s, x, 0x4001, &peer, clock_ms(), 10), 0);
	play.x = x;
}

static void
make_ledger(void)
{
	struct ledger *l = play.ledger;

	l->magic = LEDGER_MAGIC;
	l->layout = 1;
	l->pid = getpid();
	l->boot_ms = clock_ms();
	l->shard_count = l->worker_count = 1;
	l->child_count = 3;
	l->child[0] = (struct ledger_child){ .role = ROLE_WORKER, .state = CHILD_READY, .shard_count = 1 };
	l->child[1] = (struct ledger_child){ .role = ROLE_AUTHD, .state = CHILD_READY };
	l->child[2] = (struct ledger_child){
		.role = ROLE_ADMIN, .state = CHILD_READY, .deaths = 1, .words = "bad\n\"word\""
	};
	l->ready = 1;
	l->fd_max = RELAY_FD + 1;
	l->relay_sockets = l->pool_sockets = 1;
	l->fd[RELAY_FD] = (struct ledger_fd){ .kind = LEDGER_POOL, .family = ADDR_V4, .port = 50001 };
}

/* ---- children ---------------------------------------------------------------------------------------- */

static pid_t
spawn(const char *program, int control, int log_end)
{
	const char *top = getenv("top_builddir");
	char path[256];
	pid_t pid;

	snprintf(path, sizeof path, "%s/src/prog/%s", top != NULL ? top : ".", program);
	pid = fork();
	if (pid == 0) {
		int a = fcntl(control, F_DUPFD, 500), b = fcntl(log_end, F_DUPFD, 500);

		for (int fd = 3; fd < 500; fd++) /* everything keeps its number */
			fcntl(fd, F_SETFD, 0);
		dup2(a, CHILD_FD_CONTROL);
		dup2(b, CHILD_FD_LOG);
		execl(path, program, "0", (char *)NULL);
		_exit(127);
	}
	ck_assert_int_gt(pid, 0);
	return pid;
}

/* A message of the type, within a minute. */
union msg
play_expect(int sock, unsigned from, unsigned to, uint32_t type)
{
	struct pollfd pf = { .fd = sock, .events = POLLIN };
	static union msg m;
	int fd;

	ck_assert_msg(poll(&pf, 1, 60000) == 1, "no %s came", msg_name(type));
	ck_assert_int_eq(ipc_recv(sock, from, to, &m, &fd), 1);
	ck_assert_str_eq(msg_name(m.h.type), msg_name(type));
	return m;
}

static struct msg_start
start_message(unsigned role, int stat_fd)
{
	struct msg_start m;

	memset(&m, 0xff, sizeof m);
	m.stand_by = 0;
	m.h = (struct msg_head){ .type = MSG_START, .generation = 1 };
	m.role = role;
	m.index = 0;
	m.shard_count = 1;
	m.slot_max = SLOTS;
	m.stat_fd = stat_fd;
	m.conf_fd = play.conf_fd;
	m.boot_ms = clock_ms();
	m.drop_privileges = 0;
	m.foreground = 1;
	m.draining = 0;
	return m;
}

void
play_send_ok(int sock, const void *m, int fd)
{
	ck_assert_int_eq(ipc_send(sock, m, fd), 0);
}

static void
start_authd(void)
{
	struct msg_start m = start_message(ROLE_AUTHD, play.stat[1].rw);
	const struct msg_go go = { .h = { .type = MSG_GO, .generation = 1 } };
	int pair[2];

	ck_assert_int_eq(ipc_pair(pair), 0);
	play.authd_control = pair[0];
	m.users_fd = play_users_fd("wonderland");
	m.peer_fd[0] = play.worker[1];
	m.peer_fd[SHARDS_MAX] = play.ctl_authd[1];
	play.authd = spawn("turnpike-auth", pair[1], play.log[1]);
	close(pair[1]);
	play_send_ok(play.authd_control, &m, -1);
	play_send_ok(play.authd_control, &go, -1);
	play_expect(play.authd_control, ROLE_AUTHD, ROLE_SUPER, MSG_READY);
}

void
play_start_admin(void)
{
	struct msg_start m = start_message(ROLE_ADMIN, play.stat[2].rw);
	const struct msg_go go = { .h = { .type = MSG_GO, .generation = 1 } };
	const struct msg_shard shard = {
		.h = { .type = MSG_SHARD }, .region_fd = play.shard.ro, .keys_fd = -1, .epoll_fd = -1
	};
	struct addr any = address("127.0.0.1");
	struct sockaddr_in in;
	socklen_t len = sizeof in;
	char path[64];
	int pair[2];

	ck_assert_int_eq(ipc_pair(pair), 0);
	play.admin_control = pair[0];
	snprintf(path, sizeof path, "%s/control", play.dir);
	m.control_fd = sock_listener_unix(path, 0660);
	ck_assert_int_ge(m.control_fd, 0);
	m.http_fd = sock_listener_tcp(&any, 8);
	ck_assert_int_ge(m.http_fd, 0);
	ck_assert_int_eq(getsockname(m.http_fd, (struct sockaddr *)&in, &len), 0);
	play.http_port = ntohs(in.sin_port);
	m.authd_fd = play.ctl_authd[0];
	m.log_fd = play.log[0];
	m.cross_fd = play.cross.ro;
	m.ledger_fd = play.ledger_fd.ro;
	m.worker_stat_fd[0] = play.stat[0].ro;
	m.authd_stat_fd = play.stat[1].ro;
	m.super_stat_fd = play.stat[3].ro;
	play.admin = spawn("turnpike-admin", pair[1], play.log[1]);
	close(pair[1]);
	play_send_ok(play.admin_control, &m, -1);
	play_send_ok(play.admin_control, &shard, -1);
	play_send_ok(play.admin_control, &go, -1);
	play_expect(play.admin_control, ROLE_ADMIN, ROLE_SUPER, MSG_READY);
}

void
play_setup(void)
{
	ck_assert_int_ge(sodium_init(), 0);
	memset(&play, 0, sizeof play);
	strcpy(play.dir, "/tmp/tp-play-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(play.dir));
	make_state();
	make_session();
	make_ledger();
	ck_assert_int_eq(ipc_pair(play.worker), 0);
	ck_assert_int_eq(ipc_pair(play.ctl_authd), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, play.log), 0);
	play.conf_fd = play_conf_fd(1);
	start_authd();
}

static int
stop(pid_t pid, int control)
{
	const struct msg_stop m = { .h = { .type = MSG_STOP } };
	int status;

	play_send_ok(control, &m, -1);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return status;
}

void
play_teardown(void)
{
	char path[64];

	ck_assert_int_eq(stop(play.authd, play.authd_control), 0);
	if (play.admin > 0)
		ck_assert_int_eq(stop(play.admin, play.admin_control), 0);
	snprintf(path, sizeof path, "%s/control", play.dir);
	unlink(path);
	snprintf(path, sizeof path, "%s/log", play.dir);
	unlink(path);
	rmdir(play.dir);
}

char *
play_slurp(FILE *f)
{
	char *text = calloc(1, 1 << 20);
	size_t n = fread(text, 1, (1 << 20) - 1, f);

	text[n] = '\0';
	return text;
}

/* turnpikectl's output; the caller frees it. */
char *
play_ctl(const char *words, int *code)
{
	const char *top = getenv("top_builddir");
	char command[512], *text;
	FILE *f;

	snprintf(command, sizeof command, "timeout 120 %s/src/prog/turnpikectl --runtime-dir %s %s 2>&1",
	    top != NULL ? top : ".", play.dir, words);
	f = popen(command, "r");
	text = play_slurp(f);
	*code = WEXITSTATUS(pclose(f));
	return text;
}

void
play_expect_text(const char *words, int code, const char *part)
{
	int got;
	char *text = play_ctl(words, &got);

	ck_assert_msg(got == code, "%s: exit code %d: %s", words, got, text);
	ck_assert_msg(strstr(text, part) != NULL, "%s: no \"%s\" in: %s", words, part, text);
	free(text);
}

json_t *
play_expect_json(const char *words, int code)
{
	int got;
	char *text = play_ctl(words, &got);
	json_t *o = json_loads(text, JSON_REJECT_DUPLICATES, NULL);

	ck_assert_msg(got == code && o != NULL, "%s: %d: %s", words, got, text);
	free(text);
	return o;
}
