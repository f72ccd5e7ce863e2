/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ipc.c: messages between processes over SOCK_SEQPACKET, at most one descriptor each.
 *
 * Whatever does not fit the table is refused as a whole, and descriptors that came with it are closed: a
 * child that was taken over must not be able to fill the receiver's descriptor table or to be
 * misunderstood.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <unistd.h>

#include "tp/io.h"

#define FDS_MAX 253 /* SCM_MAX_FD: room for all that a sender can attach, to close them */

/* The default of 208 KiB holds some fifty requests; a burst of clients is longer than that. */
static void
widen(int fd)
{
	int size = 1 << 20;

	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

int
ipc_pair(int fds[2])
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
		return -errno;
	widen(fds[0]);
	widen(fds[1]);
	return 0;
}

int
ipc_send(int sock, const void *msg, int fd)
{
	const struct msg_head *h = msg;
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)msg, .iov_len = msg_size(h->type) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (iov.iov_len == 0 || msg_has_fd(h->type) != (fd >= 0))
		return -EINVAL;
	if (fd >= 0) {
		m.msg_control = control.space;
		m.msg_controllen = sizeof control.space;
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof fd);
	}
	for (;;) {
		if (sendmsg(sock, &m, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
			return 0;
		if (errno == EINTR)
			continue;
		return errno == ECONNRESET || errno == ENOTCONN ? -EPIPE
		    : errno == EWOULDBLOCK                      ? -EAGAIN
								: -errno;
	}
}

int
ipc_send_run(int sock, const uint8_t *msgs, size_t len)
{
	struct mmsghdr m[IPC_MANY];
	struct iovec iov[IPC_MANY];
	unsigned n = 0;
	int sent, done = 0;

	memset(m, 0, sizeof m);
	for (size_t at = 0, size; at < len && n < IPC_MANY; at += size, n++) {
		struct msg_head h;
		memcpy(&h, msgs + at, sizeof h);
		size = msg_size(h.type);
		assert(size > 0 && size <= len - at);
		iov[n] = (struct iovec){ .iov_base = (void *)(uintptr_t)(msgs + at), .iov_len = size };
		m[n].msg_hdr = (struct msghdr){ .msg_iov = &iov[n], .msg_iovlen = 1 };
	}
	do {
		sent = sendmmsg(sock, m, n, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return errno == ECONNRESET || errno == ENOTCONN ? -EPIPE
		    : errno == EWOULDBLOCK                      ? -EAGAIN
								: -errno;
	for (int i = 0; i < sent; i++)
		done += (int)iov[i].iov_len;
	return done;
}

int
ipc_send_many(int sock, const void *const *msgs, const int *fds, unsigned n)
{
	TP_UNSET union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control[IPC_MANY];
	TP_UNSET struct mmsghdr m[IPC_MANY];
	TP_UNSET struct iovec iov[IPC_MANY];
	int sent;

	if (n > IPC_MANY)
		n = IPC_MANY;
	for (unsigned i = 0; i < n; i++) {
		const struct msg_head *h = msgs[i];
		iov[i] = (struct iovec){ .iov_base = (void *)(uintptr_t)h, .iov_len = msg_size(h->type) };
		m[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &iov[i], .msg_iovlen = 1 } };
		assert(iov[i].iov_len > 0 && msg_has_fd(h->type) == (fds[i] >= 0));
		if (fds[i] < 0)
			continue;
		memset(&control[i], 0, sizeof control[i]);
		control[i].align = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS,
			.cmsg_len = CMSG_LEN(sizeof fds[i]) };
		memcpy(CMSG_DATA(&control[i].align), &fds[i], sizeof fds[i]);
		m[i].msg_hdr.msg_control = control[i].space;
		m[i].msg_hdr.msg_controllen = sizeof control[i].space;
	}
	do {
		sent = sendmmsg(sock, m, n, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return errno == ECONNRESET || errno == ENOTCONN ? -EPIPE
		    : errno == EWOULDBLOCK                      ? -EAGAIN
								: -errno;
	return sent;
}

/* Collects what SCM_RIGHTS brought; every other kind of control data is a breach. */
static unsigned
take_fds(struct msghdr *m, int *fds, bool *strange)
{
	unsigned n = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
			*strange = true;
			continue;
		}
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count && n < FDS_MAX; i++)
			memcpy(&fds[n++], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
	}
	return n;
}

int
ipc_recv(int sock, unsigned from, unsigned to, union msg *msg, int *fd)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int) * FDS_MAX)];
	} control;
	struct iovec iov = { .iov_base = msg, .iov_len = sizeof *msg };
	struct msghdr m = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.space,
		.msg_controllen = sizeof control.space };
	int fds[FDS_MAX];
	bool bad = false;
	ssize_t n;

	*fd = -1;
	do {
		n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : errno == ECONNRESET ? -EPIPE : -errno;
	unsigned count = take_fds(&m, fds, &bad);
	if (n == 0 && count == 0)
		return -EPIPE;
	bad = bad || (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || (size_t)n < sizeof msg->h ||
	    !msg_may(msg->h.type, from, to) || (size_t)n != msg_size(msg->h.type) ||
	    count != (msg_has_fd(msg->h.type) ? 1u : 0u);
	if (bad) {
		for (unsigned i = 0; i < count; i++)
			close(fds[i]);
		return -EPROTO;
	}
	if (count == 1)
		*fd = fds[0];
	return 1;
}
