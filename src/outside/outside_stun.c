/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * outside_stun.c: the address that a STUN server sees.
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "tp/outside.h"
#include "tp/stun.h"

#define STUN_PORT  3478
#define ANSWER_MAX 1500
#define HOST_MAX   256

/* Splits NAME:PORT; an address without brackets that has colons is one without a port. */
static int
split_server(const char *server, char host[HOST_MAX], uint16_t *port)
{
	const char *colon = strrchr(server, ':');
	char *end;
	unsigned long n;

	*port = STUN_PORT;
	if (text_copy(host, HOST_MAX, server) >= HOST_MAX)
		return -EINVAL;
	if (colon == NULL || strchr(server, ':') != colon)
		return 0;
	n = strtoul(colon + 1, &end, 10);
	if (colon[1] < '0' || colon[1] > '9' || *end != '\0' || n == 0 || n > 65535)
		return -EINVAL;
	host[colon - server] = '\0';
	*port = (uint16_t)n;
	return 0;
}

static int
find_server(const char *server, uint8_t family, struct addr *out, char *why, size_t why_len)
{
	char host[HOST_MAX];
	uint16_t port;
	int e;

	if (addr_parse(out, server) == 0) {
		if (out->port == 0)
			out->port = STUN_PORT;
		if (out->family == family)
			return 0;
		snprintf(why, why_len, "STUN server %s: not of the family of the relay address", server);
		return -EAFNOSUPPORT;
	}
	if (split_server(server, host, &port) < 0) {
		snprintf(why, why_len, "STUN server %s: neither NAME nor NAME:PORT", server);
		return -EINVAL;
	}
	e = outside_name(host, family, out, why, why_len);
	out->port = port;
	return e;
}

static int
open_socket(const struct addr *inside, const struct addr *server)
{
	struct sockaddr_storage ss;
	struct addr from = *inside;
	socklen_t len;
	int fd, err;

	from.port = 0;
	len = addr_to_sockaddr(&from, &ss);
	fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (bind(fd, (const struct sockaddr *)&ss, len) == 0) {
		len = addr_to_sockaddr(server, &ss);
		if (connect(fd, (const struct sockaddr *)&ss, len) == 0)
			return fd;
	}
	err = -errno;
	close(fd);
	return err;
}

/* True when these bytes are the answer to the request. */
static bool
take_answer(const uint8_t *p, size_t n, const uint8_t txid[STUN_TXID], struct addr *out)
{
	struct stun_msg m;

	if (stun_parse(&m, p, n) != 0 || m.cls != STUN_SUCCESS || m.method != STUN_BINDING ||
	    memcmp(m.txid, txid, STUN_TXID) != 0)
		return false;
	return stun_get_xaddr(&m, stun_find(&m, STUN_A_XOR_MAPPED_ADDRESS), out);
}

static int64_t
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* What comes within `wait` ms; anything else than the answer is passed over. */
static bool
await_answer(int fd, int wait, const uint8_t txid[STUN_TXID], struct addr *out)
{
	int64_t end = now_ms() + wait, left;
	uint8_t buf[ANSWER_MAX];

	while ((left = end - now_ms()) > 0) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n;

		if (poll(&p, 1, (int)left) <= 0)
			continue;
		n = recv(fd, buf, sizeof buf, MSG_DONTWAIT);
		if (n > 0 && take_answer(buf, (size_t)n, txid, out))
			return true;
	}
	return false;
}

int
outside_stun(const char *server, const struct addr *inside, struct addr *out, char *why, size_t why_len)
{
	static const int waits[] = { 300, 600, 1200, 1900 };
	uint8_t request[64], txid[STUN_TXID];
	struct addr to, seen;
	struct stun_out o;
	size_t len;
	int err, fd;

	if ((err = find_server(server, inside->family, &to, why, why_len)) < 0)
		return err;
	fd = open_socket(inside, &to);
	if (fd < 0) {
		snprintf(why, why_len, "STUN server %s: %s", server, strerror(-fd));
		return fd;
	}
	randombytes_buf(txid, sizeof txid);
	stun_begin(&o, request, sizeof request, STUN_REQUEST, STUN_BINDING, txid);
	stun_put_fingerprint(&o);
	len = stun_end(&o);
	err = -ETIMEDOUT;
	for (unsigned i = 0; i < TP_COUNT(waits) && err < 0; i++) {
		(void)send(fd, request, len, MSG_NOSIGNAL);
		if (await_answer(fd, waits[i], txid, &seen)) {
			seen.port = 0;
			*out = seen;
			err = 0;
		}
	}
	close(fd);
	if (err < 0)
		snprintf(why, why_len, "STUN server %s gives no answer", server);
	return err;
}
