/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * caps.c: what the supervisor keeps of root's powers, and its descriptor limit.
 */
#include "config.h"

#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "super_int.h"

/* KILL: to end children that run as another user.  SETPCAP: without it the children, which start as root,
 * could not empty their bounding sets. */
#define KEEP                                                                                               \
	(1u << CAP_NET_BIND_SERVICE | 1u << CAP_NET_ADMIN | 1u << CAP_SETUID | 1u << CAP_SETGID |          \
	    1u << CAP_KILL | 1u << CAP_SETPCAP)

int
caps_reduce(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { { 0 } };

	if (geteuid() != 0)
		return 0;
	if (syscall(SYS_capget, &head, data) < 0)
		return -errno;
	/* The bounding set, too: exec as uid 0 would give everything back.  EPERM where a container has
	 * taken SETPCAP away already. */
	for (int c = 0; c < 64; c++)
		if ((c >= 32 || !(KEEP & 1u << c)) && prctl(PR_CAPBSET_READ, c) == 1 &&
		    prctl(PR_CAPBSET_DROP, c) < 0 && errno != EPERM)
			return -errno;
	data[0].permitted &= KEEP;
	data[0].effective = data[0].permitted;
	data[0].inheritable = 0;
	data[1].permitted = data[1].effective = data[1].inheritable = 0;
	if (syscall(SYS_capset, &head, data) < 0)
		return -errno;
	return 0;
}

/*
 * As root without these no child could become another user.  A container that drops all capabilities has
 * to add them; or it starts turnpiked as the user that it is to run as, which needs none.
 */
int
caps_check(bool change_user)
{
	static const struct {
		unsigned cap;
		const char *name, *what;
		bool must;
	} needed[] = {
		{ CAP_SETUID, "CAP_SETUID", "the other processes cannot become another user", true },
		{ CAP_SETGID, "CAP_SETGID", "the other processes cannot become another group", true },
		{ CAP_SETPCAP, "CAP_SETPCAP", "the other processes cannot give up what they may become",
		    true },
		{ CAP_KILL, "CAP_KILL", "a process that hangs cannot be ended and replaced", true },
	};
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (!change_user || syscall(SYS_capget, &head, data) < 0)
		return 0;
	for (unsigned i = 0; i < TP_COUNT(needed); i++)
		if ((data[0].effective & 1u << needed[i].cap) == 0) {
			log_errx(
			    "capabilities: root without %s: %s: add it (--cap-add, CapabilityBoundingSet=), or start turnpiked as an "
			    "ordinary user",
			    needed[i].name, needed[i].what);
			return -EPERM;
		}
	return 0;
}

/* A limit on the size of files counts for shared memory, too, and its signal would end the process
 * without a word. */
void
limit_file_size(void)
{
	struct rlimit r;

	(void)signal(SIGXFSZ, SIG_IGN);
	if (getrlimit(RLIMIT_FSIZE, &r) < 0 || r.rlim_cur == RLIM_INFINITY)
		return;
	r.rlim_cur = r.rlim_max;
	(void)setrlimit(RLIMIT_FSIZE, &r);
	if (r.rlim_max != RLIM_INFINITY)
		log_warnx(
		    "limits: files may have %llu bytes (ulimit -f, LimitFSIZE=): shared memory that is larger cannot be made; use "
		    "unlimited",
		    (unsigned long long)r.rlim_max);
}

static uint64_t
nr_open(void)
{
	FILE *f = fopen("/proc/sys/fs/nr_open", "re");
	unsigned long n = LEDGER_FDS;

	if (f != NULL) {
		if (fscanf(f, "%lu", &n) != 1)
			n = LEDGER_FDS;
		fclose(f);
	}
	return n < LEDGER_FDS ? n : LEDGER_FDS;
}

uint64_t
limit_files(void)
{
	struct rlimit r, more;

	if (getrlimit(RLIMIT_NOFILE, &r) < 0)
		return 1024;
	more.rlim_cur = more.rlim_max = nr_open();
	if (r.rlim_max < more.rlim_max && setrlimit(RLIMIT_NOFILE, &more) == 0)
		return more.rlim_cur; /* root, outside a container */
	r.rlim_cur = r.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &r);
	(void)getrlimit(RLIMIT_NOFILE, &r);
	return r.rlim_cur;
}
