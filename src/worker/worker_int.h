/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * worker_int.h: the worker, and what its files share.  Each floor calls those below it only:
 *
 *	worker  start
 *	events				the loop: what is ready, in turn; the end of a round
 *	worker_control  accept  conn_settle  session_adopt  handshake  conn_end	    messages, beginnings and ends
 *	udp_in  batch  stream_in  assoc			datagrams, bytes and handshakes in
 *	dtls  dtls_hello  core_act					the core and what it says
 *	pending  conn_admit  stream_out  tls  assoc_index
 *	relays  idle_socket  relay_state  tlsd_box  conn_tx  conn_mark
 *	lane  outbox  udp_out  poisoned  worklog  worker_policy  worker_keys  lane_tune  proxy
 *
 * tests/lint/circles.sh holds the room to it.
 */
#ifndef TP_WORKER_INT_H
#define TP_WORKER_INT_H

#include "conns.h"
#include "lane.h"
#include "relay_sockets.h"
#include "tp/auth.h"
#include "tp/child.h"
#include "tp/conf.h"
#include "tp/io.h"
#include "tp/msg.h"
#include "tp/seal.h"
#include "tp/shm.h"
#include "tp/state.h"
#include "tp/turn.h"

#define TICK_MS       100
#define TICKS_PER_SEC (1000 / TICK_MS)
#define ERRORS_MAX    16 /* entries of an error queue per wake-up */

/* Messages of this round, and what did not fit into the socket before, in order.  full: EPOLLOUT is
 * waited for. */
struct outbox {
	int sock, outer;
	uint8_t *bytes;
	size_t head, tail, max;
	bool full, gone /* no supervisor */;
};

enum log_kind { WL_ALLOCATED, WL_ENDED, WL_STRANGER, WL_BAD_MESSAGE, WL_OTHER, WL_KINDS };

/* What was told of whom: log_once.c. */
#define ONCE_SETS 256
#define ONCE_WAYS 4
struct once_entry {
	uint64_t key;
	tp_ms until;
	uint32_t more, lines;
};
struct log_once {
	uint64_t seed[2];
	struct once_entry e[ONCE_SETS][ONCE_WAYS];
};

/* Sessions whose datagrams a bandwidth limit dropped since the last report: the last one. */
struct over_limit {
	uint64_t drops, told;
	uint32_t lane, slot, gen;
	tp_ms next;
};

/* Sources that workers died of. */
#define POISON_MAX 16
struct poison {
	struct addr source;
	tp_ms until;
};
struct poisoned {
	struct poison at[POISON_MAX];
	unsigned count;
};

/* A connection that has no number of the supervisor's yet: nothing is read from it. */
#define ACCEPTS_MAX IPC_MANY
struct accepting {
	int fd;
	uint32_t lane, row, id;
	bool used, told;
	struct addr peer;
};
struct accepts {
	struct accepting at[ACCEPTS_MAX];
	uint32_t last_id;
	unsigned untold;
	bool paused;
};

struct stream_policy {
	struct conn_limits limits;
	uint64_t queue;
	uint32_t handshakes; /* that begin, per second and prefix; 0: no limit */
	uint32_t deadline /* seconds */,
	    shakes /* datagrams to turnpike-tls processes, per second and prefix */;
};

/* Datagrams on their way out: to clients by listeners, to peers by relay sockets. */
struct udp_out {
	struct udp_ring *down, *up;
	struct udp_counts tx_down, tx_up, rx;
	struct udp_counts seen_down, seen_up, seen_rx; /* what is in the STAT region already */
};

/* Keys of the present epochs are derived from the daemon's secret. */
struct worker_keys {
	const uint8_t *secret;
	uint64_t cookie_epoch;
	bool made;
	struct seal_cookie_keys cookies;
};

/* The loop. */
enum outer { OUTER_CONTROL, OUTER_AUTHD, OUTER_TICK, OUTER_SHARD, OUTER_TLSD = 1 << 16 };
struct events {
	int outer, tick;
	bool stop, unsettled;
	unsigned ticks;
	uint64_t received; /* packets, at the last look */
	bool quiet;        /* hardly any since */
	bool second;       /* one has gone by */
	uint64_t log_lost;
};

