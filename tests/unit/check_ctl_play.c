/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_ctl_play.c: the test plays the supervisor and a worker to a real keeper, a real steward and turnpikectl.
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

#include "check_ctl.h"
#include "tp/conf.h"
#include "tp/ctl.h"
#include "tp/io.h"
#include "tp/keep.h"
#include "tp/super.h"

#define SLOTS 64
#define SECRET "a-secret-that-is-long-enough"
#define RELAY_FD 700
#define CONN_FD 702

struct play {
	char dir[32];
	pid_t keeper, steward;
	int  keeper_control, steward_control, worker[2], ctl_keeper[2], log[2], conf_fd;
	struct region { int rw, ro; } stat[4], shard, cross, ledger_fd;	/* stat: worker, keeper, steward, super */
	struct ledger *ledger;
	struct stats *worker_stat;
	struct shard s;
	struct cross c;
	struct session *x;
	unsigned http_port;
};
static struct play p;

/* ---- making what a supervisor makes ---------------------------------------------------------------- */

static int
memfd_of(const void *bytes, size_t len)
{
	int fd = memfd_create("check", MFD_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, bytes, len), (ssize_t)len);
	return fd;
}

static int
users_fd(const char *password)
{
	struct { struct users u; struct users_secret s; struct users_user x; } all;

	memset(&all, 0, sizeof all);
	all.u = (struct users){ .magic = USERS_MAGIC, .layout = USERS_LAYOUT, .secret_count = 1, .user_count = 1,
		.realm = "example.org" };
	all.s.len = (uint16_t)strlen(SECRET);
	memcpy(all.s.value, SECRET, all.s.len);
	all.x.name_len = 5;
	memcpy(all.x.name, "alice", 5);
	all.x.pass_len = (uint16_t)strlen(password);
	memcpy(all.x.pass, password, all.x.pass_len);
	return memfd_of(&all, sizeof all);
}

static struct addr
address(const char *text)
{
	struct addr a;

	ck_assert_int_eq(addr_parse(&a, text), 0);
	return a;
}

static int
conf_fd(uint64_t generation)
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
	c.listeners[0].transports = CONF_UDP | CONF_TCP | CONF_TLS | CONF_DTLS;
	c.relay_count = 1;
	c.relays[0] = (struct conf_relay){ .addr = address("127.0.0.1"), .port_min = 49152, .port_max = 65535 };
	snprintf(c.log_target, sizeof c.log_target, "%s/log", p.dir);
	ck_assert_int_eq(conf_validate(&c, sizeof c), 0);
	return memfd_of(&c, sizeof c);
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

	p.worker_stat = region(&p.stat[0], STAT_SIZE);
	for (unsigned i = 1; i < 4; i++)
		region(&p.stat[i], STAT_SIZE);
	stat_init(p.worker_stat, ROLE_WORKER, 0, 1, clock_ms());
	stat_add(p.worker_stat, STAT_CLIENT_RX_PACKETS, 42);
	stat_drop(p.worker_stat, DROP_JUNK);
	stat_error(p.worker_stat, 401);
	p.worker_stat->rx_batch[2] = 5;
	p.worker_stat->gso_batch[7] = 6;
	p.ledger = region(&p.ledger_fd, ledger_size);
	ck_assert_int_eq(cross_attach(&p.c, region(&p.cross, cross_region_size()), 0, seed), 0);
	ck_assert_int_eq(shard_attach(&p.s, 0, region(&p.shard, shard_region_size(SLOTS)), region(&keys,
	    shard_keys_size(SLOTS)), SLOTS, true, seed), 0);
	shard_adopt(&p.s, clock_ms(), NULL, NULL);
}

