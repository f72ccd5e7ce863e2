/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_admin_play.c: the test plays the supervisor and a worker to a real turnpike-auth, a real
 * turnpike-admin and turnpikectl.
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

/* ---- turnpike-auth --------------------------------------------------------------------------- */

static union msg
ask_key(const char *password)
{
	struct msg_key_ask ask = {
		.h = { .type = MSG_KEY_ASK, .generation = 9 }, .request = 77, .worker = 0
	};
	static const uint8_t txid[STUN_TXID] = "x";
	uint8_t key[STUN_KEY_MAX];
	struct stun_out o;

	stun_key(STUN_ALG_MD5, "alice", 5, "example.org", 11, password, strlen(password), key);
	stun_begin(&o, ask.message, sizeof ask.message, STUN_REQUEST, STUN_ALLOCATE, txid);
	stun_put_bytes(&o, STUN_A_USERNAME, "alice", 5);
	stun_put_bytes(&o, STUN_A_REALM, "example.org", 11);
	stun_put_mi(&o, key, 16);
	ask.len = (uint16_t)stun_end(&o);
	play_send_ok(play.worker[0], &ask, -1);
	return play_expect(play.worker[0], ROLE_AUTHD, ROLE_WORKER, MSG_KEY_ANSWER);
}

START_TEST(auth_answers)
{
	struct msg_users users = { .h = { .type = MSG_USERS }, .generation = 2 };
	union msg m = ask_key("wonderland");

	ck_assert_int_eq(m.msg_key_answer.verdict, GRANT_OK);
	ck_assert_uint_eq(m.msg_key_answer.request, 77);
	ck_assert_uint_eq(m.msg_key_answer.conf_generation, 1);
	ck_assert_int_eq(ask_key("wrong").msg_key_answer.verdict, GRANT_REFUSED);
	play_send_ok(play.authd_control, &users, play_users_fd("changed"));
	/* The reload and the question come by different sockets: ask until it is there. */
	for (unsigned i = 0; i < 1000 && (m = ask_key("changed")).msg_key_answer.verdict != GRANT_OK; i++)
		usleep(5000);
	ck_assert_int_eq(m.msg_key_answer.verdict, GRANT_OK);
	ck_assert_uint_eq(m.msg_key_answer.conf_generation, 2);
	ck_assert_int_eq(ask_key("wonderland").msg_key_answer.verdict, GRANT_REFUSED);
	/* Nonsense for users: the old ones stay. */
	play_send_ok(play.authd_control, &users, play_memfd_of("junk", 4));
	ck_assert_int_eq(ask_key("changed").msg_key_answer.verdict, GRANT_OK);
}
END_TEST

START_TEST(authd_hostile_worker)
{
	struct msg_cred_ask cred = { .h = { .type = MSG_CRED_ASK }, .lifetime = 60 };
	struct msg_key_ask ask = { .h = { .type = MSG_KEY_ASK }, .worker = 0, .len = MSG_STUN_MAX + 1 };

	ck_assert_int_eq(send(play.worker[0], "short", 5, 0), 5);
	play_send_ok(play.worker[0], &cred, -1); /* only turnpike-admin may */
	play_send_ok(play.worker[0], &ask, -1);
	ask.len = 10;
	ask.worker = 1; /* in another's name */
	play_send_ok(play.worker[0], &ask, -1);
	ck_assert_int_eq(ask_key("wonderland").msg_key_answer.verdict, GRANT_OK);
	ck_assert_int_eq(waitpid(play.authd, NULL, WNOHANG), 0);
}
END_TEST

/* ---- turnpike-admin -------------------------------------------------------------------------- */

