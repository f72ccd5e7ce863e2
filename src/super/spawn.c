/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * spawn.c: fork + exec with an exact list of descriptors and an empty environment.
 *
 * Everything that the supervisor has is close-on-exec, and between fork and exec the child takes the flag
 * off what it is to keep; but not the sockets in the shards' windows: a worker with ten thousand of them
 * would make as many calls while its packets wait.  Of these the child closes all windows that are not
 * its own, each with one call.  Only async-signal-safe calls here.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "super_int.h"

#define ENV_MAX 16

static const char *const sanitizer_env[] = {
#ifdef TP_SANITIZER
	"ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS",
#endif
	NULL
};

static unsigned
copy_env(char *env[], unsigned n, const char *const *names)
{
	extern char **environ;

	for (; names != NULL && *names != NULL; names++) {
		size_t len = strlen(*names);
		for (char **e = environ; e != NULL && *e != NULL && n < ENV_MAX; e++)
			if (strncmp(*e, *names, len) == 0 && (*e)[len] == '=')
				env[n++] = *e;
	}
	env[n] = NULL;
	return n;
}

static void
keep(int fd)
{
	if (fd >= 0)
		(void)fcntl(fd, F_SETFD, 0);
}

/* Closes [from, to).  No child gets a descriptor that is not its own. */
static void
close_all(unsigned from, unsigned to)
{
	if (from >= to || syscall(SYS_close_range, from, to - 1, 0) == 0)
		return;
	for (unsigned fd = from; fd < to; fd++)
		(void)close((int)fd);
}

/* Before anything is kept: all but the windows goes with exec, also descriptors without close-on-exec. */
static void
mark_all(unsigned to)
{
	struct rlimit most = { 65536, 65536 };

	if (syscall(SYS_close_range, CHILD_FD_LOG + 1, to - 1, CLOSE_RANGE_CLOEXEC) == 0)
		return;
	/* A container that knows no such call: one by one. */
	(void)getrlimit(RLIMIT_NOFILE, &most);
	for (unsigned fd = CHILD_FD_LOG + 1; fd < to && fd < most.rlim_cur; fd++)
		(void)fcntl((int)fd, F_SETFD, FD_CLOEXEC);
}

static void
leave_windows(const struct spawn *s)
{
	unsigned first = s->win->first, base = first + s->first_shard * s->win->span,
		 end = base + s->shard_count * s->win->span;

	if (s->shard_count == 0)
		base = end = first;
	close_all(first, base);
	close_all(end, s->ledger->fd_max > end ? s->ledger->fd_max : end);
	/* Reserved siblings are the supervisor's until a client has the token. */
	for (unsigned fd = base; fd < end && fd < s->ledger->fd_max && s->ledger->reserved_sockets > 0;
	     fd++)
		if (s->ledger->fd[fd].kind == LEDGER_RESERVED)
			(void)close((int)fd);
}

static void
reset_signals(void)
{
	struct sigaction sa = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int i = 1; i < 32; i++)
		if (i != SIGKILL && i != SIGSTOP)
			(void)sigaction(i, &sa, NULL);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static void
say(int to, const char *a, const char *b)
{
	char line[512];
	int n = snprintf(line, sizeof line, "%s: %s: %s\n", a, b, strerror(errno));

	if (n > 0 && write(to, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1) < 0)
		return;
}

static void __attribute__((noreturn)) child(const struct spawn *s, char *const env[], pid_t parent)
{
	int err = STDERR_FILENO;

	/* A worker without its supervisor must not live on: a new one would start a second generation.
	 * (Children that change their uid have to set this again, the kernel clears it then.) */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(127);
	reset_signals();
	if (s->reduce && caps_reduce() < 0) {
		say(err, s->argv[0], "cannot give up capabilities");
		_exit(127);
	}
	if (dup2(s->control, CHILD_FD_CONTROL) < 0 || (s->log >= 0 && dup2(s->log, CHILD_FD_LOG) < 0)) {
		say(err, s->argv[0], "dup2");
		_exit(127);
	}
	mark_all(s->win != NULL ? s->win->first : UINT32_MAX);
	for (unsigned i = 0; i < s->authd_count; i++)
		keep(s->keep[i]);
	if (s->win != NULL)
		leave_windows(s);
	/* 0 and 1 are /dev/null in the supervisor.  A failing exec is still told to the process that
	 * started this one. */
	if (!s->keep_stderr) {
		err = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, CHILD_FD_LOG + 1);
		(void)dup2(STDOUT_FILENO, STDERR_FILENO);
	}
	if (s->binary >= 0)
		(void)syscall(SYS_execveat, s->binary, "", s->argv, env, AT_EMPTY_PATH);
	else
		execve(s->path, s->argv, env);
	say(err, s->argv[0], s->path);
	_exit(127);
}

pid_t
spawn_child(const struct spawn *s)
{
	char *env[ENV_MAX + 1];
	pid_t parent = getpid(), pid;

	copy_env(env, copy_env(env, 0, s->pass_env), sanitizer_env);
	/* Signals stay blocked until the child has reset its handlers: none of ours runs there. */
	if (s->sibling) {
		parent = getppid();
		pid = (pid_t)syscall(SYS_clone, CLONE_PARENT | (s->pid != NULL ? CLONE_PARENT_SETTID : 0),
		    NULL, s->pid, NULL, NULL);
	} else {
		pid = fork();
	}
	if (pid < 0)
		return -errno;
	if (pid == 0)
		child(s, env, parent);
	return pid;
}
