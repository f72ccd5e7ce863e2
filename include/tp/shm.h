/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shm.h: shared regions, lock words, seqlocks, counters.
 *
 * A region is a sealed memfd.  Its one writer has a read-write descriptor; all other processes have a
 * read-only re-open of it.  In a region there are no pointers and no pthread objects; all zero is a valid
 * empty region; what is read from a region of another writer is copied, validated, then used.  Errors: 0
 * or -errno.
 */
#ifndef TP_SHM_H
#define TP_SHM_H

#include <stdatomic.h>

#include "tp/base.h"

/* ---- region.c ----------------------------------------------------------------------------- */

/* Makes a memfd of `size` bytes (sparse; rounded up to pages by the caller), mode 0600, sealed
 * SHRINK|GROW|SEAL.  *fd_rw and *fd_ro (re-opened O_RDONLY through /proc/self/fd) are close-on-exec and
 * the caller's. */
int region_make(const char *name, size_t size, int *fd_rw, int *fd_ro);
/* Maps with a PROT_NONE guard page on either side, MADV_DONTDUMP when `secret`.  Checks that the
 * descriptor has at least `size` bytes and the SHRINK seal.  NULL and errno on failure. */
void *region_map(int fd, size_t size, bool write, bool secret);
void region_unmap(void *base, size_t size);

/* ---- lock.c: a lock word ------------------------------------------------------------------- */

/*
 * A futex word: 0 free, else (owner + 1) | LOCK_WAITERS.  The owner is a worker index (never a pid), so
 * the supervisor can free what a dead worker held.  Not recursive.
 */
typedef _Atomic uint32_t lock_word;
#define LOCK_WAITERS     0x80000000u
#define LOCK_WAIT_MS     2
#define LOCK_PATIENCE_MS 20 /* for what a client would otherwise have to send again: see cross.c */
/* Takes the lock, waiting at most wait_ms (0: try once).  0, or -ETIMEDOUT. */
int lock_take(lock_word *w, uint32_t owner, unsigned wait_ms);
void lock_give(lock_word *w, uint32_t owner);
static inline bool
lock_held_by(const lock_word *w, uint32_t owner)
{
	return (atomic_load_explicit((lock_word *)w, memory_order_acquire) & ~LOCK_WAITERS) == owner + 1;
}
/* Supervisor only, after waitpid() and after the redo log was replayed: frees every word of the array
 * that `owner` holds and wakes all waiters of all words (it may have died between unlock and wake). */
void lock_recover(lock_word *words, unsigned n, size_t stride, uint32_t owner);

/* ---- crash points -------------------------------------------------------------------------- */

/*
 * CRASH_POINT(name) marks a place between two stores of shared state.  Compiled to nothing unless
 * --enable-crash-points; then crash_arm() makes the process kill itself with SIGKILL at the n-th passage
 * of the named point.  A daemon's processes read
 * the point from a file; see crash.c.
 */
#ifdef TP_CRASH_POINTS
void crash_point(const char *name);
void crash_arm(const char *name, unsigned long passage); /* name NULL: the n-th passage of any point */
/* Which points were passed since crash_arm() or crash_collect(true), and how often each: how many. */
struct crash_name {
	const char *name;
	unsigned long passed;
};
void crash_collect(bool on);
unsigned crash_names(struct crash_name *out, unsigned max);
#define CRASH_POINT(name) crash_point(name)
#else
#define CRASH_POINT(name) ((void)0)
#endif

/* ---- stat.c: counters of one process -------------------------------------------------------- */

/* Why a request was refused, or an allocation ended. */
enum reason {
#define REASON(name, word, text, help) REASON_##name,
#include "tp/tbl/reasons.def"
#undef REASON
	REASONS
};
struct reason_row {
	const char *name, *word, *text, *help;
};
extern const struct reason_row reason_rows[REASONS];

