/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * redis_link.c: the connection to Redis.  TLS is OpenSSL's under hiredis' reader, so that it does not
 * depend on the version of hiredis.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "db_int.h"

struct redis_link {
	int fd;
	SSL_CTX *ctx;
	SSL *ssl;
};

int
redis_where_read(struct redis_where *w, const char *connection, struct db_error *e)
{
	const struct pair_row rows[] = {
		{ "host|ip|addr|ipaddr|hostaddr", w->host, sizeof w->host },
		{ "port|p", w->port, sizeof w->port },
		{ "dbname|db|database", w->db, sizeof w->db },
		{ "user|username|uname|name", w->user, sizeof w->user },
		{ "password|pwd|passwd|secret", w->password, sizeof w->password },
		{ "connect_timeout|timeout", w->timeout, sizeof w->timeout },
		{ "tls|ssl", w->tls, sizeof w->tls },
		{ "tls-ca|ca|cacert", w->ca, sizeof w->ca },
		{ "tls-capath|capath", w->capath, sizeof w->capath },
		{ "tls-cert|cert", w->cert, sizeof w->cert },
		{ "tls-key|clientkey|key", w->key, sizeof w->key },
		{ "tls-sni|sni|servername", w->sni, sizeof w->sni },
		{ "tls-verify|verify", w->verify, sizeof w->verify },
	};
	unsigned n = 0;

	memset(w, 0, sizeof *w);
	text_copy(w->host, sizeof w->host, "127.0.0.1");
	text_copy(w->port, sizeof w->port, "6379");
	if (pairs_read(connection, rows, TP_COUNT(rows), e) < 0 ||
	    pairs_number(w->port, "port", 65535, &n, e) < 0 ||
	    pairs_number(w->db, "db", 65535, &n, e) < 0 ||
	    pairs_number(w->timeout, "timeout", 3600, &n, e) < 0)
		return -EINVAL;
	return 0;
}

static bool
is_on(const char *text)
{
	static const char *const off[] = { "", "0", "no", "off", "false", "none" };

	for (unsigned i = 0; i < TP_COUNT(off); i++)
		if (strcasecmp(text, off[i]) == 0)
			return false;
	return true;
}

/* Without blocking: 0 or -errno. */
static int
dial(const struct sockaddr *to, socklen_t len, uint64_t deadline)
{
	int fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), err = 0, one = 1;
	socklen_t size = sizeof err;

	if (fd < 0)
		return -errno;
	if (to->sa_family != AF_UNIX)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
	if (connect(fd, to, len) == 0)
		return fd;
	err = errno == EINPROGRESS ? db_poll(fd, POLLOUT, deadline) : -errno;
	if (err == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size) == 0 && err == 0)
		return fd;
	close(fd);
	return err > 0 ? -err : err;
}

static int
dial_name(const struct redis_where *w, uint64_t deadline, struct db_error *e)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = -ENOENT, rc;

	if (w->host[0] == '/') {
		if (text_copy(un.sun_path, sizeof un.sun_path, w->host) >= sizeof un.sun_path)
			return db_fail(e, -EINVAL, "connection: host: the path is too long");
		fd = dial((struct sockaddr *)&un, sizeof un, deadline);
		return fd >= 0 ? fd : db_fail(e, fd, "%s: %s", w->host, strerror(-fd));
	}
	if ((rc = getaddrinfo(w->host, w->port, &hints, &list)) != 0)
		return db_fail(e, -ENOTCONN, "%s: %s", w->host, gai_strerror(rc));
	for (const struct addrinfo *a = list; a != NULL && fd < 0; a = a->ai_next)
		fd = dial(a->ai_addr, a->ai_addrlen, deadline);
	freeaddrinfo(list);
	return fd >= 0 ? fd : db_fail(e, -ENOTCONN, "%s port %s: %s", w->host, w->port, strerror(-fd));
}

/* ---- TLS ------------------------------------------------------------------------------------- */

static int
tls_fail(struct db_error *e, const char *what)
{
	char text[160] = "";
	unsigned long n = ERR_get_error();

	if (n != 0)
		ERR_error_string_n(n, text, sizeof text);
	ERR_clear_error();
	return db_fail(e, -ENOTCONN, "TLS: %s%s%s", what, n != 0 ? ": " : "", text);
}

static int
tls_files(SSL_CTX *ctx, const struct redis_where *w, struct db_error *e)
{
	const char *ca = w->ca[0] != '\0' ? w->ca : NULL, *path = w->capath[0] != '\0' ? w->capath : NULL;

	if (ca == NULL && path == NULL ? SSL_CTX_set_default_verify_paths(ctx) != 1
				       : SSL_CTX_load_verify_locations(ctx, ca, path) != 1)
		return tls_fail(e, "tls-ca cannot be read");
	if (w->cert[0] != '\0' && SSL_CTX_use_certificate_chain_file(ctx, w->cert) != 1)
		return tls_fail(e, "tls-cert cannot be read");
	if (w->key[0] != '\0' && SSL_CTX_use_PrivateKey_file(ctx, w->key, SSL_FILETYPE_PEM) != 1)
		return tls_fail(e, "tls-key cannot be read");
	return 0;
}

