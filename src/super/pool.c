/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pool.c: relay sockets for the workers.
 *
 * The kernel is the port map: a port is free when bind(2) says so.  Ports are tried at random; a whole
 * scan comes before a "none".  When the range is used up, other shards are asked to give back what lies
 * idle in their pools, and the request waits a moment for it.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <sodium.h>
#include <unistd.h>

#include "super_int.h"

#define RANDOM_TRIES  12
#define RECALL_GAP_MS 50
#define RESERVED_MS   ((tp_ms)(TOKEN_LIFETIME + 1) * 1000) /* not before the token */

enum parity { PORT_ANY, PORT_EVEN, PORT_PAIR }; /* PAIR: even, and the odd one above it is free, too */

static unsigned
row_of(const struct pool *p, const struct pool_row *r)
{
	return (unsigned)(r - p->row);
}

void
pool_init(struct pool *p, struct ledger *l, const struct windows *w, pool_send_h *send, void *arg)
{
	memset(p, 0, sizeof *p);
	p->ledger = l;
	p->win = *w;
	p->send = send;
	p->arg = arg;
	p->next_id = randombytes_random(); /* ids of a previous life do not fit by chance */
	for (unsigned i = 0; i < POOL_RESERVED; i++)
		p->reserved[i].fd = -1;
}

void
pool_adopt(struct pool *p, struct ledger *l, pool_send_h *send, void *arg)
{
	p->ledger = l;
	p->send = send;
	p->arg = arg;
	/* What was being made or moved is reserved only if the ledger says so. */
	for (unsigned i = 0; i < POOL_RESERVED; i++)
		if (p->reserved[i].fd >= 0 &&
		    (p->reserved[i].fd >= LEDGER_FDS || l->fd[p->reserved[i].fd].kind != LEDGER_RESERVED))
			p->reserved[i].fd = -1;
}

void
pool_rows(struct pool *p, const struct conf *c)
{
	p->rows = c->relay_count;
	p->receive_buffer = c->relay_receive_buffer;
	for (unsigned i = 0; i < c->relay_count; i++) {
		struct pool_row *r = &p->row[i];
		r->addr = c->relays[i].addr;
		r->min = c->relays[i].port_min;
		r->max = c->relays[i].port_max;
		r->active = !c->relays[i].retired && !c->relays[i].absent && r->min > 0;
		r->full = false;
		r->dry_until = 0;
	}
}

int
pool_ports(struct pool *p, struct port_map *ports)
{
	const struct ledger *l = p->ledger;
	struct port_map *is = calloc(1, sizeof *is);

	p->ports = ports;
	if (is == NULL)
		return -ENOMEM;
	for (uint32_t fd = p->win.first; fd < l->fd_max; fd++) {
		const struct ledger_fd *e = &l->fd[fd];
		if ((e->kind == LEDGER_POOL || e->kind == LEDGER_OFFERED || e->kind == LEDGER_RESERVED) &&
		    e->row < RELAYS_MAX)
			port_map_set(is, e->row, e->port, true);
	}
	port_map_become(ports, is);
	free(is);
	return 0;
}

static int
try_port(struct pool *p, struct pool_row *r, unsigned port)
{
	struct addr a = r->addr;

	if (port_map_has(p->ports, row_of(p, r), port))
		return -EADDRINUSE;
	a.port = (uint16_t)port;
	return sock_relay_udp(&a, p->receive_buffer);
}

/* Both of an even port and the next; odd is -1 unless PORT_PAIR. */
static int
try_parity(struct pool *p, struct pool_row *r, unsigned port, enum parity parity, int *odd)
{
	int fd;

	if ((parity != PORT_ANY && port % 2 != 0) || (parity == PORT_PAIR && port + 1 > r->max))
		return -EADDRINUSE;
	fd = try_port(p, r, port);
	if (fd < 0 || parity != PORT_PAIR)
		return fd;
	*odd = try_port(p, r, port + 1);
	if (*odd < 0) {
		close(fd);
		fd = *odd;
		*odd = -1;
	}
	return fd;
}

