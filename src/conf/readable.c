/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * readable.c: by which rights a file is read.
 *
 * A check, a start and a reload read with the same rights: those of root without its power over others'
 * files, then those of the file's owner, then those of the user that the daemon runs as with its groups.
 * So a key of root's, of the service user's, of a shared group's, or one that an ACL opens, is readable,
 * and nothing that a check can read fails a start.  Without root there is only the user itself.
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "conf_int.h"

#define GROUPS_MAX 256
#define OPEN_FLAGS (O_CLOEXEC | O_NONBLOCK | O_NOCTTY)

struct as {
	uid_t uid;
	gid_t gid;
	int count;
	gid_t groups[GROUPS_MAX];
};

void
conf_rights_reduce(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2];
	const uint32_t without = 1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH | 1u << CAP_FOWNER;

	if (geteuid() != 0 || syscall(SYS_capget, &head, caps) < 0)
		return;
	caps[0].effective &= ~without;
	caps[0].permitted &= ~without;
	(void)syscall(SYS_capset, &head, caps);
}

/* The groups are those of `as` while it reads.  The way back cannot fail for root; if it does, nothing
 * may go on. */
static int
open_as(const struct as *as, const char *path, int flags)
{
	gid_t was[GROUPS_MAX];
	int count = getgroups(GROUPS_MAX, was), fd = -EACCES;

	if (count < 0 || setgroups((size_t)as->count, as->groups) < 0)
		return -EACCES;
	if (setegid(as->gid) == 0 && seteuid(as->uid) == 0) {
		fd = open(path, flags);
		if (fd < 0)
			fd = -errno;
	}
	if (seteuid(0) < 0 || setegid(getgid()) < 0 || setgroups((size_t)count, was) < 0)
		abort();
	return fd;
}

/* The user that the daemon runs as, as far as it is known by now. */
static bool
service_user(const struct load *l, struct as *as)
{
	const struct passwd *pw = getpwnam(l->conf->user);

	if (pw == NULL || pw->pw_uid == 0)
		return false;
	as->uid = pw->pw_uid;
	as->gid = pw->pw_gid;
	as->count = GROUPS_MAX;
	if (getgrouplist(pw->pw_name, pw->pw_gid, as->groups, &as->count) < 0)
		as->count = GROUPS_MAX;
	return true;
}

/* A handle on a file whose directories one of the two may enter, opened for reading by the other's
 * rights. */
static int
open_handle(const char *path, int handle, bool has_user, const struct as *user)
{
	char name[40];
	struct stat st;
	struct as owner;
	int fd = -EACCES;

	snprintf(name, sizeof name, "/proc/self/fd/%d", handle);
	if (fstat(handle, &st) < 0)
		return -EACCES;
	if (st.st_uid == 0)
		fd = open(name, O_RDONLY | OPEN_FLAGS);
	owner = (struct as){ .uid = st.st_uid, .gid = st.st_gid, .count = 0 };
	if (fd < 0 && st.st_uid != 0)
		fd = open_as(&owner, name, O_RDONLY | OPEN_FLAGS);
	if (fd < 0 && has_user)
		fd = open_as(user, name, O_RDONLY | OPEN_FLAGS);
	if (fd < 0 && has_user)
		fd = open_as(user, path, O_RDONLY | OPEN_FLAGS);
	return fd < 0 ? -EACCES : fd;
}

int
readable_open(const struct load *l, const char *path)
{
	struct as user;
	bool has_user;
	int fd = open(path, O_RDONLY | OPEN_FLAGS), handle;

	if (fd >= 0 || errno != EACCES || geteuid() != 0)
		return fd >= 0 ? fd : -errno;
	has_user = service_user(l, &user);
	handle = open(path, O_PATH | O_CLOEXEC);
	if (handle < 0 && has_user)
		handle = open_as(&user, path, O_PATH | O_CLOEXEC);
	if (handle < 0)
		return -EACCES;
	fd = open_handle(path, handle, has_user, &user);
	close(handle);
	return fd;
}

/* ---- other users of this host ----------------------------------------------------------------------- */

/* The kernel's number of the first process namespace: a host, not a container. */
#define HOST_PID_NAMESPACE "pid:[4026531836]"

static bool
in_container(void)
{
	char name[64];
	ssize_t n = readlink("/proc/self/ns/pid", name, sizeof name - 1);

	if (n <= 0)
		return false;
	name[n] = '\0';
	return strcmp(name, HOST_PID_NAMESPACE) != 0;
}

/* Every process is root's, ours, or the service user's. */
static bool
is_process_ours(const struct stat *st, bool has_user, const struct as *user)
{
	return st->st_uid == 0 || st->st_uid == geteuid() || (has_user && st->st_uid == user->uid);
}

bool
readable_is_alone(const struct load *l)
{
	struct as user;
	bool has_user = service_user(l, &user), alone = in_container();
	DIR *d = alone ? opendir("/proc") : NULL;
	struct dirent *e;
	struct stat st;

	if (d == NULL)
		return false;
	while (alone && (e = readdir(d)) != NULL)
		if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && fstatat(dirfd(d), e->d_name, &st, 0) == 0)
			alone = is_process_ours(&st, has_user, &user);
	closedir(d);
	return alone;
}

void
readable_owner(struct load *l, const struct node *at, const char *path, const struct stat *st)
{
	struct owned *o;

	if (st->st_uid == 0 || st->st_uid == geteuid())
		return;
	o = load_alloc(l, sizeof *o);
	*o = (struct owned){ .at = at, .path = path, .uid = st->st_uid, .next = l->owned };
	l->owned = o;
}

void
readable_check(struct load *l)
{
	struct as user;
	bool has_user = service_user(l, &user);

	for (const struct owned *o = l->owned; o != NULL; o = o->next) {
		const struct passwd *pw;

		if (has_user && o->uid == user.uid)
			continue;
		pw = getpwuid(o->uid);
		load_warn(l, o->at,
		    "%s: belongs to user %s (%u), and that user can change what this daemon does: chown root it",
		    o->path, pw != NULL ? pw->pw_name : "without a name", (unsigned)o->uid);
	}
}
