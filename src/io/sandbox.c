/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sandbox.c: what a child gives up before it serves: user, core dumps, files.  (System calls:
 * syscall_filter.c.)
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tp/io.h"

#define SPEND_FIRST 100 /* of 1000: a tenth of the memory that there is */

/* ---- user ------------------------------------------------------------------------------------- */

int
sandbox_become(uint32_t uid, uint32_t gid)
{
	uid_t r, e, s;
	gid_t rg, eg, sg;

	if (uid == 0 || gid == 0)
		return -EINVAL;
	if (prctl(PR_SET_KEEPCAPS, 0) < 0)
		return -errno;
	/* The bounding set goes first: afterwards it cannot be changed. */
	for (unsigned long cap = 0; cap < 64; cap++)
		if (prctl(PR_CAPBSET_DROP, cap) < 0 && errno != EINVAL)
			return -errno;
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return -errno;
	if (getresuid(&r, &e, &s) < 0 || getresgid(&rg, &eg, &sg) < 0)
		return -errno;
	if (r != uid || e != uid || s != uid || rg != gid || eg != gid || sg != gid || setuid(0) == 0)
		return -EPERM;
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2];
	if (syscall(SYS_capget, &head, caps) < 0)
		return -errno;
	for (unsigned i = 0; i < 2; i++)
		if ((caps[i].effective | caps[i].permitted | caps[i].inheritable) != 0)
			return -EPERM;
	return 0;
}

void
sandbox_spend_first(void)
{
	int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
	char text[16] = "";

	if (fd < 0)
		return;
	if (pread(fd, text, sizeof text - 1, 0) > 0) {
		long score = strtol(text, NULL, 10) + SPEND_FIRST;
		int n = snprintf(text, sizeof text, "%ld", score > 1000 ? 1000 : score);

		if (pwrite(fd, text, (size_t)n, 0) < 0) {
			close(fd);
			return; /* as it is then */
		}
	}
	close(fd);
}

int
sandbox_harden(int parent)
{
	struct rlimit none = { 0, 0 };

	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return -errno;
#ifndef TP_SANITIZER /* the leak checker traces its own process */
	if (prctl(PR_SET_DUMPABLE, 0) < 0)
		return -errno;
#endif
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	/* A change of user clears it, so it comes after that; and the parent may have died before. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return -errno;
	return getppid() == parent ? 0 : -ESRCH;
}

/* ---- files -------------------------------------------------------------------------------------- */

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule       445
#define SYS_landlock_restrict_self  446
#endif
#define FS_WRITE_FILE  (1u << 1)
#define FS_READ_FILE   (1u << 2)
#define FS_READ_DIR    (1u << 3)
#define FS_REMOVE_FILE (1u << 5)
#define FS_MAKE_REG    (1u << 8)

/* The kernel's struct landlock_path_beneath_attr and LANDLOCK_RULE_PATH_BENEATH. */
struct beneath {
	uint64_t access;
	int32_t fd;
} __attribute__((packed));
#define RULE_BENEATH 1

static int
allow_log(int ruleset, int dir)
{
	struct beneath b = { FS_WRITE_FILE | FS_MAKE_REG, dir };

	return dir < 0 || syscall(SYS_landlock_add_rule, ruleset, RULE_BENEATH, &b, 0) == 0 ? 0 : -errno;
}

/* A path that does not exist needs no rule. */
static int
allow_path(int ruleset, const char *path, bool writes)
{
	int fd = open(path, O_PATH | O_CLOEXEC), rc;
	struct stat st;

	if (fd < 0)
		return 0;
	struct beneath b = { FS_READ_FILE, fd };
	if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
		b.access |= FS_READ_DIR | (writes ? FS_MAKE_REG | FS_REMOVE_FILE : 0);
	if (writes)
		b.access |= FS_WRITE_FILE;
	rc = syscall(SYS_landlock_add_rule, ruleset, RULE_BENEATH, &b, 0) == 0 ? 0 : -errno;
	close(fd);
	return rc;
}

int
sandbox_landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, 1 /* LANDLOCK_CREATE_RULESET_VERSION */);

	return abi < 0 ? -errno : (int)abi;
}

int
sandbox_landlock(int log_dir)
{
	return sandbox_landlock_reach(&(struct sandbox_reach){ .log_dir = log_dir });
}

int
sandbox_landlock_reach(const struct sandbox_reach *reach)
{
#ifdef TP_SANITIZER
	(void)reach;
	(void)allow_log;
	(void)allow_path;
	return -ENOSYS; /* the leak checker reads /proc */
#endif
	/* The kernel's struct, as far as it is known today; an older kernel takes the shorter form. */
	struct {
		uint64_t fs, net, scoped;
	} attr = { 0, 0, 0 };
	size_t size = sizeof attr.fs;
	int abi = sandbox_landlock_abi();

	if (abi < 1)
		return abi < 0 ? abi : -ENOSYS;
	attr.fs = (1u << 13) - 1; /* ABI 1: execute to make_sym */
	if (abi >= 2)
		attr.fs |= 1u << 13; /* refer */
	if (abi >= 3)
		attr.fs |= reach->write_count > 0 ? 0 : 1u << 14; /* truncate */
	if (abi >= 4) {
		attr.net = reach->connects ? 1 : 3; /* bind and connect of TCP */
		size = sizeof attr.fs + sizeof attr.net;
	}
	if (abi >= 5)
		attr.fs |= 1u << 15; /* ioctl on devices */
	if (abi >= 6) {
		attr.scoped = reach->connects ? 2 : 3; /* abstract unix sockets, signals */
		size = sizeof attr;
	}
	int fd = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
	if (fd < 0)
		return -errno;
	int err = allow_log(fd, reach->log_dir);
	for (unsigned i = 0; err == 0 && i < reach->read_count; i++)
		err = allow_path(fd, reach->read[i], false);
	for (unsigned i = 0; err == 0 && i < reach->write_count; i++)
		err = allow_path(fd, reach->write[i], true);
	if (err == 0 && syscall(SYS_landlock_restrict_self, fd, 0) < 0)
		err = -errno;
	close(fd);
	return err;
}
