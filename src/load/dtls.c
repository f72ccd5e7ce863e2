/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dtls: the client's side over DTLS: one connected socket and one association a flow, one packet a record.  A run of records
 * leaves and comes merged (UDP_SEGMENT, UDP_GRO), as runs of plain datagrams do.
 */
#include "config.h"

#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#include "load_int.h"

#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#define SEGMENTS_MAX 64			/* UDP_MAX_SEGMENTS of the oldest kernels */
#define BYTES_MAX 65000
#define FEW_FLOWS 32			/* up to here a queue holds enough for recvmmsg to pay */
#define READS 16			/* receives of one flow before the next one's turn */

/* ---- out ---- */

static int
send_one(const struct conn *c, const uint8_t *p, size_t n)
{
	/* The second try is for an ICMP error of an earlier packet, which is told in place of a send. */
	return send(c->f->fd, p, n, MSG_DONTWAIT) >= 0 || send(c->f->fd, p, n, MSG_DONTWAIT) >= 0 ? 0 : errno;
}

/* Datagrams of c->run_size that lie in c->w->run, as one.  0 or errno. */
static int
send_merged(const struct conn *c)
{
	union { char buf[CMSG_SPACE(sizeof(uint16_t))]; struct cmsghdr align; } control = { 0 };
	struct iovec iov = { c->w->run, c->run_size * c->run_count };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf, .msg_controllen = sizeof control.buf };
	uint16_t size = (uint16_t)c->run_size;

	control.align = (struct cmsghdr){ .cmsg_level = SOL_UDP, .cmsg_type = UDP_SEGMENT, .cmsg_len = CMSG_LEN(sizeof size) };
	memcpy(CMSG_DATA(&control.align), &size, sizeof size);
	return sendmsg(c->f->fd, &h, MSG_DONTWAIT) >= 0 || sendmsg(c->f->fd, &h, MSG_DONTWAIT) >= 0 ? 0 : errno;
}

/* What was collected, and what became of it. */
static void
run_flush(struct conn *c)
{
	int e = c->run_count > 1 ? send_merged(c) : EIO;

	/* One record, or a device without UDP_SEGMENT. */
	if (c->run_count == 1 || e == EIO || e == EINVAL || e == EMSGSIZE)
		for (unsigned i = 0; i < c->run_count; i++)
			tx_account(c->w, c->f, UP, 1, send_one(c, c->w->run + i * c->run_size, c->run_size) == 0);
	else
		tx_account(c->w, c->f, UP, c->run_count, e == 0);
	c->run_count = 0;
}

/* A record that the kernel refuses is a lost datagram. */
static void
out(void *arg, const uint8_t *p, size_t n)
{
	struct conn *c = arg;

	if (!c->running) {
		(void)send_one(c, p, n);
		return;
	}
	if (c->run_count > 0 && (n != c->run_size || c->run_count == SEGMENTS_MAX || (c->run_count + 1) * n > BYTES_MAX))
		run_flush(c);
	memcpy(c->w->run + c->run_count++ * n, p, n);
	c->run_size = n;
	if (c->w->o->no_gso)
		run_flush(c);
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
	int r = udp_socket(w, f, !w->o->no_gro);
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

/* ---- in ---- */

/* One receive's datagrams: those behind the end of an association are of nobody. */
struct batch { struct flow *f; uint32_t life; };

static void
input(struct worker *w, void *arg, const struct addr *from, const uint8_t *p, size_t n, uint64_t now)
{
	const struct batch *b = arg;
	struct flow *f = b->f;
	ssize_t k;

	(void)from;
	if (f->life != b->life || f->conn == NULL)
		return;
	secure_in(f->conn->secure, p, n);
	if (!f->conn->secured && (!handshake(w, f, now) || !f->conn->secured))
		return;
	while ((k = secure_read(f->conn->secure, w->plain, STREAM_READ)) > 0) {
		flow_input(w, f, w->plain, (size_t)k, now);
		if (f->life != b->life || f->conn == NULL)
			return;
	}
	if (k < 0)
		lost(w, f, ERROR_CLOSED, k == -EPIPE ? "DTLS: closed by the server" : "DTLS: alert", now);
}

/* Errors are ICMP's word about earlier packets: the server may be back in a moment. */
static unsigned
dtls_receive(struct worker *w, struct flow *f, uint64_t now)
{
	struct batch b = { f, f->life };

	return f->conn == NULL ? 0 : rx_read(w, f->fd, w->n <= FEW_FLOWS ? READS : 1, false, input, &b, now);
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
	f->conn->running = true;
	for (unsigned i = 0; i < count; i++)
		if (secure_write(f->conn->secure, p + i * wire, wire) != 0)
			tx_account(w, f, UP, 1, false);
	run_flush(f->conn);
	f->conn->running = false;
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
