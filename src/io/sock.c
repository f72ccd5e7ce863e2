/* SPDX-License-Identifier: BSD-3-Clause */
/* sock.c: the sockets that the supervisor binds, and the filter that keeps an unused one silent. */
#include "config.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "tp/io.h"

#define STREAM_SEND_BUFFER                                                                                 \
	(256 << 10)             /* what a client that does not read costs in the kernel; it doubles it */
#define STREAM_SILENCE_MS 60000 /* a peer that acknowledges nothing for so long is gone */
#define COUNT_TRIES       1000
#define EMPTY_TRIES       65536 /* more than any queue holds */
/* <netinet/tcp.h> has these states, but a tcp_info without the counters of bytes. */
enum { TCP_ESTABLISHED = 1, TCP_CLOSE_WAIT = 8, TCP_LAST_ACK = 9, TCP_CLOSING = 11 };

static int
set_int(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof value) < 0 ? -errno : 0;
}

/* FORCE passes net.core.rmem_max where CAP_NET_ADMIN permits; the plain option clips without an error. */
static void
set_buffer(int fd, int force, int plain, size_t bytes)
{
	int value = bytes > INT32_MAX / 2 ? INT32_MAX / 2 : (int)bytes;

	if (bytes > 0 && set_int(fd, SOL_SOCKET, force, value) < 0)
		(void)set_int(fd, SOL_SOCKET, plain, value);
}

static int
fail(int fd, int rc)
{
	close(fd);
	return rc;
}

/* What listeners and relay sockets have in common: path MTU discovery off (a spoofed ICMP must not shrink
 * what we send, and DF is the client's wish, not the kernel's), errors of each peer in the queue instead
 * of on the next send. */
static int
udp_common(int fd, uint8_t family)
{
	int err;

	if (family == ADDR_V6) {
		if ((err = set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1)) < 0 ||
		    (err = set_int(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DONT)) < 0)
			return err;
		return set_int(fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
	}
	if ((err = set_int(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)) < 0)
		return err;
	return set_int(fd, IPPROTO_IP, IP_RECVERR, 1);
}

static int
udp_open(const struct addr *a)
{
	int fd = socket(
	    a->family == ADDR_V6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

/*
 * An address that is not here yet, or is being probed for duplicates, may be bound: the socket serves
 * from the moment that it comes.  For listeners only; a relayed address that is not here must not be
 * given to a client.
 */
static int
bind_ahead(int fd, uint8_t family)
{
	return family == ADDR_V6 ? set_int(fd, IPPROTO_IPV6, IPV6_FREEBIND, 1)
				 : set_int(fd, IPPROTO_IP, IP_FREEBIND, 1);
}

static int
bind_addr(int fd, const struct addr *a)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(a, &ss);

	if (len == 0)
		return -EAFNOSUPPORT;
	return bind(fd, (struct sockaddr *)&ss, len) < 0 ? -errno : 0;
}

int
sock_listener_udp(const struct addr *a, const struct sock_options *o, size_t *granted)
{
	int fd = udp_open(a), err, value = 0;
	socklen_t len = sizeof value;

	if (fd < 0)
		return fd;
	if ((err = udp_common(fd, a->family)) < 0 || (err = set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1)) < 0 ||
	    (err = bind_ahead(fd, a->family)) < 0)
		return fail(fd, err);
	set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, o->receive_buffer);
	set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, o->send_buffer);
	if ((err = bind_addr(fd, a)) < 0)
		return fail(fd, err);
	/* The kernel doubles what it is asked for, for its own overhead, and tells the doubled value. */
	if (granted != NULL && getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &value, &len) == 0)
		*granted = (size_t)value / 2;
	return fd;
}

bool
sock_is_here(const struct addr *a)
{
	struct addr any = *a;
	int fd = udp_open(a), rc;

	if (fd < 0)
		return false;
	any.port = 0;
	rc = bind_addr(fd, &any);
	close(fd);
	return rc != -EADDRNOTAVAIL;
}

int
sock_relay_udp(const struct addr *a, size_t receive_buffer)
{
	int fd = udp_open(a), err;

	if (fd < 0)
		return fd;
	/* The filter comes before bind: from its first moment the port takes nothing in. */
	if ((err = udp_common(fd, a->family)) < 0 || (err = sock_filter_attach(fd)) < 0)
		return fail(fd, err);
	set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, receive_buffer);
	if ((err = bind_addr(fd, a)) < 0)
		return fail(fd, err);
	return fd;
}

int
sock_filter_attach(int fd)
{
	struct sock_filter none[] = { BPF_STMT(BPF_RET | BPF_K, 0) };
	struct sock_fprog prog = { .len = 1, .filter = none };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog) < 0 ? -errno : 0;
}

int
sock_filter_detach(int fd)
{
	int rc = set_int(fd, SOL_SOCKET, SO_DETACH_FILTER, 0);

	return rc == -ENOENT ? 0 : rc;
}

int
sock_filter_program(void)
{
	/* r0 = 0; exit */
	struct bpf_insn none[] = { { .code = BPF_ALU64 | BPF_MOV | BPF_K },
		{ .code = BPF_JMP | BPF_EXIT } };
	union bpf_attr a;
	long fd;

	memset(&a, 0, sizeof a);
	a.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
	a.insns = (uint64_t)(uintptr_t)none;
	a.insn_cnt = TP_COUNT(none);
	a.license = (uint64_t)(uintptr_t) "BSD";
	fd = syscall(SYS_bpf, BPF_PROG_LOAD, &a, sizeof a); /* close-on-exec by itself */
	return fd < 0 ? -errno : (int)fd;
}

