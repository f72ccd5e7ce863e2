/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of room worker share.
 *
 *	worker.c   life: start, serve, end		start.c    the first messages, mapping, adoption
 *	events.c   the event loop			datapath.c     datagrams and what the core makes of them
 *	relays.c   relay sockets: open, close, pools	pending.c  requests that wait for a key or a socket
 *	worker_control.c  messages				worker_policy.c   struct conf -> struct turn_policy
 *	worklog.c  lines of the log			accept.c   connections: their number, limits, end
 *	stream.c   from a connection to the core	streamout.c  and back
 *	proxy.c    PROXY protocol headers		conn_settle.c   connections of a predecessor
 *	lane_tune.c     engine, processor			handshake.c    handshakes, with turnpike-tls processes
 *	tls.c   TLS records				assoc.c    DTLS associations
 *	dtls.c     DTLS records			idle_socket.c     relay sockets between two sessions
 *	tlsd_box.c  messages to turnpike-tls processes
 */
#ifndef TP_WORKER_INT_H
#define TP_WORKER_INT_H

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
#define EVENTS_MAX    64		/* of one shard's epoll at a time */
#define RELAY_READS   32		/* datagrams of one relay socket per wake-up */
#define ERRORS_MAX    16		/* entries of an error queue per wake-up */
#define RING_MAX      1024
#define RELAY_BYTES   (2u << 20)	/* arena for relay datagrams and answers of one batch */
#define POOL_DEPTH    32
#define SLOT_MAX_MAX  (1u << 24)	/* what a tag can name */

/*
 * Data of a registration in a shard's epoll.  It outlives the process that made it, so there is nothing in it that only one
 * process knows:
 *
 *	63..60 kind   59..52 listener row, or which relay socket   51..28 slot   27..0 low bits of the generation
 */
enum tag_kind { TAG_LISTENER = 1, TAG_RELAY = 2, TAG_ACCEPT = 3, TAG_STREAM = 4,
	TAG_REST = 5 /* a relay socket without a session; its number for a slot */ };
#define TAG_GEN_MASK 0x0fffffffu
static inline uint64_t
tag_make(enum tag_kind kind, unsigned which, uint32_t slot, uint32_t gen)
{
	return (uint64_t)kind << 60 | (uint64_t)(which & 0xff) << 52 | (uint64_t)(slot & 0xffffff) << 28 |
	    (gen & TAG_GEN_MASK);
}
static inline unsigned tag_kind(uint64_t tag) { return (unsigned)(tag >> 60); }
static inline unsigned tag_which(uint64_t tag) { return (unsigned)(tag >> 52) & 0xff; }
static inline uint32_t tag_slot(uint64_t tag) { return (uint32_t)(tag >> 28) & 0xffffff; }
static inline uint32_t tag_gen(uint64_t tag) { return (uint32_t)tag & TAG_GEN_MASK; }

/* What a descriptor number in a shard's window is. */
enum fd_use { FD_NONE, FD_LISTENER, FD_RELAY, FD_UNSETTLED /* inherited, not yet looked at */, FD_STREAM,
	FD_STREAM_LEFT /* inherited, of no connection yet */ };

/* What a relay socket is, by number - fd_base. */
struct lane_sock { uint16_t port; uint8_t row, family, state; };
#define SOCK_PREPARED 1u		/* by this process's engine */
#define SOCK_SILENCED 2u		/* it is in the epoll under TAG_REST: it rests, or waits in the pool */
#define SOCK_RESTS    4u		/* it is in the ring */

/* Relay sockets of one row that rest, oldest first. */
struct rested { struct relay_ref sock; tp_ms since; };
struct rest { struct rested *ring; uint32_t head, count; };

/* DTLS associations by who sends: {tag of session_prefetch(), slot + 1}, open addressing. */
struct assoc_table { uint64_t *at; uint32_t mask, count; };

/* Messages to one turnpike-tls that leave together, TLSD_BOX_STEP bytes from one to the next. */
#define TLSD_BOX_STEP ((sizeof(struct msg_hs_datagram) + 15) & ~(size_t)15)
struct tlsd_box { uint8_t *bytes; int fd[IPC_MANY]; unsigned count; };

