/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stream.c: a TLS handshake on a connection.  Reads one record at a time and not one byte behind it, because
 * what follows the client's Finished is the worker's to read.  The last flight is not written here either.
 */
#include "config.h"

#include <errno.h>
#include <openssl/err.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "usher_int.h"

#define READ_MAX 65536			/* of one handshake: a hello, a key, a Finished are 1 kB */

/* ---- BIO --------------------------------------------------------------------------------------- */

/* Where in its record is the byte that comes next? */
static void
count(struct hs *h, const uint8_t *p, size_t n)
{
	h->total += (uint32_t)n;
	while (n > 0 && h->have < sizeof h->head) {
		h->head[h->have++] = *p++;
		n--;
		if (h->have == sizeof h->head)
			h->left = get_u16(h->head + 3);
	}
	h->left -= (uint32_t)n;
	if (h->have == sizeof h->head && h->left == 0)
		h->have = 0;
}

static int
on_read(BIO *b, char *buf, int len)
{
	struct hs *h = BIO_get_data(b);
	uint32_t want = h->have < sizeof h->head ? (uint32_t)sizeof h->head - h->have : h->left;
	ssize_t n;

	BIO_clear_retry_flags(b);
	if (len <= 0 || h->closed)
		return -1;
	if (h->total > READ_MAX) {
		h->broken = true;
		return -1;
	}
	/* A flight must be on its way before its answer is waited for. */
	if (stream_flush(h) < 0) {
		h->closed = true;
		return -1;
	}
	n = recv(h->fd, buf, want < (uint32_t)len ? want : (size_t)len, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
		BIO_set_retry_read(b);
		return -1;
	}
	if (n <= 0) {
		h->closed = true;
		return -1;
	}
	count(h, (const uint8_t *)buf, (size_t)n);
	return (int)n;
}

static int
on_write(BIO *b, const char *buf, int len)
{
	struct hs *h = BIO_get_data(b);

	BIO_clear_retry_flags(b);
	if (len <= 0)
		return 0;
	if (usher_tap_out(&h->tap, (const uint8_t *)buf, (size_t)len) < 0 ||
	    !flight_add(&h->out, (const uint8_t *)buf, (size_t)len)) {
		h->broken = true;
		return -1;
	}
	return len;
}

static long
on_ctrl(BIO *b, int cmd, long num, void *ptr)
{
	(void)b;
	(void)num;
	(void)ptr;
	return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

BIO_METHOD *
stream_bio_method(void)
{
	BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "connection");

	if (m != NULL && BIO_meth_set_read(m, on_read) == 1 && BIO_meth_set_write(m, on_write) == 1 &&
	    BIO_meth_set_ctrl(m, on_ctrl) == 1)
		return m;
	BIO_meth_free(m);
	return NULL;
}

/* ---- steps ------------------------------------------------------------------------------------- */

int
stream_flush(struct hs *h)
{
	uint32_t sent = 0;
	int err = 0;

	if (h->out.len == 0)
		return 0;
	while (sent < h->out.len && err == 0) {
		ssize_t n = send(h->fd, h->out.p + sent, h->out.len - sent, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n >= 0)
			sent += (uint32_t)n;
		else if (errno != EINTR)
			err = -errno;
	}
	memmove(h->out.p, h->out.p + sent, h->out.len - sent);
	h->out.len -= sent;
	return err == -EAGAIN ? 0 : err;
}

static void
step(struct hs *h)
{
	ERR_clear_error();
	if (hs_judge(h, SSL_do_handshake(h->ssl)))
		return;
	CRASH_POINT("usher:stepped");
	if (stream_flush(h) < 0)
		hs_fail(h, HS_R_CLOSED);
	else
		loop_mod(h->u->proc.loop, h->fd, h->out.len > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void
on_socket(void *arg, int fd, uint32_t events)
{
	(void)fd;
	(void)events;
	step(arg);
}

void
stream_start(struct usher *u, const struct hs_who *who, int fd)
{
	struct hs *h = table_find(&u->table, who);
	BIO *bio;

	if (h != NULL) {		/* asked again by a successor */
		close(fd);
		if (h->state == HS_UNTAKEN)
			hs_offer(h);
		return;
	}
	h = hs_new(u, who, false, fd);
	if (h == NULL)
		return;
	bio = BIO_new(u->stream_bio);
	if (bio == NULL || loop_add(u->proc.loop, fd, EPOLLIN, on_socket, h) < 0) {
		BIO_free(bio);
		hs_fail(h, HS_R_INTERNAL);
		return;
	}
	BIO_set_data(bio, h);
	BIO_set_init(bio, 1);
	SSL_set_bio(h->ssl, bio, bio);
	step(h);
}