static void
make_session(void)
{
	const struct cross_limits none = { 0 };
	struct addr peer = address("192.0.2.9:1000");
	struct session *x = session_new(&p.s);

	ck_assert_ptr_nonnull(x);
	x->client = address("192.0.2.1:5000");
	x->transport = CONF_UDP;
	x->relay[0] = (struct relay_ref){ .fd = RELAY_FD, .port = 50001, .row = 0, .family = ADDR_V4 };
	x->relay[1].fd = -1;
	x->created = (uint32_t)(clock_ms() / 1000);
	x->expiry = x->created + 600;
	x->lifetime = 600;
	x->user = auth_user_hash(&p.c, "example.org", 11, "alice", 5);
	memcpy(x->user_text, "alice", 5);
	session_key(&p.s, x)->len = 16;
	session_key(&p.s, x)->alg = 1;
	ck_assert_int_eq(cross_open(&p.c, &p.s, x, &none, 0), 0);
	ck_assert_int_eq(perm_set(&p.s, x, &peer, clock_ms(), 10), 0);
	ck_assert_int_eq(chan_bind(&p.s, x, 0x4001, &peer, clock_ms(), 10), 0);
	p.x = x;
}

static void
make_ledger(void)
{
	struct ledger *l = p.ledger;

	l->magic = LEDGER_MAGIC;
	l->layout = 1;
	l->pid = getpid();
	l->boot_ms = clock_ms();
	l->shard_count = l->worker_count = 1;
	l->child_count = 3;
	l->child[0] = (struct ledger_child){ .role = ROLE_WORKER, .state = CHILD_READY, .shard_count = 1 };
	l->child[1] = (struct ledger_child){ .role = ROLE_KEEPER, .state = CHILD_READY };
	l->child[2] = (struct ledger_child){ .role = ROLE_STEWARD, .state = CHILD_READY, .deaths = 1, .words = "bad\n\"word\"" };
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

		for (int fd = 3; fd < 500; fd++)	/* everything keeps its number */
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
static union msg
expect(int sock, unsigned from, unsigned to, uint32_t type)
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
	m.h = (struct msg_head){ .type = MSG_START, .generation = 1 };
	m.role = role;
	m.index = 0;
	m.shard_count = 1;
	m.slot_max = SLOTS;
	m.stat_fd = stat_fd;
	m.conf_fd = p.conf_fd;
	m.boot_ms = clock_ms();
	m.drop_privileges = 0;
	m.foreground = 1;
	m.draining = 0;
	return m;
}

static void
send_ok(int sock, const void *m, int fd)
{
	ck_assert_int_eq(ipc_send(sock, m, fd), 0);
}

static void
start_keeper(void)
{
	struct msg_start m = start_message(ROLE_KEEPER, p.stat[1].rw);
	const struct msg_go go = { .h = { .type = MSG_GO, .generation = 1 } };
	int pair[2];

	ck_assert_int_eq(ipc_pair(pair), 0);
	p.keeper_control = pair[0];
	m.users_fd = users_fd("wonderland");
	m.peer_fd[0] = p.worker[1];
	m.peer_fd[MSG_SHARDS_MAX] = p.ctl_keeper[1];
	p.keeper = spawn("turnpike-keeper", pair[1], p.log[1]);
	close(pair[1]);
	send_ok(p.keeper_control, &m, -1);
	send_ok(p.keeper_control, &go, -1);
	expect(p.keeper_control, ROLE_KEEPER, ROLE_SUPER, MSG_READY);
}