/* One shard and what its owner keeps beside it. */
struct lane {
	struct shard shard;
	struct msg_shard told;
	uint8_t *use;			/* enum fd_use by number - fd_base */
	uint8_t *habit;			/* by number - fd_base: wake-ups of a relay socket that brought one datagram */
	struct lane_sock *sock;		/* by number - fd_base */
	struct rest rest[TURN_RELAYS_MAX];
	int listener[CONF_LISTENERS_MAX];	/* by row, -1 */
	uint8_t transport[CONF_LISTENERS_MAX];
	uint32_t cursor;		/* of the sweep */
	struct turn_pool pool;
	uint32_t asked[TURN_RELAYS_MAX];	/* sockets on their way to the pool */
	tp_ms quiet_until[TURN_RELAYS_MAX];	/* no WANT before: recalled, or asked in vain */
	int stream[CONF_LISTENERS_MAX];	/* TCP listener by row, -1 */
	uint32_t conn_cursor;		/* of the sweep */
	struct assoc_table assoc;
	struct tlsd_box box[MSG_TLSDS_MAX];
	uint32_t unasked, unasked_cursor;	/* handshakes that wait for room in a box */
	struct msg_stream_sock *streams;	/* inherited */
	size_t stream_count, stream_max;
	struct msg_pool_sock *inherited;
	size_t inherited_count, inherited_max, settled;
};
static inline bool
lane_window(const struct lane *l, int fd)
{
	return fd >= l->told.fd_base && fd - l->told.fd_base < l->told.fd_span;
}
/*
 * A socket that keeps bringing one datagram at a time is not asked for a second, which would cost a system call to learn
 * that there is none; after HABIT_END - HABIT_SINGLE wake-ups it is asked again.
 */
#define HABIT_SINGLE 4
#define HABIT_END    20
static inline uint8_t *lane_habit(struct lane *l, int fd) { return &l->habit[fd - l->told.fd_base]; }
static inline uint8_t *lane_use(struct lane *l, int fd) { return &l->use[fd - l->told.fd_base]; }
static inline struct lane_sock *lane_sock(struct lane *l, int fd) { return &l->sock[fd - l->told.fd_base]; }

/* Messages of this round, and what did not fit into the socket before, in order.  full: EPOLLOUT is waited for. */
struct outbox { uint8_t *bytes; size_t head, tail, max; bool full; };

enum log_kind { WL_ALLOCATED, WL_ENDED, WL_STRANGER, WL_BAD_MESSAGE, WL_OTHER, WL_KINDS };

/* What was told of whom: log_once.c. */
#define ONCE_SETS 256
#define ONCE_WAYS 4
struct once_entry { uint64_t key; tp_ms until; uint32_t more, lines; };
struct log_once { uint64_t seed[2]; struct once_entry e[ONCE_SETS][ONCE_WAYS]; };

/* Sessions whose datagrams a bandwidth limit dropped since the last report: the last one. */
struct over_limit { uint64_t drops, told; uint32_t lane, slot, gen; tp_ms next; };

/* Sources that workers died of. */
#define POISON_MAX 16
struct poison { struct addr source; tp_ms until; };

/* A connection that has no number of the supervisor's yet: nothing is read from it. */
#define ACCEPTS_MAX 32
struct accepting { int fd; uint32_t lane, row, id; bool used, told; struct addr peer; };

/* Connections with something to do at the end of the batch. */
struct touched { uint32_t lane, slot, gen; };

struct stream_policy {
	struct conn_limits limits;
	uint64_t queue;
	uint32_t handshakes;		/* that begin, per second and prefix; 0: no limit */
	uint32_t deadline /* seconds */, shakes /* datagrams to turnpike-tls processes, per second and prefix */;
};

struct pending;
struct pending_entry;
struct hello_ring;

