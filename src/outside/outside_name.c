/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * outside_name.c: the address of a host name.
 */
#include "config.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>

#include "tp/outside.h"

static int
error_of(int gai)
{
	switch (gai) {
	case EAI_AGAIN:
		return -EAGAIN;
	case EAI_MEMORY:
		return -ENOMEM;
	case EAI_SYSTEM:
		return errno != 0 ? -errno : -EIO;
	default:
		return -ENOENT;
	}
}

int
outside_name(const char *name, uint8_t family, struct addr *out, char *why, size_t why_len)
{
	struct addrinfo hints = { .ai_family = family == ADDR_V6 ? AF_INET6 : AF_INET,
		.ai_socktype = SOCK_DGRAM },
			*all = NULL;
	struct addr a;
	int gai;

	/* A name server that is silent shall not hold up a start for the resolver's half a minute. */
	(void)setenv("RES_OPTIONS", "timeout:2 attempts:2", 0);
	gai = getaddrinfo(name, NULL, &hints, &all);
	if (gai != 0) {
		snprintf(why, why_len, "the name is not found: %s",
		    gai == EAI_SYSTEM ? strerror(errno) : gai_strerror(gai));
		return error_of(gai);
	}
	for (const struct addrinfo *i = all; i != NULL; i = i->ai_next)
		if (addr_from_sockaddr(&a, i->ai_addr) == 0) {
			a.port = 0;
			*out = a;
			freeaddrinfo(all);
			return 0;
		}
	freeaddrinfo(all);
	snprintf(why, why_len, "the name has no %s address", family == ADDR_V6 ? "IPv6" : "IPv4");
	return -ENOENT;
}
