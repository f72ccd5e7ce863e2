/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * usher.c: the process.  Told by the supervisor what it holds; asked by workers.
 */
#include "config.h"

#include <errno.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "usher_int.h"

#define TICK_IDLE_MS 1000
#define TICK_BUSY_MS 50
#define PEER_BURST 32			/* messages of one worker before the others get their turn */
#define STOP_MS 1500		/* the supervisor kills after 2000 */
#define REGION_MAX ((size_t)1 << 26)
#define EXIT_INTERNAL 70

/* ---- what is held ------------------------------------------------------------------------------ */

/* A read-only mapping of a memfd, closed by this; NULL with errno. */
static void *
map_whole(int fd, size_t least, size_t *size)
{
	off_t end = lseek(fd, 0, SEEK_END);
	void *map = MAP_FAILED;

	if (end < 0 || (size_t)end < least || (size_t)end > REGION_MAX)
		errno = EINVAL;
	else
		map = mmap(NULL, (size_t)end, PROT_READ, MAP_SHARED, fd, 0);
	*size = (size_t)end;
	close(fd);
	return map == MAP_FAILED ? NULL : map;
}

static int
take_conf(struct usher *u, int fd)
{
	size_t size;
	struct conf *c = map_whole(fd, sizeof *c, &size);
	int err;

	if (c == NULL)
		return -errno;
	err = conf_validate(c, size);
	if (err == 0) {
		u->per_prefix = c->half_open_per_prefix;
		u->total = c->half_open_total;
		u->timeout = c->handshake_timeout;
		u->least = (enum conf_tls)c->tls_min_version;
		log_level_set((enum log_level)c->log_level);
	}
	munmap(c, size);
	return err;
}

static int
take_certs(struct usher *u, int fd)
{
	struct cert_set *set;
	size_t size;
	struct certs *c = map_whole(fd, sizeof *c, &size);
	int err;

	if (c == NULL)
		return -errno;
	err = certs_validate(c, size);
	if (err == 0)
		err = cert_set_new(&set, c, u->least);
	munmap(c, size);
	if (err < 0)
		return err;
	cert_set_give(u->certs);
	u->certs = set;
	return 0;
}

/* ---- workers ------------------------------------------------------------------------------------- */

static void
refuse(struct peer *p, const char *why, int fd)
{
	if (fd >= 0)
		close(fd);
	stat_add(p->u->stat, STAT_MSG_BAD, 1);
	log_limited(&p->u->bad, 1, LOG_L_WARN, "message of worker %u refused: %s", p->worker, why);
}

static bool
who_is_valid(const struct peer *p, const struct hs_who *w, bool dtls)
{
	return w->worker == p->worker && (w->client.family == ADDR_V4 || w->client.family == ADDR_V6) &&
	    (w->dtls != 0) == dtls;
}

/* Only what tells a handshake, so that it is the same in every message. */
static struct hs_who
who_of(const struct hs_who *in)
{
	struct hs_who w;

	memset(&w, 0, sizeof w);
	w.request = in->request;
	w.worker = in->worker;
	w.shard = in->shard;
	w.row = in->row;
	w.client = in->client;
	w.dtls = in->dtls != 0;
	return w;
}

static void
handle_peer(struct peer *p, union msg *m, int fd)
{
	struct usher *u = p->u;
	struct hs_who who;

	switch (m->h.type) {
	case MSG_HS_STREAM:
		if (!who_is_valid(p, &m->msg_hs_stream.who, false)) {
			refuse(p, "nonsense", fd);
			break;
		}
		who = who_of(&m->msg_hs_stream.who);
		stream_start(u, &who, fd);
		break;
	case MSG_HS_DATAGRAM:
		if (!who_is_valid(p, &m->msg_hs_datagram.who, true) || m->msg_hs_datagram.len > MSG_HS_DATAGRAM_MAX) {
			refuse(p, "nonsense", -1);
			break;
		}
		m->msg_hs_datagram.who = who_of(&m->msg_hs_datagram.who);
		dgram_take(u, &m->msg_hs_datagram);
		break;
	case MSG_HS_ACK:
		if (m->msg_hs_ack.who.worker == p->worker)
			hs_ack(u, &m->msg_hs_ack.who);
		break;
	case MSG_HS_CANCEL:
		if (m->msg_hs_cancel.who.worker == p->worker)
			hs_cancel(u, &m->msg_hs_cancel.who);
		break;
	default:
		refuse(p, "unexpected", fd);
	}
}