struct worker {
	unsigned index;
	int control, authd, outer, tick;
	bool stop, serving, unsettled;
	struct child_proc proc;
	struct msg_start start;
	struct lane *lane;
	unsigned lane_count;
	struct stats *stat;
	const uint8_t *secret;
	struct cross cross;
	struct turn turn;
	struct turn_policy *policy[2];	/* the one in use, and room for the next */
	struct turn_policy *plain;	/* as configured, without what databases say */
	const struct conf_followed *followed;	/* the last of turnpike-auth; NULL */
	uint32_t followed_seq;
	uint32_t depth[TURN_RELAYS_MAX];	/* of the pools, by row */
	uint32_t rest_max[TURN_RELAYS_MAX];	/* so many sockets rest at most, by row; 0 none */
	struct stream_policy streams;
	struct conf_listener *rows;	/* of the configuration */
	struct accepting accepting[ACCEPTS_MAX];
	uint32_t accept_id;
	struct seal_ctx seal;
	struct seal_cookie_keys cookies;
	uint64_t cookie_epoch;
	uint32_t handshake_seconds;		/* that a handshake may take */
	struct touched *touched;
	size_t touched_count, touched_max;
	bool accepts_paused, kick;	/* kick: look at what a predecessor had received and not used */
	const struct udp_engine *engine;
	struct udp_arena *arena;
	struct udp_ring *down, *up;	/* to clients by listeners, to peers by relay sockets */
	struct udp_counts rx, tx_down, tx_up;
	struct udp_counts seen_rx, seen_down, seen_up;	/* what is in the STAT region already */
	struct udp_pkt pkt[UDP_BATCH];
	struct turn_out out;
	struct pending *pending;
	struct hello_ring *hellos;	/* fragments of second hellos without a proof */
	struct outbox outbox;
	struct poison poison[POISON_MAX];
	unsigned poisons;
	struct log_class log[WL_KINDS];
	struct log_once *once;
	struct over_limit over;
	bool anonymous;			/* log.anonymize_addresses */
	tp_ms last_wish;		/* when pools were topped up */
	uint64_t dice;			/* which resting socket is next; never 0 */
	uint64_t log_lost;
	unsigned tick_count;
	uint64_t received;		/* packets, at the last look */
	bool rest;			/* hardly any since */
	bool second;			/* one has gone by */
};

/* ---- start.c ----------------------------------------------------------------------------------- */

/* Receives everything up to GO, maps, gives up rights, adopts.  Ends the process when something is wrong. */
void worker_start(struct worker *w);
/* Of struct child_role. */
void worker_told_start(void *arg, const struct msg_start *m);
void worker_told(void *arg, const union msg *m, int fd);
void worker_keys(struct worker *w);	/* nonce and cookie keys of the present epochs */

/* ---- events.c ------------------------------------------------------------------------------------ */

int  events_open(struct worker *w);		/* the worker's own epoll and its tick; before the sandbox */
int  events_shard(struct worker *w, struct lane *l);	/* listeners into the shard's epoll, that into ours */
void events_control(struct worker *w, bool want_write);
void events_run(struct worker *w);		/* until stop */

/* ---- datapath.c ---------------------------------------------------------------------------------------- */

void path_now(struct worker *w);		/* sets the time of the batch */
void path_listener(struct worker *w, struct lane *l, unsigned row, uint32_t events);
void path_relay(struct worker *w, struct lane *l, uint64_t tag, uint32_t events);
/* A request that waited, with what it waited for.  `e` is its entry: it may go on waiting, else it is freed. */
void path_again(struct worker *w, struct lane *l, struct pending_entry *e);
/* Closes, opens and the log line of w->out. */
void path_effects(struct worker *w, struct lane *l);
/* One datagram to a client; brief: the bytes are overwritten soon, so they are copied. */
void path_send(struct worker *w, struct lane *l, unsigned row, const struct addr *to, const uint8_t *p, size_t len,
    bool brief);
void path_drain_errors(struct worker *w, int fd);	/* of a socket's error queue: counted, and forgotten */
void path_flush_up(struct worker *w);		/* what refers to the rings of connections */
void path_flush(struct worker *w);		/* both rings, then the arena is empty; counters are published */

