/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * super_int.h: what the files of room super share.  Everything that must outlive a binary upgrade is in
 * plain arrays: the ledger, struct pool, struct regions, struct children.
 */
#ifndef TP_SUPER_INT_H
#define TP_SUPER_INT_H

#include <limits.h>
#include <sys/types.h>

#include "pool.h"
#include "tp/super.h"
#include "waiting.h"

#define EXIT_OK       0
#define EXIT_INTERNAL 70
#define EXIT_BIND     69
#define EXIT_CONF     78

/* ---- ledger.c: the holder of each descriptor ------------------------------------------------------ */

/* For a hard limit of `limit` descriptors.  -EMFILE when not even 64 per shard are left. */
int windows_plan(struct windows *w, uint64_t limit, unsigned shards);
/* Of each window so many numbers are kept for connections, and so many for relay sockets. */
uint32_t windows_reserve(const struct windows *w);
static inline int
window_base(const struct windows *w, unsigned shard)
{
	return (int)(w->first + shard * w->span);
}
static inline bool
window_has(const struct windows *w, unsigned shard, int fd)
{
	return fd >= window_base(w, shard) && fd < window_base(w, shard) + (int)w->span;
}

struct ledger *ledger_new(int *fd_rw, int *fd_ro); /* NULL and errno */
struct ledger *ledger_map(int fd);                 /* of another supervisor; NULL and errno */
/* Sets right what a supervisor that died in a change left: totals, and seq. */
void ledger_repair(struct ledger *l);
void ledger_begin(struct ledger *l); /* readers look again while seq is odd */
void ledger_end(struct ledger *l);
/* Moves `fd` (consumed in every case) to the lowest free number of the shard's window for its kind and
 * enters it; the number or -errno (-EMFILE: what there is for its kind is used up). */
int ledger_move(struct ledger *l, const struct windows *w, unsigned shard, int fd, struct ledger_fd entry);
void ledger_close(struct ledger *l, int fd); /* closes the descriptor and frees the entry */
void ledger_set(struct ledger *l, int fd, struct ledger_fd entry);
/* Which entries are set from now on. */
void ledger_watch(void);
bool ledger_has_changed(int fd); /* since ledger_watch(), in this process */

/* ---- spawn.c: fork + exec -------------------------------------------------------------------- */

struct spawn {
	const char *path;  /* of the binary */
	char *const *argv; /* NULL-terminated; argv[0] is the process's name */
	int control, log;  /* become 3 and 4; log -1: none */
	const int *keep;   /* these keep their numbers */
	unsigned authd_count;
	const struct ledger *ledger; /* and the sockets of shards [first, first + count) */
	const struct windows *win;   /* NULL: none of them */
	unsigned first_shard, shard_count;
	bool keep_stderr; /* else /dev/null */
	bool sibling;     /* a child of the waiting process, which outlives this one */
	int32_t *pid;     /* sibling: where the kernel stores the pid before the child runs; NULL */
	int binary;       /* descriptor of the program, -1: by path */
	bool reduce;      /* give up capabilities before exec (the conf child at first start) */
	/* names of variables that go through; NULL: none.  (Sanitizer builds add theirs) */
	const char *const *pass_env;
};
/* The pid, or -errno.  A failing exec ends the child with status 127 after a line on its stderr. */
pid_t spawn_child(const struct spawn *s);

/* ---- caps.c ---------------------------------------------------------------------------------- */

/* As root: gives up all but NET_BIND_SERVICE, NET_ADMIN, SETUID, SETGID, KILL (to end children that have
 * another uid) and SETPCAP (for them to empty their bounding sets), in the bounding set too.  0 when
 * there is nothing to give up. */
int caps_reduce(void);
/* RLIMIT_NOFILE as high as it can be made; the soft limit then. */
/* Has root what the start needs?  0, or -EPERM after a sentence that names the capability. */
int caps_check(bool change_user);
void limit_file_size(void); /* off, where that is permitted; else a warning */
uint64_t limit_files(void);

