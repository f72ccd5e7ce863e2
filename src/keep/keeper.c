/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * keeper.c: the process.  Told by the supervisor what it holds; asked by workers and the steward.
 */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "keep_int.h"
#include "tp/io.h"
#include "tp/shm.h"

#define TICK_MS 1000
#define PEER_BURST 32			/* messages of one peer before the others get their turn */
#define USERS_BYTES_MAX ((size_t)1 << 30)
#define EXIT_INTERNAL 70

struct keeper;
struct peer {
	struct keeper *k;
	unsigned worker;
	bool steward;
	bool held;			/* `answer` waits for room in the queue; nothing more is read meanwhile */
	union msg answer;
};
struct keeper {
	struct loop *loop;
	struct keep_db *db;
	struct stats *stat;
	struct msg_start start;
	bool started, serving;
	int parent;
	struct peer peer[MSG_SHARDS_MAX + 1];
	struct log_class bad, dropped;
};

/* ---- what is held ------------------------------------------------------------------------------ */

/* A read-only mapping of a memfd, closed by this; NULL with errno. */
static void *
map_whole(int fd, size_t least, size_t most, size_t *size)
{
	void *map = MAP_FAILED;
	struct stat st;

	*size = fstat(fd, &st) == 0 ? (size_t)st.st_size : 0;
	if (*size < least || *size > most)
		errno = EINVAL;
	else
		map = mmap(NULL, *size, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	return map == MAP_FAILED ? NULL : map;
}

static int
db_from_fd(struct keep_db **db, int fd, uint64_t generation)
{
	size_t size;
	void *map = map_whole(fd, sizeof(struct users), USERS_BYTES_MAX, &size);
	int err;

	if (map == NULL)
		return -errno;
	err = keep_db_new(db, map, size, generation);
	munmap(map, size);
	return err;
}

/* Of the configuration the keeper wants the generation, which workers compare, and the log level. */
static int
take_conf(int fd, uint64_t *generation)
{
	size_t size;
	struct conf *c = map_whole(fd, sizeof *c, sizeof *c + 65536, &size);
	int err;

	if (c == NULL)
		return -errno;
	err = conf_validate(c, size);
	if (err == 0) {
		*generation = c->generation;
		log_level_set((enum log_level)c->log_level);
	}
	munmap(c, size);
	return err;
}

static void
replace_users(struct keeper *k, int fd, uint64_t generation)
{
	struct keep_db *db;
	int err = db_from_fd(&db, fd, generation);

	if (err < 0) {
		log_errx("users: new ones refused, the old ones stay: %s", strerror(-err));
		return;
	}
	keep_db_free(k->db);
	k->db = db;
	log_info("users: %u users and %u secrets, generation %llu", keep_db_users(db), keep_db_secrets(db),
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
		(void)loop_mod(p->k->loop, fd, EPOLLOUT);
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
	(void)loop_mod(p->k->loop, fd, EPOLLIN);
}

static void
answer_key(struct peer *p, int fd, const struct msg_key_ask *ask)
{
	struct keeper *k = p->k;
	struct msg_key_answer a = { .h = { .type = MSG_KEY_ANSWER, .generation = ask->h.generation } };
	struct auth_grant g;

	keep_judge(k->db, ask->message, ask->len, clock_unix(), &g, NULL);
	stat_add(k->stat, g.verdict == GRANT_OK ? STAT_KEEPER_ANSWERS : STAT_KEEPER_UNKNOWN, 1);
	a.request = ask->request;
	a.verdict = g.verdict;
	a.alg = g.alg;
	a.key_len = g.key_len;
	a.stable_len = g.stable_len;
	memcpy(a.key, g.key, sizeof a.key);
	a.credential_expiry = g.credential_expiry;
	a.conf_generation = g.conf_generation;
	a.name_len = g.name_len;
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
	a.ok = keep_credential(p->k->db, ask->user, ask->lifetime, ask->sha256 != 0, clock_unix(), &a) == 0;
	answer(p, fd, &a);
	sodium_memzero(&a, sizeof a);
}

static void
refuse(struct peer *p, const char *why)
{
	stat_add(p->k->stat, STAT_MSG_BAD, 1);
	log_limited(&p->k->bad, 1, LOG_L_WARN, "message of %s %u refused: %s",
	    p->steward ? "steward" : "worker", p->worker, why);
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
		int n = ipc_recv(fd, p->steward ? ROLE_STEWARD : ROLE_WORKER, ROLE_KEEPER, &m, &passed);

		if (n == 1) {
			handle_peer(p, fd, &m);
		} else if (n == -EPROTO) {
			refuse(p, "not a message for the keeper");
		} else if (n == 0) {
			break;
		} else {
			loop_del(p->k->loop, fd);
			break;
		}
	}
}

/* ---- life -------------------------------------------------------------------------------------- */

static void
fatal_with(int err, const char *what)
{
	errno = err;
	fatal(EXIT_INTERNAL, "%s", what);
}

static void
confine(const struct keeper *k)
{
	/* A reload brings new guarded memory and gives the old back. */
	static const struct sandbox_rule more[] = {
		{ .nr = SYS_mlock }, { .nr = SYS_munlock }, { .nr = SYS_prlimit64 },
	};
	const struct msg_start *s = &k->start;
	char warm[REST_PASSWORD_MAX];
	int err;

	/* libcrypto reads its configuration with the first digest, and no file can be opened later. */
	rest_password(false, "", 0, "", 0, warm);
	rest_password(true, "", 0, "", 0, warm);
	err = s->drop_privileges ? sandbox_become(s->uid, s->gid) : 0;

	if (err == 0)
		err = sandbox_harden(k->parent);
	if (err < 0)
		fatal_with(-err, "privileges: cannot give them up");
	if ((err = sandbox_landlock()) < 0)
		log_debug("landlock: not available: %s", strerror(-err));
	if ((err = sandbox_seccomp(more, TP_COUNT(more))) < 0)
		log_warnx("seccomp: not available: %s", strerror(-err));
}

static void
on_tick(void *arg)
{
	struct keeper *k = arg;

	atomic_store_explicit(&k->stat->heartbeat_ms, clock_ms(), memory_order_relaxed);
	atomic_fetch_add_explicit(&k->stat->ticks, 1, memory_order_relaxed);
	stat_add(k->stat, STAT_LOG_LOST, log_lost() - k->stat->counter[STAT_LOG_LOST]);
	loop_after(k->loop, TICK_MS, on_tick, k);
}

static void
on_start(struct keeper *k, const struct msg_start *s)
{
	uint64_t generation = 0;
	int err;

	if (k->started || s->role != ROLE_KEEPER)
		fatal(EXIT_INTERNAL, "start: told to be another process");
	k->started = true;
	k->start = *s;
	k->stat = region_map(s->stat_fd, STAT_SIZE, true, false);
	if (k->stat == NULL)
		fatal(EXIT_INTERNAL, "start: cannot map the counters");
	stat_init(k->stat, ROLE_KEEPER, s->index, s->h.generation, clock_ms());
	if (s->conf_fd >= 0 && (err = take_conf(s->conf_fd, &generation)) < 0)
		fatal_with(-err, "start: configuration refused");
	if ((err = db_from_fd(&k->db, s->users_fd, generation)) < 0)
		fatal_with(-err, "start: users refused");
	if (s->secret_fd >= 0)
		close(s->secret_fd);
	confine(k);
}

static void
on_go(struct keeper *k)
{
	struct msg_ready ready = { .h = { .type = MSG_READY, .generation = k->start.h.generation } };

	if (!k->started || k->serving)
		fatal(EXIT_INTERNAL, "start: GO out of turn");
	k->serving = true;
	for (unsigned i = 0; i <= MSG_SHARDS_MAX; i++) {
		struct peer *p = &k->peer[i];

		*p = (struct peer){ .k = k, .worker = i, .steward = i == MSG_SHARDS_MAX };
		if (k->start.peer_fd[i] >= 0 && loop_add(k->loop, k->start.peer_fd[i], EPOLLIN, on_peer, p) < 0)
			log_warnx("start: cannot watch peer %u", i);
	}
	on_tick(k);
	k->stat->ready = 1;
	if (ipc_send(CHILD_FD_CONTROL, &ready, -1) < 0)
		fatal(EXIT_INTERNAL, "start: cannot answer READY");
}

static void
on_conf(struct keeper *k, int fd)
{
	uint64_t generation;
	int err = take_conf(fd, &generation);

	if (err < 0)
		log_errx("configuration: refused, the old one stays: %s", strerror(-err));
	else
		keep_db_generation(k->db, generation);
}

static void
handle_control(struct keeper *k, const union msg *m, int fd)
{
	if (m->h.type != MSG_START && m->h.type != MSG_STOP && !k->started)
		fatal(EXIT_INTERNAL, "control: %s before START", msg_name(m->h.type));
	switch (m->h.type) {
	case MSG_START:
		on_start(k, &m->msg_start);
		break;
	case MSG_GO:
		on_go(k);
		break;
	case MSG_USERS:
		replace_users(k, fd, m->msg_users.generation);
		break;
	case MSG_CONF:
		on_conf(k, fd);
		break;
	case MSG_STOP:
		loop_stop(k->loop, 0);
		break;
	default:
		log_warnx("control: unexpected %s", msg_name(m->h.type));
		if (fd >= 0)
			close(fd);
	}
}

static void
on_control(void *arg, int sock, uint32_t events)
{
	struct keeper *k = arg;
	union msg m;
	int fd, n;

	(void)events;
	while ((n = ipc_recv(sock, ROLE_SUPER, ROLE_KEEPER, &m, &fd)) == 1)
		handle_control(k, &m, fd);
	if (n == -EPIPE)
		loop_stop(k->loop, 0);		/* the supervisor is gone: so is our purpose */
	else if (n < 0)
		fatal(EXIT_INTERNAL, "control: bad message of the supervisor");
}

int
keeper_main(int argc, char **argv)
{
	struct keeper *k = calloc(1, sizeof *k);
	int code;

	if (k == NULL || argc != 2 || sodium_init() < 0)
		return EXIT_INTERNAL;
	k->parent = getppid();
	log_init("keeper", ROLE_KEEPER, (unsigned)strtoul(argv[1], NULL, 10), LOG_L_INFO);
	log_sink_fd(CHILD_FD_LOG);
	/* The terminal's ^C and the service manager's signal are for the supervisor, which then sends STOP. */
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	k->loop = loop_new();
	if (k->loop == NULL || loop_add(k->loop, CHILD_FD_CONTROL, EPOLLIN, on_control, k) < 0)
		fatal(EXIT_INTERNAL, "start: no control socket (turnpike-keeper is started by turnpiked)");
	code = loop_run(k->loop);
	keep_db_free(k->db);
	loop_free(k->loop);
	free(k);
	return code;
}
