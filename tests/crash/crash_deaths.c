/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crash_deaths.c: the worker dies at each passage of a marked point of the script in turn; then, in other
 * states every time, at each marked point as often as is asked for.
 *
 * Afterwards the audit finds nothing and the operation it died in has happened as a whole, or not at all:
 * what can be seen from outside equals what was seen before or after it in an undisturbed run.
 */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crash.h"

#define SCRIPT_ADOPT (SCRIPT_NOW + 5000) /* not before anything that happened */

static _Atomic unsigned *done; /* shared: operations that returned */

static unsigned
die_at(void (*work)(void), const char *name, unsigned long passage)
{
	pid_t pid;
	int status;

	fflush(NULL);
	pid = fork();
	must(pid >= 0, "fork");
	if (pid == 0) {
		die_with_parent();
		crash_arm(name, passage);
		work();
		_exit(0);
	}
	must(waitpid(pid, &status, 0) == pid, "waitpid");
	must(WIFEXITED(status) ? WEXITSTATUS(status) == 0 : WTERMSIG(status) == SIGKILL, "script: child %x",
	    status);
	return WIFSIGNALED(status);
}

static void
work_ops(void)
{
	for (unsigned i = *done; i < SCRIPT_OPS; i++) {
		script_op(i);
		atomic_store(done, i + 1);
	}
}

static void
work_adopt(void)
{
	world_adopt(&script_world, 0, SCRIPT_ADOPT);
}

/* What an undisturbed run shows before the first operation and after each. */
static void
undisturbed(uint64_t seen[SCRIPT_OPS + 1], uint64_t seed)
{
	script_setup(seed);
	seen[0] = script_look(0);
	crash_arm(NULL, 0); /* points count from here, as in a child */
	for (unsigned i = 0; i < SCRIPT_OPS; i++) {
		script_op(i);
		seen[i + 1] = script_look(i + 1);
	}
	must(world_audit(&script_world, true, SCRIPT_NOW, false) == 0,
	    "script: the undisturbed run fails the audit");
}

static void
check_after(const uint64_t seen[SCRIPT_OPS + 1], unsigned long k, const char *what)
{
	unsigned i = *done;

	must(world_audit(&script_world, true, SCRIPT_NOW, false) == 0, "%s %lu (operation %u): audit", what,
	    k, i);
	world_finish(&script_world, 0, SCRIPT_ADOPT);
	must(world_audit(&script_world, true, SCRIPT_NOW, false) == 0,
	    "%s %lu (operation %u): audit after finishing", what, k, i);
	must(script_look(i) == seen[i] || (i < SCRIPT_OPS && script_look(i + 1) == seen[i + 1]),
	    "%s %lu: operation %u happened in part", what, k, i);
}

static unsigned long
each_passage(const uint64_t seen[SCRIPT_OPS + 1])
{
	unsigned long k = 1;

	for (;; k++) {
		script_setup(0);
		atomic_store(done, 0);
		if (!die_at(work_ops, NULL, k))
			return k - 1;
		world_recover(&script_world, 0);
		world_adopt(&script_world, 0, SCRIPT_ADOPT);
		check_after(seen, k, "passage");
	}
}

/* The successor dies too, while it adopts what a death left. */
static unsigned
adoption_dies(const uint64_t seen[SCRIPT_OPS + 1], unsigned long passages)
{
	unsigned n = 0;

	for (unsigned long k = 1; k <= passages; k += passages / 12 + 1)
		for (unsigned long j = 1;; j = j < 8 ? j + 1 : j + j / 4) {
			script_setup(0);
			atomic_store(done, 0);
			die_at(work_ops, NULL, k);
			world_recover(&script_world, 0);
			if (!die_at(work_adopt, NULL, j))
				break;
			world_recover(&script_world, 0);
			world_adopt(&script_world, 0, SCRIPT_ADOPT);
			check_after(seen, k, "adoption after passage");
			n++;
		}
	return n;
}

/* Without the replay the audit must notice deaths in the middle of a transaction. */
static unsigned
control(void)
{
	/* "token:cleared" is passed by token_put() first. */
	static const struct {
		const char *name;
		unsigned passage;
	} points[] = {
		{ "account:counted", 1 },
		{ "account:discounted", 1 },
		{ "tx:total", 1 },
		{ "token:cleared", 2 },
		{ "open:applied", 1 },
		{ "close:applied", 1 },
	};
	unsigned noticed = 0;

	crash_control = true;
	for (unsigned i = 0; i < TP_COUNT(points); i++) {
		script_setup(0);
		atomic_store(done, 0);
		must(die_at(work_ops, points[i].name, points[i].passage), "control: %s is never passed",
		    points[i].name);
		world_recover(&script_world, 0);
		world_adopt(&script_world, 0, SCRIPT_ADOPT);
		noticed += world_audit(&script_world, true, SCRIPT_NOW, true) > 0;
	}
	crash_control = false;
	return noticed;
}

/* ---- each point, many times ------------------------------------------------------------------- */

#define POINTS_MAX 128
#define TRIGGERS   16
#define TRIES      8

/* A marked point: of the operations, or of the adoption after a death at one of `trigger`. */
struct trigger {
	const char *name;
	unsigned long passage;
};
struct point {
	const char *name;
	unsigned deaths, triggers, good; /* good: the one that led there last time */
	struct trigger trigger[TRIGGERS];
};
struct points {
	struct point p[POINTS_MAX];
	unsigned count;
};

