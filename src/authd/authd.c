/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * authd.c: the process.  Told by the supervisor what it holds; asked by workers and turnpike-admin.
 */
#include "config.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "authd_int.h"
#include "tp/child.h"

#define TICK_MS         1000
#define LOOKUP_TICK_MS  100
#define PEER_BURST      32 /* messages of one peer before the others get their turn */
#define USERS_BYTES_MAX ((size_t)1 << 30)
#define EXIT_INTERNAL   70

struct authd;
struct peer {
	struct authd *k;
	unsigned worker;
	bool admin;
	bool held; /* `answer` waits for room in the queue; nothing more is read meanwhile */
	union msg answer;
};
struct authd {
	struct child_proc proc;
	struct authd_db *db;
	struct lookup *lookup; /* NULL: no databases are configured */
	struct lookup_limits limits;
	struct conf_followed *followed;
	bool told, untold[SHARDS_MAX]; /* workers that are to be told of it */
	bool forgotten[SHARDS_MAX];    /* workers that have the oldest message FORGET */
	uint32_t admin_generation;
	struct peer peer[SHARDS_MAX + 1];
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

/* Of the configuration turnpike-auth wants the generation, which workers compare, and the limits of
 * look-ups. */
struct wanted {
	uint64_t generation;
	struct lookup_limits limits;
};

static void
take_conf(void *arg, const struct conf *c)
{
	*(struct wanted *)arg = (struct wanted){ c->generation,
		{ c->database_cache, c->database_negative_cache, c->lookups_per_prefix, c->log_anonymize,
		    c->end_removed_users } };
}

static bool
same_databases(const struct users *a, const struct users *b)
{
	return a->database_count == b->database_count &&
	    memcmp(a->database, b->database, sizeof a->database) == 0 &&
	    (a->database_count == 0 || strcmp(a->realm, b->realm) == 0);
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
	/* What this process may do was settled at its start: the next one starts with the new databases. */
	if (!same_databases(k->db->users, db->users)) {
		log_info("users: the databases are others: turnpike-auth starts again");
		authd_db_free(db);
		k->proc.stat->ready = STAT_READY_RENEW;
		loop_stop(k->proc.loop, 0);
		return;
	}
	authd_db_free(k->db);
	k->db = db;
	log_info("users: %u users and %u secrets, generation %llu", authd_db_users(db),
	    authd_db_secrets(db), (unsigned long long)generation);
}

/* ---- answers ----------------------------------------------------------------------------------- */

/* A full queue is the worker's own: its answer is held, and no other worker waits for it. */
static void
answer(struct peer *p, int fd, const void *msg)
{
	int err = ipc_send(fd, msg, -1);

	if (err == -EAGAIN) {
		memcpy(&p->answer, msg, msg_size(((const struct msg_head *)msg)->type));
		p->held = true;
		(void)loop_mod(p->k->proc.loop, fd, EPOLLOUT);
	} else if (err < 0) {
		log_limited(
		    &p->k->dropped, 1, LOG_L_WARN, "answer to peer %u: %s", p->worker, strerror(-err));
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
answer_grant(struct peer *p, int fd, uint32_t request, uint32_t generation, const struct auth_grant *g)
{
	struct authd *k = p->k;
	struct msg_key_answer a = { .h = { .type = MSG_KEY_ANSWER, .generation = generation } };

	stat_add(k->proc.stat, g->verdict == GRANT_OK ? STAT_AUTHD_ANSWERS : STAT_AUTHD_UNKNOWN, 1);
	a.request = request;
	a.verdict = g->verdict;
	a.alg = g->alg;
	a.key_len = g->key_len;
	a.stable_len = g->stable_len;
	memcpy(a.key, g->key, sizeof a.key);
	a.credential_expiry = g->credential_expiry;
	a.conf_generation = g->conf_generation;
	a.allocations = g->limits.allocations;
	a.permissions = g->limits.permissions;
	a.bandwidth = g->limits.bandwidth;
	a.name_len = g->name_len;
	a.reason = g->reason;
	memcpy(a.stable, g->stable, sizeof a.stable);
	memcpy(a.name, g->name, sizeof a.name);
	answer(p, fd, &a);
	sodium_memzero(&a, sizeof a);
}

static void
answer_key(struct peer *p, int fd, const struct msg_key_ask *ask)
{
	struct authd *k = p->k;
	struct auth_grant g;
	bool now = true;

	if (k->lookup != NULL)
		now = lookup_ask(k->lookup, p->worker, ask, &g);
	else
		authd_judge(k->db, NULL, ask->message, ask->len, clock_unix(), &g, NULL);
	if (now)
		answer_grant(p, fd, ask->request, ask->h.generation, &g);
	sodium_memzero(&g, sizeof g);
}

/* A database has answered.  A worker whose queue is full asks again. */
static void
on_looked_up(void *arg, unsigned peer, uint32_t request, uint32_t generation, const struct auth_grant *g)
{
	struct authd *k = arg;
	struct peer *p = &k->peer[peer];

	if (!p->held)
		answer_grant(p, k->proc.start.peer_fd[peer], request, generation, g);
}

static void
answer_credential(struct peer *p, int fd, const struct msg_cred_ask *ask)
{
	struct msg_cred_answer a = { .h = { .type = MSG_CRED_ANSWER, .generation = ask->h.generation } };

	a.request = ask->request;
	a.ok = authd_credential(p->k->db, ask->user, ask->lifetime, ask->sha256 != 0, clock_unix(), &a) ==
	    0;
	answer(p, fd, &a);
	sodium_memzero(&a, sizeof a);
}

/* ---- what workers are told ---------------------------------------------------------------------- */

static void
tell_worker(struct authd *k, unsigned i, int memfd)
{
	struct msg_followed m = { .h = { .type = MSG_FOLLOWED }, .size = sizeof *k->followed };
	int fd = k->proc.start.peer_fd[i], err = fd < 0 ? 0 : ipc_send(fd, &m, memfd);

	/* A worker whose queue is full is told by the next tick. */
	k->untold[i] = err == -EAGAIN;
}

/* Without databases and denied users there is nothing to say, once nothing was said. */
static void
tell_workers(struct authd *k, bool all)
{
	int memfd;

	followed_build(k->lookup, k->proc.stat, k->followed);
	if (k->lookup == NULL && k->followed->denied_count == 0 && !k->told) {
		memset(k->untold, 0, sizeof k->untold);
		return;
	}
	k->told = true;
	memfd = followed_memfd(k->followed);
	if (memfd < 0) {
		log_limited(
		    &k->dropped, 1, LOG_L_WARN, "what databases say cannot be told: %s", strerror(-memfd));
		return;
	}
	for (unsigned i = 0; i < SHARDS_MAX; i++)
		if (all || k->untold[i])
			tell_worker(k, i, memfd);
	close(memfd);
}

/* The oldest of what workers are to forget goes when each has it.  One whose queue is full gets it at the
 * next tick. */
static bool
tell_forget(struct authd *k, const struct msg_forget *m)
{
	bool all = true;

	for (unsigned i = 0; i < SHARDS_MAX; i++) {
		int fd = k->proc.start.peer_fd[i];

		if (!k->forgotten[i])
			k->forgotten[i] = fd < 0 || ipc_send(fd, m, -1) != -EAGAIN;
		all = all && k->forgotten[i];
	}
	if (all)
		memset(k->forgotten, 0, sizeof k->forgotten);
	return all;
}

static void
tell_forgets(struct authd *k)
{
	const struct msg_forget *m;

	while ((m = lookup_forget_next(k->lookup)) != NULL && tell_forget(k, m))
		lookup_forget_done(k->lookup);
}

static void
answer_operator(
    struct authd *k, uint32_t request, uint32_t generation, bool more, int err, const char *text)
{
	struct msg_db_answer a = { .h = { .type = MSG_DB_ANSWER, .generation = generation },
		.request = request,
		.code = err < 0,
		.more = more };
	int fd = k->proc.start.peer_fd[SHARDS_MAX];

	text_copy(a.text, sizeof a.text, text);
	/* A list that is longer than the queue loses its rest, never its end: that is sent when there
	 * is room. */
	if (fd < 0 || (ipc_send(fd, &a, -1) == -EAGAIN && more))
		return;
}

static void
on_told(void *arg, const struct db_event *e)
{
	struct authd *k = arg;

	if (e == NULL)
		tell_workers(k, true);
	else
		answer_operator(
		    k, (uint32_t)e->id, k->admin_generation, e->type == DB_EV_ROW, e->err, e->text);
}

static void
list_denied(struct authd *k, const struct msg_db_ask *m)
{
	char line[256];

	followed_build(k->lookup, k->proc.stat, k->followed);
	for (uint32_t i = 0; i < k->followed->denied_count; i++) {
		snprintf(line, sizeof line, "%s %lld", k->followed->denied[i].name,
		    (long long)k->followed->denied[i].until);
		answer_operator(k, m->request, m->h.generation, true, 0, line);
	}
	answer_operator(k, m->request, m->h.generation, false, 0, "");
}

static void
answer_db_ask(struct authd *k, const struct msg_db_ask *m)
{
	char why[128] = "";
	int err;

	k->admin_generation = m->h.generation;
	switch (m->what) {
	case DB_ASK_CHANGE:
		if ((err = operator_change(k->lookup, m, why, sizeof why)) == 0)
			return; /* the database answers */
		break;
	case DB_ASK_DENY:
		err = operator_deny(k->proc.stat, m->name, m->until);
		snprintf(why, sizeof why, "%s",
		    err == -ENOSPC ? "the list is full (128): use --database"
			: err < 0  ? "allowed: a name of 1 to 127 bytes"
				   : "");
		break;
	case DB_ASK_UNDENY:
		err = operator_undeny(k->proc.stat, m->name);
		snprintf(why, sizeof why, "%s", err < 0 ? "this user is not in the list" : "");
		break;
	default:
		list_denied(k, m);
		return;
	}
	if (err == 0)
		tell_workers(k, true);
	answer_operator(k, m->request, m->h.generation, false, err, why);
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
	else if (m->h.type == MSG_FOLLOWED_ASK)
		p->k->untold[p->worker] = true;
	else if (m->h.type == MSG_DB_ASK && operator_is_sound(&m->msg_db_ask))
		answer_db_ask(p->k, &m->msg_db_ask);
	else if (m->h.type == MSG_DB_ASK)
		refuse(p, "nonsense");
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
	if (k->db->users->database_count > 0)
		authd_confine_open(&k->proc, k->db->users);
	else
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
on_lookup_tick(void *arg)
{
	struct authd *k = arg;
	bool any = false;

	if (k->lookup != NULL) {
		lookup_tick(k->lookup);
		tell_forgets(k);
	}
	if (operator_sweep(k->proc.stat, clock_unix()))
		tell_workers(k, true);
	for (unsigned i = 0; i < SHARDS_MAX; i++)
		any = any || k->untold[i];
	if (any)
		tell_workers(k, false);
	loop_after(k->proc.loop, LOOKUP_TICK_MS, on_lookup_tick, k);
}

static void
on_start(void *arg, const struct msg_start *s)
{
	struct authd *k = arg;
	struct wanted w = { 0 };
	int err;

	if (s->conf_fd >= 0 && (err = child_conf(s->conf_fd, take_conf, &w)) < 0)
		child_give_up(&k->proc, -err, "start: configuration refused");
	k->limits = w.limits;
	if ((k->followed = calloc(1, sizeof *k->followed)) == NULL)
		child_give_up(&k->proc, ENOMEM, "start: no memory");
	if ((err = db_from_fd(&k->db, s->users_fd, w.generation)) < 0)
		child_give_up(&k->proc, -err, "start: users refused");
	if (s->secret_fd >= 0)
		close(s->secret_fd);
	memset(k->proc.stat->database, 0, sizeof k->proc.stat->database);
	confine(k);
	if (k->db->users->database_count > 0 &&
	    (err = lookup_new(
		 &k->lookup, &k->proc, &k->db, k->db->users, &k->limits, on_looked_up, on_told, k)) < 0)
		child_give_up(&k->proc, -err, "start: databases");
}

static void
on_go(void *arg)
{
	struct authd *k = arg;

	for (unsigned i = 0; i <= SHARDS_MAX; i++) {
		struct peer *p = &k->peer[i];
		int fd = k->proc.start.peer_fd[i];

		*p = (struct peer){ .k = k, .worker = i, .admin = i == SHARDS_MAX };
		if (fd >= 0 && loop_add(k->proc.loop, fd, EPOLLIN, on_peer, p) < 0)
			log_warnx("start: cannot watch peer %u", i);
	}
	on_tick(k);
	/* A predecessor may have died with a question unanswered. */
	for (unsigned i = 0; i < SHARDS_MAX; i++)
		k->untold[i] = k->proc.start.peer_fd[i] >= 0;
	on_lookup_tick(k);
}

static void
on_conf(struct authd *k, int fd)
{
	struct wanted w = { 0 };
	int err = child_conf(fd, take_conf, &w);

	if (err < 0) {
		log_errx("configuration: refused, the old one stays: %s", strerror(-err));
		return;
	}
	k->limits = w.limits;
	authd_db_generation(k->db, w.generation);
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
	static const struct child_role role = {
		.role = ROLE_AUTHD, .start = on_start, .go = on_go, .message = on_message
	};
	struct authd *k = calloc(1, sizeof *k);
	int code = k == NULL ? EXIT_INTERNAL : child_begin(&k->proc, &role, k, argc, argv);

	if (code != 0)
		return code;
	code = child_run(&k->proc);
	if (k->lookup != NULL)
		_exit(code); /* threads are inside client libraries, which exit() would take apart */
	authd_db_free(k->db);
	free(k->followed);
	child_end(&k->proc);
	free(k);
	return code;
}