static void
start_steward(void)
{
	struct msg_start m = start_message(ROLE_STEWARD, p.stat[2].rw);
	const struct msg_go go = { .h = { .type = MSG_GO, .generation = 1 } };
	const struct msg_shard shard = { .h = { .type = MSG_SHARD }, .region_fd = p.shard.ro, .keys_fd = -1, .epoll_fd = -1 };
	struct addr any = address("127.0.0.1");
	struct sockaddr_in in;
	socklen_t len = sizeof in;
	char path[64];
	int pair[2];

	ck_assert_int_eq(ipc_pair(pair), 0);
	p.steward_control = pair[0];
	snprintf(path, sizeof path, "%s/control", p.dir);
	m.control_fd = sock_listener_unix(path, 0660);
	ck_assert_int_ge(m.control_fd, 0);
	m.http_fd = sock_listener_tcp(&any, 8);
	ck_assert_int_ge(m.http_fd, 0);
	ck_assert_int_eq(getsockname(m.http_fd, (struct sockaddr *)&in, &len), 0);
	p.http_port = ntohs(in.sin_port);
	m.keeper_fd = p.ctl_keeper[0];
	m.log_fd = p.log[0];
	m.cross_fd = p.cross.ro;
	m.ledger_fd = p.ledger_fd.ro;
	m.worker_stat_fd[0] = p.stat[0].ro;
	m.keeper_stat_fd = p.stat[1].ro;
	m.super_stat_fd = p.stat[3].ro;
	p.steward = spawn("turnpike-steward", pair[1], p.log[1]);
	close(pair[1]);
	send_ok(p.steward_control, &m, -1);
	send_ok(p.steward_control, &shard, -1);
	send_ok(p.steward_control, &go, -1);
	expect(p.steward_control, ROLE_STEWARD, ROLE_SUPER, MSG_READY);
}

static void
setup(void)
{
	ck_assert_int_ge(sodium_init(), 0);
	memset(&p, 0, sizeof p);
	strcpy(p.dir, "/tmp/tp-play-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(p.dir));
	make_state();
	make_session();
	make_ledger();
	ck_assert_int_eq(ipc_pair(p.worker), 0);
	ck_assert_int_eq(ipc_pair(p.ctl_keeper), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, p.log), 0);
	p.conf_fd = conf_fd(1);
	start_keeper();
}

static int
stop(pid_t pid, int control)
{
	const struct msg_stop m = { .h = { .type = MSG_STOP } };
	int status;

	send_ok(control, &m, -1);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return status;
}

static void
teardown(void)
{
	char path[64];

	ck_assert_int_eq(stop(p.keeper, p.keeper_control), 0);
	if (p.steward > 0)
		ck_assert_int_eq(stop(p.steward, p.steward_control), 0);
	snprintf(path, sizeof path, "%s/control", p.dir);
	unlink(path);
	snprintf(path, sizeof path, "%s/log", p.dir);
	unlink(path);
	rmdir(p.dir);
}

static char *
slurp(FILE *f)
{
	char *text = calloc(1, 1 << 20);
	size_t n = fread(text, 1, (1 << 20) - 1, f);

	text[n] = '\0';
	return text;
}

/* turnpikectl's output; the caller frees it. */
static char *
ctl(const char *words, int *code)
{
	const char *top = getenv("top_builddir");
	char command[512], *text;
	FILE *f;

	snprintf(command, sizeof command, "timeout 120 %s/src/prog/turnpikectl --runtime-dir %s %s 2>&1",
	    top != NULL ? top : ".", p.dir, words);
	f = popen(command, "r");
	text = slurp(f);
	*code = WEXITSTATUS(pclose(f));
	return text;
}

static void
expect_text(const char *words, int code, const char *part)
{
	int got;
	char *text = ctl(words, &got);

	ck_assert_msg(got == code, "%s: exit code %d: %s", words, got, text);
	ck_assert_msg(strstr(text, part) != NULL, "%s: no \"%s\" in: %s", words, part, text);
	free(text);
}

static json_t *
expect_json(const char *words, int code)
{
	int got;
	char *text = ctl(words, &got);
	json_t *o = json_loads(text, JSON_REJECT_DUPLICATES, NULL);

	ck_assert_msg(got == code && o != NULL, "%s: %d: %s", words, got, text);
	free(text);
	return o;
}

/* ---- keeper --------------------------------------------------------------------------------------------- */

