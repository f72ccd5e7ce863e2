/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * caps.c: what the supervisor keeps of root's powers, and its descriptor limit.
 */
#include "config.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "super_int.h"

/* KILL: to end children that run as another user.  SETPCAP: without it the children, which start as root, could not
 * empty their bounding sets. */
#define KEEP (1u << CAP_NET_BIND_SERVICE | 1u << CAP_NET_ADMIN | 1u << CAP_SETUID | 1u << CAP_SETGID | \
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
		if ((c >= 32 || !(KEEP & 1u << c)) && prctl(PR_CAPBSET_READ, c) == 1 && prctl(PR_CAPBSET_DROP, c) < 0 &&
		    errno != EPERM)
			return -errno;
	data[0].permitted &= KEEP;
	data[0].effective = data[0].permitted;
	data[0].inheritable = 0;
	data[1].permitted = data[1].effective = data[1].inheritable = 0;
	if (syscall(SYS_capset, &head, data) < 0)
		return -errno;
	return 0;
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
		return more.rlim_cur;		/* root, outside a container */
	r.rlim_cur = r.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &r);
	(void)getrlimit(RLIMIT_NOFILE, &r);
	return r.rlim_cur;
}
