/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * log_intake.c: records of all processes; the kernel names their senders.
 *
 * A process that is taken over writes what it likes into its records, but not its number: that is the
 * kernel's (SO_PASSCRED).  The number gives role and index by the supervisor's table of children; numbers
 * of processes that have ended are remembered for the records that they left.  A number that was never a
 * child's is the supervisor's, or that of a child so young that the table does not have it yet: such a
 * record is believed, but not when it says that it is the supervisor's and another user has sent it.
 */
#include "config.h"

#include <errno.h>
#include <sys/socket.h>
#include <time.h>

#include "admin_int.h"

#define BACK_US  30000000 /* a record may have waited for turnpike-admin to be replaced */
#define AHEAD_US 1000000

int
intake_init(struct intake *in, struct view *v, int fd)
{
	int on = 1;

	*in = (struct intake){ .view = v, .fd = fd };
	return fd < 0 || setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0 ? 0 : -errno;
}

static struct intake_sender *
known(struct intake *in, int32_t pid)
{
	for (unsigned i = 0; i < INTAKE_SENDERS; i++)
		if (in->sender[i].pid == pid)
			return &in->sender[i];
	return NULL;
}

void
intake_learn(struct intake *in)
{
	struct ledger_head copy;
	const struct ledger *l = view_ledger(in->view, &copy);

	for (unsigned i = 0; i < l->child_count; i++) {
		const struct ledger_child *c = &l->child[i];

		if (c->pid <= 0)
			continue;
		/* The kernel gives a number again after all others. */
		struct intake_sender *s = known(in, c->pid);
		if (s == NULL)
			s = &in->sender[in->next++ % INTAKE_SENDERS];
		*s = (struct intake_sender){ c->pid, (uint8_t)c->role, (uint8_t)c->index };
	}
}

static bool
is_supervisor(const struct intake *in, const struct ucred *u)
{
	return u->uid == 0 || !in->view->start.drop_privileges;
}

/* Role, index, pid and time of the real sender, whatever the record claims.  False: not a child's record. */
static bool
settle(struct intake *in, struct log_rec *r, const struct ucred *u)
{
	struct timespec now;
	const struct intake_sender *s;
	int64_t us;

	clock_gettime(CLOCK_REALTIME, &now);
	us = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
	if (r->wall_us < us - BACK_US || r->wall_us > us + AHEAD_US)
		r->wall_us = us;
	r->pid = u->pid;
	s = known(in, u->pid);
	if (s == NULL) {
		intake_learn(in);
		s = known(in, u->pid);
	}
	if (s == NULL)
		return r->role != ROLE_SUPER || is_supervisor(in, u);
	r->role = s->role;
	r->index = s->index;
	return true;
}

/* The sender of a message; false when the kernel did not say, as of one that was sent before it was
 * asked to. */
static bool
sender_of(struct msghdr *h, struct ucred *out)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c != NULL; c = CMSG_NXTHDR(h, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS &&
		    c->cmsg_len == CMSG_LEN(sizeof *out)) {
			memcpy(out, CMSG_DATA(c), sizeof *out);
			return out->pid > 0;
		}
	return false;
}

int
intake_next(struct intake *in, struct log_rec *r)
{
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(struct ucred)) + 64];
	} control;
	struct iovec io = { r, sizeof *r };
	struct msghdr h = {
		.msg_iov = &io, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
	};
	struct ucred u;
	ssize_t n = recvmsg(in->fd, &h, MSG_DONTWAIT | MSG_TRUNC | MSG_CMSG_CLOEXEC);

	if (n < 0)
		return -EAGAIN;
	if (!logline_check(r, (size_t)n) || (sender_of(&h, &u) && !settle(in, r, &u))) {
		stat_add(in->view->admin, STAT_MSG_BAD, 1);
		return 0;
	}
	return 1;
}