/* Methods that error responses are counted by. */
enum stat_method {
	STAT_M_BINDING,
	STAT_M_ALLOCATE,
	STAT_M_REFRESH,
	STAT_M_PERMISSION,
	STAT_M_CHANNEL,
	STAT_METHODS
};
#define STAT_H_BUCKETS 13
enum stat_counter {
#define COUNTER(name, metric, labels, kind, help) STAT_##name,
#include "tp/tbl/counters.def"
#undef COUNTER
/* A counter for each reason, and for each method and code of an error response. */
#define REASON(name, word, text, help) STAT_REASON_##name,
#include "tp/tbl/reasons.def"
#undef REASON
#define ERROR(number, name, phrase, help)                                                                  \
	STAT_ERROR_##number, STAT_ERROR_##number##_LAST = STAT_ERROR_##number + STAT_METHODS - 1,
#include "tp/tbl/errors.def"
#undef ERROR
/* Buckets and sum of each distribution. */
#define HIST(name, metric, labels, unit, help)                                                             \
	STAT_H_##name, STAT_H_##name##_LAST = STAT_H_##name + STAT_H_BUCKETS,
#include "tp/tbl/histograms.def"
#undef HIST
	STAT_COUNTERS
};
/* A distribution over time: STAT_H_BUCKETS counters from `first` on, then the sum in its unit. */
enum stat_unit { STAT_UNIT_MS, STAT_UNIT_S };
enum stat_spread {
#define HIST(name, metric, labels, unit, help) SPREAD_##name,
#include "tp/tbl/histograms.def"
#undef HIST
	SPREADS
};
struct spread_row {
	const char *metric, *labels, *help;
	enum stat_unit unit;
	enum stat_counter first;
};
extern const struct spread_row spread_rows[SPREADS];
extern const uint32_t
    stat_bounds[2][STAT_H_BUCKETS - 1]; /* by unit: the largest value of each bucket but the last */
enum drop {
#define DROP(name, label, help) DROP_##name,
#include "tp/tbl/drops.def"
#undef DROP
	DROPS
};
struct stat_row {
	const char *name, *metric, *labels, *help;
	char kind;
};
extern const struct stat_row stat_rows[STAT_COUNTERS];
struct drop_row {
	const char *name, *label, *help;
};
extern const struct drop_row drop_rows[DROPS];

/* What a worker is working on; a death leaves it behind for the poison guard. */
enum busy_phase { BUSY_IDLE, BUSY_CLIENT, BUSY_PEER, BUSY_SWEEP, BUSY_ADOPT, BUSY_MESSAGE };
struct stat_busy {
	uint32_t phase;            /* enum busy_phase */
	uint32_t shard, slot, gen; /* slot ~0: no session known */
	struct addr source;
	uint8_t head[32]; /* first bytes of the datagram */
	uint16_t len;
};

#define STAT_BATCH_BUCKETS 8  /* 1, 2, 3-4, 5-8, 9-16, 17-32, 33-64, more */
#define STAT_ERROR_CODES   32 /* rows of errors.def, by order there */
#define STAT_WORDS         256
#define STAT_MAGIC         0x54505354u /* "TPST" */
#define STAT_LAYOUT        3
#define STAT_DATABASES     8
#define STAT_DENIED        128
/* What turnpike-auth knows of one database; `up` 1 or 0. */
struct stat_database {
	uint64_t up, since_ms, found, absent, failed, dropped, secrets, denied, allowed, bad;
	char why[128]; /* it is down; terminated */
};
/*
 * One region per process (not "struct stat": <fcntl.h> has that one).  Single writer, relaxed stores;
 * readers tolerate a value that is a moment old.
 */
