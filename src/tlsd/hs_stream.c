/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hs_stream.c: a TLS handshake on a connection.  Reads one record at a time and not one byte behind it,
 * because what follows the client's Finished is the worker's to read.  The last flight is not written
 * here either.
 *
 * A step looks at what is there (MSG_PEEK) with one call, lets OpenSSL have as much of it as it wants,
 * and takes that out of the socket with another one: two calls, where header and content of each record
 * alone would be two.
 */
#include "config.h"

#include <errno.h>
#include <openssl/err.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tlsd_int.h"

#define READ_MAX 65536 /* of one handshake: a hello, a key, a Finished are 1 kB */

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

/* What OpenSSL has of the bytes that were looked at leaves the socket.  False: it is over. */
static bool
take(struct hs *h)
{
	struct tlsd *u = h->u;

	while (h->used > 0) {
		/* TCP copies nothing for this flag, and a unix socket, of tests, what is there already. */
		ssize_t n = recv(h->fd, u->ahead, h->used, MSG_DONTWAIT | MSG_TRUNC);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			h->used = 0;
			h->closed = true;
			return false;
		}
		h->used -= (uint32_t)n;
	}
	return true;
}

/* Reads without taking: false when nothing is there, for now (h->closed is not set) or to the end. */
static bool
look(struct hs *h)
{
	struct tlsd *u = h->u;
	bool all = h->looked && u->ahead_len < sizeof u->ahead;
	ssize_t n;

	if (!take(h))
		return false;
	u->ahead_len = u->ahead_at = 0;
	/* A flight must be on its way before its answer is waited for. */
	if (flight_flush(h) < 0) {
		h->closed = true;
		return false;
	}
	if (all)
		return false; /* the loop tells of more */
	n = recv(h->fd, u->ahead, sizeof u->ahead, MSG_DONTWAIT | MSG_PEEK);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return false;
	if (n <= 0) {
		h->closed = true;
		return false;
	}
	u->ahead_len = (uint32_t)n;
	h->looked = true;
	return true;
}

static int
on_read(BIO *b, char *buf, int len)
{
	struct hs *h = BIO_get_data(b);
	struct tlsd *u = h->u;
	uint32_t n = h->have < sizeof h->head ? (uint32_t)sizeof h->head - h->have : h->left;

	BIO_clear_retry_flags(b);
	if (len <= 0 || h->closed)
		return -1;
	if (h->total > READ_MAX) {
		h->broken = true;
		return -1;
	}
	if (u->ahead_at == u->ahead_len && !look(h)) {
		if (!h->closed)
			BIO_set_retry_read(b);
		return -1;
	}
	if (n > u->ahead_len - u->ahead_at)
		n = u->ahead_len - u->ahead_at;
	if (n > (uint32_t)len)
		n = (uint32_t)len;
	memcpy(buf, u->ahead + u->ahead_at, n);
	count(h, u->ahead + u->ahead_at, n);
	u->ahead_at += n;
	h->used += n;
	return (int)n;
}

static int
on_write(BIO *b, const char *buf, int len)
{
	struct hs *h = BIO_get_data(b);

	BIO_clear_retry_flags(b);
	if (len <= 0)
		return 0;
	h->moved = clock_ms();
	if (tlsd_tap_out(&h->tap, (const uint8_t *)buf, (size_t)len) < 0 ||
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
	return hs_bio_method("connection", on_read, on_write, on_ctrl);
}

/* ---- steps ------------------------------------------------------------------------------------- */

static void
step(struct hs *h)
{
	struct tlsd *u = h->u;
	uint32_t events;
	int ret;

	ERR_clear_error();
	u->ahead_len = u->ahead_at = 0;
	h->looked = false;
	ret = SSL_do_handshake(h->ssl);
	(void)take(h); /* also of one that fails: what it read is no reset's reason */
	if (hs_judge(h, ret))
		return;
	CRASH_POINT("tls:stepped");
	if (flight_flush(h) < 0) {
		hs_fail(h, HS_R_CLOSED);
		return;
	}
	events = h->out.len > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN;
	if (events != h->events && loop_mod(u->proc.loop, h->fd, events) == 0)
		h->events = events;
}

static void
on_socket(void *arg, int fd, uint32_t events)
{
	(void)fd;
	(void)events;
	step(arg);
}

void
stream_begin(struct hs *h)
{
	struct tlsd *u = h->u;
	BIO *bio;

	if (!hs_begin(h))
		return;
	h->events = EPOLLIN;
	bio = BIO_new(u->stream_bio);
	if (bio == NULL || loop_add(u->proc.loop, h->fd, EPOLLIN, on_socket, h) < 0) {
		BIO_free(bio);
		hs_fail(h, HS_R_INTERNAL);
		return;
	}
	BIO_set_data(bio, h);
	BIO_set_init(bio, 1);
	SSL_set_bio(h->ssl, bio, bio);
	step(h);
}

void
stream_start(struct tlsd *u, const struct hs_who *who, int fd)
{
	struct hs *h = table_find(&u->table, who);

	if (h != NULL) { /* asked again by a successor */
		close(fd);
		if (h->state == HS_UNTAKEN)
			hs_offer(h);
		return;
	}
	if (table_has_room(&u->table, &who->client, u->per_prefix, u->total)) {
		h = hs_new(u, who, false, fd, HS_HALF);
		if (h != NULL)
			stream_begin(h);
	} else {
		/* As in a queue of the kernel: the client sees a slow server, and those before it are
		 * done sooner. */
		(void)hs_new(u, who, false, fd, HS_WAITING);
	}
}