/* What the core made of one message of a client; `e` as in path_again().  True when it still waits. */
bool path_input(struct worker *w, struct lane *l, const struct turn_in *in, struct pending_entry *e);
bool path_is_poisoned(const struct worker *w, const struct addr *from);

/* ---- lane_tune.c ------------------------------------------------------------------------------------------- */

void tune_engine(struct worker *w, uint32_t wanted);	/* enum conf_engine */
void tune_cpu(struct worker *w, const char *affinity, uint64_t workers /* 0: auto */);

/* ---- accept.c ---------------------------------------------------------------------------------------- */

void accept_ready(struct worker *w, struct lane *l, unsigned row);
void accept_at(struct worker *w, const struct msg_stream_at *m);
void accept_again(struct worker *w);		/* the supervisor takes messages again */
int  accept_listen(struct worker *w, struct lane *l, bool on);	/* TCP listeners in the shard's epoll */
/* A connection with its number: a slot for it, published and not yet in the epoll.  NULL: closed. */
struct conn *stream_open(struct worker *w, struct lane *l, int fd, unsigned row, const struct addr *peer);
/* Older connections of the same 5-tuple are over. */
void stream_supersede(struct worker *w, struct lane *l, const struct conn *c);
void stream_close(struct worker *w, struct lane *l, struct conn *c);	/* and its allocation; path_flush() inside */
void stream_forget_fd(struct worker *w, struct lane *l, int fd);	/* closes, and tells the supervisor */
bool stream_client(struct worker *w, struct lane *l, struct conn *c, const struct addr *client);	/* who it is; false: over a limit */
void stream_sweep(struct worker *w, struct lane *l);

/* ---- stream.c ---------------------------------------------------------------------------------------- */

void stream_event(struct worker *w, struct lane *l, uint64_t tag, uint32_t events);
/* A new one, of no epoll: what its first byte says, or into the epoll until there is one. */
void stream_first(struct worker *w, struct lane *l, struct conn *c);
/* Handles what is received and not used. */
void stream_parse(struct worker *w, struct lane *l, struct conn *c);
/* The core has dealt with the frame of in->len bytes: it counts as used, with the answer in w->out when there is one. */
void stream_done(struct worker *w, struct lane *l, const struct turn_in *in, bool answer);
void stream_again(struct worker *w, struct lane *l, struct pending_entry *e);
void stream_waits(struct worker *w, struct lane *l, const struct turn_in *in, struct pending_entry *e);
void stream_expired(struct worker *w, struct pending_entry *e);	/* no answer came: asks again */
void stream_kick(struct worker *w);

/* ---- streamout.c ------------------------------------------------------------------------------------- */

/* Room in next->out, and the bytes there; *old: ring_give() it after the commit.  False: no room. */
bool stream_append(struct worker *w, struct lane *l, struct conn *c, struct conn_rec *next, const uint8_t *p, size_t len,
    uint32_t *old);
void stream_data(struct worker *w, struct lane *l, const struct turn_out *o);	/* relayed data to a client */
void stream_touch(struct worker *w, const struct lane *l, struct conn *c);
void stream_write(struct worker *w, struct lane *l, struct conn *c);	/* sends what waits */
void stream_arm(struct worker *w, struct lane *l, struct conn *c);	/* asks the epoll for what it needs now */
void streams_flush(struct worker *w);

/* Puts len bytes of `type` as records behind next->out_head, and the position after them into next. */
bool sealed_append(struct worker *w, struct lane *l, struct conn *c, struct conn_rec *next, const uint8_t *p, size_t len,
    uint32_t *old);
/* Opens the record at in_parsed into `plain`.  False: none is whole, or the connection was closed. */
bool sealed_open(struct worker *w, struct lane *l, struct conn *c);
/* A KeyUpdate of ours, or the end of what has used its keys up: false, closed. */
bool sealed_due(struct worker *w, struct lane *l, struct conn *c);
bool sealed_adopt(struct lane *l, struct conn *c);

/* Keys of a connection over TLS or DTLS. */
static inline struct seal *
conn_seal(struct lane *l, const struct conn *c)
{
	return (struct seal *)(void *)conn_key(&l->shard, c)->bytes;
}

