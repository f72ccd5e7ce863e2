/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * authd.c: the process.  Told by the supervisor what it holds; asked by workers and turnpike-admin.
 */
#include "config.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "authd_int.h"
#include "tp/child.h"

#define TICK_MS 1000
#define PEER_BURST 32			/* messages of one peer before the others get their turn */
#define USERS_BYTES_MAX ((size_t)1 << 30)
#define EXIT_INTERNAL 70

struct authd;
struct peer {
	struct authd *k;
	unsigned worker;
	bool admin;
	bool held;			/* `answer` waits for room in the queue; nothing more is read meanwhile */
	union msg answer;
};
struct authd {
	struct child_proc proc;
	struct authd_db *db;
	struct peer peer[MSG_SHARDS_MAX + 1];
	struct log_class bad, dropped;
};

/* ---- what is held ------------------------------------------------------------------------------ */

static int
db_from_fd(struct authd_db **db, int fd, uint64_t generation)
{
	size_t size;
	void *map = child_map(fd, sizeof(struct users), USERS_BYTES_MAX, &size);
	int err;

	if (map == NULL)
		return -errno;
	err = authd_db_new(db, map, size, generation);
	munmap(map, size);
	return err;
}

/* Of the configuration turnpike-auth wants the generation, which workers compare. */
static void
take_generation(void *arg, const struct conf *c)
{
	*(uint64_t *)arg = c->generation;
}

static void
replace_users(struct authd *k, int fd, uint64_t generation)
{
	struct authd_db *db;
	int err = db_from_fd(&db, fd, generation);

	if (err < 0) {
		log_errx("users: new ones refused, the old ones stay: %s", strerror(-err));
		return;
	}
	authd_db_free(k->db);
	k->db = db;
	log_info("users: %u users and %u secrets, generation %llu", authd_db_users(db), authd_db_secrets(db),
	    (unsigned long long)generation);
}

/* ---- answers ----------------------------------------------------------------------------------- */

/* A full queue is the asker's: its answer is held, and nobody else waits for it. */
static void
answer(struct peer *p, int fd, const void *msg)
{
	int err = ipc_send(fd, msg, -1);

	if (err == -EAGAIN) {
		memcpy(&p->answer, msg, msg_size(((const struct msg_head *)msg)->type));
		p->held = true;
		(void)loop_mod(p->k->proc.loop, fd, EPOLLOUT);
	} else if (err < 0) {
		log_limited(&p->k->dropped, 1, LOG_L_WARN, "answer to peer %u: %s", p->worker, strerror(-err));
	}
}

static void
answer_held(struct peer *p, int fd)
{
	if (ipc_send(fd, &p->answer, -1) == -EAGAIN)
		return;
	sodium_memzero(&p->answer, sizeof p->answer);
	p->held = false;
	(void)loop_mod(p->k->proc.loop, fd, EPOLLIN);
}

static void
answer_key(struct peer *p, int fd, const struct msg_key_ask *ask)
{
	struct authd *k = p->k;
	struct msg_key_answer a = { .h = { .type = MSG_KEY_ANSWER, .generation = ask->h.generation } };
	struct auth_grant g;

	authd_judge(k->db, ask->message, ask->len, clock_unix(), &g, NULL);
	stat_add(k->proc.stat, g.verdict == GRANT_OK ? STAT_AUTHD_ANSWERS : STAT_AUTHD_UNKNOWN, 1);
	a.request = ask->request;
	a.verdict = g.verdict;
	a.alg = g.alg;
	a.key_len = g.key_len;
	a.stable_len = g.stable_len;
	memcpy(a.key, g.key, sizeof a.key);
	a.credential_expiry = g.credential_expiry;
	a.conf_generation = g.conf_generation;
	a.name_len = g.name_len;
	a.reason = g.reason;
	memcpy(a.stable, g.stable, sizeof a.stable);
	memcpy(a.name, g.name, sizeof a.name);
	answer(p, fd, &a);
	sodium_memzero(&g, sizeof g);
	sodium_memzero(&a, sizeof a);
}

static void
answer_credential(struct peer *p, int fd, const struct msg_cred_ask *ask)
{
	struct msg_cred_answer a = { .h = { .type = MSG_CRED_ANSWER, .generation = ask->h.generation } };

	a.request = ask->request;
	a.ok = authd_credential(p->k->db, ask->user, ask->lifetime, ask->sha256 != 0, clock_unix(), &a) == 0;
	answer(p, fd, &a);
	sodium_memzero(&a, sizeof a);
}

