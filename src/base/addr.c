/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * addr.c: transport addresses and IP prefixes: from and to the kernel's form, from and to text.
 */
#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>

#include "tp/base.h"

int
addr_from_sockaddr(struct addr *a, const struct sockaddr *sa)
{
	struct addr out = { 0 };

	/* Copied, not cast: control messages and receive buffers need not be aligned for sockaddr_in6. */
	if (sa->sa_family == AF_INET) {
		struct sockaddr_in in;

		memcpy(&in, sa, sizeof in);
		out.family = ADDR_V4;
		out.port = ntohs(in.sin_port);
		memcpy(out.ip, &in.sin_addr, 4);
	} else if (sa->sa_family == AF_INET6) {
		struct sockaddr_in6 in6;

		memcpy(&in6, sa, sizeof in6);
		out.family = ADDR_V6;
		out.port = ntohs(in6.sin6_port);
		memcpy(out.ip, &in6.sin6_addr, 16);
	} else {
		return -EAFNOSUPPORT;
	}
	*a = out;
	return 0;
}

socklen_t
addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *ss)
{
	if (a->family == ADDR_V4) {
		struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(a->port) };

		memcpy(&in.sin_addr, a->ip, 4);
		memcpy(ss, &in, sizeof in);
		return sizeof in;
	}
	if (a->family == ADDR_V6) {
		struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(a->port) };

		memcpy(&in6.sin6_addr, a->ip, 16);
		memcpy(ss, &in6, sizeof in6);
		return sizeof in6;
	}
	return 0;
}

/* Decimal without sign, spaces or leading zeros, all of [s, s + n), at most max. */
static bool
parse_number(const char *s, size_t n, unsigned max, unsigned *out)
{
	unsigned v = 0;

	if (n == 0 || n > 5 || (n > 1 && s[0] == '0'))
		return false;
	for (size_t i = 0; i < n; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		v = v * 10 + (unsigned)(s[i] - '0');
	}
	if (v > max)
		return false;
	*out = v;
	return true;
}

/* The address part, [s, s + n).  inet_pton is as strict as we promise: no octal or leading zeros, no zone,
 * no space around. */
static bool
parse_ip(const char *s, size_t n, struct addr *out)
{
	char ip[INET6_ADDRSTRLEN];
	bool v6 = memchr(s, ':', n) != NULL;

	if (n == 0 || n >= sizeof ip)
		return false;
	memcpy(ip, s, n);
	ip[n] = '\0';
	if (inet_pton(v6 ? AF_INET6 : AF_INET, ip, out->ip) != 1)
		return false;
	out->family = v6 ? ADDR_V6 : ADDR_V4;
	return true;
}

int
addr_parse(struct addr *a, const char *text)
{
	struct addr out = { 0 };
	size_t n = strlen(text);
	const char *ip = text, *ip_end = text + n, *port = NULL;
	unsigned number = 0;

	if (text[0] == '[') {
		ip = text + 1;
		ip_end = strchr(ip, ']');
		if (ip_end == NULL || (ip_end[1] != ':' && ip_end[1] != '\0'))
			return -EINVAL;
		if (memchr(ip, ':', (size_t)(ip_end - ip)) == NULL) /* brackets are IPv6 only */
			return -EINVAL;
		port = ip_end[1] == ':' ? ip_end + 2 : NULL;
	} else if (strchr(text, ':') != NULL && strchr(text, ':') == strrchr(text, ':')) {
		ip_end = strchr(text, ':'); /* one colon: IPv4 with a port */
		port = ip_end + 1;
	}
	if (!parse_ip(ip, (size_t)(ip_end - ip), &out))
		return -EINVAL;
	if (port != NULL && !parse_number(port, strlen(port), 65535, &number))
		return -EINVAL;
	out.port = (uint16_t)number;
	*a = out;
	return 0;
}

char *
addr_print_ip(const struct addr *a, char buf[ADDR_STRLEN])
{
	int af = a->family == ADDR_V4 ? AF_INET : AF_INET6;

	if ((a->family != ADDR_V4 && a->family != ADDR_V6) ||
	    inet_ntop(af, a->ip, buf, ADDR_STRLEN) == NULL)
		text_copy(buf, ADDR_STRLEN, "none");
	return buf;
}

char *
addr_print(const struct addr *a, char buf[ADDR_STRLEN])
{
	char ip[ADDR_STRLEN];

	addr_print_ip(a, ip);
	if (a->port == 0 || (a->family != ADDR_V4 && a->family != ADDR_V6))
		text_copy(buf, ADDR_STRLEN, ip);
	else if (a->family == ADDR_V6)
		snprintf(buf, ADDR_STRLEN, "[%.45s]:%u", ip, a->port);
	else
		snprintf(buf, ADDR_STRLEN, "%.15s:%u", ip, a->port);
	return buf;
}

/* Keeps the first `bits` bits of ip[16]. */
static void
keep_bits(uint8_t ip[16], unsigned bits)
{
	for (unsigned i = 0; i<16; i++, bits = bits> 8 ? bits - 8 : 0)
		ip[i] &= bits >= 8 ? 0xff : (uint8_t)(0xff00u >> bits);
}

void
addr_mask(struct addr *out, const struct addr *a, unsigned bits)
{
	struct addr m = *a;

	m.port = 0;
	keep_bits(m.ip, bits);
	*out = m;
}

int
cidr_parse(struct cidr *c, const char *text)
{
	const char *slash = strchr(text, '/');
	size_t n = slash != NULL ? (size_t)(slash - text) : strlen(text);
	struct cidr out = { 0 };
	struct addr a = { 0 }, masked;
	unsigned bits;

	if (!parse_ip(text, n, &a))
		return -EINVAL;
	bits = addr_iplen(&a) * 8;
	if (slash != NULL && !parse_number(slash + 1, strlen(slash + 1), bits, &bits))
		return -EINVAL;
	addr_mask(&masked, &a, bits);
	if (!addr_ip_eq(&masked, &a))
		return -EINVAL;
	out.family = a.family;
	out.bits = (uint8_t)bits;
	memcpy(out.ip, a.ip, sizeof out.ip);
	*c = out;
	return 0;
}

char *
cidr_print(const struct cidr *c, char buf[ADDR_STRLEN])
{
	struct addr a = { .family = c->family };
	char ip[ADDR_STRLEN];

	memcpy(a.ip, c->ip, sizeof a.ip);
	addr_print_ip(&a, ip);
	snprintf(buf, ADDR_STRLEN, "%.45s/%u", ip, c->bits);
	return buf;
}

bool
cidr_has(const struct cidr *c, const struct addr *a)
{
	unsigned whole = c->bits / 8u, rest = c->bits % 8u;

	if (c->family != a->family || c->family == ADDR_NONE || whole > 16)
		return false;
	if (memcmp(c->ip, a->ip, whole) != 0)
		return false;
	return rest == 0 || whole == 16 || ((c->ip[whole] ^ a->ip[whole]) & (0xff00u >> rest) & 0xffu) == 0;
}