/* ---- children.c: the table, restarts, deadlines; no kernel calls, time comes in -------------- */

#define CHILD_READY_MS          10000
#define CHILD_STABLE_MS         50 /* READY for so long: not one that dies of its start */
#define CHILD_BACKOFF_MS        30000
#define CHILD_SHOT_MS           20   /* only so that an out-of-memory killer does not make it spin */
#define CHILD_BACKOFF_WORKER_MS 1000 /* a shard's sessions must not be silent for long */
#define CHILD_STOP_MS           2000
#define CHILD_KILL_MS           1000 /* until a kill(2) that failed is tried again */

struct out_msg;
struct child {
	int32_t control;    /* our end; -1 */
	uint32_t streak;    /* deaths before READY or within CHILD_STABLE_MS of it, in a row */
	tp_ms started, due; /* due: end of back-off, or the deadline to be READY or to have ended; 0 none */
	bool killed, hung;  /* SIGKILL sent; by the heartbeat */
	bool foreign;       /* of another build, with other messages: it is not talked to */
	bool shot;          /* ended by SIGKILL from outside: not a fault of its start */
	bool late;          /* no heartbeat for a while: not ready */
	bool paused;        /* it hung because it was stopped (SIGSTOP), not because of what it did */
	bool again;         /* start it again when it has stopped */
	bool told;          /* everything from START to GO is on its way */
	bool outlived;      /* killed because a supervisor died while it started */
	int32_t born;       /* its pid, stored by the kernel before it ran; 0 */
	uint64_t late_beat, late_used; /* the heartbeat that has no successor in time; CPU time then, ms */
	struct out_msg *out_head, *out_tail; /* not yet taken by the kernel */
	uint32_t out_count;
};
struct children_ops {
	int (*spawn)(void *arg, unsigned i); /* starts process i; its pid or -errno */
	int (*kill)(void *arg, unsigned i);  /* 0, or -errno: it is tried again */
};
struct children {
	struct ledger *ledger; /* the public half is ledger->child[] */
	struct child c[LEDGER_CHILDREN];
	const struct children_ops *ops;
	void *arg;
};
void children_init(struct children *t, struct ledger *l, const struct children_ops *ops, void *arg);
/* The table of a supervisor that died: living children stay.  A process that was being told something is
 * killed, its successor is told everything. */
void children_adopt(
    struct children *t, struct ledger *l, const struct children_ops *ops, void *arg, tp_ms now);
/* Row of (role, index), made when it is new; -ENOSPC. */
int children_row(struct children *t, unsigned role, unsigned index);
int children_find(const struct children *t, unsigned role, unsigned index); /* -1 */
int children_by_pid(const struct children *t, pid_t pid);                   /* -1 */
int children_owner(const struct children *t, unsigned shard); /* row of the worker that owns a shard; -1 */
void children_start(struct children *t, unsigned i, tp_ms now);
void children_ready(struct children *t, unsigned i, tp_ms now);
/* The caller tells it to stop; it is killed when it has not ended after `within`. */
void children_stopping(struct children *t, unsigned i, tp_ms now, tp_ms within, bool again);
void children_kill(struct children *t, unsigned i);
/* Its heartbeat is late, or is not: the daemon is not ready while one is. */
void children_late(struct children *t, unsigned i, bool late);
/* After waitpid.  True: it was a death (not asked for, or not in good order). */
bool children_ended(struct children *t, unsigned i, bool clean, tp_ms now);
void children_tick(struct children *t, tp_ms now); /* what is due */
tp_ms children_due(const struct children *t);      /* the earliest, 0 none */
/* Time did not pass for anybody (a paused machine): deadlines of what runs move by `gap`. */
void children_shift(struct children *t, tp_ms gap);
bool children_all_ready(const struct children *t);
bool child_is_running(const struct ledger_child *c);
/* Contiguous split: worker w of n has shards [*first, *first + *count). */
void shards_split(unsigned shards, unsigned workers, unsigned w, uint32_t *first, uint32_t *count);

