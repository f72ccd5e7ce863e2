/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * redo.pml: an allocation opened and closed under a lock word with a redo record, while workers may be killed between
 * any two stores; then the supervisor recovers and a successor adopts.
 *
 * What is modelled, as in src/state/cross.c, recover.c and adopt.c:
 *   - two workers, each with one slot; both count in one account (one stripe) and a total (another stripe)
 *   - open:  FILLING; lock both; record {op, before-counts}; store count; store total; state word LIVE; clear record; unlock
 *   - close: lock both; record; ENDING; store count; store total; state word FREE; clear record; unlock
 *   - every statement is a point of death; the supervisor, after the death, replays: the state word decides commit or
 *     undo; counts are set to what the record says; the record is cleared; lock words of the dead are freed
 *   - the supervisor itself is not killed (its death ends all workers), but the successor may be, while it adopts
 *
 * Claims: never two holders of a stripe; whenever no worker is in a transaction, the counts equal the live slots; no
 * process waits without end on a word whose holder is dead.
 * NO_REPLAY, NO_FREE, NO_RECORD: the model with a part left out must fail (make spin proves that it does).
 */
#define W 2
#define FREE 0
#define FILLING 1
#define LIVE 2
#define ENDING 3
#define NONE 0
#define OPEN 1
#define CLOSE 2

byte lock_user, lock_total;		/* 0 free, else worker + 1 */
byte count, total;
byte state[W];
byte op[W], was_count[W], was_total[W];	/* the redo records */
bool dead[W];
byte deaths;
#ifndef DEATHS
#define DEATHS 3
#endif
byte inside;				/* workers in a transaction, or dead and not recovered */

#define LIVES ((state[0] == LIVE) + (state[1] == LIVE))
/* Death between two stores: control leaves for the recovery. */
#define POINT if :: deaths < DEATHS -> deaths++; dead[me] = true; goto killed :: true fi

inline lock(word) {
	do
	:: atomic { word == 0 -> word = me + 1; break }
	:: word != 0 -> (word == 0)		/* a futex wait: recovery wakes */
	od
}

proctype worker(byte me)
{
start:
	/* shard_adopt(): half-made slots are freed; what was ending is ended again (below). */
	POINT;
	if
	:: state[me] == FILLING -> state[me] = FREE
	:: else
	fi;
	POINT;
	do
	:: state[me] == FREE ->
		state[me] = FILLING;
		POINT;
		lock(lock_user);
		atomic { inside++; assert(lock_user == me + 1) }
		POINT;
		lock(lock_total);
		POINT;
#ifndef NO_RECORD
		was_count[me] = count;
		POINT;
		was_total[me] = total;
		POINT;
		op[me] = OPEN;
		POINT;
#endif
		count = count + 1;
		POINT;
		total = total + 1;
		POINT;
		state[me] = LIVE;
		POINT;
		op[me] = NONE;
		POINT;
		assert(lock_total == me + 1);
		lock_total = 0;
		POINT;
		atomic { assert(lock_user == me + 1); lock_user = 0; inside-- }
	:: state[me] == LIVE || state[me] == ENDING ->
		state[me] = ENDING;
		/* still counted: an ENDING slot holds its counts until it is FREE */
		POINT;
		lock(lock_user);
		atomic { inside++; assert(lock_user == me + 1) }
		POINT;
		lock(lock_total);
		POINT;
#ifndef NO_RECORD
		was_count[me] = count;
		POINT;
		was_total[me] = total;
		POINT;
		op[me] = CLOSE;
		POINT;
#endif
		count = count - 1;
		POINT;
		total = total - 1;
		POINT;
		state[me] = FREE;
		POINT;
		op[me] = NONE;
		POINT;
		assert(lock_total == me + 1);
		lock_total = 0;
		POINT;
		atomic { assert(lock_user == me + 1); lock_user = 0; inside-- }
	:: true -> POINT
	od;
killed:
	(!dead[me]);			/* until the supervisor has recovered and started a successor */
	goto start
}

/* waitpid() has returned: the dead one writes no more.  The steps below are seen by the living in any order of theirs. */
proctype super()
{
	byte w;
	bool commit, held;
end:
	do
	:: atomic { dead[0] -> w = 0 }; goto recover
	:: atomic { dead[1] -> w = 1 }; goto recover
	od;
recover:
	held = (lock_user == w + 1);
#ifndef NO_REPLAY
	if
	:: op[w] != NONE && lock_user == w + 1 && lock_total == w + 1 ->
		commit = (op[w] == OPEN && state[w] == LIVE) || (op[w] == CLOSE && state[w] == FREE);
		if
		:: op[w] == OPEN && commit -> count = was_count[w] + 1; total = was_total[w] + 1
		:: op[w] == CLOSE && commit -> count = was_count[w] - 1; total = was_total[w] - 1
		:: !commit -> count = was_count[w]; total = was_total[w]
		fi
	:: else
	fi;
#endif
	op[w] = NONE;
#ifndef NO_FREE
	if
	:: lock_total == w + 1 -> lock_total = 0
	:: else
	fi;
	atomic {
		if
		:: lock_user == w + 1 -> lock_user = 0; inside = inside - held
		:: else
		fi
	};
#endif
	dead[w] = false;
	goto end
}

init
{
	atomic { run worker(0); run worker(1); run super() }
}

#define COUNTED ((state[0] == LIVE || state[0] == ENDING) + (state[1] == LIVE || state[1] == ENDING))
/* The quota is what lives, whenever no process holds the stripe. */
ltl counts { [] (lock_user != 0 || dead[0] || dead[1] || (count == COUNTED && total == COUNTED)) }
