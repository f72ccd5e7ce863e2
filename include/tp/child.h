/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * child.h: what all processes that turnpiked starts have in common: from the first message to READY,
 * rights that are given up, the tick, the end.
 */
#ifndef TP_CHILD_H
#define TP_CHILD_H

#include "tp/conf.h"
#include "tp/io.h"
#include "tp/shm.h"

struct child_role {
	enum proc_role role;
	bool own_loop; /* a worker: child_told() instead of child_run(), then an event loop of its own */
	/* turnpike-admin: what it says before its end goes to stderr, not into its own queue */
	bool writes_log;
	/* START: maps and reads what it was told, then child_confine(). */
	void (*start)(void *arg, const struct msg_start *m);
	void (*go)(void *
		/* GO: requests are answered from now on; READY is sent afterwards; not with own_loop */
		arg);
	void (*message)(void *arg, const union msg *m, int fd); /* any other; owns fd */
	void (*stop)(void *arg); /* STOP while it serves; NULL: it ends at once */
};
struct child_proc {
	const struct child_role *role;
	void *arg; /* of the functions above */
	struct loop *loop;
	struct msg_start start;
	struct stats *stat; /* NULL before START */
	bool started, serving;
	int parent;
	unsigned index; /* of the command line */
	int usage_fd;   /* of stat_usage_open() */
};

/* First in main: log, signals, loop, control socket.  0, or the exit code. */
int child_begin(struct child_proc *c, const struct child_role *r, void *arg, int argc, char **argv);
int child_run(struct child_proc *c); /* until it is told to end; the exit code */
void child_end(struct child_proc *c);
void child_beat(struct child_proc *c); /* in the tick: heartbeat, lost log lines */
/* With own_loop: start() and message() for what comes, until GO (true) or PREPARE (false: there is more to
 * come).  Ends the process at STOP and without a supervisor. */
bool child_told(struct child_proc *c);
/* After PREPARE, once everything is ready: answers PREPARED. */
void child_prepared(struct child_proc *c);
/* A stand-by, at GO: its counters are those of its predecessor from now on, at the same address. */
void child_take_over(struct child_proc *c);
/* Leaves last words, and ends the process.  err: errno or 0. */
void child_give_up(struct child_proc *c, int err, const char *what) __attribute__((noreturn));
/* User, core dumps, files but for those below log_dir (-1: none), system calls but for the role's rows
 * of syscalls.def. */
void child_confine(struct child_proc *c, int log_dir);
/* The same with more files, and TCP connections outwards: turnpike-auth with databases (rows DATABASES
 * of syscalls.def). */
void child_confine_reach(struct child_proc *c, const struct sandbox_reach *reach, unsigned role);

/* A read-only mapping of a memfd, which is closed; NULL with errno. */
void *child_map(int fd, size_t least, size_t most, size_t *size);
/* Shows a compiled configuration, checked, to `take`.  Closes fd.  0 or -errno. */
int child_conf(int fd, void (*take)(void *arg, const struct conf *c), void *arg);

#endif