/* ---- regions.c ------------------------------------------------------------------------------- */

struct region {
	int32_t rw, ro;
};
struct regions {
	struct region secret, cross, ports, shard[SHARDS_MAX], keys[SHARDS_MAX];
	struct region stat_worker[SHARDS_MAX], stat_authd, stat_admin, stat_super, stat_tlsd[MSG_TLSDS_MAX];
	int32_t epoll[SHARDS_MAX];
	uint32_t shards, slot_max;
	/* The supervisor's own mappings. */
	struct cross cross_map;
	struct port_map *ports_map;
	void *shard_map[SHARDS_MAX];
	const struct stats *worker_map[SHARDS_MAX], *authd_map, *admin_map, *tlsd_map[MSG_TLSDS_MAX];
	struct stats *super_map;
};
int regions_make(struct regions *r, unsigned shards, uint32_t slot_max);
/* Maps what another image made.  0 or -errno; *what says which.  `probe`: the key regions' heads, too. */
int regions_resume(struct regions *r, bool probe, const char **what);
/* Other, empty regions and another epoll for a shard that cannot be recovered. */
int regions_cold(struct regions *r, unsigned shard);
const struct stats *regions_stat(const struct regions *r, unsigned role, unsigned index);
/* Another, empty epoll for a shard. */
int regions_epoll(struct regions *r, unsigned shard);
/* Read-only views of every shard that its worker has initialised; how many. */
unsigned regions_shards(const struct regions *r, struct shard out[SHARDS_MAX]);

/* ---- carry_stats.c ------------------------------------------------------------------------------- */

/* Fresh STAT regions with the old ones' values, by name: for a build with other counters. */
int regions_carry_stats(struct regions *r, int state_fd);

/* ---- listeners.c ----------------------------------------------------------------------------- */

#define WHY_MAX 400
/* What one call or several have opened, by row: to be undone. */
struct opened {
	bool datagram[LISTENERS_MAX], stream[LISTENERS_MAX];
	size_t granted /* smallest receive buffer */;
};
/* One socket per shard and kind (UDP, TCP) that row `row` needs and has not.  A retired row needs none. */
int listener_open(struct ledger *l, const struct windows *w, const struct conf *c, unsigned row,
    struct opened *done, char *why, size_t why_len);
/* Another socket of the same address under the same number, in the same place of the kernel's group:
 * clients stay with their shards.  What waited in the old one is lost. */
int listener_renew(const struct ledger *l, const struct conf *c, int fd);
void listener_close(struct ledger *l, const struct windows *w, unsigned row, bool stream);
/* TCP sockets whose address is another row's now become that row's: after every row could be opened.
 * (Its workers learn it as new ones; those that there are accept under the old number, which the kernel's
 * event names.) */
void listeners_inherit(struct ledger *l, const struct windows *w, const struct conf *c);

/* ---- confchild.c: runs turnpike-conf --------------------------------------------------------- */

#define CONF_LINES 64
struct conf_line {
	uint32_t level;
	char text[MSG_TEXT_MAX];
};
struct conf_run {
	pid_t pid; /* 0: none runs */
	int32_t fd;
	int32_t conf_fd, users_fd, certs_fd; /* -1 until they came */
	uint64_t conf_size, users_size, certs_size;
	bool done, ok;
	uint32_t errors, line_count;
	struct conf_line line[CONF_LINES];
};
int conf_run_start(struct conf_run *r, const struct super_options *o, int binary, uint64_t generation,
    bool foreground, bool keep_stderr);