static union msg
ask_key(const char *password)
{
	struct msg_key_ask ask = { .h = { .type = MSG_KEY_ASK, .generation = 9 }, .request = 77, .worker = 0 };
	static const uint8_t txid[STUN_TXID] = "x";
	uint8_t key[STUN_KEY_MAX];
	struct stun_out o;

	stun_key(STUN_ALG_MD5, "alice", 5, "example.org", 11, password, strlen(password), key);
	stun_begin(&o, ask.message, sizeof ask.message, STUN_REQUEST, STUN_ALLOCATE, txid);
	stun_put_bytes(&o, STUN_A_USERNAME, "alice", 5);
	stun_put_bytes(&o, STUN_A_REALM, "example.org", 11);
	stun_put_mi(&o, key, 16);
	ask.len = (uint16_t)stun_end(&o);
	send_ok(p.worker[0], &ask, -1);
	return expect(p.worker[0], ROLE_KEEPER, ROLE_WORKER, MSG_KEY_ANSWER);
}

START_TEST(keeper_answers)
{
	struct msg_users users = { .h = { .type = MSG_USERS }, .generation = 2 };
	union msg m = ask_key("wonderland");

	ck_assert_int_eq(m.msg_key_answer.verdict, GRANT_OK);
	ck_assert_uint_eq(m.msg_key_answer.request, 77);
	ck_assert_uint_eq(m.msg_key_answer.conf_generation, 1);
	ck_assert_int_eq(ask_key("wrong").msg_key_answer.verdict, GRANT_REFUSED);
	send_ok(p.keeper_control, &users, users_fd("changed"));
	/* The reload and the question come by different sockets: ask until it is there. */
	for (unsigned i = 0; i < 1000 && (m = ask_key("changed")).msg_key_answer.verdict != GRANT_OK; i++)
		usleep(5000);
	ck_assert_int_eq(m.msg_key_answer.verdict, GRANT_OK);
	ck_assert_uint_eq(m.msg_key_answer.conf_generation, 2);
	ck_assert_int_eq(ask_key("wonderland").msg_key_answer.verdict, GRANT_REFUSED);
	/* Nonsense for users: the old ones stay. */
	send_ok(p.keeper_control, &users, memfd_of("junk", 4));
	ck_assert_int_eq(ask_key("changed").msg_key_answer.verdict, GRANT_OK);
}
END_TEST

START_TEST(keeper_hostile_worker)
{
	struct msg_cred_ask cred = { .h = { .type = MSG_CRED_ASK }, .lifetime = 60 };
	struct msg_key_ask ask = { .h = { .type = MSG_KEY_ASK }, .worker = 0, .len = MSG_STUN_MAX + 1 };

	ck_assert_int_eq(send(p.worker[0], "short", 5, 0), 5);
	send_ok(p.worker[0], &cred, -1);	/* only the steward may */
	send_ok(p.worker[0], &ask, -1);
	ask.len = 10;
	ask.worker = 1;				/* in another's name */
	send_ok(p.worker[0], &ask, -1);
	ck_assert_int_eq(ask_key("wonderland").msg_key_answer.verdict, GRANT_OK);
	ck_assert_int_eq(waitpid(p.keeper, NULL, WNOHANG), 0);
}
END_TEST

/* ---- steward --------------------------------------------------------------------------------------------- */

START_TEST(steward_shows)
{
	json_t *o, *list;
	char words[64];

	start_steward();
	o = expect_json("--json status", 0);
	ck_assert(json_is_true(json_object_get(o, "ready")));
	ck_assert_int_eq(json_integer_value(json_object_get(o, "sessions")), 1);
	json_decref(o);
	expect_text("status", 0, "worker 0: ready");
	expect_text("help", 0, "restart-workers");
	expect_text("limits", 0, "limits.allocations_per_user");
	expect_text("counters", 0, "42  received_packets{side=\"client\"}");
	expect_text("users", 0, "alice");
	expect_text("sessions user=alice", 0, "192.0.2.1:5000");
	o = expect_json("sessions user=bob --json", 0);
	ck_assert_int_eq(json_integer_value(json_object_get(o, "found")), 0);
	json_decref(o);
	o = expect_json("--json sessions client=192.0.2.1", 0);
	list = json_array_get(json_object_get(o, "sessions"), 0);
	snprintf(words, sizeof words, "sessions %s", json_string_value(json_object_get(list, "id")));
	json_decref(o);
	expect_text(words, 0, "0x4001 to 192.0.2.9:1000");
	expect_text("sessions 00.00000000.ffff", 1, "no such session");
	expect_text("sessions nonsense", 2, "usage");
	expect_text("nonsense", 2, "no command nonsense");
	expect_text("log level loud", 2, "usage");
	/* What was logged by anybody is in the file. */
	expect_text("status", 0, "/log");
}
END_TEST