START_TEST(admin_shows)
{
	json_t *o, *list;
	char words[64];

	play_start_admin();
	o = play_expect_json("--json status", 0);
	ck_assert(json_is_true(json_object_get(o, "ready")));
	ck_assert_int_eq(json_integer_value(json_object_get(o, "sessions")), 1);
	json_decref(o);
	play_expect_text("status", 0, "worker 0: ready");
	play_expect_text("help", 0, "restart-workers");
	play_expect_text("limits", 0, "limits.allocations_per_user");
	play_expect_text("counters", 0, "42  received_packets{side=\"client\"}");
	play_expect_text("users", 0, "alice");
	play_expect_text("sessions user=alice", 0, "192.0.2.1:5000");
	o = play_expect_json("sessions user=bob --json", 0);
	ck_assert_int_eq(json_integer_value(json_object_get(o, "found")), 0);
	json_decref(o);
	o = play_expect_json("--json sessions client=192.0.2.1", 0);
	list = json_array_get(json_object_get(o, "sessions"), 0);
	snprintf(words, sizeof words, "sessions %s", json_string_value(json_object_get(list, "id")));
	json_decref(o);
	play_expect_text(words, 0, "0x4001 to 192.0.2.9:1000");
	play_expect_text("sessions 00.00000000.ffff", 1, "no such session");
	play_expect_text("sessions nonsense", 2, "usage");
	play_expect_text("nonsense", 2, "unknown command nonsense");
	play_expect_text("log level loud", 2, "usage");
	/* What was logged by anybody is in the file. */
	play_expect_text("status", 0, "/log");
}
END_TEST

START_TEST(admin_verifies)
{
	json_t *o;

	play_start_admin();
	play_expect_text("verify", 0, "ok: 1 sessions");
	play.ledger->fd[RELAY_FD].port = 50003;
	play_expect_text("verify", 1, "socket 700 is port 50003");
	play.ledger->fd[RELAY_FD].kind = LEDGER_FREE;
	play_expect_text("verify", 1, "holds no relay socket 700");
	o = play_expect_json("--json verify", 1);
	ck_assert_uint_ge(json_array_size(json_object_get(o, "breaches")), 2);
	json_decref(o);
}
END_TEST

/* One connection, the descriptor of which is known, of another shard, another's, and without an owner. */
START_TEST(admin_verifies_connections)
{
	const struct ledger_fd stream = { .kind = LEDGER_STREAM, .row = 3 };
	struct conn *c;

	play_start_admin();
	ck_assert_ptr_nonnull(c = conn_new(&play.s, TRANSPORT_TCP));
	c->fd = CONN_FD;
	c->listener = 3;
	conn_publish(c, CONN_OPEN);
	play_expect_text("verify", 1, "holds no connection 702");
	play.ledger->fd[CONN_FD] = stream;
	play_expect_text("verify", 0, "ok: 1 sessions");
	play.ledger->fd[CONN_FD].shard = 1;
	play_expect_text("verify", 1, "holds no connection 702");
	play.ledger->fd[CONN_FD].shard = 0;
	play.ledger->fd[CONN_FD + 1] = stream;
	play.ledger->fd_max = CONN_FD + 2;
	play_expect_text("verify", 1, "connection 703, which no shard has");
	play.ledger->fd[CONN_FD + 1].kind = LEDGER_FREE;
	play_expect_text("verify", 0, "ok: 1 sessions");
	ck_assert_ptr_nonnull(c = conn_new(&play.s, TRANSPORT_TCP));
	c->fd = CONN_FD;
	c->listener = 3;
	conn_publish(c, CONN_OPEN);
	play_expect_text("verify", 1, "has another one, too");
}
END_TEST

START_TEST(admin_credentials)
{
	char name[128], password[64], *text, *at;
	char expected[REST_PASSWORD_MAX];
	json_t *o;
	int code;

	play_start_admin();
	text = play_ctl("credentials dave --lifetime 1h", &code);
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
	ck_assert_ptr_nonnull(strstr(text,
	    "\"turn:127.0.0.1:3478?transport=udp\", \"turn:127.0.0.1:3478?transport=tcp\", "
	    "\"turns:127.0.0.1:3478?transport=tcp\", \"turns:127.0.0.1:3478?transport=udp\""));
	free(text);
	o = play_expect_json("--json credentials dave --ice-servers turn:a.example turns:b.example", 0);
	ck_assert_uint_eq(
	    json_array_size(json_object_get(json_array_get(json_object_get(o, "iceServers"), 0), "urls")),
	    2);
	json_decref(o);
	play_expect_text("credentials", 2, "usage");
	play_expect_text("credentials dave --lifetime never", 2, "usage");
	play_expect_text("credentials dave --lifetime 0", 2, "the lifetime must be from 1s");
}
END_TEST