/* Runs it to look at the files of a compiled configuration (its descriptor). */
int conf_run_files(struct conf_run *r, const struct super_options *o, int binary, int conf_fd);
/* Reads what is there: 1 complete, 0 more to come, -errno it broke off. */
int conf_run_read(struct conf_run *r);
void conf_run_end(struct conf_run *r); /* closes what is left */
/* Waits for the end (first start).  0, -EINVAL errors in the configuration (see lines), -errno. */
int conf_run_wait(struct conf_run *r);
int conf_run_conf(const struct conf_run *r, struct conf *c); /* a checked copy of what it compiled */
/* Sealed memfd of the bytes; -errno. */
int conf_seal(const char *name, const void *bytes, size_t len);

/* ---- conf_rows.c ---- */

/*
 * Rows of listeners and relay addresses are names: sessions refer to them.  Gives rows of `is` that also
 * were in `was` their old number, keeps rows that are gone as retired, new ones get free numbers.  A
 * relay row with another external address is another row.  `ports`: which relay rows have sockets.
 * -ENOSPC.
 */
#define ROW_EXTERNAL_NOT_CARRIED                                                                           \
	2 /* conf_relay.unknown of a row that an image without this field carried over */
int conf_keep_rows(const struct conf *was, struct conf *is, const struct port_map *ports);
void conf_strip_rows(struct conf *c); /* without the retired ones */

/* ---- memory_limit.c: the limit of a control group ---------------------------------------------- */

struct memory_limit {
	uint64_t limit, refuse; /* bytes; 0: there is none.  Above `refuse` there are no new allocations */
	int usage_fd, stat_fd;
	const char *cache, *shmem; /* rows of memory.stat */
};
/* The lowest limit above this process.  `root`: "" for the real one. */
void memory_limit_find(struct memory_limit *m, const char *root);

/* ---- pidfile.c, notify.c, daemon.c ----------------------------------------------------------- */

/* Makes the directory and locks DIR/turnpiked.pid.  The descriptor, or -errno: -EWOULDBLOCK another
 * instance has it (*holder its pid). */
int pidfile_lock(const char *runtime_dir, pid_t *holder);
int pidfile_write(int fd, pid_t pid);
void pidfile_remove(const char *runtime_dir);

void notify_send(const char *text); /* to $NOTIFY_SOCKET; nothing without one */
bool notify_wanted(void);
tp_ms notify_watchdog(void); /* half of WATCHDOG_USEC in ms; 0 none */

/* Forks; the parent waits for daemon_done() and exits with that code.  Returns the write end, or -errno. */
int daemon_fork(void);
void daemon_done(int fd, int code); /* and lets go of the terminal when code is 0 */
/* 0, 1, 2 open; 3 and 4 occupied, so that no descriptor of ours has a child's number; all others closed. */
int daemon_stdio(void);
int daemon_low(void); /* the part about 3 and 4, for an image that resumes */

/* ---- super.c and its parts ------------------------------------------------------------------- */

enum super_phase { SUPER_STARTING, SUPER_RUNNING, SUPER_DRAINING, SUPER_STOPPING, SUPER_ENDING };

/* The requester that waits for an answer: turnpike-admin's request, 0 for a signal. */
struct requester {
	bool used;
	uint32_t request, generation;
};

enum roll_mode { ROLL_NONE, ROLL_ONE_BY_ONE, ROLL_RESIZE };
struct roll { /* workers being replaced on purpose */
	enum roll_mode mode;
	uint32_t next, workers; /* next worker to stop; workers there shall be */
	bool preparing;         /* stand-bys get ready, until prepared_by; then the workers stop */
	tp_ms prepared_by;
	bool waiting;        /* for worker next - 1 to be READY */
	enum roll_mode then; /* asked for meanwhile */
	tp_ms deadline;      /* of the step that it waits for */
	uint32_t then_workers;
	struct requester who;
};
/* The successor of a worker that still serves, by the worker's index. */
struct stand_by {
	int32_t pid; /* 0: there is none */
	int control; /* our end, -1: it is being ended */
	bool prepared;
	uint32_t child;                                /* the row that it is to take */
	uint32_t generation, first_shard, shard_count; /* that it will have there */
};
struct closing {
	bool used;
	uint32_t request, generation, left, count;
	tp_ms deadline;
};
#define CLOSINGS           16