/* A bound socket of the row, its port, and for PORT_PAIR the odd one; -EADDRINUSE: used up; -errno. */
static int
bind_row(struct pool *p, struct pool_row *r, enum parity parity, uint16_t *port, int *odd, tp_ms now)
{
	unsigned n = r->max - r->min + 1u, start, i;
	int fd = -EADDRINUSE;

	*odd = -1;
	if (!r->active)
		return -EADDRINUSE;
	if (r->full && now - r->full_since < POOL_DRY_MS)
		return -EADDRINUSE;
	r->full = false;
	for (i = 0; i < RANDOM_TRIES && fd == -EADDRINUSE; i++) {
		*port = (uint16_t)(r->min + randombytes_uniform(n));
		if (parity != PORT_ANY && *port % 2 != 0 && *port > r->min)
			(*port)--;
		fd = try_parity(p, r, *port, parity, odd);
	}
	start = fd == -EADDRINUSE ? randombytes_uniform(n) : 0;
	for (i = 0; i < n && fd == -EADDRINUSE; i++) {
		*port = (uint16_t)(r->min + (start + i) % n);
		fd = try_parity(p, r, *port, parity, odd);
	}
	if (fd == -EADDRINUSE && parity == PORT_ANY) {
		r->full = true;
		r->full_since = now;
	}
	return fd;
}

static struct ledger_fd
entry_of(const struct pool *p, unsigned row, unsigned shard, uint16_t port, enum ledger_kind kind)
{
	struct ledger_fd e = {
		.kind = (uint8_t)kind, .row = (uint8_t)row, .family = p->row[row].addr.family
	};

	e.port = port;
	e.shard = (uint16_t)shard;
	return e;
}

/* Enters a fresh socket in the shard's window. */
static int
enter(struct pool *p, unsigned row, unsigned shard, int fd, uint16_t port, enum ledger_kind kind)
{
	int n = ledger_move(p->ledger, &p->win, shard, fd, entry_of(p, row, shard, port, kind));

	if (n >= 0)
		port_map_set(p->ports, row, port, true);
	return n;
}

static void
drop(struct pool *p, int fd)
{
	const struct ledger_fd *e = &p->ledger->fd[fd];
	struct pool_row *r = &p->row[e->row];

	port_map_set(p->ports, e->row, e->port, false); /* before it is closed */
	r->full = false;
	r->dry_until = 0;
	ledger_close(p->ledger, fd);
}

static int
hand_over(struct pool *p, int fd, uint32_t request, uint32_t left, uint32_t reservation)
{
	const struct ledger_fd *e = &p->ledger->fd[fd];
	struct msg_socket m = {
		.h.type = MSG_SOCKET,
		.shard = e->shard,
		.request = request,
		.left = left,
		.reservation = reservation,
		.fd = fd,
		.port = e->port,
		.row = e->row,
		.family = e->family,
	};
	int err;

	CRASH_POINT("super:offer");
	err = p->send(p->arg, e->shard, &m, fd);
	CRASH_POINT("super:offered");
	if (err < 0) {
		drop(p, fd);
		return err;
	}
	struct ledger_fd told = *e;
	told.kind = LEDGER_POOL;
	ledger_set(p->ledger, fd, told);
	return 0;
}

void
pool_offer_again(struct pool *p)
{
	for (uint32_t fd = p->win.first; fd < p->ledger->fd_max; fd++)
		if (p->ledger->fd[fd].kind == LEDGER_OFFERED)
			(void)hand_over(p, (int)fd, 0, 0, 0);
}

/* At most so many for a pool at once: the last ports of a range are not buried in one shard's pool. */
static unsigned
grant(const struct pool *p, const struct pool_row *r, unsigned wanted)
{
	unsigned n = r->max - r->min + 1u, held = port_map_open(p->ports, row_of(p, r)),
		 left = n > held ? n - held : 0, fair = left / (2 * p->win.shards);

	if (wanted > POOL_GRANT)
		wanted = POOL_GRANT;
	return wanted < fair ? wanted : fair;
}

static int
make_one(struct pool *p, unsigned shard, unsigned row, enum ledger_kind kind, tp_ms now)
{
	uint16_t port;
	int odd, fd = bind_row(p, &p->row[row], PORT_ANY, &port, &odd, now);

	return fd < 0 ? fd : enter(p, row, shard, fd, port, kind);
}

unsigned
pool_fill(struct pool *p, unsigned shard, unsigned row, unsigned n, tp_ms now)
{
	unsigned done = 0;

	if (row >= p->rows || !p->row[row].active)
		return 0;
	for (n = grant(p, &p->row[row], n); done < n; done++)
		if (make_one(p, shard, row, LEDGER_POOL, now) < 0)
			break;
	return done;
}

void
pool_want(struct pool *p, const struct msg_want *m, tp_ms now)
{
	if (m->row >= p->rows || !p->row[m->row].active)
		return;
	for (unsigned n = grant(p, &p->row[m->row], m->count); n > 0; n--) {
		int fd = make_one(p, m->shard, m->row, LEDGER_OFFERED, now);
		if (fd < 0 || hand_over(p, fd, 0, 0, 0) < 0)
			return;
	}
}