static void
refuse(struct peer *p, const char *why)
{
	stat_add(p->k->proc.stat, STAT_MSG_BAD, 1);
	log_limited(&p->k->bad, 1, LOG_L_WARN, "message of %s %u refused: %s",
	    p->admin ? "admin" : "worker", p->worker, why);
}

static void
handle_peer(struct peer *p, int fd, const union msg *m)
{
	if (m->h.type == MSG_CRED_ASK)
		answer_credential(p, fd, &m->msg_cred_ask);
	else if (m->msg_key_ask.len > MSG_STUN_MAX || m->msg_key_ask.worker != p->worker)
		refuse(p, "nonsense");
	else
		answer_key(p, fd, &m->msg_key_ask);
}

/* A worker that sends nonsense is not cut off: its successor inherits this very socket. */
static void
on_peer(void *arg, int fd, uint32_t events)
{
	struct peer *p = arg;
	union msg m;
	int passed;

	if (p->held && (events & EPOLLOUT) != 0)
		answer_held(p, fd);
	for (unsigned i = 0; i < PEER_BURST && !p->held; i++) {
		int n = ipc_recv(fd, p->admin ? ROLE_ADMIN : ROLE_WORKER, ROLE_AUTHD, &m, &passed);

		if (n == 1) {
			handle_peer(p, fd, &m);
		} else if (n == -EPROTO) {
			refuse(p, "not a message for turnpike-auth");
		} else if (n == 0) {
			break;
		} else {
			loop_del(p->k->proc.loop, fd);
			break;
		}
	}
}

/* ---- life -------------------------------------------------------------------------------------- */

static void
confine(struct authd *k)
{
	char warm[REST_PASSWORD_MAX];

	/* libcrypto reads its configuration with the first digest, and no file can be opened later. */
	rest_password(false, "", 0, "", 0, warm);
	rest_password(true, "", 0, "", 0, warm);
	child_confine(&k->proc, -1);
}

static void
on_tick(void *arg)
{
	struct authd *k = arg;

	child_beat(&k->proc);
	loop_after(k->proc.loop, TICK_MS, on_tick, k);
}

static void
on_start(void *arg, const struct msg_start *s)
{
	struct authd *k = arg;
	uint64_t generation = 0;
	int err;

	if (s->conf_fd >= 0 && (err = child_conf(s->conf_fd, take_generation, &generation)) < 0)
		child_give_up(&k->proc, -err, "start: configuration refused");
	if ((err = db_from_fd(&k->db, s->users_fd, generation)) < 0)
		child_give_up(&k->proc, -err, "start: users refused");
	if (s->secret_fd >= 0)
		close(s->secret_fd);
	confine(k);
}

static void
on_go(void *arg)
{
	struct authd *k = arg;

	for (unsigned i = 0; i <= MSG_SHARDS_MAX; i++) {
		struct peer *p = &k->peer[i];
		int fd = k->proc.start.peer_fd[i];

		*p = (struct peer){ .k = k, .worker = i, .admin = i == MSG_SHARDS_MAX };
		if (fd >= 0 && loop_add(k->proc.loop, fd, EPOLLIN, on_peer, p) < 0)
			log_warnx("start: cannot watch peer %u", i);
	}
	on_tick(k);
}

static void
on_conf(struct authd *k, int fd)
{
	uint64_t generation = 0;
	int err = child_conf(fd, take_generation, &generation);

	if (err < 0)
		log_errx("configuration: refused, the old one stays: %s", strerror(-err));
	else
		authd_db_generation(k->db, generation);
}

static void
on_message(void *arg, const union msg *m, int fd)
{
	switch (m->h.type) {
	case MSG_USERS:
		replace_users(arg, fd, m->msg_users.generation);
		break;
	case MSG_CONF:
		on_conf(arg, fd);
		break;
	default:
		log_warnx("control: unexpected %s", msg_name(m->h.type));
		if (fd >= 0)
			close(fd);
	}
}

int
authd_main(int argc, char **argv)
{
	static const struct child_role role = { .role = ROLE_AUTHD, .start = on_start, .go = on_go, .message = on_message };
	struct authd *k = calloc(1, sizeof *k);
	int code = k == NULL ? EXIT_INTERNAL : child_begin(&k->proc, &role, k, argc, argv);

	if (code != 0)
		return code;
	code = child_run(&k->proc);
	authd_db_free(k->db);
	child_end(&k->proc);
	free(k);
	return code;
}
