/* SPDX-License-Identifier: BSD-3-Clause */
/* udp_err.c: the error queue of a UDP socket, and what the kernel dropped before it. */
#include "config.h"

#include <errno.h>
#include <time.h>
#include <linux/errqueue.h>
#include <linux/sock_diag.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>

#include "io_int.h"

#define SKIP_MAX 16 /* entries without an ICMP error that one call passes over */

static const struct sock_extended_err *
extended(struct msghdr *m)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
		bool ours = (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) ||
		    (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR);
		if (ours && c->cmsg_len >= CMSG_LEN(sizeof(struct sock_extended_err)))
			return (const void *)CMSG_DATA(c);
	}
	return NULL;
}

/* True when the entry is an ICMP error, or the kernel's own knowledge of the path's MTU, which says the
 * same. */
static bool
told_icmp(const struct sock_extended_err *e, struct udp_icmp *icmp)
{
	if (e->ee_origin == SO_EE_ORIGIN_ICMP || e->ee_origin == SO_EE_ORIGIN_ICMP6) {
		icmp->family = e->ee_origin == SO_EE_ORIGIN_ICMP ? ADDR_V4 : ADDR_V6;
		icmp->type = e->ee_type;
		icmp->code = e->ee_code;
		icmp->info = e->ee_info;
		return true;
	}
	if (e->ee_origin != SO_EE_ORIGIN_LOCAL || e->ee_errno != EMSGSIZE)
		return false;
	icmp->family = icmp->peer.family;
	icmp->type = icmp->family == ADDR_V4 ? ICMP_DEST_UNREACH : ICMP6_PACKET_TOO_BIG;
	icmp->code = icmp->family == ADDR_V4 ? ICMP_FRAG_NEEDED : 0;
	icmp->info = e->ee_info;
	return true;
}

int
udp_error_next(int fd, struct udp_icmp *icmp)
{
	for (unsigned i = 0; i < SKIP_MAX; i++) {
		union {
			struct cmsghdr align;
			char space[512];
		} control;
		union sock_addr name = { 0 };
		uint8_t byte[1]; /* the payload that comes back is of no use */
		struct iovec iov = { .iov_base = byte, .iov_len = sizeof byte };
		struct msghdr m = { .msg_name = &name,
			.msg_namelen = sizeof name,
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = control.space,
			.msg_controllen = sizeof control.space };
		if (recvmsg(fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) {
			if (errno == EINTR)
				continue;
			return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
		}
		const struct sock_extended_err *e = extended(&m);
		memset(icmp, 0, sizeof *icmp);
		if (e != NULL && addr_from_sockaddr(&icmp->peer, &name.sa) == 0 && told_icmp(e, icmp))
			return 1;
	}
	return 0;
}

unsigned
udp_errors_drop(int fd, unsigned max)
{
	struct udp_icmp icmp;
	unsigned n = 0;

	while (n < max && udp_error_next(fd, &icmp) == 1)
		n++;
	return n;
}

int
udp_pressure(int fd, uint64_t *drops, uint64_t *backlog_bytes)
{
	uint32_t info[SK_MEMINFO_VARS] = { 0 };
	socklen_t len = sizeof info;

	if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &len) < 0)
		return -errno;
	*drops = info[SK_MEMINFO_DROPS];
	*backlog_bytes = info[SK_MEMINFO_RMEM_ALLOC];
	return 0;
}