static struct pool_reserved *
reserved_find(struct pool *p, uint32_t id)
{
	for (unsigned i = 0; i < POOL_RESERVED; i++)
		if (p->reserved[i].fd >= 0 && p->reserved[i].id == id)
			return &p->reserved[i];
	return NULL;
}

/* Keeps the odd sibling back; its id, 0 when there is no room. */
static uint32_t
reserve(struct pool *p, int fd, tp_ms now)
{
	for (unsigned i = 0; i < POOL_RESERVED; i++) {
		struct pool_reserved *r = &p->reserved[i];
		if (r->fd >= 0)
			continue;
		do
			r->id = ++p->next_id;
		while (r->id == 0 || reserved_find(p, r->id) != NULL);
		r->fd = fd;
		r->expiry = now + RESERVED_MS;
		return r->id;
	}
	return 0;
}

/* One socket for a request, from any row of the family.  The descriptor, -EADDRINUSE (recalling may
 * help), -errno. */
static int
take(struct pool *p, const struct msg_relay *m, uint8_t family, uint32_t *reservation, tp_ms now)
{
	enum parity parity = !m->even ? PORT_ANY : m->reserve ? PORT_PAIR : PORT_EVEN;
	unsigned start = p->rows > 1 ? randombytes_uniform(p->rows) : 0;
	int result = -EADDRINUSE;

	for (unsigned i = 0; i < p->rows; i++) {
		unsigned row = (start + i) % p->rows;
		uint16_t port;
		int odd, fd;
		if (p->row[row].addr.family != family || !p->row[row].active)
			continue;
		fd = bind_row(p, &p->row[row], parity, &port, &odd, now);
		if (fd < 0) {
			if (fd != -EADDRINUSE)
				result = fd;
			continue;
		}
		fd = enter(p, row, m->shard, fd, port, LEDGER_OFFERED);
		if (fd >= 0 && odd >= 0) {
			odd = enter(p, row, m->shard, odd, (uint16_t)(port + 1), LEDGER_RESERVED);
			if (odd < 0 || (*reservation = reserve(p, odd, now)) == 0) {
				if (odd >= 0)
					drop(p, odd);
				drop(p, fd);
				return -ENOSPC;
			}
		} else if (odd >= 0) {
			close(odd);
		}
		return fd;
	}
	return result;
}

static void
none(struct pool *p, const struct msg_relay *m)
{
	struct msg_relay_none n = { .h.type = MSG_RELAY_NONE, .shard = m->shard, .request = m->request };

	(void)p->send(p->arg, m->shard, &n, -1);
}

/* A reserved sibling goes to the shard that redeems it, under a number of that shard's window. */
static void
redeem(struct pool *p, const struct msg_relay *m)
{
	struct pool_reserved *r = reserved_find(p, m->reservation);
	struct ledger_fd e, free_entry = { 0 };
	int fd;

	if (r == NULL) {
		none(p, m);
		return;
	}
	e = p->ledger->fd[r->fd];
	fd = r->fd;
	r->fd = -1;
	port_map_set(p->ports, e.row, e.port, false);
	ledger_set(p->ledger, fd, free_entry);
	fd = enter(p, e.row, m->shard, fd, e.port, LEDGER_OFFERED);
	if (fd < 0)
		none(p, m);
	else
		(void)hand_over(p, fd, m->request, 0, 0);
}

/* Of ports or of descriptors, which resting sockets have as well. */
static bool
is_used_up(int fd)
{
	return fd == -EADDRINUSE || fd == -EMFILE;
}

/* Done with the request, one way or the other?  False: used up, recalling may help. */
static bool
answer(struct pool *p, const struct msg_relay *m, bool last, tp_ms now)
{
	uint32_t id[2] = { 0, 0 };
	int fd[2] = { -ENOENT, -ENOENT }, have_n;

	if (m->v4)
		fd[0] = take(p, m, ADDR_V4, &id[0], now);
	if (m->v6)
		fd[1] = take(p, m, ADDR_V6, &id[1], now);
	have_n = (fd[0] >= 0) + (fd[1] >= 0);
	if (!last && (is_used_up(fd[0]) || is_used_up(fd[1]))) {
		for (int i = 0; i < 2; i++) {
			struct pool_reserved *r = id[i] != 0 ? reserved_find(p, id[i]) : NULL;
			if (r != NULL) {
				drop(p, r->fd);
				r->fd = -1;
			}
			if (fd[i] >= 0)
				drop(p, fd[i]);
		}
		return false;
	}
	if (have_n == 0)
		none(p, m);
	for (int i = 0; i < 2; i++)
		if (fd[i] >= 0 && hand_over(p, fd[i], m->request, (uint32_t)--have_n, id[i]) < 0)
			break;
	return true;
}