struct pending;
struct hello_ring;

struct worker {
	unsigned index;
	int control, authd;
	bool serving;
	struct child_proc proc;
	struct msg_start start;
	struct lane *lane;
	unsigned lane_count;
	struct stats *stat;
	struct cross cross;
	struct turn turn;
	struct turn_out out;                  /* of the message in hand */
	struct turn_policy *policy[2];        /* the one in use, and room for the next */
	const struct port_map *ports;         /* relay ports of all shards that are open */
	struct turn_policy *plain;            /* as configured, without what databases say */
	const struct conf_followed *followed; /* the last of turnpike-auth; NULL */
	uint32_t followed_seq;
	struct conf_listener *rows; /* of the configuration */
	struct stream_policy streams;
	uint64_t limit[REASONS];    /* the options that reasons are named by; 0: not one of them */
	uint32_t handshake_seconds; /* that a handshake may take */
	struct seal_ctx seal;
	const struct client_ops *client[TRANSPORT_DTLS + 1]; /* by enum transport */
	const struct udp_engine *engine;
	struct udp_arena *arena;
	struct udp_pkt pkt[UDP_BATCH];
	struct log_class log[WL_KINDS];
	struct log_once *once;
	struct over_limit over;
	bool anonymous; /* log.anonymize_addresses */
	struct relay_pools pools;
	struct worker_keys keys;
	struct events events;
	struct udp_out udp;
	struct outbox outbox;
	struct accepts accepts;
	struct conn_marks marks;
	struct pending *pending;
	struct hello_ring *hellos; /* fragments of second hellos without a proof */
	struct poisoned poisoned;
};

/* ---- start.c ----------------------------------------------------------------------------------- */

/* Receives everything up to GO, maps, gives up rights, adopts.  Ends the process when something is
 * wrong. */
void worker_start(struct worker *w);
/* Of struct child_role. */
void worker_told_start(void *arg, const struct msg_start *m);
void worker_told(void *arg, const union msg *m, int fd);

/* ---- worker_keys.c ------------------------------------------------------------------------------- */

void worker_keys(struct worker *w); /* nonce and cookie keys of the present epochs */

/* ---- events.c ------------------------------------------------------------------------------------ */

int events_open(struct worker *w); /* the worker's own epoll and its tick; before the sandbox */
int events_shard(struct worker *w, struct lane *l); /* listeners into the shard's epoll, that into ours */
void events_run(struct worker *w);                  /* until stop */

/* ---- batch.c --------------------------------------------------------------------------------------- */

void batch_now(struct worker *w); /* sets the time of the batch */
/* Everything leaves, touched connections are flushed, the arena is empty; counters are published. */
void batch_flush(struct worker *w);

/* ---- udp_in.c ---------------------------------------------------------------------------------------- */

void udp_listener(struct worker *w, struct lane *l, unsigned row, uint32_t events);
void udp_relay(struct worker *w, struct lane *l, uint64_t tag, uint32_t events);

/* ---- core_act.c -------------------------------------------------------------------------------------- */

/*
 * Feeds a message of a client to the core and carries its effects out: relay sockets are opened and
 * closed, the log is written.  What is to be sent is the act that is returned, with w->out; the caller
 * sends it.
 */
enum turn_act core_input(struct worker *w, struct lane *l, const struct turn_in *in);
/* Effects of a turn_xxx() that was called directly; a NEED of act is returned as it is. */
enum turn_act core_effects(struct worker *w, struct lane *l, enum turn_act act);
/* TURN_NEED_KEY, TURN_NEED_RELAY: keeps the request and asks.  NULL: there is no room, or its question
 * is out already. */
struct pending_entry *core_wait(
    struct worker *w, struct lane *l, const struct turn_in *in, enum turn_act act);
