/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * upgrade.c: changes to another image of the supervisor, with every descriptor and child kept.
 *
 *   QUIET   until no child starts or stops and no message waits
 *   PROBE   a child of the new program reads the state and maps every region; nothing has changed so far
 *   exec    the same state once more, and what is not named in it closes itself
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "carry.h"
#include "super_int.h"

#define QUIET_MS 10000
#define PROBE_MS 10000

/* As started, so that a link or a package that is replaced leads to what is installed now. */
void
super_exe(struct super *s)
{
	const char *name = s->o->argc > 0 ? s->o->argv[0] : "";
	char cwd[PATH_MAX];
	ssize_t n = -1;
	int len;

	s->exe_fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	s->exe_path[0] = '\0';
	if (name[0] == '/') {
		text_copy(s->exe_path, sizeof s->exe_path, name);
	} else if (strchr(name, '/') != NULL && getcwd(cwd, sizeof cwd) != NULL) {
		len = snprintf(s->exe_path, sizeof s->exe_path, "%s/%s", cwd, name);
		if (len >= (int)sizeof s->exe_path)
			s->exe_path[0] = '\0';
	} else {
		n = readlink("/proc/self/exe", s->exe_path, sizeof s->exe_path - 1);
		s->exe_path[n > 0 ? n : 0] = '\0';
	}
}

static void
refuse(struct super *s, const char *why)
{
	struct upgrade *u = &s->upgrade;

	if (u->report >= 0)
		close(u->report);
	if (u->state_fd >= 0)
		close(u->state_fd);
	u->report = u->state_fd = -1;
	u->state = UPGRADE_NONE;
	log_errx("upgrade: %s: everything stays as it is", why);
	super_reply(s, u->who, 1, false, "%s: everything stays as it is", why);
	u->who.used = false;
}

static bool
is_quiet(const struct super *s)
{
	if (s->reloading || s->roll.mode != ROLL_NONE)
		return false;
	for (unsigned i = 0; i < s->ledger->child_count; i++) {
		unsigned state = s->ledger->child[i].state;
		if (state == CHILD_STARTING || state == CHILD_STOPPING || s->children.c[i].out_head != NULL)
			return false;
	}
	return true;
}

/* ---- exec ------------------------------------------------------------------------------------------ */

static void
stay_open(void *arg, int fd)
{
	(void)arg;
	if (fd >= 0)
		(void)fcntl(fd, F_SETFD, 0);
}

/* This daemon's command line, made absolute, and what the next program is told. */
static bool
command_line(const struct super *s, struct waiting_program *p, int exe, int state_fd, const char *failed)
{
	const struct super_options *o = s->o;
	char number[16];
	bool fits;

	memset(p, 0, sizeof *p);
	p->fd = exe < 0 ? 0 : exe;
	snprintf(number, sizeof number, "%d", state_fd);
	fits = waiting_program_add(p, s->exe_path) && waiting_program_add(p, s->exe_path) &&
	    waiting_program_add(p, "--config") && waiting_program_add(p, o->config) &&
	    waiting_program_add(p, "--runtime-dir") && waiting_program_add(p, o->runtime_dir) &&
	    waiting_program_add(p, "--state-dir") && waiting_program_add(p, o->state_dir);
	if (strcmp(o->libexec_dir, TP_LIBEXECDIR) != 0)
		fits = fits && waiting_program_add(p, "--libexec-dir") &&
		    waiting_program_add(p, o->libexec_dir);
	if (s->foreground)
		fits = fits && waiting_program_add(p, "--foreground");
	for (unsigned i = 0; i < o->set_count; i++)
		fits = fits && waiting_program_add(p, "--set") && waiting_program_add(p, o->sets[i]);
	fits = fits && waiting_program_add(p, "--resume") && waiting_program_add(p, number);
	if (failed != NULL)
		fits = fits && waiting_program_add(p, "--resume-failed") && waiting_program_add(p, failed);
	return fits;
}

/* Ends this supervisor; the waiting process executes the program, or `back` if that one's supervisor does
 * not come up.  Returns only when the command line is too long. */
static int
become(struct super *s, int exe, int state_fd, const char *failed)
{
	struct waiting *w = s->waiting;

	if (!command_line(s, &w->next, exe, state_fd, failed))
		return -E2BIG;
	if (exe >= 0 ||
	    !command_line(
		s, &w->back, s->exe_fd, state_fd, "the supervisor of the new version does not come up"))
		w->back.count = 0;
	w->failed[0] = '\0';
	w->exec_error = 0;
	held_each(s, true, stay_open, NULL);
	stay_open(NULL, state_fd);
	if (exe >= 0) /* the one that is gone back to has its own */
		for (unsigned i = 0; i <= ROLES; i++)
			(void)fcntl(i < ROLES ? s->binary[i] : s->exe_fd, F_SETFD, FD_CLOEXEC);
	atomic_store(&w->state_fd, state_fd);
	atomic_store(&w->adoptable, 0);
	atomic_store(&w->end, WAITING_EXEC);
	CRASH_POINT("super:exec");
	exit(0);
}

static void
change_over(struct super *s)
{
	char why[WHY_MAX];
	int fd = carry_save(s), err;

	if (fd < 0) {
		refuse(s, "no memory for the state");
		return;
	}
	log_info("upgrade: %s can take over", s->exe_path);
	super_reply(s, s->upgrade.who, 0, true, "%s can take over, and does", s->exe_path);
	err = become(s, -1, fd, NULL);
	close(fd);
	snprintf(why, sizeof why, "%.200s cannot be executed: %s", s->exe_path, strerror(-err));
	refuse(s, why);
}

