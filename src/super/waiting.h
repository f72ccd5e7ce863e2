/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * waiting.h: the process that the service manager knows, and the page that it shares with the supervisor.
 *
 * The waiting process starts the supervisor with clone(CLONE_FILES): both have the same descriptor table,
 * so every socket stays open under its number when the supervisor dies.  All other processes are children
 * of the waiting process too (spawn.c), so they live on.  It reaps all of them, passes signals on, and
 * starts the next supervisor.  It reads no file, no socket and no configuration.
 */
#ifndef TP_SUPER_WAITING_H
#define TP_SUPER_WAITING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define WAITING_MAGIC  0x54505057u /* "TPPW" */
#define WAITING_LAYOUT 1 /* raised when struct waiting changes: then the program cannot be changed to */
#define WAITING_DEATHS 512
#define WAITING_ARGS   32768

/* What the supervisor ends for. */
enum waiting_end {
	WAITING_DIED,
	WAITING_STOPPED /* exit with `code` */,
	WAITING_EXEC /* execute `next` */
};

/* A program to execute: `count` strings that end with a null byte each, one after the other.  The path is
 * text[0 ..], or the program is open as descriptor `fd`, then it is only the name. */
struct waiting_program {
	int32_t fd; /* 0: by path */
	uint32_t count;
	char text[WAITING_ARGS]; /* path, then the arguments from argv[0] on */
};
struct waiting_death {
	int32_t pid, status /* as of waitpid() */;
};

struct waiting {
	uint32_t magic, layout;
	_Atomic uint32_t asked; /* a bit for each signal that was passed on and is not carried out */
	_Atomic uint32_t end;   /* enum waiting_end */
	int32_t code;
	_Atomic uint32_t prepared;  /* everything is bound: the waiting process gives up capabilities */
	_Atomic uint32_t adoptable; /* the supervisor's state is complete: a death is survived */
	/* 0, or what an upgrade hands over (carry.h): read while nothing is adoptable */
	_Atomic int32_t state_fd;
	_Atomic int32_t work; /* pid of the supervisor */
	/* Deaths of the other processes: entry [n % WAITING_DEATHS] is death n, for taken <= n <
	 * written. */
	_Atomic uint64_t written, taken;
	struct waiting_death death[WAITING_DEATHS];
	/* Deaths of the supervisor. */
	uint64_t started_ms, died_ms; /* monotonic; died_ms: of the last one */
	uint32_t deaths, streak;      /* streak: deaths by its own doing, each soon after its start */
	int32_t status;               /* of the last one */
	int32_t exec_error;           /* errno: `next` could not be executed */
	struct waiting_program next,
	    back;         /* back: count 0, or the program that a failing new one is given up for */
	char failed[400]; /* why the program before was given up for this one */
};

#define WAITING_SIZE       ((sizeof(struct waiting) + 65535) & ~(size_t)65535)
#define WAITING_STREAK_MAX 10 /* a supervisor that dies so often in a row ends the daemon */

/* The page in memfd *fd, or a new one when there is none there.  NULL and errno. */
struct waiting *waiting_page(int *fd);
#define WAITING_ENV "TURNPIKE_WAITING_FD" /* tells the next program the descriptor of the page */
/*
 * Starts `work` in a process of its own, again whenever it dies, until it says what it ends for.  Returns
 * the exit code.  `reduce` is called once everything is bound: it gives up capabilities.  `fd`: of the
 * page, passed to another program.
 */
int waiting_run(struct waiting *w, int fd, int (*work)(void *arg), void *arg, int (*reduce)(void));
/* Appends a string; false: no room. */
bool waiting_program_add(struct waiting_program *p, const char *text);

#endif
