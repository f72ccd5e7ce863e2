/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * port_holder.c: is a port free, and which process has it?
 */
#include "config.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tp/io.h"

/* /proc/net/udp writes addresses as host-order words of network-order bytes. */
static bool
parse_local(const char *text, bool v6, struct addr *a)
{
	unsigned port, words = v6 ? 4 : 1;
	uint32_t w;

	memset(a, 0, sizeof *a);
	a->family = v6 ? ADDR_V6 : ADDR_V4;
	for (unsigned i = 0; i < words; i++, text += 8) {
		if (sscanf(text, "%8x", &w) != 1)
			return false;
		memcpy(a->ip + 4 * i, &w, 4);
	}
	if (sscanf(text, ":%4x", &port) != 1)
		return false;
	a->port = (uint16_t)port;
	return true;
}

static bool
clashes(const struct addr *ours, const struct addr *theirs)
{
	static const uint8_t any[16];

	if (ours->port != theirs->port)
		return false;
	return addr_ip_eq(ours, theirs) || memcmp(theirs->ip, any, sizeof any) == 0 ||
	    (ours->family == theirs->family && memcmp(ours->ip, any, sizeof any) == 0);
}

/* Inode of the socket that is bound there; 0. */
static unsigned long
inode_of(const char *table, bool v6, bool tcp, const struct addr *a)
{
	char line[512], local[80];
	unsigned long inode = 0, found = 0;
	FILE *f = fopen(table, "re");
	unsigned state;
	struct addr theirs;

	if (f == NULL)
		return 0;
	while (found == 0 && fgets(line, sizeof line, f) != NULL)
		if (sscanf(line, " %*d: %79s %*s %x %*s %*s %*s %*d %*d %lu", local, &state, &inode) == 3 &&
		    (!tcp || state == 0x0a) && parse_local(local, v6, &theirs) && clashes(a, &theirs))
			found = inode;
	fclose(f);
	return found;
}

static bool
holds(const char *pid, const char *link)
{
	char path[300], to[64];
	struct dirent *e;
	bool found = false;
	ssize_t n;
	DIR *d;

	snprintf(path, sizeof path, "/proc/%.20s/fd", pid);
	d = opendir(path);
	while (d != NULL && !found && (e = readdir(d)) != NULL) {
		n = readlinkat(dirfd(d), e->d_name, to, sizeof to - 1);
		if (n <= 0)
			continue;
		to[n] = '\0';
		found = strcmp(to, link) == 0;
	}
	if (d != NULL)
		closedir(d);
	return found;
}

static bool
process_of(unsigned long inode, char *out, size_t len)
{
	char link[64], path[64], name[64] = "?";
	struct dirent *e;
	bool found = false;
	DIR *d = opendir("/proc");

	snprintf(link, sizeof link, "socket:[%lu]", inode);
	while (d != NULL && !found && (e = readdir(d)) != NULL) {
		FILE *f;
		if (!isdigit((unsigned char)e->d_name[0]) || !holds(e->d_name, link))
			continue;
		found = true;
		snprintf(path, sizeof path, "/proc/%.20s/comm", e->d_name);
		f = fopen(path, "re");
		if (f != NULL) {
			if (fgets(name, sizeof name, f) != NULL)
				name[strcspn(name, "\n")] = '\0';
			fclose(f);
		}
		snprintf(out, len, "%s (pid %.20s)", name, e->d_name);
	}
	if (d != NULL)
		closedir(d);
	return found;
}

bool
port_holder(const struct addr *a, bool tcp, char *out, size_t len)
{
	unsigned long inode = a->family == ADDR_V4
	    ? inode_of(tcp ? "/proc/net/tcp" : "/proc/net/udp", false, tcp, a)
	    : 0;

	if (inode == 0) /* a socket on [::] without V6ONLY has the IPv4 port as well */
		inode = inode_of(tcp ? "/proc/net/tcp6" : "/proc/net/udp6", true, tcp, a);
	return inode != 0 && process_of(inode, out, len);
}

void
port_sentence(int r, const struct addr *a, bool tcp, const char *where, char *why, size_t len)
{
	char text[ADDR_STRLEN], holder[128];
	const char *proto = tcp ? "TCP" : "UDP", *at = where[0] != '\0' ? " of " : "";

	addr_print(a, text);
	if (r == -EADDRINUSE && port_holder(a, tcp, holder, sizeof holder))
		snprintf(
		    why, len, "cannot bind %s %s%s%s: %s has that port", proto, text, at, where, holder);
	else if (r == -EADDRINUSE)
		snprintf(why, len, "cannot bind %s %s%s%s: another process has that port", proto, text, at,
		    where);
	else if (r == -EADDRNOTAVAIL)
		snprintf(why, len, "cannot bind %s %s%s%s: this host does not have that address", proto,
		    text, at, where);
	else if (r == -EACCES)
		snprintf(why, len,
		    "cannot bind %s %s%s%s: ports below 1024 need root or CAP_NET_BIND_SERVICE", proto,
		    text, at, where);
	else
		snprintf(why, len, "cannot bind %s %s%s%s: %s", proto, text, at, where, strerror(-r));
}

static int
bind_plain(const struct addr *a)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(a, &ss);
	int fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0), one = 1, err = 0;

	if (fd < 0)
		return -errno;
	if (a->family == ADDR_V6) {
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_FREEBIND, &one, sizeof one);
	} else {
		(void)setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &one, sizeof one);
	}
	if (bind(fd, (struct sockaddr *)&ss, len) < 0)
		err = -errno;
	close(fd);
	return err;
}

int
port_probe(const struct addr *a, bool tcp, const char *where, char *why, size_t why_len)
{
	int r;

	if (tcp) {
		r = sock_listener_tcp(a, 1);
		if (r >= 0)
			close(r);
	} else {
		r = bind_plain(a);
	}
	if (r >= 0)
		return 0;
	port_sentence(r, a, tcp, where, why, why_len);
	return r;
}
