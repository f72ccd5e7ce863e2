/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * waiting.c: the process that starts the supervisor and waits.  See waiting.h.
 *
 * Order of a death: it is written to the page, the supervisor is woken, then the process is reaped.  So a
 * pid that is not in the page is not free for another process.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "waiting.h"

#define SOON_MS 10000 /* a death within this after the start belongs to a streak */
#define AGAIN_MS                                                                                           \
	20 /* pause after a death by SIGKILL from outside: an out-of-memory killer does not make it spin */
#define BACKOFF_MS 100 /* from the third death of a streak on, doubled each time */
#define ENV_MAX    256
#define BACK_AFTER 2 /* deaths of a new program until the one before it is executed again */

/* ---- the page ----------------------------------------------------------------------------------- */

static struct waiting *
map(int fd)
{
	struct waiting *w = mmap(NULL, WAITING_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return w == MAP_FAILED ? NULL : w;
}

/* Is there a page of this layout?  By its seals, before it is mapped: what is shorter ends the process
 * that reads it. */
static struct waiting *
inherited(int fd)
{
	struct waiting *w = NULL;

	if (fd >= 0 && (fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK) != 0 &&
	    lseek(fd, 0, SEEK_END) == (off_t)WAITING_SIZE)
		w = map(fd);
	if (w != NULL && (w->magic != WAITING_MAGIC || w->layout != WAITING_LAYOUT)) {
		munmap(w, WAITING_SIZE);
		w = NULL;
	}
	return w;
}

struct waiting *
waiting_page(int *fd)
{
	struct waiting *w = inherited(*fd);

	if (w != NULL) {
		(void)fcntl(*fd, F_SETFD, FD_CLOEXEC);
		return w;
	}
	*fd = memfd_create("turnpike-waiting", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (*fd < 0 || ftruncate(*fd, WAITING_SIZE) < 0 || fcntl(*fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0 ||
	    (w = map(*fd)) == NULL)
		return NULL;
	w->magic = WAITING_MAGIC;
	w->layout = WAITING_LAYOUT;
	return w;
}

bool
waiting_program_add(struct waiting_program *p, const char *text)
{
	size_t len = strlen(text) + 1, at = 0;

	for (uint32_t i = 0; i < p->count; i++)
		at += strlen(p->text + at) + 1;
	if (p->count >= WAITING_ARGS / 128 || len > sizeof p->text - at)
		return false;
	memcpy(p->text + at, text, len);
	p->count++;
	return true;
}

/* ---- another program ---------------------------------------------------------------------------- */

/* Returns only when it cannot be executed: errno. */
static int
execute(const struct waiting_program *p, int page)
{
	extern char **environ;
	static char page_env[sizeof WAITING_ENV + 12] = WAITING_ENV "=";
	const char *argv[WAITING_ARGS / 128 + 1], *env[ENV_MAX];
	size_t at = strlen(p->text) + 1, len = sizeof WAITING_ENV, e = 0;
	uint32_t n = 0;

	for (char **x = environ; *x != NULL && e < ENV_MAX - 2; x++)
		if (strncmp(*x, page_env, len) != 0)
			env[e++] = *x;
	page_env[len] = (char)('0' + page / 100 % 10);
	page_env[len + 1] = (char)('0' + page / 10 % 10);
	page_env[len + 2] = (char)('0' + page % 10);
	env[e++] = page_env;
	env[e] = NULL;

	for (uint32_t i = 1; i < p->count; i++) {
		argv[n++] = p->text + at;
		at += strlen(p->text + at) + 1;
	}
	argv[n] = NULL;
	if (p->fd > 0)
		(void)syscall(SYS_execveat, p->fd, "", argv, env, AT_EMPTY_PATH);
	else
		(void)syscall(SYS_execve, p->text, argv, env);
	return errno;
}

static void
stay_open(int fd, bool stay)
{
	(void)fcntl(fd, F_SETFD, stay ? 0 : FD_CLOEXEC);
}

static void
change_program(struct waiting *w, int fd)
{
	atomic_store(&w->end, WAITING_DIED);
	stay_open(fd, true);
	w->streak = 0;
	w->exec_error = execute(&w->next, fd);
	stay_open(fd, false);
}

static void
change_back(struct waiting *w, int fd)
{
	static const char why[] = "the supervisor of the new version does not come up";

	w->next = w->back;
	w->back.count = 0;
	memcpy(w->failed, why, sizeof why);
	change_program(w, fd);
}

/* ---- time ---------------------------------------------------------------------------------------- */

static uint64_t
now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static unsigned
pause_of(const struct waiting *w)
{
	if (WIFSIGNALED(w->status) && WTERMSIG(w->status) == SIGKILL)
		return w->died_ms - w->started_ms < AGAIN_MS ? AGAIN_MS : 0;
	return w->streak < 3 ? 0 : BACKOFF_MS << (w->streak - 3);
}

/* ---- the supervisor ------------------------------------------------------------------------------- */

static void
start(struct waiting *w, int (*work)(void *arg), void *arg)
{
	pid_t parent = getpid();
	long pid;

	w->started_ms = now_ms();
	/* The kernel stores the pid before the process runs. */
	pid = syscall(SYS_clone, CLONE_FILES | CLONE_PARENT_SETTID | SIGCHLD, NULL, &w->work, NULL, NULL);
	if (pid == 0) {
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
			_exit(1);
		exit(work(arg));
	}
	if (pid < 0)
		atomic_store(&w->work, 0);
}

/* The supervisor has ended.  True: it is started again after *wait_ms; false: the daemon ends with
 * *code. */
static bool
ended(struct waiting *w, int fd, int status, unsigned *wait_ms, int *code)
{
	static const char loop[] =
	    "turnpiked: the supervisor ended 10 times in a row soon after its start: the daemon ends\n";

	*wait_ms = 0;
	atomic_store(&w->work, 0);
	switch (atomic_load(&w->end)) {
	case WAITING_STOPPED:
		*code = w->code;
		return false;
	case WAITING_EXEC:
		change_program(w, fd); /* returns only when that is impossible */
		return true;
	}
	w->status = status;
	w->died_ms = now_ms();
	w->deaths++;
	if (!atomic_load(&w->adoptable) && atomic_load(&w->state_fd) == 0) {
		*code = WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : 70;
		return false;
	}
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		w->streak = w->died_ms - w->started_ms < SOON_MS ? w->streak + 1 : 1;
	if (w->streak >= BACK_AFTER && w->back.count > 0)
		change_back(w, fd);
	if (w->streak >= WAITING_STREAK_MAX) {
		*code = 70;
		(void)!write(STDERR_FILENO, loop, sizeof loop - 1);
		return false;
	}
	*wait_ms = pause_of(w);
	return true;
}

/* ---- the others ------------------------------------------------------------------------------------ */

/* Records and reaps children that have ended; of the supervisor (work; 0: none) the wait status is
 * stored.  1: the supervisor ended; 0: not; -EAGAIN: the page is full until the supervisor has read it. */
static int
reap(struct waiting *w, pid_t work, int *status)
{
	bool work_ended = false;

	for (;;) {
		uint64_t n = atomic_load(&w->written);
		siginfo_t si = { .si_pid = 0 };
		int how;

		if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0 || si.si_pid == 0)
			return work_ended;
		how = si.si_code == CLD_EXITED ? W_EXITCODE(si.si_status, 0) : W_EXITCODE(0, si.si_status);
		if (si.si_pid == work) {
			*status = how;
			work_ended = true;
		} else if (n - atomic_load(&w->taken) >= WAITING_DEATHS) {
			return work_ended ? 1 : -EAGAIN;
		} else {
			w->death[n % WAITING_DEATHS] = (struct waiting_death){ .pid = si.si_pid,
				.status = how };
			atomic_store(&w->written, n + 1);
			if (!work_ended && work > 0)
				(void)kill(work, SIGCHLD);
		}
		(void)waitpid(si.si_pid, NULL, 0);
	}
}

static void
block(sigset_t *set)
{
	static const int passed_on[] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD };
	struct sigaction sa = { .sa_handler = SIG_DFL };

	/* An ignored SIGCHLD, inherited from the caller, would make deaths invisible.  SIGXFSZ:
	 * limit_file_size(). */
	for (int i = 1; i < NSIG; i++)
		if (i != SIGKILL && i != SIGSTOP && i != SIGXFSZ)
			(void)sigaction(i, &sa, NULL);
	sigemptyset(set);
	for (size_t i = 0; i < sizeof passed_on / sizeof passed_on[0]; i++)
		sigaddset(set, passed_on[i]);
	(void)sigprocmask(SIG_SETMASK, set, NULL);
}

int
waiting_run(struct waiting *w, int fd, int (*work)(void *arg), void *arg, int (*reduce)(void))
{
	struct timespec no_end = { .tv_sec = 3600 }, span = no_end;
	bool reduced = false, again;
	unsigned wait_ms = 0;
	int code = 0, status, signo, e;
	sigset_t set;

	block(&set);
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	start(w, work, arg);
	for (;;) {
		signo = sigtimedwait(&set, NULL, &span);
		span = no_end;
		if (signo > 0 && signo != SIGCHLD) {
			/* The bit outlives a supervisor that dies before it has acted. */
			(void)atomic_fetch_or(&w->asked, 1u << signo);
			wait_ms = 0;
			if (w->work > 0)
				(void)kill(w->work, signo);
		}
		if (!reduced && atomic_load(&w->prepared))
			reduced = reduce() == 0;
		again = w->work == 0;
		/* Also in the pause before a start: the signal of a death in it does not come a second
		 * time. */
		e = reap(w, w->work, &status);
		if (e == -EAGAIN)
			span = (struct timespec){ .tv_nsec = 50000000 };
		if (e == 1) {
			if (!ended(w, fd, status, &wait_ms, &code))
				return code;
			again = true;
		}
		if (again && now_ms() - w->died_ms >= wait_ms)
			start(w, work, arg);
		if (w->work == 0)
			span = (struct timespec){ .tv_nsec = 10000000 };
	}
}
