/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * load_conn.c: what the transports with a connection share: its life, the handshake, what comes in sealed.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#include "load_int.h"

struct conn *
conn_new(struct worker *w, struct flow *f, secure_out_h *out)
{
	struct conn *c = calloc(1, sizeof *c);

	if (c == NULL)
		fatal(EX_OSERR, "no memory");
	c->w = w;
	c->f = f;
	f->conn = c;
	f->life++;
	if (w->env != NULL)
		c->secure = secure_new(w->env, out, c);
	return c;
}

void
conn_drop(struct flow *f, bool goodbye)
{
	if (f->conn != NULL) {
		secure_free(f->conn->secure, goodbye);
		free(f->conn->in);
		free(f->conn->out);
		free(f->conn);
		f->conn = NULL;
	}
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}

void
conn_lost(struct worker *w, struct flow *f, uint16_t error, const char *why, uint64_t now)
{
	worker_why(w, why);
	conn_drop(f, false);
	ctl_closed(w, f, error, now);
}

bool
conn_handshake(struct worker *w, struct flow *f, uint64_t now)
{
	struct conn *c = f->conn;
	uint32_t life = f->life;
	int r = c->secure != NULL ? secure_handshake(c->secure) : 1;
	char text[128];

	if (r == 0)
		return true;
	if (r < 0) {
		secure_reason(c->secure, text, sizeof text);
		conn_lost(w, f, ERROR_HANDSHAKE, text, now);
		return false;
	}
	c->secured = true;
	if (c->secure != NULL && w->cipher[0] == '\0')
		secure_describe(c->secure, w->cipher, sizeof w->cipher);
	ctl_connected(w, f, now);
	return f->life == life && f->conn != NULL;
}

bool
conn_sealed(struct worker *w, struct flow *f, const uint8_t *p, size_t n, uint64_t now, unsigned *count,
    conn_plain_h *plain)
{
	struct conn *c = f->conn;
	ssize_t k;

	secure_in(c->secure, p, n);
	if (!c->secured) {
		++*count;
		if (!conn_handshake(w, f, now))
			return false;
		if (!c->secured)
			return true;
	}
	while ((k = secure_read(c->secure, w->plain, STREAM_READ)) > 0)
		if (!plain(w, f, w->plain, (size_t)k, now, count))
			return false;
	if (k < 0)
		conn_lost(w, f, ERROR_CLOSED,
		    k == -EPIPE ? "closed by the server" : "damaged record or alert", now);
	return k == 0;
}