static struct point *
point_of(struct points *t, const char *name)
{
	for (unsigned i = 0; i < t->count; i++)
		if (strcmp(t->p[i].name, name) == 0)
			return &t->p[i];
	must(t->count < POINTS_MAX, "too many points");
	t->p[t->count] = (struct point){ .name = name };
	return &t->p[t->count++];
}

/* What the adoption passes after this death, from then on, can be died at, too. */
static void
learn_adoption(struct points *adoption, const char *name, unsigned long passage)
{
	struct crash_name passed[POINTS_MAX];
	unsigned n;

	crash_collect(true);
	world_adopt(&script_world, 0, SCRIPT_ADOPT);
	n = crash_names(passed, POINTS_MAX);
	crash_collect(false);
	for (unsigned i = 0; i < n; i++) {
		struct point *p = point_of(adoption, passed[i].name);
		if (p->triggers < TRIGGERS)
			p->trigger[p->triggers++] = (struct trigger){ name, passage };
	}
}

static void
die_working(const uint64_t seen[SCRIPT_OPS + 1], struct points *adoption, uint64_t seed, struct point *p,
    unsigned long passage)
{
	script_setup(seed);
	atomic_store(done, 0);
	must(die_at(work_ops, p->name, passage), "%s is not passed %lu times", p->name, passage);
	world_recover(&script_world, 0);
	learn_adoption(adoption, p->name, passage);
	check_after(seen, passage, p->name);
	p->deaths++;
}

static void
die_adopting(const uint64_t seen[SCRIPT_OPS + 1], uint64_t seed, struct point *p, unsigned k)
{
	script_setup(seed);
	atomic_store(done, 0);
	if (!die_at(work_ops, p->trigger[k].name, p->trigger[k].passage))
		return; /* not in this state */
	world_recover(&script_world, 0);
	if (die_at(work_adopt, p->name, 1)) {
		p->deaths++;
		p->good = k;
	}
	world_recover(&script_world, 0);
	world_adopt(&script_world, 0, SCRIPT_ADOPT);
	check_after(seen, k, p->name);
}

static void
work_attach(void)
{
	world_attach(&script_world);
}

/* The very first worker dies making its shard. */
static void
die_beginning(void)
{
	world_wipe(&script_world);
	must(die_at(work_attach, "shard:init", 1), "shard:init is never passed");
	world_attach(&script_world);
	must(world_audit(&script_world, true, SCRIPT_NOW, false) == 0, "shard:init: audit");
}

/* The point that was died at least often. */
static const struct point *
least(const struct points *t)
{
	const struct point *p = &t->p[0];

	for (unsigned i = 1; i < t->count; i++)
		if (t->p[i].deaths < p->deaths)
			p = &t->p[i];
	return p;
}

static void
one_round(struct points *ops, struct points *adoption, unsigned times, uint64_t *dice)
{
	static uint64_t seen[SCRIPT_OPS + 1];
	struct crash_name passed[POINTS_MAX];
	uint64_t seed = rnd(dice) | 1;
	unsigned n;

	crash_collect(true);
	undisturbed(seen, seed);
	n = crash_names(passed, POINTS_MAX);
	crash_collect(false);
	for (unsigned i = 0; i < n; i++) {
		struct point *p = point_of(ops, passed[i].name);
		if (p->deaths < times)
			die_working(seen, adoption, seed, p, 1 + rnd(dice) % passed[i].passed);
	}
	for (unsigned i = 0; i < adoption->count; i++) {
		struct point *p = &adoption->p[i];
		unsigned before = p->deaths;
		for (unsigned tries = 0; tries < TRIES && p->deaths == before && before < times; tries++)
			die_adopting(seen, seed, p, (p->good + tries) % p->triggers);
	}
	die_beginning();
}

void
points_run(unsigned times, uint64_t seed)
{
	static struct points ops, adoption;
	unsigned rounds = 0;

	done = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(done != MAP_FAILED, "mmap");
	world_make(&script_world, 1024);
	while (rounds < times || least(&ops)->deaths < times || least(&adoption)->deaths < times) {
		must(rounds++ < 4 * times + 100,
		    "points: %s of a worker was reached %u times, %s of its successor %u times",
		    least(&ops)->name, least(&ops)->deaths, least(&adoption)->name,
		    least(&adoption)->deaths);
		one_round(&ops, &adoption, times, &seed);
	}
	for (unsigned i = 0; getenv("TP_NAMES") != NULL && i < ops.count + adoption.count; i++)
		printf("point %s\n", i < ops.count ? ops.p[i].name : adoption.p[i - ops.count].name);
	printf(
	    "points: %u of a worker, %u of its successor, 1 of the first, each died at %u times or more, in %u states\n",
	    ops.count, adoption.count, times, rounds);
	world_end(&script_world);
	munmap((void *)done, 4096);
}

/* ---- the script ----------------------------------------------------------------------------------- */

void
script_run(void)
{
	static uint64_t seen[SCRIPT_OPS + 1];
	unsigned long passages;
	unsigned adoptions, noticed;

	done = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(done != MAP_FAILED, "mmap");
	world_make(&script_world, 1024);
	undisturbed(seen, 0);
	passages = each_passage(seen);
	must(passages > 300, "only %lu passages: are crash points compiled in?", passages);
	adoptions = adoption_dies(seen, passages);
	noticed = control();
	must(noticed == 6, "control: of 6 deaths without replay the audit noticed %u", noticed);
	printf("script: %lu deaths of a worker, %u of its successor; control noticed %u of 6\n", passages,
	    adoptions, noticed);
	world_end(&script_world);
	munmap((void *)done, 4096);
}
