/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * load_dtls.c: the client's side over DTLS: one connected socket and one association a flow, one packet a
 * record.
 */
#include "config.h"

#include <errno.h>

#include "load_int.h"

/* A record of a run waits for the others of it; one that the kernel refuses is a lost datagram. */
static void
out(void *arg, const uint8_t *p, size_t n)
{
	struct conn *c = arg;

	if (c->running)
		tx_record(c->w, c->w->records, c->f->fd, c->f, UP, p, n);
	/* The second try is for an ICMP error of an earlier packet, which is told in place of a send. */
	else if (send(c->f->fd, p, n, MSG_DONTWAIT) < 0)
		(void)send(c->f->fd, p, n, MSG_DONTWAIT);
}

static int
dtls_open(struct worker *w, struct flow *f)
{
	int err = udp_socket(w, f, !w->o->no_gro);

	if (err != 0)
		return err;
	if (w->records == NULL)
		w->records = tx_new_records(!w->o->no_gso);
	(void)secure_handshake(conn_new(w, f, out)->secure); /* ClientHello; it cannot fail yet */
	return 1;
}

static void
dtls_close(struct worker *w, struct flow *f)
{
	(void)w;
	conn_drop(f, true);
}

static void
dtls_tick(struct worker *w, struct flow *f)
{
	(void)w;
	if (f->conn != NULL && !f->conn->secured)
		secure_tick(f->conn->secure);
}

/* What was in one record.  False: this association is no more. */
static bool
plain(struct worker *w, struct flow *f, const uint8_t *p, size_t n, uint64_t now, unsigned *count)
{
	uint32_t life = f->life;

	flow_input(w, f, p, n, now);
	++*count;
	return f->life == life && f->conn != NULL;
}

struct reading {
	struct flow *f;
	uint32_t life;
	unsigned count;
};

static void
datagram(struct worker *w, void *arg, const struct addr *from, const uint8_t *p, size_t n, uint64_t now)
{
	struct reading *r = arg;

	(void)from;
	if (r->f->life == r->life && r->f->conn != NULL)
		(void)conn_sealed(w, r->f, p, n, now, &r->count, plain);
}

/* Errors are ICMP's word about earlier packets, and not looked at: the server may be back in a moment. */
static unsigned
dtls_receive(struct worker *w, struct flow *f, uint64_t now)
{
	struct reading r = { .f = f, .life = f->life };

	(void)rx_read(w, f->fd, udp_reads(w), false, datagram, &r, now);
	return r.count;
}

static int
dtls_control(struct worker *w, struct flow *f, const uint8_t *p, size_t n)
{
	(void)w;
	return f->conn != NULL ? secure_write(f->conn->secure, p, n) : -ENOTCONN;
}

static void
dtls_run(struct worker *w, struct flow *f, unsigned count, uint64_t now)
{
	const uint8_t *p;
	size_t wire;

	if (f->conn == NULL) {
		w->unsent += count;
		return;
	}
	p = tx_stamp(w, w->tx[UP], f, UP, count, now, &wire);
	f->conn->running = true;
	for (unsigned i = 0; i < count; i++)
		if (secure_write(f->conn->secure, p + i * wire, wire) != 0)
			tx_account(w, f, UP, 1, false);
	f->conn->running = false;
}

static void
dtls_flush(struct worker *w)
{
	if (w->records != NULL)
		tx_flush(w, w->records);
}

const struct client_way transport_dtls = {
	.open = dtls_open,
	.close = dtls_close,
	.control = dtls_control,
	.run = dtls_run,
	.flush = dtls_flush,
	.receive = dtls_receive,
	.tick = dtls_tick,
};
