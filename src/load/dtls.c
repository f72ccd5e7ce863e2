/* SPDX-License-Identifier: BSD-3-Clause */
/* dtls: the client's side over DTLS: one connected socket and one association a flow, one packet a record. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#include "load_int.h"

#define READS 16			/* datagrams of one flow before the next one's turn */

/* A record that the kernel refuses is a lost datagram; dtls_run() looks at c->error. */
static void
out(void *arg, const uint8_t *p, size_t n)
{
	struct conn *c = arg;

	/* The second try is for an ICMP error of an earlier packet, which is told in place of a send. */
	c->error = send(c->f->fd, p, n, MSG_DONTWAIT) >= 0 || send(c->f->fd, p, n, MSG_DONTWAIT) >= 0 ? 0 : errno;
}

static void
dtls_drop(struct flow *f, bool goodbye)
{
	if (f->conn != NULL) {
		secure_free(f->conn->secure, goodbye);
		free(f->conn);
		f->conn = NULL;
	}
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}

static void
dtls_close(struct worker *w, struct flow *f)
{
	(void)w;
	dtls_drop(f, true);
}

static void
lost(struct worker *w, struct flow *f, uint16_t error, const char *why, uint64_t now)
{
	worker_why(w, why);
	dtls_drop(f, false);
	ctl_closed(w, f, error, now);
}

/* False: this association is no more. */
static bool
handshake(struct worker *w, struct flow *f, uint64_t now)
{
	struct conn *c = f->conn;
	uint32_t life = f->life;
	char text[128];
	int r = secure_handshake(c->secure);

	if (r < 0) {
		secure_reason(c->secure, text, sizeof text);
		lost(w, f, ERROR_HANDSHAKE, text, now);
		return false;
	}
	if (r == 0)
		return true;
	c->secured = true;
	if (w->cipher[0] == '\0')
		secure_describe(c->secure, w->cipher, sizeof w->cipher);
	ctl_connected(w, f, now);
	return f->life == life && f->conn != NULL;
}

static int
dtls_open(struct worker *w, struct flow *f)
{
	int r = udp_socket(w, f, false);
	struct conn *c;

	if (r != 0)
		return r;
	c = f->conn = calloc(1, sizeof *c);
	if (c == NULL)
		fatal(EX_OSERR, "load: no memory");
	c->w = w;
	c->f = f;
	f->life++;
	c->secure = secure_new(w->env, out, c);
	(void)secure_handshake(c->secure);	/* ClientHello; it cannot fail yet */
	return 1;
}

static void
dtls_tick(struct worker *w, struct flow *f)
{
	(void)w;
	if (f->conn != NULL && !f->conn->secured)
		secure_tick(f->conn->secure);
}

static bool
datagram(struct worker *w, struct flow *f, const uint8_t *p, size_t n, uint64_t now, unsigned *count)
{
	uint32_t life = f->life;
	ssize_t k;

	secure_in(f->conn->secure, p, n);
	if (!f->conn->secured) {
		++*count;
		if (!handshake(w, f, now))
			return false;
		if (!f->conn->secured)
			return true;
	}
	while ((k = secure_read(f->conn->secure, w->plain, STREAM_READ)) > 0) {
		flow_input(w, f, w->plain, (size_t)k, now);
		++*count;
		if (f->life != life || f->conn == NULL)
			return false;
	}
	if (k < 0)
		lost(w, f, ERROR_CLOSED, k == -EPIPE ? "DTLS: closed by the server" : "DTLS: alert", now);
	return k == 0;
}

static unsigned
dtls_receive(struct worker *w, struct flow *f, uint64_t now)
{
	unsigned count = 0;

	for (unsigned i = 0; i < READS; i++) {
		ssize_t n = recv(f->fd, w->wire, STREAM_READ, MSG_DONTWAIT);

		/* Errors are ICMP's word about earlier packets: the server may be back in a moment. */
		if (n < 0 || !datagram(w, f, w->wire, (size_t)n, now, &count))
			break;
	}
	return count;
}

static int
dtls_control(struct worker *w, struct flow *f, const uint8_t *p, size_t n)
{
	(void)w;
	if (f->conn == NULL)
		return -ENOTCONN;
	return secure_write(f->conn->secure, p, n);
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
	for (unsigned i = 0; i < count; i++) {
		int r = secure_write(f->conn->secure, p + i * wire, wire);

		tx_account(w, f, UP, 1, r == 0 && f->conn->error == 0);
	}
}

static void
dtls_flush(struct worker *w)
{
	(void)w;
}

const struct transport transport_dtls = {
	.open = dtls_open, .close = dtls_close, .control = dtls_control, .run = dtls_run, .flush = dtls_flush,
	.receive = dtls_receive, .tick = dtls_tick,
};