/* One command; this test is the supervisor that answers it. */
START_TEST(admin_commands)
{
	struct msg_reply r = { .h = { .type = MSG_REPLY }, .more = 1, .text = "one\x1b[31m line" };
	union msg m;
	pid_t pid;
	int status;

	play_start_admin();
	pid = fork();
	if (pid == 0) {
		int code;
		char *text = play_ctl("close user=alice", &code);
		_exit(code == 1 && strcmp(text, "one?[31m line\nlast\n") == 0 ? 0 : 1);
	}
	m = play_expect(play.admin_control, ROLE_ADMIN, ROLE_SUPER, MSG_COMMAND);
	ck_assert_uint_eq(m.msg_command.command, CMD_CLOSE_USER);
	ck_assert_uint_eq(m.msg_command.user, play.x->user);
	r.request = m.msg_command.request + 1; /* no request's */
	play_send_ok(play.admin_control, &r, -1);
	r.request = m.msg_command.request;
	play_send_ok(play.admin_control, &r, -1);
	r.more = 0;
	r.code = 1;
	strcpy(r.text, "last");
	play_send_ok(play.admin_control, &r, -1);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}
END_TEST

static int
connect_control(void)
{
	struct sockaddr_un su = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(su.sun_path, sizeof su.sun_path, "%s/control", play.dir);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&su, sizeof su), 0);
	return fd;
}

/* As netcat would, and worse. */
START_TEST(admin_hostile_lines)
{
	unsigned seed = (unsigned)getpid();
	char junk[CTL_LINE_MAX + 100], text[200];
	ssize_t n;
	int fd;

	printf("seed %u\n", seed);
	play_start_admin();
	fd = connect_control();
	ck_assert_int_eq(write(fd, "nonsense\r\n\nlog level\n", 21), 21);
	for (n = 0; n < 90;) {
		ssize_t got = read(fd, text + n, sizeof text - 1 - (size_t)n);
		ck_assert_int_gt(got, 0);
		n += got;
		text[n] = '\0';
		if (strstr(text, "usage: log") != NULL)
			break;
	}
	ck_assert_int_eq(strncmp(text, "2 27\nno such command; try: help\n2 ", 34), 0);
	close(fd);
	memset(junk, 'x', sizeof junk); /* a line that does not end */
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
	play_expect_text("status", 0, "ready");
}
END_TEST

static char *
http(const char *path, unsigned *status)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
		.sin_port = htons((uint16_t)play.http_port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char *text, *body;
	FILE *f;

	ck_assert_int_eq(connect(fd, (struct sockaddr *)&in, sizeof in), 0);
	dprintf(fd,
	    "GET %s HTTP/1.0\r\nAccept: application/openmetrics-text;version=1.0.0,text/plain;q=0.3\r\n"
	    "Host: 127.0.0.1:9641\r\n\r\n",
	    path);
	f = fdopen(fd, "r");
	text = play_slurp(f);
	fclose(f);
	ck_assert_int_eq(sscanf(text, "HTTP/1.%*c %u", status), 1);
	if (strcmp(path, "/metrics") == 0)
		ck_assert_ptr_nonnull(strstr(
		    text, "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"));
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

	ck_assert_msg(strstr(text, line) != NULL, "no %s in %.2000s ...", line, text);
	free(text);
}