#define SUSPECTS           64
/* Of sessions and sources that workers died of.  A worker's word counts for shards of its own only. */
#define SUSPECTS_PER_SHARD 8
struct suspect {
	uint32_t deaths, shard, slot, gen;
	struct addr source;
	tp_ms last;
};

/*
 * An upgrade.  The old image:  QUIET -> PROBE -> exec;  the new one:  WORKERS -> AUTHD -> ADMIN -> NONE.
 * back_*: the image that is gone back to when the new one's processes do not come up.
 */
enum upgrade_state {
	UPGRADE_NONE,
	UPGRADE_QUIET,
	UPGRADE_PROBE,
	UPGRADE_WORKERS,
	UPGRADE_AUTHD,
	UPGRADE_ADMIN
};
struct upgrade {
	enum upgrade_state state;
	struct requester who;
	pid_t pid; /* of the probe */
	int report, state_fd;
	tp_ms deadline;
	int back_exe, back_binary[ROLES];
	uint32_t old_generation[LEDGER_CHILDREN]; /* of the processes that are being replaced */
	bool foreign, other_stats; /* what was carried comes from a build with other messages, counters */
	uint64_t conf_size;
	char failed[WHY_MAX]; /* resumed because a new image failed: why; "" */
};

/* Nothing of it is carried over an upgrade: the new image looks again. */
struct watch {
	tp_ms files_due, again, wait; /* wait: for the next try of what has failed, 0 nothing has */
	uint32_t tried;
	tp_ms expiry_due;
	uint64_t expiry_generation;
	unsigned told[CONF_CERTS_MAX];
};

/* What turnpike-conf runs for. */
enum look {
	LOOK_NOT,
	LOOK_EXTERNAL /* the external addresses of what it compiles */,
	LOOK_FILES /* has one changed? */
};

/* A message that a child has sent and that is not dealt with. */
struct in_hand {
	uint32_t child, generation;
	int32_t fd, result; /* result: number that its connection got, 0 none so far */
	bool again;         /* a supervisor has died with it */
	union msg m;        /* h.type MSG_NONE: none */
};

/*
 * In a memfd of its own.  The first part belongs to one process and is zero when a supervisor starts.
 * What follows outlives it: the next one goes on with that (successor.c).  A word that names a descriptor
 * is stored after the descriptor is open and replaced before the old one is closed; a descriptor that is
 * not named is closed by the next supervisor.
 */
#define SUPER_MAGIC 0x54505355u /* "TPSU" */
struct super {
	int usage_fd; /* of stat_usage_open(); not handed over: each image opens its own */
	tp_ms usage_last;
	const struct super_options *o;
	const struct super_program *programs;
	unsigned program_count;
	struct waiting *waiting;
	int own_fd, waiting_fd; /* of this and of *waiting */
	struct loop *loop;
	struct ledger *ledger;
	struct watch watch;
	tp_ms addresses_due; /* the host's own are looked at; 0 at the next tick */
	tp_ms external_due, rows_due, memory_due;
	struct memory_limit memory; /* each supervisor opens its own */
	/* enum conf_closed: what the last look found a retired one to be */
	uint8_t row_next[LISTENERS_MAX];
	struct stand_by stand_by[SHARDS_MAX];
	unsigned timer, tick_timer;
	tp_ms dog_last;                 /* WATCHDOG=1 last sent */
	tp_ms tick_last, on_time_since; /* the supervisor's own punctuality */
	struct conf conf;               /* of conf_fd */