/* A worker that sends nonsense is not cut off: its successor inherits this very socket. */
static void
on_peer(void *arg, int sock, uint32_t events)
{
	struct peer *p = arg;
	union msg m;
	int fd;

	(void)events;
	for (unsigned i = 0; i < PEER_BURST; i++) {
		int n = ipc_recv(sock, ROLE_WORKER, ROLE_USHER, &m, &fd);

		if (n == 1) {
			handle_peer(p, &m, fd);
		} else if (n == -EPROTO) {
			refuse(p, "not a message for an usher", -1);
		} else if (n == 0) {
			break;
		} else {
			log_errx("queue of worker %u: %s", p->worker, strerror(-n));
			loop_del(p->u->loop, sock);
			break;
		}
	}
}

/* ---- time ---------------------------------------------------------------------------------------- */

static void
sweep_half(struct usher *u, tp_ms now)
{
	struct hs *next;

	for (struct hs *h = u->table.line[HS_HALF].oldest; h != NULL; h = next) {
		next = h->age.newer;
		if (now >= h->until)
			hs_fail(h, HS_R_TIMEOUT);
		else if (h->wake != 0 && now >= h->wake)
			dgram_timeout(h);
	}
}

static void
sweep_untaken(struct usher *u, tp_ms now)
{
	struct hs *next;

	for (struct hs *h = u->table.line[HS_UNTAKEN].oldest; h != NULL; h = next) {
		next = h->age.newer;
		if (now >= h->until || u->table.line[HS_UNTAKEN].count > u->total) {
			stat_add(u->stat, STAT_HS_LOST, 1);
			hs_free(h);
		} else if (now >= h->wake) {
			stat_add(u->stat, STAT_HS_RESENT, 1);
			hs_offer(h);
		}
	}
}

static void
on_tick(void *arg)
{
	struct usher *u = arg;
	tp_ms now = clock_ms();
	bool busy;

	sweep_half(u, now);
	sweep_untaken(u, now);
	busy = u->table.line[HS_HALF].count + u->table.line[HS_UNTAKEN].count > 0;
	if (u->swollen && !busy) {
		u->swollen = false;
		(void)malloc_trim(0);	/* a crowd took 60 kB each, and the allocator keeps what it was given back */
	}
	if (u->stopping && (!busy || now >= u->stop_at))
		loop_stop(u->loop, 0);
	atomic_store_explicit(&u->stat->heartbeat_ms, now, memory_order_relaxed);
	atomic_fetch_add_explicit(&u->stat->ticks, 1, memory_order_relaxed);
	stat_add(u->stat, STAT_LOG_LOST, log_lost() - u->stat->counter[STAT_LOG_LOST]);
	u->fast = busy || u->stopping;
	u->tick = loop_after(u->loop, u->fast ? TICK_BUSY_MS : TICK_IDLE_MS, on_tick, u);
}

void
usher_hurry(struct usher *u)
{
	if (u->fast)
		return;
	u->fast = true;
	loop_cancel(u->loop, u->tick);
	u->tick = loop_after(u->loop, TICK_BUSY_MS, on_tick, u);
}

/* ---- life -------------------------------------------------------------------------------------- */

static void
fatal_with(int err, const char *what)
{
	errno = err;
	fatal(EXIT_INTERNAL, "%s", what);
}

/* Beyond the common list: messages to workers, mappings of new certificates, and what libc asks for when it sorts and when it ends. */
static const struct sandbox_rule rules[] = {
	{ SYS_sendmmsg, { { 0, SANDBOX_ANY, 0 }, { 0, SANDBOX_ANY, 0 } } },
	{ SYS_lseek, { { 0, SANDBOX_ANY, 0 }, { 0, SANDBOX_ANY, 0 } } },
	{ SYS_sysinfo, { { 0, SANDBOX_ANY, 0 }, { 0, SANDBOX_ANY, 0 } } },
};

static void
confine(const struct usher *u)
{
	const struct msg_start *s = &u->start;
	int err = s->drop_privileges ? sandbox_become(s->uid, s->gid) : 0;

	if (err == 0)
		err = sandbox_harden(u->parent);
	if (err < 0)
		fatal_with(-err, "privileges: cannot give them up");
	if ((err = sandbox_landlock()) < 0)
		log_debug("landlock: not available: %s", strerror(-err));
	if ((err = sandbox_seccomp(rules, TP_COUNT(rules))) < 0)
		fatal_with(-err, "system calls: cannot give them up");
}

static void
on_start(struct usher *u, const struct msg_start *s)
{
	int err;

	if (u->started || s->role != ROLE_USHER)
		fatal(EXIT_INTERNAL, "start: told to be another process");
	u->started = true;
	u->start = *s;
	/* No two ushers of one index have the same generation, so no number comes twice. */
	u->numbers = (uint64_t)s->h.generation << 32 | 1;
	u->stat = region_map(s->stat_fd, STAT_SIZE, true, false);
	if (u->stat == NULL)
		fatal(EXIT_INTERNAL, "start: cannot map the counters");
	stat_init(u->stat, ROLE_USHER, s->index, s->h.generation, clock_ms());
	if ((err = take_conf(u, s->conf_fd)) < 0)
		fatal_with(-err, "start: configuration refused");
	confine(u);
	if ((err = take_certs(u, s->certs_fd)) < 0)
		fatal_with(-err, "start: certificates refused");
}

