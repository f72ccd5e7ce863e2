/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * listeners.c: one socket per (listener row, shard), and who it is that has a port we want.
 */
#include "config.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "super_int.h"

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
	unsigned long inode = a->family == ADDR_V4 ?
	    inode_of(tcp ? "/proc/net/tcp" : "/proc/net/udp", false, tcp, a) : 0;

	if (inode == 0)		/* a socket on [::] without V6ONLY has the IPv4 port as well */
		inode = inode_of(tcp ? "/proc/net/tcp6" : "/proc/net/udp6", true, tcp, a);
	return inode != 0 && process_of(inode, out, len);
}

static void
sentence(int r, const struct addr *a, bool tcp, const char *where, char *why, size_t len)
{
	char text[ADDR_STRLEN], holder[128];
	const char *proto = tcp ? "TCP" : "UDP", *at = where[0] != '\0' ? " of " : "";

	addr_print(a, text);
	if (r == -EADDRINUSE && port_holder(a, tcp, holder, sizeof holder))
		snprintf(why, len, "cannot bind %s %s%s%s: %s has that port", proto, text, at, where, holder);
	else if (r == -EADDRINUSE)
		snprintf(why, len, "cannot bind %s %s%s%s: another process has that port", proto, text, at, where);
	else if (r == -EADDRNOTAVAIL)
		snprintf(why, len, "cannot bind %s %s%s%s: this host does not have that address", proto, text, at, where);
	else if (r == -EACCES)
		snprintf(why, len, "cannot bind %s %s%s%s: ports below 1024 need root or CAP_NET_BIND_SERVICE", proto, text,
		    at, where);
	else
		snprintf(why, len, "cannot bind %s %s%s%s: %s", proto, text, at, where, strerror(-r));
}

static int
bind_plain(const struct addr *a)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(a, &ss);
	int fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0), one = 1, r = 0;

	if (fd < 0)
		return -errno;
	if (a->family == ADDR_V6)
		(void)setsockopt(fd, 41 /* IPPROTO_IPV6 */, 26 /* IPV6_V6ONLY */, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&ss, len) < 0)
		r = -errno;
	close(fd);
	return r;
}

int
listener_probe(const struct addr *a, bool tcp, const char *where, char *why, size_t why_len)
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
	sentence(r, a, tcp, where, why, why_len);
	return r;
}

static bool
has_sockets(const struct ledger *l, const struct windows *w, unsigned row, bool stream)
{
	for (uint32_t fd = w->first; fd < l->fd_max; fd++)
		if (l->fd[fd].kind == LEDGER_LISTENER && l->fd[fd].row == row && l->fd[fd].stream == stream)
			return true;
	return false;
}

void
listener_close(struct ledger *l, const struct windows *w, unsigned row, bool stream)
{
	for (uint32_t fd = w->first; fd < l->fd_max; fd++)
		if (l->fd[fd].kind == LEDGER_LISTENER && l->fd[fd].row == row && l->fd[fd].stream == stream)
			ledger_close(l, (int)fd);
}

static int
open_stream(struct ledger *l, const struct windows *w, const struct conf *c, unsigned row, char *why, size_t why_len)
{
	const struct conf_listener *cl = &c->listeners[row];
	struct ledger_fd e = { .kind = LEDGER_LISTENER, .row = (uint8_t)row, .family = cl->addr.family, .stream = 1 };
	int r;

	e.port = cl->addr.port;
	if ((r = listener_probe(&cl->addr, true, cl->where, why, why_len)) < 0)
		return r;
	for (unsigned s = 0; s < w->shards; s++) {
		r = sock_listener_stream(&cl->addr, (int)c->backlog);
		if (r >= 0)
			r = ledger_move(l, w, s, r, e);
		if (r < 0) {
			sentence(r, &cl->addr, true, cl->where, why, why_len);
			return r;
		}
	}
	return 0;
}

static int
open_datagram(struct ledger *l, const struct windows *w, const struct conf *c, unsigned row, size_t *granted,
    char *why, size_t why_len)
{
	const struct conf_listener *cl = &c->listeners[row];
	struct sock_options o = { .receive_buffer = c->receive_buffer, .send_buffer = c->send_buffer };
	struct ledger_fd e = { .kind = LEDGER_LISTENER, .row = (uint8_t)row, .family = cl->addr.family };
	size_t got = SIZE_MAX;
	int r;

	e.port = cl->addr.port;
	if ((r = listener_probe(&cl->addr, false, cl->where, why, why_len)) < 0)
		return r;
	for (unsigned s = 0; s < w->shards; s++) {
		r = sock_listener_udp(&cl->addr, &o, &got);
		if (r >= 0)
			r = ledger_move(l, w, s, r, e);
		if (r < 0) {
			sentence(r, &cl->addr, false, cl->where, why, why_len);
			return r;
		}
		if (got < *granted)
			*granted = got;
	}
	return 0;
}

/* A row of the same address that has TCP sockets and serves no TCP any more; -1. */
static int
donor(const struct ledger *l, const struct windows *w, const struct conf *c, unsigned row)
{
	for (unsigned k = 0; k < c->listener_count; k++) {
		const struct conf_listener *x = &c->listeners[k];
		if (k != row && addr_eq(&x->addr, &c->listeners[row].addr) &&
		    (x->retired || (x->transports & TRANSPORT_STREAMS) == 0) && has_sockets(l, w, k, true))
			return (int)k;
	}
	return -1;
}

void
listeners_inherit(struct ledger *l, const struct windows *w, const struct conf *c)
{
	for (unsigned row = 0; row < c->listener_count; row++) {
		int from = -1;
		if (!c->listeners[row].retired && (c->listeners[row].transports & TRANSPORT_STREAMS) != 0 &&
		    !has_sockets(l, w, row, true))
			from = donor(l, w, c, row);
		for (uint32_t fd = w->first; from >= 0 && fd < l->fd_max; fd++) {
			struct ledger_fd e = l->fd[fd];
			if (e.kind != LEDGER_LISTENER || e.row != from || !e.stream)
				continue;
			e.row = (uint8_t)row;
			ledger_set(l, (int)fd, e);
		}
	}
}

int
listener_open(struct ledger *l, const struct windows *w, const struct conf *c, unsigned row, struct opened *done,
    char *why, size_t why_len)
{
	uint8_t transports = c->listeners[row].transports;
	int r;

	if (c->listeners[row].retired)
		return 0;
	if ((transports & ~TRANSPORT_STREAMS) != 0 && !has_sockets(l, w, row, false)) {
		done->datagram |= UINT64_C(1) << row;
		if ((r = open_datagram(l, w, c, row, &done->granted, why, why_len)) < 0)
			return r;
	}
	if ((transports & TRANSPORT_STREAMS) != 0 && !has_sockets(l, w, row, true) && donor(l, w, c, row) < 0) {
		done->stream |= UINT64_C(1) << row;
		return open_stream(l, w, c, row, why, why_len);
	}
	return 0;
}