/* Asks every other shard for what lies idle.  False when that is known to bring nothing. */
static bool
recall(struct pool *p, const struct msg_relay *m, tp_ms now)
{
	bool hope = false;

	for (unsigned row = 0; row < p->rows; row++) {
		struct pool_row *r = &p->row[row];
		struct msg_recall c = { .h.type = MSG_RECALL, .row = row, .keep = 0 };
		uint8_t family = r->addr.family;
		if (!r->active || !((family == ADDR_V4 && m->v4) || (family == ADDR_V6 && m->v6)) ||
		    now < r->dry_until)
			continue;
		hope = true;
		if (r->recalled != 0 && now - r->recalled < RECALL_GAP_MS)
			continue;
		r->recalled = now;
		for (unsigned s = 0; s < p->win.shards; s++)
			(void)p->send(p->arg, s, &c, -1);
	}
	return hope;
}

void
pool_relay(struct pool *p, const struct msg_relay *m, tp_ms now)
{
	if (m->reservation != 0) {
		redeem(p, m);
		return;
	}
	if (answer(p, m, false, now))
		return;
	for (unsigned i = 0; recall(p, m, now) && i < POOL_WAITS; i++) {
		struct pool_wait *w = &p->wait[(p->wait_next + i) % POOL_WAITS];
		if (w->used)
			continue;
		*w = (struct pool_wait){ .used = true, .deadline = now + POOL_WAIT_MS, .m = *m };
		return;
	}
	(void)answer(p, m, true, now);
}

static void
serve_waits(struct pool *p, tp_ms now)
{
	for (unsigned i = 0; i < POOL_WAITS; i++) {
		struct pool_wait *w = &p->wait[(p->wait_next + i) % POOL_WAITS];
		if (w->used && answer(p, &w->m, false, now))
			w->used = false;
	}
	while (!p->wait[p->wait_next].used && pool_waiting(p))
		p->wait_next = (p->wait_next + 1) % POOL_WAITS;
}

/* A reservation of this shard's that was refused: its port is free at once. */
static int
unreserve(struct pool *p, const struct msg_release *m, tp_ms now)
{
	struct pool_reserved *r = reserved_find(p, m->reservation);

	if (r == NULL)
		return 0; /* it is over */
	if (p->ledger->fd[r->fd].shard != m->shard)
		return -EINVAL;
	drop(p, r->fd);
	r->fd = -1;
	if (pool_waiting(p))
		serve_waits(p, now);
	return 0;
}

int
pool_release(struct pool *p, const struct msg_release *m, tp_ms now)
{
	const struct ledger_fd *e;

	if (m->fd == -1 && m->reservation != 0)
		return unreserve(p, m, now);
	if (m->fd < 0 || (uint32_t)m->fd >= p->ledger->fd_max)
		return -EINVAL;
	e = &p->ledger->fd[m->fd];
	if (e->kind != LEDGER_POOL || e->shard != m->shard)
		return -EINVAL;
	/* Unused or not, it is closed: a port that a worker waits for is bound again for it. */
	drop(p, m->fd);
	if (pool_waiting(p))
		serve_waits(p, now);
	return 0;
}

void
pool_forget(struct pool *p, unsigned shard)
{
	for (unsigned i = 0; i < POOL_WAITS; i++)
		if (p->wait[i].m.shard == shard)
			p->wait[i].used = false;
}

bool
pool_waiting(const struct pool *p)
{
	for (unsigned i = 0; i < POOL_WAITS; i++)
		if (p->wait[i].used)
			return true;
	return false;
}

void
pool_tick(struct pool *p, tp_ms now)
{
	for (unsigned i = 0; i < POOL_WAITS; i++) {
		struct pool_wait *w = &p->wait[i];
		if (!w->used || w->deadline > now)
			continue;
		w->used = false;
		/* Nothing came back: until a socket is released no worker needs to wait again. */
		for (unsigned row = 0; row < p->rows; row++)
			if (p->row[row].full && now - p->row[row].recalled >= POOL_WAIT_MS)
				p->row[row].dry_until = now + POOL_DRY_MS;
		(void)answer(p, &w->m, true, now);
	}
	for (unsigned i = 0; i < POOL_RESERVED; i++)
		if (p->reserved[i].fd >= 0 && p->reserved[i].expiry <= now) {
			drop(p, p->reserved[i].fd);
			p->reserved[i].fd = -1;
			if (pool_waiting(p))
				serve_waits(p, now);
		}
}