	uint32_t magic, size; /* the first word that outlives a supervisor */
	enum super_phase phase;
	int exit_code;
	int ledger_rw, ledger_ro;
	int exe_fd,
	    binary
		[ROLES]; /* the programs of this build: an installation may replace the files at any time */
	char exe_path[PATH_MAX];
	struct upgrade upgrade;
	struct windows win;
	struct regions regions;
	struct children children;
	struct pool pool;

	int conf_fd, users_fd, certs_fd;
	uint64_t users_size, certs_size;
	uint32_t warnings;
	size_t granted; /* smallest receive buffer of a listener */
	struct conf_run conf_run;
	struct requester reload_who;
	struct requester reload_next; /* of the reload that comes after the running one */
	bool reloading, reload_again;
	enum look looking; /* turnpike-conf does not run for a reload */
	bool renew_admin;  /* by another turnpike-admin, when no requester waits for an answer any more */
	tp_ms reload_deadline; /* turnpike-conf has answered by then */

	int log_read, log_write, control_fd, http_fd;
	int filter_fd; /* the program that silences relay sockets between two sessions; -1 none */
	int authd_pair[SHARDS_MAX + 1]
		      [2];   /* [i][0] worker i's (last: turnpike-admin's), [i][1] turnpike-auth's */
	uint32_t tlsd_count; /* there shall be, once something needs them */
	int tlsd_pair[SHARDS_MAX][MSG_TLSDS_MAX]
		     [2]; /* [shard][turnpike-tls]: [0] the owner's, [1] turnpike-tls's */
	int pid_fd, daemon_fd;
	bool foreground, drop;
	uint32_t uid, gid;

	tp_ms deadline;  /* of a drain or a stop */
	bool terminated; /* SIGTERM has come once: the drain is its grace */
	struct roll roll;
	struct closing closing[CLOSINGS];
	struct suspect suspect[SUSPECTS];
	uint32_t adopt_deaths[SHARDS_MAX]; /* in a row */
	bool renewed[SHARDS_MAX]; /* its epoll is another one, which its worker has not filled yet */
	bool memory_short;        /* new allocations are refused: memory_limit.c */
	bool recount;             /* a shard has started cold: CROSS is counted again when no worker runs */
	struct in_hand in_hand;
	int signal; /* SIGHUP or SIGUSR2 that is not carried out, 0 none */
};

/* ---- held.c: loops over tbl/descriptors.def -------------------------------------------------------- */

#define HELD_KEEP_MAX (SHARDS_MAX * 6 + SHARDS_MAX * MSG_TLSDS_MAX + 64)
typedef void held_h(void *arg, int fd);
void held_each(const struct super *s, bool carried, held_h *cb,
    void *arg); /* carried: only what an upgrade takes along */
/* What a child keeps across exec, how many; and its places in START when m is not NULL. */
unsigned held_keep(
    const struct super *s, const struct ledger_child *c, int keep[HELD_KEEP_MAX], struct msg_start *m);
unsigned held_keep_probe(const struct super *s, int keep[HELD_KEEP_MAX]);

/* ---- start_message.c ------------------------------------------------------------------------------ */

int super_send(struct super *s, unsigned i, const void *msg, int fd); /* queues when the socket is full */
void super_flush(struct super *s, unsigned i);
void super_out_clear(struct child *c);
void super_tell_start(struct super *s, unsigned i); /* START ... GO */
/* START ... PREPARE, to a stand-by; 0 or -errno.  The rest when it takes its row. */
int super_tell_stand_by(struct super *s, const struct stand_by *b);
void super_tell_rest(struct super *s, unsigned i);
void super_tell_conf(struct super *s); /* CONF and USERS to all processes */

/* ---- launch.c ------------------------------------------------------------------------------------- */

int super_spawn(void *arg, unsigned i);
/* A process for this row, told nothing: its pid or -errno.  *born (may be NULL) is its pid before it runs. */
int super_launch(struct super *s, const struct ledger_child *c, int *control, int32_t *born);
int super_kill(void *arg, unsigned i);