START_TEST(steward_verifies)
{
	json_t *o;

	start_steward();
	expect_text("verify", 0, "ok: 1 sessions");
	p.ledger->fd[RELAY_FD].port = 50003;
	expect_text("verify", 1, "socket 700 is port 50003");
	p.ledger->fd[RELAY_FD].kind = LEDGER_FREE;
	expect_text("verify", 1, "holds no relay socket 700");
	o = expect_json("--json verify", 1);
	ck_assert_uint_ge(json_array_size(json_object_get(o, "breaches")), 2);
	json_decref(o);
}
END_TEST

/* One connection, the descriptor of which is known, of another shard, another's, and nobody's. */
START_TEST(steward_verifies_connections)
{
	const struct ledger_fd stream = { .kind = LEDGER_STREAM, .row = 3 };
	struct conn *c;

	start_steward();
	ck_assert_ptr_nonnull(c = conn_new(&p.s, CONF_TCP));
	c->fd = CONN_FD;
	c->listener = 3;
	conn_publish(c, CONN_OPEN);
	expect_text("verify", 1, "holds no connection 702");
	p.ledger->fd[CONN_FD] = stream;
	expect_text("verify", 0, "ok: 1 sessions");
	p.ledger->fd[CONN_FD].shard = 1;
	expect_text("verify", 1, "holds no connection 702");
	p.ledger->fd[CONN_FD].shard = 0;
	p.ledger->fd[CONN_FD + 1] = stream;
	p.ledger->fd_max = CONN_FD + 2;
	expect_text("verify", 1, "connection 703, which no shard has");
	p.ledger->fd[CONN_FD + 1].kind = LEDGER_FREE;
	expect_text("verify", 0, "ok: 1 sessions");
	ck_assert_ptr_nonnull(c = conn_new(&p.s, CONF_TCP));
	c->fd = CONN_FD;
	c->listener = 3;
	conn_publish(c, CONN_OPEN);
	expect_text("verify", 1, "has another one, too");
}
END_TEST

START_TEST(steward_credentials)
{
	char name[128], password[64], *text, *at;
	char expected[REST_PASSWORD_MAX];
	json_t *o;
	int code;

	start_steward();
	text = ctl("credentials dave --lifetime 1h", &code);
	ck_assert_msg(code == 0, "%s", text);
	ck_assert_int_eq(sscanf(text, "username: %127s\npassword: %63s\n", name, password), 2);
	ck_assert_str_eq(strchr(name, ':'), ":dave");
	rest_password(false, SECRET, strlen(SECRET), name, strlen(name), expected);
	ck_assert_str_eq(password, expected);
	at = strstr(text, "\n{");
	ck_assert_ptr_nonnull(at);
	o = json_loads(at, 0, NULL);
	ck_assert_ptr_nonnull(o);
	json_decref(o);
	ck_assert_ptr_nonnull(strstr(text, "\"turn:127.0.0.1:3478?transport=udp\", \"turn:127.0.0.1:3478?transport=tcp\", "
	    "\"turns:127.0.0.1:3478?transport=tcp\", \"turns:127.0.0.1:3478?transport=udp\""));
	free(text);
	o = expect_json("--json credentials dave --ice-servers turn:a.example turns:b.example", 0);
	ck_assert_uint_eq(json_array_size(json_object_get(json_array_get(json_object_get(o, "iceServers"), 0), "urls")), 2);
	json_decref(o);
	expect_text("credentials", 2, "usage");
	expect_text("credentials dave --lifetime never", 2, "usage");
	expect_text("credentials dave --lifetime 0", 1, "no credentials");
}
END_TEST