/* TLS 1.3 only. */
static inline struct seal_secrets *
conn_traffic(struct lane *l, const struct conn *c)
{
	return (struct seal_secrets *)(void *)conn_secrets(&l->shard, c);
}

/* ---- handshake.c ----------------------------------------------------------------------------------------- */

/* The connection's first byte says TLS: it goes to a turnpike-tls.  False: closed. */
bool handshake_begin(struct worker *w, struct lane *l, struct conn *c);
/* Under limits.handshakes_per_prefix?  If not it is counted and logged. */
bool handshake_may_begin(struct worker *w, const struct lane *l, const struct addr *client, uint8_t transport);
void handshake_cancel(struct worker *w, struct lane *l, const struct conn *c);
/* There was no room to ask for it: it waits, within its deadline.  NULL allowed. */
void handshake_wait(struct lane *l, struct conn *c);
void handshake_forget(struct lane *l, struct conn *c);	/* it waits no longer */
void handshake_again(struct worker *w, struct lane *l);	/* asks for those that wait; each tick */
void handshake_readable(struct worker *w, struct lane *l, unsigned tlsd);
unsigned handshake_tlsd(const struct worker *w, const struct addr *client);	/* the one for this client */
/* The connection of a message of this shard; NULL: it is over. */
struct conn *handshake_conn(struct lane *l, const struct hs_who *who);

/* ---- tlsd_box.c --------------------------------------------------------------------------------------- */

/* A message of this type, its head written and the rest to be, all of it, before anything else is done; `fd` is borrowed until it
 * is sent.  NULL: no memory.  Not sent, a connection's is closed, a datagram counted. */
void *tlsd_box(struct worker *w, struct lane *l, unsigned tlsd, uint32_t type, int fd);
void tlsd_box_flush(struct worker *w);

/* ---- assoc.c ----------------------------------------------------------------------------------------- */

/* `tag`: of session_prefetch() with TRANSPORT_DTLS.  NULL: none. */
struct conn *assoc_find(struct lane *l, const struct addr *client, unsigned row, uint32_t tag);
void assoc_forget(struct lane *l, const struct conn *c);	/* out of the index */
bool assoc_adopt(struct lane *l, struct conn *c);
/* What is kept of a DTLS session beside its keys. */
struct assoc_place { struct seal_dtls dtls; struct seal_final final; };
static inline struct assoc_place *
assoc_place(struct lane *l, const struct conn *c)
{
	return (struct assoc_place *)(void *)conn_place(&l->shard, c);
}
void assoc_reply(struct worker *w, struct lane *l, const struct msg_hs_reply *m);
void assoc_done(struct worker *w, struct lane *l, const struct msg_hs_done *m);	/* to be acknowledged afterwards */

/* ---- dtls_hello.c ----------------------------------------------------------------------------------------- */

#define HELLO_PIECE 2000		/* of a hello in one message to a turnpike-tls */
_Static_assert(SEAL_FRAG_HEAD + HELLO_PIECE <= MSG_HS_DATAGRAM_MAX, "it fits");
/* A datagram that begins with a DTLS hello; c: the association of this 5-tuple, NULL. */
void hello_datagram(struct worker *w, struct lane *l, unsigned row, const struct addr *from, const struct conn *c,
    const uint8_t *p, size_t len);
/* Has this 5-tuple returned a cookie lately, and no session yet? */
bool hello_is_proved(const struct worker *w, const struct lane *l, unsigned row, const struct addr *client);
/* May the handshake that began with this hello end in a session? */
bool hello_may_end(const struct worker *w, const struct lane *l, const struct hs_who *who);
void hello_ended(struct worker *w, const struct lane *l, const struct hs_who *who);	/* it has */

/* ---- dtls.c ------------------------------------------------------------------------------------------ */

void dtls_datagram(struct worker *w, struct lane *l, unsigned row, const struct addr *from, uint32_t tag, uint8_t *p,
    size_t len);