/* What came for a request that waited goes to the core with it; the entry goes on waiting or is freed. */
void core_resume(struct worker *w, struct pending_entry *e);
/* Requests for which nothing came. */
void core_expire(struct worker *w);
/* Ends a session for an operator, or because its connection has ended.  False: there is none. */
bool core_close(struct worker *w, struct lane *l, struct session_ref ref, enum reason why);
/* Marks in the STAT region what is in hand, so that a death leaves behind whose packet it was. */
void core_busy(struct worker *w, enum busy_phase phase, const struct lane *l, uint32_t slot, uint32_t gen,
    const struct addr *from, const uint8_t *p, size_t len);
void core_idle(struct worker *w);

/* ---- udp_out.c --------------------------------------------------------------------------------------- */

/* One datagram to a client; brief: the bytes are overwritten soon, so they are copied. */
void udp_to_client(struct worker *w, struct lane *l, unsigned row, const struct addr *to, const uint8_t *p,
    size_t len, bool brief);
void udp_to_peer(struct worker *w, const struct turn_out *o);
/* Is it in out.reply, where the next datagram's answer is written as well? */
static inline bool
udp_is_brief(const struct turn_out *o)
{
	return o->p >= o->reply && o->p < o->reply + sizeof o->reply;
}
void udp_flush_up(struct worker *w); /* what refers to the rings of connections */
void udp_flush_down(struct worker *w);
void udp_publish(struct worker *w); /* counters into the STAT region */

/* ---- lane_tune.c ------------------------------------------------------------------------------------- */

void tune_engine(struct worker *w, uint32_t wanted); /* enum conf_engine */
void tune_cpu(struct worker *w, const char *affinity, uint64_t workers /* 0: auto */);

/* ---- tlsd_box.c -------------------------------------------------------------------------------------- */

/* The turnpike-tls for this client. */
unsigned tlsd_of(const struct worker *w, const struct addr *client);
/*
 * Appends a message of this type and returns it, its header filled in.  The caller fills in every other
 * field before it calls anything else; fd must stay open until tlsd_box_flush().  NULL: there is no
 * turnpike-tls or no memory.  When the message cannot be sent, a stream's connection is stalled and a
 * datagram is counted as dropped.
 */
void *tlsd_box(struct worker *w, struct lane *l, unsigned tlsd, uint32_t type, int fd);
void tlsd_box_flush(struct worker *w);

/* ---- pending.c --------------------------------------------------------------------------------------- */

/* A request that waits: its bytes, its sender, and what has come so far. */
struct pending_entry {
	struct addr client;
	uint16_t listener;
	uint8_t transport;
	uint8_t shard_lane;
	uint16_t len;
	bool live, has_grant, has_offer;
	bool wants_key;          /* turnpike-auth must be asked (again) */
	uint32_t conn, conn_gen; /* slot + 1 of the connection that it stands in; 0: UDP */
	uint32_t gen;
	uint32_t next_age, prev_age, next_hash, next_want; /* index + 1 */
	tp_ms since, deadline, asked;                      /* asked: when turnpike-auth was, 0: not yet */
	struct auth_grant grant;
	struct turn_offer offer;
	uint8_t bytes[MSG_STUN_MAX];
};
struct pending *pending_new(uint64_t seed);
void pending_end(struct pending *p); /* wiped and freed */
bool pending_has_room(const struct pending *p);
/* NULL: full (counted), or a retransmission of what waits already (nothing to do). */
struct pending_entry *pending_put(struct worker *w, const struct lane *l, const struct turn_in *in);
void pending_free(struct worker *w, struct pending_entry *e);
uint32_t pending_id(const struct pending *p, const struct pending_entry *e); /* never 0 */
struct pending_entry *pending_get(struct pending *p, uint32_t id);
/* The oldest one when its time is over, NULL: none. */
struct pending_entry *pending_overdue(struct worker *w);
/* turnpike-auth is asked at the end of the round, once for all. */
void pending_ask_key(struct worker *w, struct pending_entry *e);
void pending_flush(struct worker *w);
void pending_ask_relay(struct worker *w, struct pending_entry *e, const struct turn_want *want);
/* The entry for which an answer came and is complete; NULL: nothing waits for it, or more has to come. */
struct pending_entry *pending_answer(struct worker *w, const struct msg_key_answer *a);
struct pending_entry *pending_none(struct worker *w, const struct msg_relay_none *m);
/* A socket that is at its number.  False: nothing waits for it.  *ready: its entry when it is complete,
 * else NULL. */