/* The name or address that the certificate must have. */
static bool
tls_expect(SSL *ssl, const struct redis_where *w)
{
	const char *name = w->sni[0] != '\0' ? w->sni : w->host;
	struct addr a;

	if (addr_parse(&a, name) == 0)
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
	return SSL_set1_host(ssl, name) == 1 && SSL_set_tlsext_host_name(ssl, name) == 1;
}

/* 0 when the call may be made again, else -errno. */
static int
tls_wait(struct redis_link *k, int rc, uint64_t deadline)
{
	int why = SSL_get_error(k->ssl, rc);

	if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
		return -ENOTCONN;
	return db_poll(k->fd, why == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, deadline);
}

static int
tls_begin(struct redis_link *k, const struct redis_where *w, uint64_t deadline, struct db_error *e)
{
	bool verify = w->verify[0] == '\0' || is_on(w->verify);
	int rc, err;

	k->ctx = SSL_CTX_new(TLS_client_method());
	if (k->ctx == NULL || SSL_CTX_set_min_proto_version(k->ctx, TLS1_2_VERSION) != 1)
		return tls_fail(e, "cannot begin");
	if (tls_files(k->ctx, w, e) < 0)
		return -ENOTCONN;
	SSL_CTX_set_verify(k->ctx, verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
	k->ssl = SSL_new(k->ctx);
	if (k->ssl == NULL || SSL_set_fd(k->ssl, k->fd) != 1 || (verify && !tls_expect(k->ssl, w)))
		return tls_fail(e, "cannot begin");
	while ((rc = SSL_connect(k->ssl)) != 1) {
		if ((err = tls_wait(k, rc, deadline)) == -ETIMEDOUT)
			return db_fail(e, err, "TLS: no answer in time");
		if (err < 0 && SSL_get_verify_result(k->ssl) != X509_V_OK)
			return db_fail(e, err, "TLS: %s",
			    X509_verify_cert_error_string(SSL_get_verify_result(k->ssl)));
		if (err < 0)
			return tls_fail(e, "handshake");
	}
	return 0;
}

/* ---- bytes ----------------------------------------------------------------------------------- */

struct redis_link *
link_open(const struct redis_where *w, uint64_t deadline, struct db_error *e)
{
	struct redis_link *k = calloc(1, sizeof *k);

	if (k == NULL)
		return NULL;
	k->fd = dial_name(w, deadline, e);
	if (k->fd < 0 || (is_on(w->tls) && tls_begin(k, w, deadline, e) < 0)) {
		link_close(k);
		return NULL;
	}
	return k;
}

void
link_close(struct redis_link *k)
{
	if (k == NULL)
		return;
	SSL_free(k->ssl);
	SSL_CTX_free(k->ctx);
	if (k->fd >= 0)
		close(k->fd);
	free(k);
}

int
link_fd(const struct redis_link *k)
{
	return k->fd;
}

static int
some(struct redis_link *k, bool out, char *bytes, size_t len, uint64_t deadline)
{
	for (;;) {
		ssize_t n;
		int err;

		if (k->ssl != NULL)
			n = out ? SSL_write(k->ssl, bytes, (int)len) : SSL_read(k->ssl, bytes, (int)len);
		else
			n = out ? send(k->fd, bytes, len, MSG_NOSIGNAL) : recv(k->fd, bytes, len, 0);
		if (n > 0)
			return (int)n;
		if (k->ssl != NULL)
			err = tls_wait(k, (int)n, deadline);
		else if (n == 0 || (errno != EAGAIN && errno != EINTR))
			err = -ENOTCONN;
		else
			err = db_poll(k->fd, out ? POLLOUT : POLLIN, deadline);
		if (err < 0)
			return err;
	}
}

int
link_write(struct redis_link *k, const char *bytes, size_t len, uint64_t deadline, struct db_error *e)
{
	while (len > 0) {
		int n = some(k, true, (char *)(uintptr_t)bytes, len, deadline);

		if (n < 0)
			return db_fail(e, n, "%s",
			    n == -ETIMEDOUT ? "no answer in time" : "the connection was closed");
		bytes += n;
		len -= (size_t)n;
	}
	return 0;
}

int
link_read(struct redis_link *k, char *bytes, size_t size, uint64_t deadline, struct db_error *e)
{
	int n = some(k, false, bytes, size, deadline);

	return n >= 0
	    ? n
	    : db_fail(e, n, "%s", n == -ETIMEDOUT ? "no answer in time" : "the connection was closed");
}