void
super_go_back(struct super *s, int state_fd, const char *why)
{
	int err;

	log_errx("upgrade: %s: going back to the version before", why);
	err = s->upgrade.back_exe < 0 ? -ENOENT : become(s, s->upgrade.back_exe, state_fd, why);
	log_errx("upgrade: cannot go back: %s", strerror(-err));
}

/* ---- the probe --------------------------------------------------------------------------------------- */

static void
probe(struct super *s)
{
	struct upgrade *u = &s->upgrade;
	char number[16];
	char *argv[] = { s->exe_path, (char *)(uintptr_t) "--libexec-dir",
		(char *)(uintptr_t)s->o->libexec_dir, (char *)(uintptr_t) "--probe-state", number, NULL };
	int keep[HELD_KEEP_MAX], fds[2];
	unsigned n = held_keep_probe(s, keep);

	u->state_fd = carry_save(s);
	if (u->state_fd < 0 || pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0) {
		refuse(s, "no memory or descriptors for a probe");
		return;
	}
	u->report = fds[0];
	keep[n++] = u->state_fd;
	snprintf(number, sizeof number, "%d", u->state_fd);
	struct spawn sp = { .path = s->exe_path,
		.argv = argv,
		.control = fds[1],
		.log = -1,
		.binary = -1,
		.keep = keep,
		.authd_count = n,
		.keep_stderr = s->foreground,
		.sibling = true };
	u->pid = spawn_child(&sp);
	close(fds[1]);
	if (u->pid < 0) {
		refuse(s, "no process for a probe");
		return;
	}
	u->state = UPGRADE_PROBE;
	u->deadline = clock_ms() + PROBE_MS;
}

bool
super_upgrade_reaped(struct super *s, pid_t pid, int status)
{
	struct upgrade *u = &s->upgrade;
	char text[WHY_MAX - 100] = "", why[WHY_MAX];
	ssize_t n;

	if (pid != u->pid || u->state != UPGRADE_PROBE)
		return false;
	u->pid = 0;
	n = read(u->report, text, sizeof text - 1);
	text[n > 0 ? n : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	if (s->phase != SUPER_RUNNING && s->phase != SUPER_DRAINING) {
		refuse(s, "the daemon ends");
	} else if (WIFEXITED(status) && WEXITSTATUS(status) == 0 && strcmp(text, "ok") == 0) {
		close(u->report);
		close(u->state_fd);
		u->report = u->state_fd = -1;
		u->state = UPGRADE_QUIET;
		if (is_quiet(s))
			change_over(s);
	} else if (text[0] != '\0' && strcmp(text, "ok") != 0) {
		snprintf(why, sizeof why, "the new version cannot take over: %s", text);
		refuse(s, why);
	} else if (WIFSIGNALED(status)) {
		snprintf(why, sizeof why,
		    "%.200s was ended by signal %d when it was asked whether it can take over", s->exe_path,
		    WTERMSIG(status));
		refuse(s, why);
	} else {
		snprintf(why, sizeof why,
		    "%.200s does not answer whether it can take over (exit status %d): is it turnpiked?",
		    s->exe_path, WEXITSTATUS(status));
		refuse(s, why);
	}
	return true;
}

void
super_upgrade_again(struct super *s)
{
	struct upgrade *u = &s->upgrade;

	if (u->pid > 1)
		(void)kill(u->pid, SIGKILL);
	u->pid = 0;
	u->report = u->state_fd = -1; /* closed as what nothing names */
	u->state = UPGRADE_QUIET;
	u->deadline = clock_ms() + QUIET_MS;
}

void
super_upgrade_cancel(struct super *s, const char *why)
{
	struct upgrade *u = &s->upgrade;

	if (u->state == UPGRADE_PROBE && u->pid > 1)
		(void)kill(u->pid, SIGKILL);
	if (u->state == UPGRADE_PROBE || u->state == UPGRADE_QUIET)
		refuse(s, why);
	u->state = UPGRADE_NONE;
	u->pid = 0;
}

void
super_upgrade_step(struct super *s)
{
	struct upgrade *u = &s->upgrade;

	if (u->state == UPGRADE_NONE || (s->phase != SUPER_RUNNING && s->phase != SUPER_DRAINING))
		return;
	if (u->state >= UPGRADE_WORKERS) {
		super_resume_step(s);
	} else if (u->state == UPGRADE_QUIET) {
		if (is_quiet(s))
			probe(s);
		else if (clock_ms() >= u->deadline)
			refuse(s, "a reload or a replacement of processes does not come to its end");
	} else if (clock_ms() >= u->deadline && u->pid > 0) {
		(void)kill(u->pid, SIGKILL);
	}
}

void
super_upgrade(struct super *s, struct requester who)
{
	struct upgrade *u = &s->upgrade;

	if (u->state != UPGRADE_NONE) {
		log_warnx("upgrade: one is running: this request is not carried out");
		super_reply(s, who, 1, false, "an upgrade is running");
		return;
	}
	if ((s->phase != SUPER_RUNNING && s->phase != SUPER_DRAINING) || s->exe_path[0] == '\0') {
		log_warnx("upgrade: not while the daemon starts or ends");
		super_reply(s, who, 1, false, "not now");
		return;
	}
	u->state = UPGRADE_QUIET;
	u->who = who;
	u->deadline = clock_ms() + QUIET_MS;
	super_upgrade_step(s);
}