/* One command while we are the supervisor who answers it. */
START_TEST(steward_commands)
{
	struct msg_reply r = { .h = { .type = MSG_REPLY }, .more = 1, .text = "one\x1b[31m line" };
	union msg m;
	pid_t pid;
	int status;

	start_steward();
	pid = fork();
	if (pid == 0) {
		int code;
		char *text = ctl("close user=alice", &code);
		_exit(code == 1 && strcmp(text, "one?[31m line\nlast\n") == 0 ? 0 : 1);
	}
	m = expect(p.steward_control, ROLE_STEWARD, ROLE_SUPER, MSG_COMMAND);
	ck_assert_uint_eq(m.msg_command.command, CMD_CLOSE_USER);
	ck_assert_uint_eq(m.msg_command.user, p.x->user);
	r.request = m.msg_command.request + 1;		/* nobody's */
	send_ok(p.steward_control, &r, -1);
	r.request = m.msg_command.request;
	send_ok(p.steward_control, &r, -1);
	r.more = 0;
	r.code = 1;
	strcpy(r.text, "last");
	send_ok(p.steward_control, &r, -1);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}
END_TEST

static int
connect_control(void)
{
	struct sockaddr_un su = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(su.sun_path, sizeof su.sun_path, "%s/control", p.dir);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&su, sizeof su), 0);
	return fd;
}

/* As netcat would, and worse. */
START_TEST(steward_hostile_lines)
{
	unsigned seed = (unsigned)getpid();
	char junk[CTL_LINE_MAX + 100], text[200];
	ssize_t n;
	int fd;

	printf("seed %u\n", seed);
	start_steward();
	fd = connect_control();
	ck_assert_int_eq(write(fd, "nonsense\r\n\nlog level\n", 21), 21);
	for (n = 0; n < 90; ) {
		ssize_t got = read(fd, text + n, sizeof text - 1 - (size_t)n);
		ck_assert_int_gt(got, 0);
		n += got;
		text[n] = '\0';
		if (strstr(text, "usage: log") != NULL)
			break;
	}
	ck_assert_int_eq(strncmp(text, "2 27\nno such command; try: help\n2 ", 34), 0);
	close(fd);
	memset(junk, 'x', sizeof junk);		/* a line that does not end */
	fd = connect_control();
	ck_assert_int_gt(write(fd, junk, sizeof junk), 0);
	ck_assert_int_le(read(fd, text, sizeof text), 0);
	close(fd);
	for (unsigned i = 0; i < 300; i++) {
		fd = connect_control();
		for (size_t k = 0; k < 64; k++)
			junk[k] = (char)(rand_r(&seed) % 4 == 0 ? '\n' : rand_r(&seed) % 256);
		(void)!write(fd, junk, 64);
		close(fd);
	}
	expect_text("status", 0, "ready");
}
END_TEST

static char *
http(const char *path, unsigned *status)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons((uint16_t)p.http_port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char *text, *body;
	FILE *f;

	ck_assert_int_eq(connect(fd, (struct sockaddr *)&in, sizeof in), 0);
	dprintf(fd, "GET %s HTTP/1.0\r\n\r\n", path);
	f = fdopen(fd, "r");
	text = slurp(f);
	fclose(f);
	ck_assert_int_eq(sscanf(text, "HTTP/1.%*c %u", status), 1);
	if (strcmp(path, "/metrics") == 0)
		ck_assert_ptr_nonnull(strstr(text, "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"));
	body = strdup(strstr(text, "\r\n\r\n") + 4);
	free(text);
	return body;
}

static unsigned
http_status(const char *path)
{
	unsigned status;

	free(http(path, &status));
	return status;
}

static void
expect_metric(const char *line)
{
	unsigned status;
	char *text = http("/metrics", &status);

	ck_assert_msg(strstr(text, line) != NULL, "no %s in %s", line, text);
	free(text);
}