/* ---- dispatch.c ----------------------------------------------------------------------------------- */

void super_control_event(void *arg, int fd, uint32_t events);
void super_drain_control(struct super *s, unsigned i, bool dead);
void super_in_hand_again(struct super *s); /* a message that a supervisor died with */

/* ---- child_death.c -------------------------------------------------------------------------------- */

void super_reap(struct super *s);
void super_print_log(
    const struct super *s); /* records that were not written: warnings and errors, to stderr */
void super_heartbeats(struct super *s, tp_ms now);
void super_locks_step(struct super *s);          /* lock words of processes that do not run */
void super_punctual(struct super *s, tp_ms now); /* before anything is judged by its time */

/* ---- poison.c ------------------------------------------------------------------------------------- */

void super_poison_death(
    struct super *s, unsigned i, int status); /* before its row says that it has ended */
void super_poison_ready(struct super *s, unsigned i);
bool super_died_of_its_work(const struct child *c, int status);
void super_poison_tell(struct super *s, unsigned i);

/* ---- renew.c -------------------------------------------------------------------------------------- */

/* After a death that was not a SIGKILL from outside */
void super_renew_shards(struct super *s, unsigned i);

/* ---- row_close.c ---------------------------------------------------------------------------------- */

/* Retired listeners that nothing refers to */
void super_rows_step(struct super *s, tp_ms now);

/* ---- reload.c ------------------------------------------------------------------------------------- */

void super_reload(struct super *s, struct requester who);
void super_reload_step(struct super *s, tp_ms now); /* its deadline */
void super_reload_cancel(struct super *s, const char *why);
int super_conf_first(struct super *s); /* exit code, 0 */
void super_conf_warnings(const struct super *s);
void super_renew_step(struct super *s);
int super_conf_again(
    struct super *s, char *why, size_t len); /* for an image that cannot read the old one's: 0 or -errno */
void super_conf_look(struct super *s, enum look what);
int super_conf_publish(struct super *s, const struct conf *c); /* its descriptor */
void super_close_old(struct super *s); /* TCP listeners that are not configured any more */

/* ---- successor.c ---------------------------------------------------------------------------------- */

/* Goes on where a supervisor died.  Exit code, 0. */
int super_adopt(struct super *s);

/* ---- cert_watch.c --------------------------------------------------------------------------------- */

void super_watch_step(
    struct super *s, tp_ms now); /* certificates: files that changed, ends that come near */
/* What turnpike-conf has seen: the path and the number of what is there, 0: nothing has changed. */
void super_watch_found(struct super *s, const char *path, uint32_t mix);
unsigned expiry_stage(int64_t left, int64_t first); /* grows with each warning that is due; 0 none */

/* ---- external_watch.c ----------------------------------------------------------------------------- */

/* External addresses that are names, or `auto` */
void super_external_step(struct super *s, tp_ms now);
void external_keep(
    const struct conf *was, struct conf *is); /* what was known and could not be found again */
void external_take(struct super *s, const struct conf *found); /* after super_conf_look() */

/* ---- addresses.c ---------------------------------------------------------------------------------- */

void super_addresses_watch(struct super *s); /* once there is a loop */
/* Says of each relay row whether this host has its address now; how many have changed, with a line of
 * the log each. */
unsigned super_addresses_mark(struct conf *c);
void super_addresses_step(struct super *s, tp_ms now);

/* ---- roll.c --------------------------------------------------------------------------------------- */

void super_roll(struct super *s, enum roll_mode mode, unsigned workers, struct requester who);
void super_roll_step(struct super *s);
void super_roll_cancel(struct super *s, const char *why);
void super_roll_deadline(struct super *s, tp_ms now);
void super_roll_go(struct super *s);    /* no stand-by is being prepared: workers stop */
void super_roll_again(struct super *s); /* after a supervisor's death */
void super_roll_force(struct super *s); /* all at once, now; it ends what runs */
unsigned super_roll_workers(
    const struct super *s); /* how many there will be when all that was asked for is done */