int
sock_filter_share(int fd, int program)
{
	return set_int(fd, SOL_SOCKET, SO_ATTACH_BPF, program);
}

int
sock_filter_has(int fd)
{
	/* Asked with no room the kernel tells the number of instructions, 0 when there is no filter; it
	 * has none to tell of a program that was made by bpf(2). */
	socklen_t len = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, NULL, &len) < 0)
		return errno == EACCES ? SOCK_FILTER_SHARED : -errno;
	return len > 0 ? SOCK_FILTER_OWN : SOCK_FILTER_NONE;
}

bool
sock_empty(int fd)
{
	char byte;

	/* An error that was pending comes as a failure, once. */
	for (unsigned i = 0; i < EMPTY_TRIES; i++)
		if (recv(fd, &byte, sizeof byte, MSG_DONTWAIT | MSG_TRUNC) < 0 &&
		    (errno == EAGAIN || errno == EWOULDBLOCK))
			return true;
	return false;
}

int
sock_listener_tcp(const struct addr *a, int backlog)
{
	int fd = socket(
		a->family == ADDR_V6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
	    rc;

	if (fd < 0)
		return -errno;
	if ((rc = set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1)) < 0 || (rc = bind_ahead(fd, a->family)) < 0)
		return fail(fd, rc);
	if (a->family == ADDR_V6 && (rc = set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1)) < 0)
		return fail(fd, rc);
	if ((rc = bind_addr(fd, a)) < 0)
		return fail(fd, rc);
	if (listen(fd, backlog) < 0)
		return fail(fd, -errno);
	return fd;
}

/* What an accepted connection inherits is set here, so that the worker needs no call for it. */
static int
stream_common(int fd)
{
	static const struct {
		int level, name, value;
	} options[] = {
		{ SOL_SOCKET, SO_REUSEADDR, 1 },
		{ SOL_SOCKET, SO_REUSEPORT, 1 },
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
		{ SOL_SOCKET, SO_SNDBUF, STREAM_SEND_BUFFER },
		{ IPPROTO_TCP, TCP_NODELAY, 1 },
		{ IPPROTO_TCP, TCP_KEEPIDLE, 60 },
		{ IPPROTO_TCP, TCP_KEEPINTVL, 20 },
		{ IPPROTO_TCP, TCP_KEEPCNT, 3 },
		{ IPPROTO_TCP, TCP_USER_TIMEOUT, STREAM_SILENCE_MS },
	};

	for (unsigned i = 0; i < TP_COUNT(options); i++) {
		int err = set_int(fd, options[i].level, options[i].name, options[i].value);
		if (err < 0)
			return err;
	}
	return 0;
}

int
sock_listener_stream(const struct addr *a, int backlog)
{
	int fd = socket(
		a->family == ADDR_V6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
	    rc;

	if (fd < 0)
		return -errno;
	if ((rc = stream_common(fd)) < 0 || (rc = bind_ahead(fd, a->family)) < 0 ||
	    (a->family == ADDR_V6 && (rc = set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1)) < 0) ||
	    (rc = bind_addr(fd, a)) < 0)
		return fail(fd, rc);
	return listen(fd, backlog) < 0 ? fail(fd, -errno) : fd;
}

int
sock_stream_counts(int fd, uint64_t *received, uint64_t *written)
{
	struct tcp_info a, b;
	int in = 0, out = 0;
	bool fin;

	/* An acknowledgement may come between the calls: again, until nothing has moved. */
	for (unsigned i = 0; i < COUNT_TRIES; i++) {
		socklen_t len = sizeof a;
		memset(&a, 0, sizeof a);
		memset(&b, 0, sizeof b);
		if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &a, &len) < 0 || ioctl(fd, SIOCINQ, &in) < 0 ||
		    ioctl(fd, SIOCOUTQ, &out) < 0)
			return -errno;
		len = sizeof b;
		if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &b, &len) < 0)
			return -errno;
		if (a.tcpi_bytes_received != b.tcpi_bytes_received ||
		    a.tcpi_bytes_acked != b.tcpi_bytes_acked || a.tcpi_state != b.tcpi_state)
			continue;
		fin = b.tcpi_state == TCP_CLOSE_WAIT || b.tcpi_state == TCP_CLOSING ||
		    b.tcpi_state == TCP_LAST_ACK;
		if (b.tcpi_state != TCP_ESTABLISHED && !fin)
			return -ENOTCONN;
		*received = b.tcpi_bytes_received - (uint64_t)in - (fin ? 1 : 0);
		*written = b.tcpi_bytes_acked + (uint64_t)out;
		return 0;
	}
	return -EAGAIN;
}

int
sock_listener_unix(const char *path, unsigned mode)
{
	struct sockaddr_un su = { .sun_family = AF_UNIX };
	int fd, err = 0;

	if (text_copy(su.sun_path, sizeof su.sun_path, path) >= sizeof su.sun_path)
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (unlink(path) < 0 && errno != ENOENT)
		return fail(fd, -errno);
	/* Narrow first, then open: no connection may come in between. */
	mode_t was = umask(0777);
	if (bind(fd, (struct sockaddr *)&su, sizeof su) < 0)
		err = -errno;
	umask(was);
	if (err == 0 && (chmod(path, (mode_t)mode) < 0 || listen(fd, 16) < 0))
		err = -errno;
	return err < 0 ? fail(fd, err) : fd;
}

int
stream_pressure(int fd, uint64_t *drops, uint64_t *waiting)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof info;
	uint64_t none;

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
		return -errno;
	*waiting = info.tcpi_unacked; /* of a listener: its accept queue */
	return udp_pressure(fd, drops, &none);
}
