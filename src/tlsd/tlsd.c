/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tlsd.c: the process.  Told by the supervisor what it holds; asked by workers.
 */
#include "config.h"

#include <errno.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tlsd_int.h"

#define TICK_IDLE_MS 1000
#define TICK_BUSY_MS 50
#define PEER_BURST   32 /* messages of one worker before the others get their turn */
#define STILL_MS     4000
#define STILL_DTLS_MS                                                                                      \
	1000 /* a client of DTLS repeats what was not answered after so long (RFC 6347 4.2.4.1) */
#define STOP_MS       1500 /* the supervisor kills after 2000 */
#define REGION_MAX    ((size_t)1 << 26)
#define EXIT_INTERNAL 70

/* ---- what is held ------------------------------------------------------------------------------ */

static void
take_conf(void *arg, const struct conf *c)
{
	struct tlsd *u = arg;

	u->per_prefix = c->half_open_per_prefix;
	u->total = c->half_open_total;
	u->timeout = c->handshake_timeout;
	u->least = (enum conf_tls)c->tls_min_version;
}

static int
take_certs(struct tlsd *u, int fd)
{
	struct cert_set *set;
	size_t size;
	struct certs *c = child_map(fd, sizeof *c, REGION_MAX, &size);
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
	stat_add(p->u->proc.stat, STAT_MSG_BAD, 1);
	log_limited(
	    &p->u->bad, 1, LOG_L_WARN, "message of the worker of shard %u refused: %s", p->shard, why);
}

static bool
who_is_valid(const struct peer *p, const struct hs_who *w, bool dtls)
{
	return w->shard == p->shard && (w->client.family == ADDR_V4 || w->client.family == ADDR_V6) &&
	    (w->dtls != 0) == dtls;
}

/* Only what tells a handshake, so that it is the same in every message. */
static struct hs_who
who_of(const struct hs_who *in)
{
	struct hs_who w;

	memset(&w, 0, sizeof w);
	w.request = in->request;
	w.shard = in->shard;
	w.row = in->row;
	w.client = in->client;
	w.dtls = in->dtls != 0;
	return w;
}

static void
handle_peer(struct peer *p, union msg *m, int fd)
{
	struct tlsd *u = p->u;
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
		if (!who_is_valid(p, &m->msg_hs_datagram.who, true) ||
		    m->msg_hs_datagram.len > MSG_HS_DATAGRAM_MAX) {
			refuse(p, "nonsense", -1);
			break;
		}
		m->msg_hs_datagram.who = who_of(&m->msg_hs_datagram.who);
		dgram_take(u, &m->msg_hs_datagram);
		break;
	case MSG_HS_ACK:
		if (m->msg_hs_ack.who.shard == p->shard)
			hs_ack(u, &m->msg_hs_ack.who);
		break;
	case MSG_HS_CANCEL:
		if (m->msg_hs_cancel.who.shard == p->shard)
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
		int n = ipc_recv(sock, ROLE_WORKER, ROLE_TLSD, &m, &fd);

		if (n == 1) {
			handle_peer(p, &m, fd);
		} else if (n == -EPROTO) {
			refuse(p, "not a message for a turnpike-tls", -1);
		} else if (n == 0) {
			break;
		} else {
			log_errx("queue of shard %u: %s", p->shard, strerror(-n));
			loop_del(p->u->proc.loop, sock);
			break;
		}
	}
}

/* ---- time ---------------------------------------------------------------------------------------- */

/* Where others wait, a client that is silent makes room for them before its deadline. */
static void
sweep_half(struct tlsd *u, tp_ms now)
{
	uint32_t waiting = u->table.line[HS_WAITING].count;
	tp_ms still = u->timeout / 2 < STILL_MS ? u->timeout / 2 : STILL_MS;
	/* Where one prefix alone has no room, only that prefix waits, and its clients may be slow together. */
	bool all_wait = u->table.line[HS_HALF].count >= u->total;
	tp_ms still_dtls = all_wait && still > STILL_DTLS_MS ? STILL_DTLS_MS : still;
	struct hs *next;

	for (struct hs *h = u->table.line[HS_HALF].oldest; h != NULL; h = next) {
		next = h->age.newer;
		if (now >= h->until)
			hs_fail(h, HS_R_TIMEOUT);
		else if (waiting > 0 && now >= h->moved + (h->dtls ? still_dtls : still))
			hs_fail(
			    h, table_prefix_is_full(h, u->per_prefix) ? HS_R_CROWDED_PREFIX : HS_R_CROWDED);
		else if (h->wake != 0 && now >= h->wake)
			dgram_timeout(h);
	}
}

static void
start_waiting(struct tlsd *u)
{
	struct hs *h;

	while ((h = table_next(&u->table, u->per_prefix, u->total)) != NULL) {
		if (h->dtls)
			dgram_begin(h);
		else
			stream_begin(h);
	}
}

static void
sweep_waiting(struct tlsd *u, tp_ms now)
{
	struct hs *h;

	while ((h = u->table.line[HS_WAITING].oldest) != NULL && now >= h->until)
		hs_fail(h, HS_R_TIMEOUT);
	start_waiting(u);
}

static void
sweep_untaken(struct tlsd *u, tp_ms now)
{
	struct hs *next;

	for (struct hs *h = u->table.line[HS_UNTAKEN].oldest; h != NULL; h = next) {
		next = h->age.newer;
		if (now >= h->until || u->table.line[HS_UNTAKEN].count > u->total) {
			stat_add(u->proc.stat, STAT_HS_LOST, 1);
			hs_free(h);
		} else if (now >= h->wake) {
			stat_add(u->proc.stat, STAT_HS_RESENT, 1);
			hs_offer(h);
		}
	}
}

