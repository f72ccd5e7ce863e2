/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * owner.pml: a shard changes its owner.  One process ends (asked to, killed, or both), the supervisor notices by
 * waitpid() alone, then starts the next with the split that is wanted then: rolling restart and resize are one operation.
 *
 * Modelled as in src/super/roll.c, children.c and recover.c: two shards, two worker rows, 1 or 2 workers wanted, changed
 * at any moment; a process may die at any moment, also before READY; STOP is a message that may be overtaken by death.
 *
 * Claims: never two live processes with one shard (two writers of one slab); a wish is carried out in the end; a shard
 * gets an owner in the end.  EARLY: a supervisor that starts the successor before waitpid() must fail.
 */
#define ROWS 2
#define SHARDS 2
#define NONE 0
#define STARTING 1
#define READY 2
#define STOPPING 3
#define BACKOFF 4

mtype = { ONE, RESIZE, NOTHING };
byte state[ROWS];			/* the supervisor's table */
bool alive[ROWS], stop[ROWS], hello[ROWS], zombie[ROWS];
byte first[ROWS], n[ROWS];		/* shards that a row has */
byte writers[SHARDS];			/* live processes that map the shard for writing */
byte workers = 2, wanted = 2;
byte deaths, wishes;
#ifndef DEATHS
#define DEATHS 3
#endif
#ifndef WISHES
#define WISHES 2
#endif

inline hold(r, d) {
	if :: n[r] > 0 -> writers[first[r]] = writers[first[r]] + d :: else fi;
	if :: n[r] > 1 -> writers[first[r] + 1] = writers[first[r] + 1] + d :: else fi
}

proctype process(byte r)
{
	hello[r] = true;
end:
	do
	:: atomic { stop[r] -> break }
	:: atomic { deaths < DEATHS -> deaths++; break }
	od;
	/* The kernel takes its mappings before waitpid() returns. */
	atomic { hold(r, -1); alive[r] = false; zombie[r] = true; stop[r] = false }
}

inline start(r) {
	atomic {
		state[r] = STARTING; alive[r] = true; hello[r] = false; stop[r] = false;
		hold(r, 1);
		assert(writers[0] <= 1 && writers[1] <= 1);
		run process(r)
	}
}

#define RUNNING(r) (state[r] == STARTING || state[r] == READY || state[r] == STOPPING)
#define SETTLED(r) (n[r] == 0 || state[r] == READY)

proctype super()
{
	mtype roll = NOTHING;
	byte next = 0;
	bool waiting = false;

	first[0] = 0; n[0] = 1; first[1] = 1; n[1] = 1;
	start(0);
	start(1);
end:
	do
	/* a wish: another number of workers, or a rolling restart */
	:: atomic { wishes < WISHES && roll == NOTHING -> wishes++; roll = ONE; next = 0 }
	:: atomic { wishes < WISHES && roll == NOTHING -> wishes++; wanted = 3 - workers; roll = RESIZE; waiting = false;
		if :: RUNNING(0) -> state[0] = STOPPING; stop[0] = alive[0] :: else -> state[0] = NONE fi;
		if :: RUNNING(1) -> state[1] = STOPPING; stop[1] = alive[1] :: else -> state[1] = NONE fi }
	/* READY */
	:: atomic { hello[0] && state[0] == STARTING -> hello[0] = false; state[0] = READY }
	:: atomic { hello[1] && state[1] == STARTING -> hello[1] = false; state[1] = READY }
	/* waitpid() */
	:: atomic { zombie[0] -> zombie[0] = false; hello[0] = false;
		if
		:: state[0] == STOPPING && roll == RESIZE && !waiting -> state[0] = NONE
		:: else -> state[0] = BACKOFF
		fi }
	:: atomic { zombie[1] -> zombie[1] = false; hello[1] = false;
		if
		:: state[1] == STOPPING && roll == RESIZE && !waiting -> state[1] = NONE
		:: else -> state[1] = BACKOFF
		fi }
	:: state[0] == BACKOFF && n[0] > 0 -> start(0)
	:: state[1] == BACKOFF && n[1] > 0 -> start(1)
	:: atomic { state[1] == BACKOFF && n[1] == 0 -> state[1] = NONE }
#ifdef EARLY
	:: state[0] == STOPPING && alive[0] && roll == ONE -> start(0)
#endif
	/* one by one */
	:: atomic { roll == ONE && SETTLED(0) && SETTLED(1) && next < workers -> state[next] = STOPPING;
		stop[next] = alive[next]; next++ }
	:: atomic { roll == ONE && SETTLED(0) && SETTLED(1) && next >= workers -> roll = NOTHING }
	/* all have ended: another split */
	:: atomic { roll == RESIZE && !waiting && !RUNNING(0) && !RUNNING(1) ->
		workers = wanted; waiting = true;
		if
		:: workers == 1 -> first[0] = 0; n[0] = 2; n[1] = 0; state[0] = BACKOFF; state[1] = NONE
		:: else -> first[0] = 0; n[0] = 1; first[1] = 1; n[1] = 1; state[0] = BACKOFF; state[1] = BACKOFF
		fi }
	:: atomic { roll == RESIZE && waiting && SETTLED(0) && SETTLED(1) -> roll = NOTHING }
	od
}

init { run super() }

ltl one_writer { [] (writers[0] <= 1 && writers[1] <= 1) }
/* Deaths are finite here: in the end every shard is served, by the number of workers that was wanted. */
ltl served { <> [] (writers[0] == 1 && writers[1] == 1 && workers == wanted) }
