/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * proxy.c: headers of the PROXY protocol, version 1 and 2, as HAProxy's proxy-protocol.txt has them.
 * Byte-exact: whatever is not exactly one is refused.
 */
#include "config.h"

#include <errno.h>

#include "worker_int.h"

#define V1_MAX  107 /* with CR LF */
#define V2_HEAD 16

static const uint8_t v2_signature[12] = "\r\n\r\n\0\r\nQUIT\n";

/* A decimal port without a leading zero. */
static bool
read_port(const char *s, uint16_t *port)
{
	unsigned v = 0;

	if (*s < '0' || *s > '9' || (s[0] == '0' && s[1] != '\0'))
		return false;
	for (; *s >= '0' && *s <= '9' && v <= 65535; s++)
		v = v * 10 + (unsigned)(*s - '0');
	*port = (uint16_t)v;
	return *s == '\0' && v <= 65535;
}

/* "TCP4 1.2.3.4 5.6.7.8 1 2": the four words behind the protocol, one blank between them. */
static bool
read_words(char *line, uint8_t family, struct addr *source)
{
	struct addr destination;
	uint16_t port, port_to;
	char *word[4];

	for (unsigned i = 0; i < 4; i++) {
		word[i] = line;
		line = i < 3 ? strchr(line, ' ') : line;
		if (line == NULL)
			return false;
		if (i < 3)
			*line++ = '\0';
	}
	if (addr_parse(source, word[0]) < 0 || addr_parse(&destination, word[1]) < 0 ||
	    !read_port(word[2], &port) || !read_port(word[3], &port_to) || source->port != 0 ||
	    destination.port != 0)
		return false;
	source->port = port;
	return source->family == family && destination.family == family;
}

static int
parse_v1(const uint8_t *p, size_t n, struct addr *source)
{
	const uint8_t *end = memchr(p, '\n', n < V1_MAX ? n : V1_MAX);
	char line[V1_MAX + 1];
	size_t len;

	if (end == NULL)
		return n < V1_MAX ? 0 : -EPROTO;
	len = (size_t)(end - p);
	if (len < 1 || p[len - 1] != '\r' || memchr(p, '\0', len) != NULL)
		return -EPROTO;
	memcpy(line, p, len - 1);
	line[len - 1] = '\0';
	if (strcmp(line, "PROXY UNKNOWN") == 0 || strncmp(line, "PROXY UNKNOWN ", 14) == 0)
		return (int)len + 1;
	if (strncmp(line, "PROXY TCP4 ", 11) != 0 && strncmp(line, "PROXY TCP6 ", 11) != 0)
		return -EPROTO;
	return read_words(line + 11, line[9] == '4' ? ADDR_V4 : ADDR_V6, source) ? (int)len + 1 : -EPROTO;
}

static int
parse_v2(const uint8_t *p, size_t n, struct addr *source)
{
	size_t len, ip;

	if (n < V2_HEAD)
		return 0;
	len = get_u16(p + 14);
	if (p[12] != 0x20 && p[12] != 0x21)
		return -EPROTO;
	if (n < V2_HEAD + len)
		return 0;
	/* LOCAL: the proxy itself; UNSPEC: it does not say. */
	if (p[12] == 0x20 || p[13] == 0x00)
		return (int)(V2_HEAD + len);
	if (p[13] != 0x11 && p[13] != 0x21)
		return -EPROTO;
	ip = p[13] == 0x11 ? 4 : 16;
	if (len < 2 * ip + 4)
		return -EPROTO;
	source->family = p[13] == 0x11 ? ADDR_V4 : ADDR_V6;
	memcpy(source->ip, p + V2_HEAD, ip);
	source->port = get_u16(p + V2_HEAD + 2 * ip);
	return (int)(V2_HEAD + len);
}

/* A proxy that listens on one socket for both families names an IPv4 client as ::ffff:a.b.c.d. */
static void
make_canonical(struct addr *a)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (a->family != ADDR_V6 || memcmp(a->ip, mapped, sizeof mapped) != 0)
		return;
	memmove(a->ip, a->ip + sizeof mapped, 4);
	memset(a->ip + 4, 0, sizeof a->ip - 4);
	a->family = ADDR_V4;
}

static int
parse(const uint8_t *p, size_t n, struct addr *source)
{
	size_t sig = n < sizeof v2_signature ? n : sizeof v2_signature;
	size_t text = n < 6 ? n : 6;

	memset(source, 0, sizeof *source);
	if (n == 0)
		return 0;
	if (memcmp(p, v2_signature, sig) == 0)
		return parse_v2(p, n, source);
	if (memcmp(p, "PROXY ", text) == 0)
		return parse_v1(p, n, source);
	return -EPROTO;
}

int
proxy_parse(const uint8_t *p, size_t n, struct addr *source)
{
	int len = parse(p, n, source);

	if (len > 0)
		make_canonical(source);
	return len;
}