START_TEST(admin_metrics)
{
	unsigned status;
	char *text;

	play_start_admin();
	text = http("/metrics", &status);
	ck_assert_uint_eq(status, 200);
	openmetrics_check(text);
	free(text);
	expect_metric("\nturnpike_received_packets_total{worker=\"0\",side=\"client\"} 42\n");
	expect_metric("\nturnpike_drops_total{worker=\"0\",reason=\"junk\"} 1\n");
	expect_metric(
	    "\nturnpike_error_responses_total{worker=\"0\",method=\"Allocate\",code=\"401\"} 1\n");
	expect_metric("\nturnpike_sessions{transport=\"udp\",family=\"ipv4\"} 1\n");
	expect_metric("\nturnpike_receive_batch_size_bucket{worker=\"0\",le=\"4.0\"} 5\n");
	expect_metric("\nturnpike_send_segments_bucket{worker=\"0\",le=\"64.0\"} 0\n");
	expect_metric("\nturnpike_send_segments_bucket{worker=\"0\",le=\"+Inf\"} 6\n");
	expect_metric("\nturnpike_host_udp_receive_buffer_errors_total ");
	expect_metric("\nturnpike_shard_packets_total{shard=\"0\"} ");
	stat_add(play.worker_stat, STAT_CLIENT_RX_PACKETS, 1);
	expect_metric("\nturnpike_received_packets_total{worker=\"0\",side=\"client\"} 43\n");
	ck_assert_uint_eq(http_status("/healthz"), 200);
	ck_assert_uint_eq(http_status("/readyz"), 200);
	ck_assert_uint_eq(http_status("/elsewhere"), 404);
	play.ledger->draining = 1;
	ck_assert_uint_eq(http_status("/readyz"), 503);
	ck_assert_uint_eq(http_status("/healthz"), 200);
}
END_TEST

/* Records reach the file, junk does not, and the file is made again at reload. */
START_TEST(admin_logs)
{
	struct log_rec r = {
		.magic = LOG_REC_MAGIC, .level = LOG_L_INFO, .role = ROLE_WORKER, .pid = 5, .len = 11
	};
	const struct msg_conf conf = { .h = { .type = MSG_CONF }, .generation = 2 };
	char path[64], moved[64];

	play_start_admin();
	snprintf(path, sizeof path, "%s/log", play.dir);
	snprintf(moved, sizeof moved, "%s/log.1", play.dir);
	memcpy(r.text, "hello there", 11);
	ck_assert_int_gt(send(play.log[1], &r, LOG_REC_HEAD + 11, 0), 0);
	ck_assert_int_gt(send(play.log[1], "junk", 4, 0), 0);
	play_expect_text("status", 0, "ready"); /* it has had its turn */
	ck_assert_int_eq(rename(path, moved), 0);
	play_send_ok(play.admin_control, &conf, play_conf_fd(2));
	for (unsigned i = 0; i < 1000 && access(path, F_OK) < 0; i++)
		usleep(5000);
	ck_assert_int_eq(access(path, F_OK), 0);
	FILE *f = fopen(moved, "r");
	char *text = play_slurp(f);
	fclose(f);
	ck_assert_msg(strstr(text, "Z INFO  worker[0] hello there\n") != NULL, "%s", text);
	ck_assert_ptr_null(strstr(text, "junk"));
	free(text);
	unlink(moved);
}
END_TEST

START_TEST(ctl_not_running)
{
	play_expect_text("status", 3, "not running");
}
END_TEST

Suite *
suite_ctl_play(void)
{
	Suite *s = suite_create("play");
	TCase *t = tcase_create("processes");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, play_setup, play_teardown);
	tcase_add_test(t, auth_answers);
	tcase_add_test(t, authd_hostile_worker);
	tcase_add_test(t, admin_shows);
	tcase_add_test(t, admin_verifies);
	tcase_add_test(t, admin_verifies_connections);
	tcase_add_test(t, admin_credentials);
	tcase_add_test(t, admin_commands);
	tcase_add_test(t, admin_hostile_lines);
	tcase_add_test(t, admin_metrics);
	tcase_add_test(t, admin_logs);
	tcase_add_test(t, ctl_not_running);
	suite_add_tcase(s, t);
	return s;
}
