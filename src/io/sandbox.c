/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sandbox: what a child gives up before it serves: user, core dumps, files, system calls.
 */
#include "config.h"

#include <errno.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tp/io.h"

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
	/* The bounding set goes first: afterwards nobody may change it. */
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

int
sandbox_harden(int parent)
{
	struct rlimit none = { 0, 0 };

	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return -errno;
#ifndef TP_SANITIZER			/* the leak checker traces its own process */
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
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif
#define FS_WRITE_FILE (1u << 1)
#define FS_MAKE_REG   (1u << 8)

/* The kernel's struct landlock_path_beneath_attr and LANDLOCK_RULE_PATH_BENEATH. */
struct beneath { uint64_t access; int32_t fd; } __attribute__((packed));
#define RULE_BENEATH 1

static int
allow_log(int ruleset, int dir)
{
	struct beneath b = { FS_WRITE_FILE | FS_MAKE_REG, dir };

	return dir < 0 || syscall(SYS_landlock_add_rule, ruleset, RULE_BENEATH, &b, 0) == 0 ? 0 : -errno;
}

int
sandbox_landlock(int log_dir)
{
#ifdef TP_SANITIZER
	(void)log_dir;
	(void)allow_log;
	return -ENOSYS;			/* the leak checker reads /proc */
#endif
	/* The kernel's struct, as far as it is known today; an older kernel takes the shorter form. */
	struct { uint64_t fs, net, scoped; } attr = { 0, 0, 0 };
	size_t size = sizeof attr.fs;
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, 1 /* LANDLOCK_CREATE_RULESET_VERSION */);

	if (abi < 1)
		return abi < 0 ? -errno : -ENOSYS;
	attr.fs = (1u << 13) - 1;		/* ABI 1: execute to make_sym */
	if (abi >= 2)
		attr.fs |= 1u << 13;		/* refer */
	if (abi >= 3)
		attr.fs |= 1u << 14;		/* truncate */
	if (abi >= 4) {
		attr.net = 3;			/* bind and connect of TCP */
		size = sizeof attr.fs + sizeof attr.net;
	}
	if (abi >= 5)
		attr.fs |= 1u << 15;		/* ioctl on devices */
	if (abi >= 6) {
		attr.scoped = 3;		/* abstract unix sockets, signals */
		size = sizeof attr;
	}
	int fd = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
	if (fd < 0)
		return -errno;
	int rc = allow_log(fd, log_dir);
	if (rc == 0 && syscall(SYS_landlock_restrict_self, fd, 0) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

/* ---- system calls ---------------------------------------------------------------------------------- */

#if defined(__x86_64__)
#define SANDBOX_ARCH AUDIT_ARCH_X86_64
#define SANDBOX_X32  0x40000000u	/* numbers of the x32 ABI pass the same audit word */
#elif defined(__aarch64__)
#define SANDBOX_ARCH AUDIT_ARCH_AARCH64
#endif

#define ANY(nr)               { nr, { { 0, SANDBOX_ANY, 0 }, { 0, SANDBOX_ANY, 0 } } }
#define EQ(nr, n, v)          { nr, { { n, SANDBOX_EQ, v }, { 0, SANDBOX_ANY, 0 } } }
#define CLEAR(nr, n, v)       { nr, { { n, SANDBOX_CLEAR, v }, { 0, SANDBOX_ANY, 0 } } }

#ifdef SANDBOX_ARCH
static const struct sandbox_rule common[] = {
	ANY(SYS_read), ANY(SYS_write), ANY(SYS_writev), ANY(SYS_close), ANY(SYS_recvmsg), ANY(SYS_sendmsg),
	ANY(SYS_recvfrom), ANY(SYS_sendto), ANY(SYS_epoll_pwait), ANY(SYS_epoll_ctl), ANY(SYS_ppoll),
#ifdef SYS_epoll_wait
	ANY(SYS_epoll_wait), ANY(SYS_poll),
#endif
	ANY(SYS_clock_gettime), ANY(SYS_clock_nanosleep), ANY(SYS_gettimeofday), ANY(SYS_getrandom),
	ANY(SYS_brk), ANY(SYS_munmap), ANY(SYS_mremap), ANY(SYS_madvise),
	CLEAR(SYS_mmap, 2, PROT_EXEC), CLEAR(SYS_mprotect, 2, PROT_EXEC),
	EQ(SYS_futex, 1, FUTEX_WAIT), EQ(SYS_futex, 1, FUTEX_WAKE), EQ(SYS_futex, 1, FUTEX_WAIT_BITSET),
	EQ(SYS_futex, 1, FUTEX_WAIT | FUTEX_PRIVATE_FLAG), EQ(SYS_futex, 1, FUTEX_WAKE | FUTEX_PRIVATE_FLAG),
	ANY(SYS_rt_sigprocmask), ANY(SYS_rt_sigreturn), ANY(SYS_sigaltstack), ANY(SYS_restart_syscall),
	ANY(SYS_sched_yield), ANY(SYS_getpid), ANY(SYS_gettid), ANY(SYS_getppid), ANY(SYS_fstat),
#ifdef SYS_newfstatat
	/* How glibc spells fstat(fd); a path would have to be opened elsewhere, and Landlock lets none through. */
	EQ(SYS_newfstatat, 3, 0x1000 /* AT_EMPTY_PATH */),
#endif
	EQ(SYS_fcntl, 1, 1 /* F_GETFD */), EQ(SYS_fcntl, 1, 3 /* F_GETFL */),
	ANY(SYS_exit), ANY(SYS_exit_group),
};

struct program { struct sock_filter *at, *end; };

static void
emit(struct program *p, struct sock_filter f)
{
	assert(p->at < p->end);
	*p->at++ = f;
}

static unsigned
rule_len(const struct sandbox_rule *r)
{
	unsigned n = 2;			/* the number, the verdict */

	for (unsigned i = 0; i < 2; i++)
		if (r->on[i].check != SANDBOX_ANY)
			n += 2;
	return r->on[0].check == SANDBOX_ANY && r->on[1].check == SANDBOX_ANY ? n : n + 1;
}

/*
 * One row:	jeq nr, 0, end		A holds the number
 *		ld arg; jeq/jset ...	for each check, to the reload when it fails
 *		ret ALLOW
 *		ld nr			A holds the number again for the next row
 */
static void
emit_rule(struct program *p, const struct sandbox_rule *r)
{
	struct sock_filter *start = p->at;
	unsigned len = rule_len(r);
	bool checks = len > 2;

	emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, r->nr, 0, (uint8_t)(len - 1)));
	for (unsigned i = 0; i < 2; i++) {
		if (r->on[i].check == SANDBOX_ANY)
			continue;
		uint32_t off = (uint32_t)(offsetof(struct seccomp_data, args) + r->on[i].arg * sizeof(uint64_t));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
		off += 4;
#endif
		emit(p, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, off));
		uint8_t fail = (uint8_t)(start + len - 2 - p->at);	/* to the reload, the last instruction */
		if (r->on[i].check == SANDBOX_EQ)
			emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, r->on[i].value, 0, fail));
		else
			emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, r->on[i].value, fail, 0));
	}
	emit(p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
	if (checks)
		emit(p, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
	assert(p->at == start + len);
}

static int
install(const struct sandbox_rule *more, unsigned n, uint32_t otherwise)
{
	/* abort() must be able to end this process, and no call may signal another one. */
	struct sandbox_rule own = EQ(SYS_tgkill, 0, (uint32_t)getpid());
	size_t room = 8 + (TP_COUNT(common) + n + 1) * 7;
	struct sock_filter *code = calloc(room, sizeof *code);
	struct program p = { code, code + room };

	if (code == NULL)
		return -ENOMEM;
	emit(&p, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)));
	emit(&p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SANDBOX_ARCH, 1, 0));
	emit(&p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
	emit(&p, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
#ifdef SANDBOX_X32
	emit(&p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, SANDBOX_X32, 0, 1));
	emit(&p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
#endif
	/* The caller's rows first: its data path is what is called most. */
	for (unsigned i = 0; i < n; i++)
		emit_rule(&p, &more[i]);
	for (unsigned i = 0; i < TP_COUNT(common); i++)
		emit_rule(&p, &common[i]);
	emit_rule(&p, &own);
	emit(&p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, otherwise));
	struct sock_fprog prog = { .len = (unsigned short)(p.at - code), .filter = code };
	int rc = prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0 ? -errno : 0;
	free(code);
	return rc;
}
#endif

static int
filter(const struct sandbox_rule *more, unsigned n, uint32_t otherwise)
{
#if defined(TP_SANITIZER) || !defined(SANDBOX_ARCH)
	/* A sanitizer's runtime makes calls of its own; an unknown machine has other numbers. */
	(void)more;
	(void)n;
	(void)otherwise;
	return 0;
#else
	return install(more, n, otherwise);
#endif
}

int
sandbox_seccomp(const struct sandbox_rule *more, unsigned n)
{
	return filter(more, n, SECCOMP_RET_KILL_PROCESS);
}

int
sandbox_seccomp_refuse(const struct sandbox_rule *more, unsigned n)
{
	return filter(more, n, SECCOMP_RET_ERRNO | EPERM);
}