static void
on_go(struct usher *u)
{
	struct msg_ready ready = { .h = { .type = MSG_READY, .generation = u->start.h.generation } };

	if (!u->started || u->serving)
		fatal(EXIT_INTERNAL, "start: GO out of turn");
	u->serving = true;
	for (unsigned i = 0; i < MSG_SHARDS_MAX; i++) {
		u->peer[i] = (struct peer){ .u = u, .worker = i };
		if (u->start.peer_fd[i] >= 0 && loop_add(u->loop, u->start.peer_fd[i], EPOLLIN, on_peer, &u->peer[i]) < 0)
			log_warnx("start: cannot watch worker %u", i);
	}
	on_tick(u);
	u->stat->ready = 1;
	if (ipc_send(CHILD_FD_CONTROL, &ready, -1) < 0)
		fatal(EXIT_INTERNAL, "start: cannot answer READY");
}

static void
on_certs(struct usher *u, int fd)
{
	int err = take_certs(u, fd);

	if (err < 0)
		log_errx("certificates: new ones refused, the old ones stay: %s", strerror(-err));
	else
		log_info("certificates: %u", cert_set_count(u->certs));
}

static void
on_stop(struct usher *u)
{
	if (!u->serving) {
		loop_stop(u->loop, 0);
		return;
	}
	u->stopping = true;
	u->stop_at = clock_ms() + STOP_MS;
	loop_cancel(u->loop, u->tick);
	on_tick(u);
}

static void
handle_control(struct usher *u, const union msg *m, int fd)
{
	int err;

	if (m->h.type != MSG_START && m->h.type != MSG_STOP && !u->started)
		fatal(EXIT_INTERNAL, "control: %s before START", msg_name(m->h.type));
	switch (m->h.type) {
	case MSG_START:
		on_start(u, &m->msg_start);
		break;
	case MSG_GO:
		on_go(u);
		break;
	case MSG_CERTS:
		on_certs(u, fd);
		break;
	case MSG_CONF:
		if ((err = take_conf(u, fd)) < 0)
			log_errx("configuration: refused, the old one stays: %s", strerror(-err));
		break;
	case MSG_STOP:
		on_stop(u);
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
	struct usher *u = arg;
	union msg m;
	int fd, n;

	(void)events;
	while ((n = ipc_recv(sock, ROLE_SUPER, ROLE_USHER, &m, &fd)) == 1)
		handle_control(u, &m, fd);
	if (n == -EPIPE)
		loop_stop(u->loop, 0);		/* the supervisor is gone: so is our purpose */
	else if (n < 0)
		fatal(EXIT_INTERNAL, "control: bad message of the supervisor");
}

static void
usher_free(struct usher *u)
{
	for (unsigned i = 0; i < TP_COUNT(u->table.line); i++)
		while (u->table.line[i].oldest != NULL)
			hs_free(u->table.line[i].oldest);
	for (unsigned i = 0; i < TP_COUNT(u->peer); i++)
		free(u->peer[i].out.bytes);
	cert_set_give(u->certs);
	flight_fini(&u->out);
	BIO_meth_free(u->stream_bio);
	BIO_meth_free(u->dgram_bio);
	loop_free(u->loop);
	free(u);
}

int
usher_main(int argc, char **argv)
{
	struct usher *u = calloc(1, sizeof *u);
	int code;

	/* Not the host's openssl.cnf: what is offered is ours to say, and the file is out of reach later. */
	if (u == NULL || argc != 2 || sodium_init() < 0 || OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) != 1)
		return EXIT_INTERNAL;
	u->parent = getppid();
	log_init("usher", ROLE_USHER, (unsigned)strtoul(argv[1], NULL, 10), LOG_L_INFO);
	log_sink_fd(CHILD_FD_LOG);
	/* The terminal's ^C and the service manager's signal are for the supervisor, which then sends STOP. */
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	table_init(&u->table);
	u->loop = loop_new();
	u->stream_bio = stream_bio_method();
	u->dgram_bio = dgram_bio_method();
	if (u->stream_bio == NULL || u->dgram_bio == NULL)
		return EXIT_INTERNAL;
	if (u->loop == NULL || loop_add(u->loop, CHILD_FD_CONTROL, EPOLLIN, on_control, u) < 0)
		fatal(EXIT_INTERNAL, "start: no control socket (turnpike-usher is started by turnpiked)");
	code = loop_run(u->loop);
	toworker_flush(u);
	usher_free(u);
	return code;
}