/* To a turnpike-tls; name: of the hello that this is a part of, 0: none.  Over the rate, or without room, it is a counted
 * drop. */
void dtls_pass_on(struct worker *w, struct lane *l, unsigned row, const struct addr *from, const uint8_t *p, size_t len,
    bool hello, uint64_t name);
void dtls_data(struct worker *w, struct lane *l, const struct turn_out *o);	/* answers and relayed data to a client */
void dtls_final(struct worker *w, struct lane *l, struct conn *c);	/* the handshake's last flight once more */
void dtls_goodbye(struct worker *w, struct lane *l, struct conn *c);	/* close_notify */
void dtls_due(struct worker *w, struct lane *l, struct conn *c);	/* the end of what has used its numbers up */
void dtls_again(struct worker *w, struct lane *l, struct pending_entry *e);	/* as path_again() */

/* ---- conn_settle.c -------------------------------------------------------------------------------------------- */

void streams_adopt(struct worker *w, struct lane *l);

/* ---- proxy.c ------------------------------------------------------------------------------------------- */

#define PROXY_MAX (16 + 65535)		/* the longest that version 2 can say */
/* > 0: the length of the header, and *source is set (ADDR_NONE: it names none; IPv4 in IPv6 is IPv4).  0: more is needed.
 * -EPROTO. */
int  proxy_parse(const uint8_t *p, size_t n, struct addr *source);

/* ---- relays.c ----------------------------------------------------------------------------------------- */

/* Into the epoll, then off with the filter, then SESSION_RELAY_OPEN.  False: it could not be done. */
bool relays_open(struct worker *w, struct lane *l, struct session_ref ref);
/* Its session has ended: it rests, or it is given back. */
/* Nobody will redeem the reserved socket of this id; 0: none. */
void relays_unreserve(struct worker *w, const struct lane *l, uint32_t reservation);
void relays_close(struct worker *w, struct lane *l, int fd);
/* Out of the epoll, closed, and the supervisor told. */
void relays_give_back(struct worker *w, struct lane *l, int fd, bool unused);
void relays_socket(struct worker *w, const struct msg_socket *m, int fd);	/* owns fd */
void relays_recall(struct worker *w, unsigned row, unsigned keep);
void relays_adopt(struct worker *w, struct lane *l);	/* marks and opens what live sessions have */
bool relays_settle(struct worker *w, unsigned n);	/* looks at n inherited sockets; false: all done */
void relays_wish(struct worker *w);			/* WANT for pools below their mark */

/* ---- idle_socket.c ------------------------------------------------------------------------------------------- */

/* Silences a socket whose session has ended and keeps it.  False: it cannot. */
bool rest_put(struct worker *w, struct lane *l, int fd);
bool rest_adopt(struct worker *w, struct lane *l, int fd);	/* the same for one that a predecessor has silenced */
void rest_draw(struct worker *w, struct lane *l, unsigned row);	/* fills the pool with what has rested enough */
void rest_expire(struct worker *w, struct lane *l);		/* once a tick */
void rest_clear(struct worker *w, struct lane *l, unsigned row);	/* gives back all */
void rest_event(struct worker *w, struct lane *l, uint64_t tag, uint32_t events);
uint32_t rest_depth(const struct turn_relay_row *r, uint32_t shards, int32_t span);	/* rest_max of a row */

/* ---- pending.c ------------------------------------------------------------------------------------------ */

