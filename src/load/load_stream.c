/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * load_stream.c: the client's side over TCP and TLS: one connection a flow, frames cut out of the stream
 * (RFC 8656 12.5).
 */
#include "config.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#include "load_int.h"

#define BACKLOG_MAX (256u << 10) /* a connection with more than this to send takes no more packets */

static void
append(uint8_t **buf, size_t *len, size_t *cap, const uint8_t *p, size_t n)
{
	if (*len + n > *cap) {
		size_t more = *cap == 0 ? 2048 : *cap;
		uint8_t *grown;

		while (more < *len + n)
			more *= 2;
		grown = realloc(*buf, more);
		if (grown == NULL)
			fatal(EX_OSERR, "no memory");
		*buf = grown;
		*cap = more;
	}
	memcpy(*buf + *len, p, n);
	*len += n;
}

static void
watch(struct conn *c, bool out)
{
	struct epoll_event ev = { .events = EPOLLIN | (out ? EPOLLOUT : 0u), .data.u64 = c->f->index };

	if (c->watching != out && epoll_ctl(c->w->ep, EPOLL_CTL_MOD, c->f->fd, &ev) == 0)
		c->watching = out;
}

/* What the kernel does not take now waits in c->out.  An error is seen by the reader of the socket. */
static void
out(void *arg, const uint8_t *p, size_t n)
{
	struct conn *c = arg;
	ssize_t k = 0;

	if (!c->connecting && c->out_len == 0)
		k = send(c->f->fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (k < 0)
		k = 0;
	if ((size_t)k == n)
		return;
	append(&c->out, &c->out_len, &c->out_cap, p + k, n - (size_t)k);
	watch(c, true);
}

static int
stream_open(struct worker *w, struct flow *f)
{
	struct linger reset = { .l_onoff = 1 };
	struct sockaddr_storage ss;
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT, .data.u64 = f->index };
	socklen_t len = addr_to_sockaddr(&w->o->server, &ss);
	struct conn *c;
	int on = 1, e;

	f->fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (f->fd < 0)
		return -errno;
	(void)setsockopt(f->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	/* Ever new connections would leave all ports of this machine in TIME_WAIT. */
	if (w->recycle)
		(void)setsockopt(f->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
	if ((connect(f->fd, (struct sockaddr *)&ss, len) != 0 && errno != EINPROGRESS) ||
	    epoll_ctl(w->ep, EPOLL_CTL_ADD, f->fd, &ev) != 0) {
		e = errno;
		close(f->fd);
		f->fd = -1;
		return -e;
	}
	c = conn_new(w, f, out);
	c->connecting = c->watching = true;
	return 1;
}

static void
stream_close(struct worker *w, struct flow *f)
{
	(void)w;
	conn_drop(f, f->conn != NULL && !f->conn->connecting);
}

static void
stream_writable(struct worker *w, struct flow *f, uint64_t now)
{
	struct conn *c = f->conn;
	ssize_t k;
	int err = 0;
	socklen_t len = sizeof err;

	if (c->connecting) {
		if (getsockopt(f->fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0 || err != 0) {
			conn_lost(w, f, ERROR_CONNECT, strerror(err), now);
			return;
		}
		c->connecting = false;
		if (!conn_handshake(w, f, now))
			return;
	}
	if (c->out_at < c->out_len) {
		k = send(f->fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (k > 0)
			c->out_at += (size_t)k;
	}
	if (c->out_at == c->out_len) {
		c->out_at = c->out_len = 0;
		watch(c, false);
	}
}

/* Whole frames go to the flow, the rest waits.  False: this connection is no more. */
static bool
plain(struct worker *w, struct flow *f, const uint8_t *p, size_t n, uint64_t now, unsigned *count)
{
	struct conn *c = f->conn;
	uint32_t life = f->life;
	bool kept = c->in_len > 0;
	size_t at = 0;
	int len;

	if (kept) {
		append(&c->in, &c->in_len, &c->in_cap, p, n);
		p = c->in;
		n = c->in_len;
	}
	while ((len = frame_stream_len(p + at, n - at)) > 0 && (size_t)len <= n - at) {
		flow_input(w, f, p + at, (size_t)len, now);
		++*count;
		if (f->life != life || f->conn == NULL)
			return false;
		at += (size_t)len;
	}
	if (len < 0) {
		f->side[DOWN].damaged++;
		conn_lost(w, f, ERROR_CLOSED, "the stream is out of step", now);
		return false;
	}
	if (kept)
		memmove(c->in, c->in + at, n - at);
	c->in_len = kept ? n - at : 0;
	if (!kept && at < n)
		append(&c->in, &c->in_len, &c->in_cap, p + at, n - at);
	return true;
}

static unsigned
stream_receive(struct worker *w, struct flow *f, uint64_t now)
{
	unsigned count = 0;
	ssize_t n = recv(f->fd, w->wire, STREAM_READ, MSG_DONTWAIT);

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		conn_lost(w, f, f->conn->connecting ? ERROR_CONNECT : ERROR_CLOSED,
		    n == 0 ? "closed by the server" : strerror(errno), now);
	else if (n > 0 && f->conn->secure != NULL)
		(void)conn_sealed(w, f, w->wire, (size_t)n, now, &count, plain);
	else if (n > 0)
		(void)plain(w, f, w->wire, (size_t)n, now, &count);
	return count;
}

static int
put(struct conn *c, const uint8_t *p, size_t n)
{
	if (c->secure != NULL)
		return secure_write(c->secure, p, n);
	out(c, p, n);
	return 0;
}

static int
stream_control(struct worker *w, struct flow *f, const uint8_t *p, size_t n)
{
	(void)w;
	return f->conn != NULL ? put(f->conn, p, n) : -ENOTCONN;
}

static void
stream_run(struct worker *w, struct flow *f, unsigned count, uint64_t now)
{
	const uint8_t *p;
	size_t wire;

	if (f->conn == NULL) {
		w->unsent += count;
		return;
	}
	if (f->conn->out_len - f->conn->out_at > BACKLOG_MAX) {
		w->send_again++;
		return;
	}
	p = tx_stamp(w, w->tx[UP], f, UP, count, now, &wire);
	tx_account(w, f, UP, count, put(f->conn, p, count * wire) == 0);
}

static void
stream_flush(struct worker *w)
{
	(void)w;
}

static bool
stream_pending(const struct flow *f)
{
	return f->conn != NULL && f->conn->out_len > 0;
}

const struct client_way transport_stream = {
	.reliable = true,
	.padded = true,
	.open = stream_open,
	.close = stream_close,
	.control = stream_control,
	.run = stream_run,
	.flush = stream_flush,
	.receive = stream_receive,
	.writable = stream_writable,
	.pending = stream_pending,
};