bool pending_socket(struct worker *w, const struct msg_socket *m, struct pending_entry **ready);

/* ---- outbox.c ---------------------------------------------------------------------------------------- */

/* Messages to the supervisor leave with outbox_flush(): each alone would wake the supervisor. */
void outbox_put(struct worker *w, void *msg); /* fills in the generation */
/* Once per round, before it waits.  False: the socket is full, outbox_writable() comes. */
bool outbox_flush(struct worker *w);
void outbox_writable(struct worker *w);

/* ---- worker_control.c -------------------------------------------------------------------------------- */

void control_readable(struct worker *w);
void control_authd(struct worker *w);

/* ---- worker_policy.c --------------------------------------------------------------------------------- */

/* Maps, checks, builds and takes over the configuration in a memfd (not closed).  0 or -errno. */
int policy_take(struct worker *w, int conf_fd);
/* The other buffer is filled from `plain` and what databases say, and taken into use. */
void policy_drain(struct worker *w, uint32_t flags); /* enum msg_drain_flags */
void policy_again(struct worker *w);

/* ---- followed_policy.c ------------------------------------------------------------------------------- */

/* What turnpike-auth has found in databases; policy_again() takes it into use, then *was may be unmapped.
 * Closes fd.  0 or -errno. */
int followed_take(struct worker *w, int fd, const struct conf_followed **was);
void followed_unmap(const struct conf_followed *was); /* NULL allowed */
void followed_ask(struct worker *w);                  /* at the start */
void followed_apply(struct worker *w, struct turn_policy *p);

/* ---- poisoned.c -------------------------------------------------------------------------------------- */

void poisoned_add(struct poisoned *p, const struct addr *source, tp_ms until);
bool poisoned_has(const struct poisoned *p, const struct addr *from, tp_ms now);

/* ---- worklog.c --------------------------------------------------------------------------------------- */

void worklog_event(struct worker *w, const struct lane *l, const struct turn_out *o);
void worklog_over(
    struct worker *w, const struct lane *l, const struct turn_out *o); /* DROP_BANDWIDTH: only noted */
/* A handshake that failed, or did not begin; REASON_NONE: nothing. */
void worklog_handshake(
    struct worker *w, const struct lane *l, const struct addr *client, uint8_t transport, enum reason why);
void worklog_tick(struct worker *w); /* tells it, once a minute */
/* A connection of this client is over a limit. */
void worklog_conn_limit(struct worker *w, const struct addr *client);
/* One line a minute for each client prefix and limit that refuses or drops without an answer. */
void worklog_limit(struct worker *w, enum reason why, const struct addr *client);
/* The same, and counted. */
void worklog_over_limit(struct worker *w, enum reason why, const struct addr *client);
void worklog_dropped(
    struct worker *w, unsigned shard, const struct session *x, uint32_t slot, const char *why);

/* ---- limit_values.c ---------------------------------------------------------------------------------- */

/* value[r]: the option that reason r is named by, in the unit of struct conf; 0 when it is no limit. */
void limit_values_take(uint64_t value[REASONS], const struct conf *c);

/* ---- log_once.c -------------------------------------------------------------------------------------- */

struct log_once *log_once_new(void); /* NULL: no memory */
/*
 * May this be said now?  Once a minute per user, source and reason, and ONCE_LINES a minute per source.
 * *more: how often it was swallowed since it was said last.
 */
#define ONCE_LINES 10
bool log_once(struct log_once *o, const struct addr *source, const char *user, size_t user_len,
    unsigned reason, tp_ms now, uint32_t *more);

#endif