START_TEST(steward_metrics)
{
	unsigned status;
	char *text;

	start_steward();
	text = http("/metrics", &status);
	ck_assert_uint_eq(status, 200);
	openmetrics_check(text);
	free(text);
	expect_metric("\nturnpike_received_packets_total{worker=\"0\",side=\"client\"} 42\n");
	expect_metric("\nturnpike_drops_total{worker=\"0\",reason=\"junk\"} 1\n");
	expect_metric("\nturnpike_error_responses_total{worker=\"0\",code=\"401\"} 1\n");
	expect_metric("\nturnpike_sessions{transport=\"udp\",family=\"ipv4\"} 1\n");
	expect_metric("\nturnpike_receive_batch_size_bucket{worker=\"0\",le=\"4.0\"} 5\n");
	expect_metric("\nturnpike_send_segments_bucket{worker=\"0\",le=\"64.0\"} 0\n");
	expect_metric("\nturnpike_send_segments_bucket{worker=\"0\",le=\"+Inf\"} 6\n");
	expect_metric("\nturnpike_host_udp_receive_buffer_errors_total ");
	expect_metric("\nturnpike_shard_packets_total{shard=\"0\"} ");
	stat_add(p.worker_stat, STAT_CLIENT_RX_PACKETS, 1);
	expect_metric("\nturnpike_received_packets_total{worker=\"0\",side=\"client\"} 43\n");
	ck_assert_uint_eq(http_status("/healthz"), 200);
	ck_assert_uint_eq(http_status("/readyz"), 200);
	ck_assert_uint_eq(http_status("/elsewhere"), 404);
	p.ledger->draining = 1;
	ck_assert_uint_eq(http_status("/readyz"), 503);
	ck_assert_uint_eq(http_status("/healthz"), 200);
}
END_TEST

/* Records reach the file, junk does not, and the file is made anew at reload. */
START_TEST(steward_logs)
{
	struct log_rec r = { .magic = LOG_REC_MAGIC, .level = LOG_L_INFO, .role = ROLE_WORKER, .pid = 5, .len = 11 };
	const struct msg_conf conf = { .h = { .type = MSG_CONF }, .generation = 2 };
	char path[64], moved[64];

	start_steward();
	snprintf(path, sizeof path, "%s/log", p.dir);
	snprintf(moved, sizeof moved, "%s/log.1", p.dir);
	memcpy(r.text, "hello there", 11);
	ck_assert_int_gt(send(p.log[1], &r, LOG_REC_HEAD + 11, 0), 0);
	ck_assert_int_gt(send(p.log[1], "junk", 4, 0), 0);
	expect_text("status", 0, "ready");	/* it has had its turn */
	ck_assert_int_eq(rename(path, moved), 0);
	send_ok(p.steward_control, &conf, conf_fd(2));
	for (unsigned i = 0; i < 1000 && access(path, F_OK) < 0; i++)
		usleep(5000);
	ck_assert_int_eq(access(path, F_OK), 0);
	FILE *f = fopen(moved, "r");
	char *text = slurp(f);
	fclose(f);
	ck_assert_msg(strstr(text, "Z INFO  worker[0] hello there\n") != NULL, "%s", text);
	ck_assert_ptr_null(strstr(text, "junk"));
	free(text);
	unlink(moved);
}
END_TEST

START_TEST(ctl_not_running)
{
	expect_text("status", 3, "not running");
}
END_TEST

Suite *
suite_ctl_play(void)
{
	Suite *s = suite_create("play");
	TCase *t = tcase_create("processes");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, keeper_answers);
	tcase_add_test(t, keeper_hostile_worker);
	tcase_add_test(t, steward_shows);
	tcase_add_test(t, steward_verifies);
	tcase_add_test(t, steward_verifies_connections);
	tcase_add_test(t, steward_credentials);
	tcase_add_test(t, steward_commands);
	tcase_add_test(t, steward_hostile_lines);
	tcase_add_test(t, steward_metrics);
	tcase_add_test(t, steward_logs);
	tcase_add_test(t, ctl_not_running);
	suite_add_tcase(s, t);
	return s;
}