enum {
	STAT_READY = 1,
	STAT_READY_RENEW /* it serves, but with the next configuration another had better take its place */
};
struct stats {
	uint32_t magic, layout;
	uint32_t role, index, generation;
	int32_t pid;
	uint64_t started_ms;
	_Atomic uint64_t heartbeat_ms; /* a worker stores the time of each tick */
	_Atomic uint64_t ticks;
	uint32_t state;         /* enum child_state for the supervisor's table; else 0 */
	uint32_t ready;         /* 0, STAT_READY or STAT_READY_RENEW */
	char words[STAT_WORDS]; /* last words: why it is about to end; terminated */
	_Alignas(64) struct stat_busy busy;
	_Alignas(64) uint64_t counter[STAT_COUNTERS];
	_Alignas(64) uint64_t drop[DROPS];
	_Alignas(64) uint64_t error[STAT_ERROR_CODES]; /* error responses sent, by row of errors.def */
	uint64_t rx_batch[STAT_BATCH_BUCKETS], tx_batch[STAT_BATCH_BUCKETS]; /* messages per call */
	uint64_t gro_batch[STAT_BATCH_BUCKETS],
	    gso_batch[STAT_BATCH_BUCKETS]; /* datagrams per buffer, per message */
	/* of turnpike-auth, in the order of auth.databases */
	struct stat_database database[STAT_DATABASES];
	/* Of turnpike-auth: users that are denied.  A successor goes on with it.  name[0] 0: free. */
	struct {
		char name[128];
		int64_t until;
	} denied[STAT_DENIED];
	char engine[8]; /* of a worker's I/O; terminated */
	int32_t cpu;    /* that it is pinned to; -1: none, or several */
	uint32_t node;  /* 1 + NUMA node of the processors that it is pinned to; 0: none */
};
#define STAT_SIZE ((sizeof(struct stats) + 4095) & ~(size_t)4095)
static inline void
stat_add(struct stats *s, enum stat_counter c, uint64_t n)
{
	atomic_store_explicit((_Atomic uint64_t *)&s->counter[c], s->counter[c] + n, memory_order_relaxed);
}
static inline void
stat_drop(struct stats *s, enum drop d)
{
	atomic_store_explicit((_Atomic uint64_t *)&s->drop[d], s->drop[d] + 1, memory_order_relaxed);
}
void stat_observe(
    struct stats *s, enum stat_spread d, uint64_t value);            /* in the unit of the distribution */
void stat_error(struct stats *s, enum stat_method m, unsigned code); /* STUN error code */
static inline void
stat_reason(struct stats *s, enum reason r)
{
	stat_add(s, (enum stat_counter)(STAT_REASON_NONE + (unsigned)r), 1);
}
int stat_error_row(unsigned code); /* index into errors.def order, -1 */
/* The histograms, as they are told: le is the largest number in a bucket, ~0 in the last. */
struct stat_hist {
	const char *metric, *help;
	size_t offset;
};
#define STAT_HISTS 4
extern const struct stat_hist stat_hists[STAT_HISTS];
static inline unsigned
stat_batch_le(unsigned bucket)
{
	return bucket < STAT_BATCH_BUCKETS - 1 ? 1u << bucket : ~0u;
}
unsigned stat_batch_bucket(unsigned n);
/* What the process uses: a descriptor to be opened before it is confined (-1: none), then read now and
 * then. */
int stat_usage_open(void);
void stat_usage(struct stats *s, int fd);
void stat_init(
    struct stats *s, unsigned role, unsigned index, uint32_t generation, tp_ms now); /* keeps counters */
void stat_words(struct stats *s, const char *fmt, ...) TP_PRINTF(2, 3);

/* ---- secret.c -------------------------------------------------------------------------------- */

#define SECRET_BYTES 32
/* ---- port_map.c --------------------------------------------------------------------------- */

/*
 * The PORTS region: which ports of which relay row are relay sockets of this server right now, of all
 * shards, in sessions and in pools.  The supervisor writes; workers read on the data path.  A bit is set
 * after bind(2) and cleared before close(2), so another program that takes the port next is never
 * reached.
 */
struct port_map {
	_Atomic uint32_t open[RELAYS_MAX]; /* bits that are set, by row */
	_Alignas(64) _Atomic uint64_t bit[RELAYS_MAX][65536 / 64];
};
#define PORT_MAP_SIZE sizeof(struct port_map)
static inline bool
port_map_has(const struct port_map *m, unsigned row, unsigned port)
{
	uint64_t word = atomic_load_explicit(
	    (_Atomic uint64_t *)(uintptr_t)&m->bit[row][port / 64], memory_order_acquire);

	return word >> (port % 64) & 1;
}
static inline uint32_t
port_map_open(const struct port_map *m, unsigned row)
{
	return atomic_load_explicit((_Atomic uint32_t *)(uintptr_t)&m->open[row], memory_order_relaxed);
}
/* Writer. */
void port_map_set(struct port_map *m, unsigned row, unsigned port, bool open);
/* Writer: makes it what `is` says, without a moment in which an open port looks closed. */
void port_map_become(struct port_map *m, const struct port_map *is);

/* ---- secret.c ----------------------------------------------------------------------------- */

/* The SECRET region: 32 random bytes for the life of the daemon.  Keys are derived, never used raw.
 * (out, 32 bytes) = BLAKE2b(master, context8, number); context is 8 characters, e.g. "tpnonce0". */
void secret_derive(
    uint8_t out[32], const uint8_t master[SECRET_BYTES], const char context[8], uint64_t number);

#endif