/* ---- stand_by.c ----------------------------------------------------------------------------------- */

/* For worker `index` of another split, or of this one; false: there is none. */
bool stand_by_start(struct super *s, unsigned index, uint32_t first_shard, uint32_t shard_count);
bool stand_by_exists(const struct super *s);
/* One takes row i, whose process has ended: its pid; 0: there is none. */
int stand_by_take(struct super *s, unsigned i);
/* What they were started with is true no more, or they are not wanted. */
void stand_by_end(struct super *s);
bool stand_by_reaped(struct super *s, pid_t pid);
void stand_by_deadline(struct super *s, tp_ms now);

/* ---- super_control.c ------------------------------------------------------------------------------ */

void super_command(struct super *s, unsigned i, const struct msg_command *m);
void super_reply(struct super *s, struct requester who, unsigned code, bool more, const char *fmt, ...)
    TP_PRINTF(5, 6);
void super_closed(struct super *s, const struct msg_closed *m);
void super_closings(struct super *s, tp_ms now);

/* ---- stop.c --------------------------------------------------------------------------------------- */

void super_stop(struct super *s); /* SIGTERM */
void super_drain(struct super *s, bool on, tp_ms span);
void super_tell_drain(struct super *s);            /* to every worker */
uint32_t super_drain_flags(const struct super *s); /* enum msg_drain_flags */
void super_stop_again(struct super *s);            /* after a supervisor's death */
void super_stop_step(struct super *s);             /* a child has ended, or time passed */
void super_drain_step(struct super *s, tp_ms now);
void super_cleanup(struct super *s);

/* ---- memory_limit.c ------------------------------------------------------------------------------- */

void super_memory_step(struct super *s, tp_ms now);
void super_memory_tell(const struct super *s);

/* ---- upgrade.c ------------------------------------------------------------------------------------ */

/* The old image */
void super_exe(struct super *s); /* remembers where this program is */
void super_upgrade(struct super *s, struct requester who);
void super_upgrade_again(struct super *s); /* after a supervisor's death: from its beginning */
void super_upgrade_cancel(struct super *s, const char *why);
void super_upgrade_step(struct super *s);
bool super_upgrade_reaped(struct super *s, pid_t pid, int status);  /* was it the probe? */
void super_go_back(struct super *s, int state_fd, const char *why); /* does not return when it succeeds */

/* ---- resume.c ------------------------------------------------------------------------------------- */

/* The new image */
void super_resume_step(struct super *s);
int super_resume(struct super *s, int state_fd, const char *failed); /* exit code, 0 */

/* ---- super.c -------------------------------------------------------------------------------------- */

/* Everything that needs capabilities is done. */
void super_prepared(struct super *s);
void super_signals_again(struct super *s); /* those that came when no supervisor was there */
/* From now on a death is survived. */
void super_can_be_adopted(struct super *s);
int super_watch(struct super *s); /* loop and signals; exit code, 0 */
int super_pool_send(void *arg, unsigned shard, const void *msg, int fd);
int super_find_binaries(struct super *s);
extern const struct children_ops super_children_ops;
void super_tick_start(struct super *s);
void super_rearm(struct super *s); /* timers follow children_due() */
void super_check_ready(struct super *s);
void super_tlsds(
    struct super *s, bool start); /* rows for them when a listener needs them, and starts those */

/* ---- summary.c ------------------------------------------------------------------------------------ */

void super_summary(struct super *s);
/* Warns of buffers smaller than configured, with the sysctl to set; true: all as wanted. */
bool super_buffers(const struct super *s); /* summary.c */

/* ---- bind.c --------------------------------------------------------------------------------------- */

int super_bind(struct super *s); /* exit code, 0: first start */
int super_http(const struct conf *c, int *fd, char *why, size_t len);

#endif
