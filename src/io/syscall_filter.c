/* SPDX-License-Identifier: BSD-3-Clause */
/* syscall_filter.c: the rows of syscalls.def that one role has, as a seccomp program. */
#include "config.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tp/io.h"

#if defined(__x86_64__)
#define FILTER_ARCH AUDIT_ARCH_X86_64
#define FILTER_X32  0x40000000u /* numbers of the x32 ABI pass the same audit word */
#elif defined(__aarch64__)
#define FILTER_ARCH AUDIT_ARCH_AARCH64
#endif

#if defined(TP_SANITIZER) || !defined(FILTER_ARCH)
/* A sanitizer's runtime makes calls of its own; an unknown machine has other numbers. */
int
sandbox_seccomp(unsigned role)
{
	(void)role;
	return 0;
}
#else

enum check { CHECK_ANY, CHECK_EQ, CHECK_CLEAR };
struct rule {
	uint32_t nr, roles;
	struct {
		uint8_t arg, check;
		uint32_t value;
	} on[2];
};

#define OWN_PID UINT32_MAX /* stands for the number of the process that installs the filter */
#define ANY                                                                                                \
	{                                                                                                  \
		0, CHECK_ANY, 0                                                                            \
	}
#define EQ(n, v)                                                                                           \
	{                                                                                                  \
		n, CHECK_EQ, v                                                                             \
	}
#define CLEAR(n, v)                                                                                        \
	{                                                                                                  \
		n, CHECK_CLEAR, v                                                                          \
	}
#define WORKER                 1u << ROLE_WORKER
#define TLSD                   1u << ROLE_TLSD
#define AUTHD                  1u << ROLE_AUTHD
#define ADMIN                  1u << ROLE_ADMIN
#define DATABASES              1u << SANDBOX_DATABASES
#define ALL                    (WORKER | TLSD | AUTHD | ADMIN | DATABASES)
#define SYSCALL(name, a, b, r) { SYS_##name, (r), { a, b } },

static const struct rule rules[] = {
#include "tp/tbl/syscalls.def"
};

struct program {
	struct sock_filter *at, *end;
};

static void
emit(struct program *p, struct sock_filter f)
{
	assert(p->at < p->end);
	*p->at++ = f;
}

static unsigned
rule_len(const struct rule *r)
{
	unsigned n = 2; /* the number, the verdict */

	for (unsigned i = 0; i < 2; i++)
		if (r->on[i].check != CHECK_ANY)
			n += 2;
	return r->on[0].check == CHECK_ANY && r->on[1].check == CHECK_ANY ? n : n + 1;
}

static uint32_t
value_of(uint32_t v)
{
	return v == OWN_PID ? (uint32_t)getpid() : v;
}

/*
 * One row:	jeq nr, 0, end		A holds the number
 *		ld arg; jeq/jset ...	for each check, to the reload when it fails
 *		ret ALLOW
 *		ld nr			A holds the number again for the next row
 */
static void
emit_rule(struct program *p, const struct rule *r)
{
	struct sock_filter *start = p->at;
	unsigned len = rule_len(r);
	bool checks = len > 2;

	emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, r->nr, 0, (uint8_t)(len - 1)));
	for (unsigned i = 0; i < 2; i++) {
		if (r->on[i].check == CHECK_ANY)
			continue;
		uint32_t off = (uint32_t)(offsetof(struct seccomp_data, args) +
		    r->on[i].arg * sizeof(uint64_t));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
		off += 4;
#endif
		emit(p, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, off));
		uint8_t fail = (uint8_t)(start + len - 2 - p->at); /* to the reload, the last instruction */
		if (r->on[i].check == CHECK_EQ)
			emit(p,
			    (struct sock_filter)BPF_JUMP(
				BPF_JMP | BPF_JEQ | BPF_K, value_of(r->on[i].value), 0, fail));
		else
			emit(p,
			    (struct sock_filter)BPF_JUMP(
				BPF_JMP | BPF_JSET | BPF_K, r->on[i].value, fail, 0));
	}
	emit(p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
	if (checks)
		emit(p,
		    (struct sock_filter)BPF_STMT(
			BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
	assert(p->at == start + len);
}

int
sandbox_seccomp(unsigned role)
{
	size_t room = 8 + TP_COUNT(rules) * 7;
	struct sock_filter *code = calloc(room, sizeof *code);
	struct program p = { code, code + room };

	if (code == NULL)
		return -ENOMEM;
	emit(&p,
	    (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)));
	emit(&p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, FILTER_ARCH, 1, 0));
	emit(&p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
	emit(&p, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
#ifdef FILTER_X32
	emit(&p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, FILTER_X32, 0, 1));
	emit(&p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
#endif
	for (unsigned i = 0; i < TP_COUNT(rules); i++)
		if ((rules[i].roles & 1u << role) != 0)
			emit_rule(&p, &rules[i]);
	/* What the client libraries of databases call is not ours to list: it fails, and the log says
	 * what did not work. */
	emit(&p,
	    (struct sock_filter)BPF_STMT(BPF_RET | BPF_K,
		role == SANDBOX_DATABASES ? SECCOMP_RET_ERRNO | EPERM : SECCOMP_RET_KILL_PROCESS));
	struct sock_fprog prog = { .len = (unsigned short)(p.at - code), .filter = code };
	int rc = prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0 ? -errno : 0;
	free(code);
	return rc;
}
#endif