static void
on_tick(void *arg)
{
	struct tlsd *u = arg;
	tp_ms now = clock_ms();
	bool busy;

	sweep_half(u, now);
	sweep_waiting(u, now);
	sweep_untaken(u, now);
	busy = u->table.line[HS_HALF].count + u->table.line[HS_UNTAKEN].count +
		u->table.line[HS_WAITING].count >
	    0;
	if (u->swollen && !busy) {
		u->swollen = false;
		(void)malloc_trim(
		    0); /* a crowd took 60 kB each, and the allocator keeps what it was given back */
	}
	if (u->stopping && (!busy || now >= u->stop_at))
		loop_stop(u->proc.loop, 0);
	child_beat(&u->proc);
	u->fast = busy || u->stopping;
	u->tick = loop_after(u->proc.loop, u->fast ? TICK_BUSY_MS : TICK_IDLE_MS, on_tick, u);
}

static void
on_room(void *arg)
{
	struct tlsd *u = arg;

	u->begins = false;
	start_waiting(u);
}

/* What waits may begin when there is one less, though not at this depth of calls. */
static void
changed(struct tlsd *u)
{
	if (!u->begins && u->table.next != NULL && u->table.line[HS_HALF].count < u->total)
		u->begins = loop_after(u->proc.loop, 0, on_room, u) != 0;
	if (u->fast)
		return;
	u->fast = true;
	loop_cancel(u->proc.loop, u->tick);
	u->tick = loop_after(u->proc.loop, TICK_BUSY_MS, on_tick, u);
}

/* ---- life -------------------------------------------------------------------------------------- */

static void
on_start(void *arg, const struct msg_start *s)
{
	struct tlsd *u = arg;
	int err;

	/* No two turnpike-tls processes of one index have the same generation, so no number comes twice. */
	u->numbers = (uint64_t)s->h.generation << 32 | 1;
	if ((err = child_conf(s->conf_fd, take_conf, u)) < 0)
		child_give_up(&u->proc, -err, "start: configuration refused");
	child_confine(&u->proc, -1);
	if ((err = take_certs(u, s->certs_fd)) < 0)
		child_give_up(&u->proc, -err, "start: certificates refused");
}

static void
on_go(void *arg)
{
	struct tlsd *u = arg;

	for (unsigned i = 0; i < SHARDS_MAX; i++) {
		int fd = u->proc.start.peer_fd[i];

		u->peer[i] = (struct peer){ .u = u, .shard = i };
		if (fd >= 0 && loop_add(u->proc.loop, fd, EPOLLIN, on_peer, &u->peer[i]) < 0)
			log_warnx("start: cannot watch shard %u", i);
	}
	on_tick(u);
}

static void
on_certs(struct tlsd *u, int fd)
{
	int err = take_certs(u, fd);

	if (err < 0)
		log_errx("certificates: new ones refused, the old ones stay: %s", strerror(-err));
	else
		log_info("certificates: %u", cert_set_count(u->certs));
}

static void
on_stop(void *arg)
{
	struct tlsd *u = arg;

	u->stopping = true;
	u->stop_at = clock_ms() + STOP_MS;
	loop_cancel(u->proc.loop, u->tick);
	on_tick(u);
}

static void
on_message(void *arg, const union msg *m, int fd)
{
	int err;

	switch (m->h.type) {
	case MSG_CERTS:
		on_certs(arg, fd);
		break;
	case MSG_CONF:
		if ((err = child_conf(fd, take_conf, arg)) < 0)
			log_errx("configuration: refused, the old one stays: %s", strerror(-err));
		break;
	default:
		log_warnx("control: unexpected %s", msg_name(m->h.type));
		if (fd >= 0)
			close(fd);
	}
}

static void
tlsd_free(struct tlsd *u)
{
	for (unsigned i = 0; i < TP_COUNT(u->table.line); i++)
		while (u->table.line[i].oldest != NULL)
			hs_free(u->table.line[i].oldest);
	for (unsigned i = 0; i < TP_COUNT(u->peer); i++)
		free(u->peer[i].out.bytes);
	for (unsigned i = 0; i < PARTS; i++)
		part_free(&u->parts[i]);
	cert_set_give(u->certs);
	flight_fini(&u->out);
	BIO_meth_free(u->stream_bio);
	BIO_meth_free(u->dgram_bio);
	child_end(&u->proc);
	free(u);
}

int
tlsd_main(int argc, char **argv)
{
	static const struct child_role role = {
		.role = ROLE_TLSD, .start = on_start, .go = on_go, .message = on_message, .stop = on_stop
	};
	struct tlsd *u = calloc(1, sizeof *u);
	int code;

	/* Not the host's openssl.cnf: what is offered is ours to say, and the file is out of reach
	 * later. */
	if (u == NULL || OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) != 1)
		return EXIT_INTERNAL;
	if ((code = child_begin(&u->proc, &role, u, argc, argv)) != 0)
		return code;
	table_init(&u->table);
	u->changed = changed;
	u->stream_bio = stream_bio_method();
	u->dgram_bio = dgram_bio_method();
	if (u->stream_bio == NULL || u->dgram_bio == NULL)
		return EXIT_INTERNAL;
	code = child_run(&u->proc);
	toworker_flush(u);
	tlsd_free(u);
	return code;
}