/* A request that waits: its bytes, who sent it, and what has come so far. */
struct pending_entry {
	struct addr client;
	uint16_t listener;
	uint8_t transport;
	uint8_t shard_lane;
	uint16_t len;
	bool live, has_grant, has_offer;
	bool wants_key;			/* turnpike-auth must be asked (again) */
	uint32_t conn, conn_gen;	/* slot + 1 of the connection that it stands in; 0: UDP */
	uint32_t gen;
	uint32_t next_age, prev_age, next_hash;	/* index + 1 */
	tp_ms since, deadline, asked;		/* asked: when turnpike-auth was, 0: not yet */
	struct auth_grant grant;
	struct turn_offer offer;
	uint8_t bytes[MSG_STUN_MAX];
};
struct pending *pending_new(uint64_t seed);
void pending_end(struct pending *p);		/* wiped and freed */
/* NULL: full (counted), or a retransmission of what waits already (nothing to do). */
struct pending_entry *pending_put(struct worker *w, const struct lane *l, const struct turn_in *in);
void pending_free(struct worker *w, struct pending_entry *e);
uint32_t pending_id(const struct pending *p, const struct pending_entry *e);	/* never 0 */
struct pending_entry *pending_get(struct pending *p, uint32_t id);
void pending_expire(struct worker *w);
void pending_ask_key(struct worker *w, struct pending_entry *e);
/* Asks for those whose question met a full queue; after answers came, and each tick. */
void pending_ask_waiting(struct worker *w);
void pending_ask_relay(struct worker *w, struct pending_entry *e, const struct turn_want *want);
void pending_answer(struct worker *w, const struct msg_key_answer *a);
/* A socket (fd >= 0: already at its number) or the lack of one; false: nobody waits for it. */
bool pending_socket(struct worker *w, const struct msg_socket *m);
void pending_none(struct worker *w, const struct msg_relay_none *m);

/* ---- worker_control.c -------------------------------------------------------------------------------------------- */

struct lane *worker_lane(struct worker *w, uint32_t shard);	/* NULL: not ours */
/* With a descriptor, which stays the caller's.  False: the queue is full; accept_again() comes. */
bool control_send_fd(struct worker *w, void *msg, int fd);
void control_send(struct worker *w, void *msg);	/* fills in the generation; leaves with the next control_flush() */
void control_flush(struct worker *w);	/* once per round, before it waits */
void control_writable(struct worker *w);
void control_readable(struct worker *w);
void control_authd(struct worker *w);

/* ---- worker_policy.c ----------------------------------------------------------------------------------------------- */

/* A validated configuration into a zeroed policy. */
void policy_build(struct turn_policy *p, const struct conf *c);
/* Maps, checks, builds and takes over the configuration in a memfd (not closed).  0 or -errno. */
int  policy_take(struct worker *w, int conf_fd);
/* Depth of a row's pool. */
/* The other buffer is filled from `plain` and what databases say, and taken into use. */
void policy_again(struct worker *w);
/* ---- followed_policy.c ---- */
/* What turnpike-auth has found in databases, into the policy.  Closes fd.  0 or -errno. */
int  followed_take(struct worker *w, int fd);
void followed_ask(struct worker *w);	/* at the start */
void followed_apply(struct worker *w, struct turn_policy *p);
uint32_t policy_depth(const struct turn_relay_row *r, uint32_t shards);

/* ---- worklog.c ------------------------------------------------------------------------------------------------ */

void worklog_event(struct worker *w, const struct lane *l, const struct turn_out *o);
void worklog_over(struct worker *w, const struct lane *l, const struct turn_out *o);	/* DROP_BANDWIDTH: only noted */
/* A handshake that failed, or did not begin; REASON_NONE: nothing. */
void worklog_handshake(struct worker *w, const struct lane *l, const struct addr *client, uint8_t transport, enum reason why);
void worklog_tick(struct worker *w);		/* tells it, once a minute */
/* A connection of this client is over a limit. */
void worklog_conn_limit(struct worker *w, const struct addr *client);
/* One line a minute for each client address and limit that refuses without an answer. */
void worklog_limit(struct worker *w, enum reason why, const struct addr *client);
void worklog_dropped(struct worker *w, unsigned shard, const struct session *x, uint32_t slot, const char *why);

/* ---- log_once.c ----------------------------------------------------------------------------------------------- */

struct log_once *log_once_new(void);		/* NULL: no memory */
/*
 * May this be said now?  Once a minute per user, source and reason, and ONCE_LINES a minute per source.  *more: how often it
 * was swallowed since it was said last.
 */
#define ONCE_LINES 10
bool log_once(struct log_once *o, const struct addr *source, const char *user, size_t user_len, unsigned reason, tp_ms now,
    uint32_t *more);

#endif
