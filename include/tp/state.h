/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * state.h: sessions, permissions, channels, quotas, reservation tokens; tables in shared memory.
 *
 *   SHARD[i]  owner: the worker of shard i, the only writer, no lock.  turnpike-admin and supervisor read.
 *   KEYS[i]   owner: the same worker.  No other process maps it.
 *   CROSS     all workers, under striped lock words; the supervisor recovers what a dead worker left.
 *
 * Publish last: a slot is filled, then its state word is stored with release.  A process may be killed
 * between any two stores; shard_adopt() and cross_recover() bring everything back to a state that
 * state_audit() accepts.  Errors: 0 or -errno.  No kernel call but futex (through shm).
 */
#ifndef TP_STATE_H
#define TP_STATE_H

#include "tp/shm.h"

#define STATE_LAYOUT_SHARD 3
#define STATE_LAYOUT_KEYS  3
#define STATE_LAYOUT_CROSS 2
#define SLOT_NONE          UINT32_MAX

/* ---- shard.c, adopt.c, session.c, index.c: one shard and its sessions --------------------------- */

/* TAKING: it takes the place of another session of its client, which cross_open() is about to free;
 * certain already. */
enum session_state { SESSION_FREE, SESSION_FILLING, SESSION_LIVE, SESSION_ENDING, SESSION_TAKING };
enum session_flag {
	SESSION_RELAY_OPEN = 1, /* every relay socket is in the epoll and its filter detached */
	SESSION_RESERVED = 2,   /* EVEN-PORT with R: a RESERVATION-TOKEN went with the answer */
	SESSION_REDEEMED = 4,   /* made with a RESERVATION-TOKEN */
	SESSION_MTU = 8,        /* DONT-FRAGMENT was asked for */
};

/* A relay socket: its descriptor number (the supervisor's, the same in every process), its port, and
 * the row of conf.relays that it is bound on. */
struct relay_ref {
	int32_t fd; /* -1: none */
	uint16_t port;
	uint8_t row;    /* index into the relay table */
	uint8_t family; /* ADDR_V4, ADDR_V6, 0 when absent */
};
struct perm4 {
	uint32_t ip, expiry;
}; /* ip in network order; expiry 0: free; seconds */
struct chan4 {
	uint32_t ip;
	uint16_t port, number;
	uint32_t expiry;
}; /* number 0: free */
#define SESSION_PERM4 6
#define SESSION_CHAN4 4
#define SESSION_NAME  20

/*
 * One allocation, 256 bytes:
 *
 *   line 0   identity and addresses: what a packet in either direction reads first
 *   line 1   four IPv4 channels, two permissions
 *   line 2   four more permissions, traffic
 *   line 3   identity: transaction, user
 *
 * More, and everything IPv6, is in 64-byte overflow blocks of the same region, chained from `more`.
 */
struct session {
	_Atomic uint32_t state;    /* enum session_state; stored last with release */
	uint32_t gen;              /* raised each time the slot is filled; never 0 when live */
	_Atomic uint32_t seq;      /* seqlock: odd while cold fields change */
	uint32_t expiry;           /* seconds, monotonic */
	struct addr client;        /* remote transport address */
	uint16_t listener;         /* row of conf.listeners */
	uint8_t transport;         /* enum transport */
	uint8_t flags;             /* enum session_flag */
	struct relay_ref relay[2]; /* [0] always present; [1] the other family of a dual allocation */
	uint32_t policy;           /* generation of the peer policy that its peers were judged by */
	uint32_t more;             /* first overflow block + 1; 0: none */

	struct chan4 chan[SESSION_CHAN4];
	struct perm4 perm_a[2];

	struct perm4 perm_b[SESSION_PERM4 - 2];
	uint64_t up_bytes, down_bytes;
	uint32_t up_packets, down_packets; /* wrap */
	uint32_t client_seen;              /* seconds: last packet of the client */
	uint32_t bucket;                   /* overflow block + 1 with bandwidth leases; 0: none */

	uint8_t txid[12];  /* of the Allocate that made it */
	uint32_t lifetime; /* granted then, seconds */
	uint64_t user;     /* keyed hash of realm and the stable part of the user name */
	uint64_t name;     /* keyed hash of the whole user name: 441 when another one comes */
	uint32_t created;  /* seconds, monotonic; while TAKING: slot + 1 of the session that gives way */
	uint16_t perm_count, chan_count; /* in use or expired but not yet swept */
	uint32_t conn;                   /* slot + 1 of its struct conn (stream, DTLS); 0: plain UDP */
	char user_text[SESSION_NAME];    /* beginning of the stable name, for people; zero padded */
};
_Static_assert(sizeof(struct session) == 256, "a session is four cache lines");
_Static_assert(offsetof(struct session, chan) == 64 && offsetof(struct session, perm_b) == 128 &&
	offsetof(struct session, txid) == 192,
    "lines");

struct session_ref {
	uint32_t slot, gen;
};

/* What only the owner maps: the key that requests on this allocation are checked with. */
struct session_key {
	uint32_t gen;              /* of the session it belongs to */
	uint8_t alg, len;          /* enum stun_alg as a number; 16 or 32 */
	uint16_t permissions;      /* that this user may have; 0: as configured */
	int64_t credential_expiry; /* Unix seconds, 0: none (strict_expiry) */
	uint8_t key[32];
};

/* A mapped shard, in private memory of the process that mapped it. */
struct shard {
	unsigned index;
	void *region; /* SHARD[i] */
	void *keys;   /* KEYS[i]; NULL for readers */
	bool writer;
	uint32_t slot_max;
	struct session *slots;
	/* Of this room only: */
	struct shard_head *head;
	struct block *blocks;
	struct conn *conns;
	uint32_t conn_max, ring_max;
	uint32_t *ring_links;
	uint8_t *ring_bytes;
	uint32_t ring_used;           /* the writer's: how many connections hold */
	uint8_t ring_cold[16384 / 8]; /* bits of free rings whose pages went back */
	_Atomic uint64_t *area[2];    /* of index tables */
	unsigned index_max;           /* log2 of the largest table */
	uint32_t block_max;
};
/* Sizes of the regions for at most `slot_max` sessions (sparse: an idle shard touches a few pages). */
size_t shard_region_size(uint32_t slot_max);
size_t shard_keys_size(uint32_t slot_max);
/* The tables of a KEYS region, each of which fills up from its front: where they end (for those who
 * lock memory). */
#define SHARD_KEYS_TABLES 4
void shard_keys_ends(uint32_t slot_max, size_t end[SHARD_KEYS_TABLES]);
/* Binds a mapping.  A writer on an all-zero region initialises it (`seed`: 16 bytes for the index hash); a
 * reader finds it empty (`seed` unused).  -EPROTO: another layout, -EINVAL: nonsense in the header. */
int shard_attach(struct shard *s, unsigned index, void *region, void *keys, uint32_t slot_max, bool writer,
    const uint8_t seed[16]);
/*
 * Writer, once before it serves: validates every slot, frees what was being filled, rebuilds free lists
 * and, where it does not match the live slots, the index.  `dropped` is called for each session that was
 * live or ending and is not kept (its sockets must go); may be NULL.  Such a session still holds its
 * counts in CROSS, so its slot stays SESSION_ENDING: session_sweep() hands it to `over`, and
 * cross_close() frees it.
 */
struct shard_adopted {
	uint32_t live, dropped, half;
};
typedef void shard_dropped_h(void *arg, const struct session *s, uint32_t slot, const char *why);
struct shard_adopted shard_adopt(struct shard *s, tp_ms now, shard_dropped_h *dropped, void *arg);

/* Is a KEYS region of this layout, or still empty?  0 or -EPROTO. */
int shard_keys_check(const void *keys);

uint32_t shard_live(const struct shard *s);
/* Packets received for this shard, by all its owners so far.  The writer adds, once a wake-up. */
void shard_packets_add(struct shard *s, uint64_t n);
uint64_t shard_packets(const struct shard *s);
uint32_t shard_high(const struct shard *s); /* slots ever used: iterate below it */
/* Reader (another process): a consistent copy of a live slot, or false. */
bool session_read(const struct shard *s, uint32_t slot, struct session *copy);

/* The live session of a client, by remote address, transport and listener; NULL. */
struct session *session_find(
    struct shard *s, const struct addr *client, uint8_t transport, uint16_t listener);
static inline uint32_t
session_slot(const struct shard *s, const struct session *x)
{
	return (uint32_t)(x - s->slots);
}
/* The live session of a reference, NULL when it is gone. */
struct session *session_get(struct shard *s, struct session_ref ref);
struct session_key *session_key(struct shard *s, const struct session *x);
/*
 * For batches, so that the memory of all is on its way before the first is handled: session_prefetch()
 * fetches a client's place in the index and returns its tag, session_prefetch_slot() the slot that is
 * found there (session_prefetch_at(): by its number), session_find_tag() is session_find() without
 * hashing again.
 */
uint32_t session_prefetch(
    const struct shard *s, const struct addr *client, uint8_t transport, uint16_t listener);
void session_prefetch_slot(const struct shard *s, uint32_t tag);
void session_prefetch_at(const struct shard *s, uint32_t slot);
struct session *session_find_tag(
    struct shard *s, const struct addr *client, uint8_t transport, uint16_t listener, uint32_t tag);

/* A slot in SESSION_FILLING with a new generation and everything else zero; NULL when the shard is full.
 * Its session_key() is zero but for the generation.  Fill both, then cross_open().  session_abandon()
 * gives it back. */
struct session *session_new(struct shard *s);
void session_abandon(struct shard *s, struct session *x);
/* Cold fields of a live session change between these two (seqlock for readers).  Permissions, channels and
 * sweep do it themselves, and may be called between the two. */
void session_change(struct session *x);
void session_changed(struct session *x);
/*
 * Looks at the next `n` slots from a cursor kept in *s's owner's memory and calls back for live sessions
 * whose expiry has passed and for those in SESSION_ENDING (a cross_close() that timed out, or dropped by
 * shard_adopt(): try again); also frees permissions and channels that are over.  Returns the new cursor.
 * `over` may close the session.
 */
typedef void session_over_h(void *arg, struct session *x);
uint32_t session_sweep(
    struct shard *s, uint32_t cursor, uint32_t n, tp_ms now, session_over_h *over, void *arg);

/* ---- perm.c, chan.c, peers.c: permissions and channels of one session --------------------------- */

#define PERMISSION_LIFETIME 300 /* seconds, RFC 8656 9 */
#define CHANNEL_LIFETIME    600 /* seconds, RFC 8656 12 */
/*
 * By IP address only; a permission says whether the port must be judged with each packet, too.  That is
 * the lowest bit of its expiry, which is a second later where need be.  perm_set installs or refreshes
 * until now + PERMISSION_LIFETIME (never shortens); -ENOSPC when `max` is reached or the region's blocks
 * are.  perm_mark changes what the permission says of the port.
 */
enum perm_kind { PERM_NONE, PERM_ADDRESS, PERM_PORT };
enum perm_kind perm_has(const struct shard *s, const struct session *x, const struct addr *peer, tp_ms now);
int perm_set(struct shard *s, struct session *x, const struct addr *peer, bool port_matters, tp_ms now,
    unsigned max);
void perm_mark(struct shard *s, struct session *x, const struct addr *peer, bool port_matters);
static inline bool
perm_has_port(uint32_t expiry)
{
	return (expiry & 1) != 0;
}
/* Would `n` more distinct addresses fit?  (All or nothing of CreatePermission.) */
bool perm_fits(const struct shard *s, const struct session *x, const struct addr *peers, unsigned n,
    tp_ms now, unsigned max);
/* Drops the permission for this address and every channel to it (a peer that policy newly denies). */
void perm_drop(struct shard *s, struct session *x, const struct addr *peer);

/* 0 and *peer set, or false.  Expired ones are not found. */
bool chan_peer(
    const struct shard *s, const struct session *x, uint16_t number, tp_ms now, struct addr *peer);
/* The number bound to a peer, 0 when none. */
uint16_t chan_number(const struct shard *s, const struct session *x, const struct addr *peer, tp_ms now);
/* Binds or refreshes.  -EEXIST: the number has another peer, or the peer another number; -ENOSPC. */
int chan_bind(
    struct shard *s, struct session *x, uint16_t number, const struct addr *peer, tp_ms now, unsigned max);
/* Every permission or channel that is in force, with its expiry (turnpikectl sessions ID, audit). channel
 * 0: a permission. */
typedef void peer_each_h(void *arg, const struct addr *peer, uint16_t channel, uint32_t expiry);
void session_each_peer(
    const struct shard *s, const struct session *x, tp_ms now, peer_each_h *cb, void *arg);

/* ---- conn.c, shard.c: client connections over TCP, TLS and DTLS ---------------------------------- */

/*
 * A connection is a slot in SHARD; what only a stream needs lies on other pages, so that DTLS
 * associations, of which there may be many, cost their heads alone.  What it has received and not yet
 * used, and what it has yet to send, lies in rings of the same region.  All numbers of bytes are
 * positions in the stream since its first byte, as the kernel counts them:
 *
 * 	in:	... parsed | in the ring | in_recv           recv() straight into the ring, then in_recv
 * 	out:	... out_sent | in the ring | out_head        into the ring, commit, send(), then out_sent
 *
 * What belongs together is in one record of which there are two: the next is filled, then `which` is
 * stored with release.  in_recv and out_sent may be behind the kernel when a worker dies between a call
 * and the store: its successor asks the kernel's own counters.  TLS: `in` holds records, whose content
 * goes to `plain`, where the frames are.  DTLS: no descriptor, no rings, no record; the position is in
 * KEYS and changes in place.
 */
enum conn_state {
	CONN_FREE,
	CONN_FILLING,
	CONN_SHAKING /* its handshake is with a turnpike-tls */,
	CONN_OPEN
};
enum conn_flag {
	CONN_PROXY = 1,  /* a PROXY protocol header comes first */
	CONN_VALID = 2,  /* a well-formed message has come */
	CONN_SEALED = 4, /* TLS records */
	CONN_CHOOSE = 8, /* TCP or TLS: the first byte will tell */
	CONN_FLAGS = 16,
};
struct ring_ref {
	uint64_t base;
	uint32_t ring /* index + 1; 0: none */, zero;
}; /* position p is at p - base */
struct conn_rec {
	uint64_t in_parsed, plain_parsed, plain_head, out_head;
	struct ring_ref in, plain, out;
	_Alignas(8) uint8_t seal_pos[32]; /* struct seal_pos of tp/seal.h */
	uint32_t flags;
	uint32_t update_window, updates; /* KeyUpdates received in the last window that had one */
	uint32_t zero;
};
_Static_assert(sizeof(struct conn_rec) == 128, "a record is two cache lines");
struct conn {
	_Atomic uint32_t state; /* enum conn_state; stored last with release */
	uint32_t gen;           /* raised each time the slot is filled; never 0 when in use */
	int32_t fd;             /* the supervisor's number */
	uint16_t listener;      /* row of conf.listeners */
	uint8_t transport;      /* as in struct session */
	uint8_t armed;          /* the events that its registration asks for: EPOLL_xxx & 255 */
	uint32_t deadline;      /* seconds, monotonic: for the first valid message */
	uint32_t seen;          /* seconds: last message */
	uint32_t next;          /* free list: slot + 1 */
	_Atomic uint32_t which; /* of the two records */
	uint64_t in_recv, out_sent;
	uint32_t wait;       /* this worker's: the request that stands at in_parsed waits for an answer */
	uint32_t touched;    /* this worker's: it is in the list of those to look at when the batch ends */
	uint64_t prefix;     /* what it counts for; 0: not counted */
	struct addr peer;    /* the other end of the socket */
	struct addr client;  /* the same, or what the PROXY header says */
	uint32_t unused;     /* an earlier program may have left something here */
	uint32_t heard;      /* DTLS: what CONN_VALID is for a stream */
	uint32_t ring_since; /* seconds: since when it holds a ring; 0: it has none */
	uint8_t ending;      /* the worker's reason why it ends; a successor ends it; 0: it goes on */
	uint8_t alert;       /* with some of them: the TLS alert + 1 */
	uint8_t stalled;     /* this worker's: what it waits for */
	uint8_t zero[128 - 64 - 2 * sizeof(struct addr) - 15];
};
_Static_assert(sizeof(struct conn) == 128, "a connection is two cache lines, and four more for a stream");

/*
 * CONN_GROUP of them: a page of heads, then two pages of the streams' records in the same order.  So a
 * record is found from its head alone, and pages that no stream ever used stay unallocated.
 */
#define CONN_PAGE        4096u
#define CONN_GROUP       (CONN_PAGE / sizeof(struct conn))
#define CONN_GROUP_BYTES (CONN_PAGE + CONN_GROUP * 2 * sizeof(struct conn_rec))
_Static_assert(sizeof(struct conn_rec) == sizeof(struct conn), "conn_recs()");
/* Its two records: not to be touched with DTLS, not even read. */
static inline struct conn_rec *
conn_recs(const struct conn *c)
{
	uintptr_t in_page = (uintptr_t)c & (CONN_PAGE - 1);

	return (struct conn_rec *)(void *)((uintptr_t)c + CONN_PAGE + in_page);
}

/* In KEYS, by slot, in tables of their own for the same reason. */
#define CONN_KEY_LEN     128 /* both: keys */
#define CONN_PLACE_LEN   72  /* DTLS: position and last flight */
#define CONN_SECRETS_LEN 192 /* TLS 1.3: traffic secrets */
struct conn_key {
	uint32_t gen, zero;
	uint8_t bytes[CONN_KEY_LEN];
};

#define RING_BYTES (256u << 10) /* sparse: what was never written costs nothing */

uint32_t conn_high(const struct shard *s); /* slots ever used */
static inline uint32_t
conn_slot(const struct shard *s, const struct conn *c)
{
	size_t at = (size_t)((const uint8_t *)c - (const uint8_t *)s->conns);

	return (uint32_t)(at / CONN_GROUP_BYTES * CONN_GROUP + at % CONN_GROUP_BYTES / sizeof *c);
}
/* Whatever is there; slot < conn_high(). */
static inline struct conn *
conn_peek(const struct shard *s, uint32_t slot)
{
	return (struct conn *)(void *)((uint8_t *)s->conns + slot / CONN_GROUP * CONN_GROUP_BYTES) +
	    slot % CONN_GROUP;
}
/* A slot in CONN_FILLING, all zero but its generation and transport; NULL: full.  Fill it, then
 * conn_publish(). */
struct conn *conn_new(struct shard *s, uint8_t transport);
void conn_publish(struct conn *c, enum conn_state state);
/* Gives back its rings, wipes its keys.  The caller closes the descriptor afterwards. */
void conn_free(struct shard *s, struct conn *c);
/* In use (CONN_SHAKING, CONN_OPEN), whatever its generation; NULL. */
struct conn *conn_at(struct shard *s, uint32_t slot);
struct conn_key *conn_key(struct shard *s, const struct conn *c);
uint8_t *conn_place(struct shard *s, const struct conn *c);   /* CONN_PLACE_LEN */
uint8_t *conn_secrets(struct shard *s, const struct conn *c); /* CONN_SECRETS_LEN */
static inline const struct conn_rec *
conn_now(const struct conn *c)
{
	return &conn_recs(
	    c)[atomic_load_explicit(&((struct conn *)(uintptr_t)c)->which, memory_order_acquire) & 1];
}
/* The other record, made equal; change it, then conn_commit(). */
struct conn_rec *conn_next(struct conn *c);
void conn_commit(struct conn *c);
/* Owner, after shard_adopt(): is the session's connection there, and is it its own? */
bool conn_is_of(struct shard *s, const struct session *x);

/* ---- ring.c: memory of streams --------------------------------------------------------------------- */

/* A free ring, its first byte at position `base`; false: all are in use.  It is free until a committed
 * record names it. */
bool ring_take(struct shard *s, struct ring_ref *r, uint64_t base);
/* How many may still be taken. */
static inline uint32_t
ring_left(const struct shard *s)
{
	return s->ring_max - s->ring_used;
}
void ring_give(struct shard *s, uint32_t ring); /* index + 1, named by no record any more; 0: nothing */
/* Owner, now and then, when nothing refers to bytes of free rings: the kernel gets back the pages of
 * those that a crowd left behind; a few stay warm.  At most 64 system calls; how many rings it were. */
unsigned ring_rest(struct shard *s);
static inline uint8_t *
ring_at(const struct shard *s, const struct ring_ref *r, uint64_t pos)
{
	return s->ring_bytes + (size_t)(r->ring - 1) * RING_BYTES + (size_t)(pos - r->base);
}
static inline size_t
ring_room(const struct ring_ref *r, uint64_t pos)
{
	return RING_BYTES - (size_t)(pos - r->base);
}
/* Room for `want` bytes at `head`, of which those from `tail` on must be kept: as it is, or a fresh ring
 * with a copy of them, then *old is the ring to be given back after the commit.  False: none to be had,
 * or too much to be kept. */
bool ring_reserve(
    struct shard *s, struct ring_ref *r, uint64_t tail, uint64_t head, size_t want, uint32_t *old);

/* ---- cross.c, conn.c, token.c, rate.c, bandwidth.c, recover.c: what crosses shards --------------- */

struct cross {
	void *region;
	uint32_t owner; /* index of this worker: the name in lock words and of its redo log */
	/* the last transaction did not get its lock in time: the next waits LOCK_WAIT_MS only */
	bool hurried;
};
size_t cross_region_size(void);
/* The first process that attaches to the all-zero region (the supervisor) gives the seed and initialises
 * it; all others may pass NULL.  A reader's owner is UINT32_MAX.  -EPROTO: another layout, or not
 * initialised. */
int cross_attach(struct cross *c, void *region, uint32_t owner, const uint8_t seed[16]);

struct cross_limits {
	uint64_t per_user, per_prefix, total;
}; /* 0: none */
/* Keyed 64-bit hashes under the region's seed (the same in every worker, different each boot). */
uint64_t cross_hash(const struct cross *c, const void *bytes, size_t len);
uint64_t cross_prefix(const struct cross *c, const struct addr *client); /* /32 or /64 */

/* Reservations (RFC 8656 7.2): single use, 30 s, bound to the user, redeemable from any shard. */
#define TOKEN_LIFETIME 30
struct reservation {
	uint64_t token, user; /* user: its owner, see reservation_owner() */
	uint32_t id, expiry;  /* id: the supervisor's name for the socket */
	uint64_t prefix;      /* what it counts for; cross_open() sets it */
};
/* What goes with a new session. */
struct cross_with {
	uint64_t redeem;                   /* token that is consumed; 0: none */
	const struct reservation *reserve; /* reservation that is made; NULL: none */
	/* live session of the same shard, client and user that gives way; NULL: none */
	struct session *replace;
};
/*
 * Makes the filled slot live, counting it for its user, its client's prefix and in total, as one
 * transaction: either all of it is seen, or none, whatever instruction the worker dies at.  A reservation
 * counts like a session until it is redeemed, forgotten or over; redeeming moves its count.  A session
 * that gives way hands its count over and is gone afterwards; a refusal leaves it as it was.  The key
 * must be in session_key() before.  `with` may be NULL.  -EDQUOT per user, -EUSERS per prefix, -ENOSPC in
 * total, -ENOMEM no room in tables, -ENOENT the token is gone, -EEXIST it exists, -ETIMEDOUT a lock.
 */
int cross_open(struct cross *c, struct shard *s, struct session *x, const struct cross_limits *limits,
    const struct cross_with *with);
/* Would `more` sessions fit now, by counts that may be a moment old?  As cross_open(), for before
 * resources are taken. */
int cross_fits(const struct cross *c, uint64_t user, uint64_t prefix, const struct cross_limits *limits,
    unsigned more);
/* The reverse: the slot becomes SESSION_ENDING -> free, counts are given back, its blocks and key are
 * wiped.  The caller has taken its sockets out of the epoll first.  Cannot fail for good: on
 * -ETIMEDOUT the session is in SESSION_ENDING, no packet finds it, and the sweep tries again. */
int cross_close(struct cross *c, struct shard *s, struct session *x);
uint32_t cross_user_count(struct cross *c, uint64_t user); /* without lock: a moment old */
uint64_t cross_total(const struct cross *c);

/* Connections of all shards, in total and by prefix (exact but for one busy prefix in thousands, see
 * conn.c).  Each shard's owner writes its own, and counts again when it adopts: no lock.  `shards`: how
 * many there are. */
struct conn_limits {
	uint64_t per_prefix, total;
}; /* 0: none */
/* Which limit another connection would exceed; REASON_NONE: none. */
enum reason cross_conn_refusal(
    const struct cross *c, unsigned shards, uint64_t prefix, const struct conn_limits *limits);
static inline bool
cross_conn_fits(const struct cross *c, unsigned shards, uint64_t prefix, const struct conn_limits *limits)
{
	return cross_conn_refusal(c, shards, prefix, limits) == REASON_NONE;
}
void cross_conn_add(struct cross *c, unsigned shard, uint64_t prefix, int delta);
void cross_conn_recount(struct cross *c, struct shard *s);

/* Whose a reservation is: of a name without a stable part (a bare timestamp) the whole name decides. */
static inline uint64_t
reservation_owner(uint64_t user, uint64_t name)
{
	return user != 0 ? user : name;
}
/* Gives back the counts of reservations that are over, among the next n places from a cursor; the new
 * cursor. */
uint32_t token_sweep(struct cross *c, uint32_t cursor, uint32_t n, tp_ms now);
/* 0 and a copy; -ENOENT for unknown, expired or another user's. Does not consume (cross_open does). */
int token_look(struct cross *c, uint64_t token, uint64_t user, tp_ms now, struct reservation *r);

/* Rates of answers to the unauthenticated: lossy, lock-free, bounded memory; false: over the rate. */
enum rate_kind {
	RATE_CHALLENGE,
	RATE_BINDING,
	RATE_HANDSHAKE /* datagrams */,
	RATE_SHAKE /* handshakes that begin */,
	RATE_UNPROVEN /* all prefixes together */,
	RATE_KINDS
};
bool rate_take(
    struct cross *c, enum rate_kind kind, uint64_t prefix, uint32_t per_second, uint32_t burst, tp_ms now);
/*
 * Marks, in the same memory and as lossy, seen by every worker and its successors: a name (cross_hash())
 * is marked for `ms` milliseconds (at most 200,000).  A mark that is there is true but for one in 10^9;
 * one may be gone too early when very many are made.
 */
void rate_mark(struct cross *c, uint64_t name, uint32_t ms, tp_ms now);
bool rate_is_marked(const struct cross *c, uint64_t name, tp_ms now);
void rate_unmark(struct cross *c, uint64_t name);

/* Bandwidth: token buckets, bytes per second.  A session spends a local lease (its bucket block); when that
 * is used up it takes the next from the user's and the total bucket in CROSS (atomics, no lock).  False:
 * drop.  `up`: client to peer. */
struct bandwidth {
	uint64_t per_allocation, per_user, total;
}; /* 0: none */
/* Before the slot is published: the bytes a second of its user, in place of b->per_user.  False: no
 * room. */
bool bandwidth_of_user(struct shard *s, struct session *x, uint64_t rate);
bool bandwidth_take(struct cross *c, struct shard *s, struct session *x, const struct bandwidth *b, bool up,
    uint32_t bytes, tp_ms now);

/*
 * Supervisor, after waitpid() of worker `owner`: replays its redo record (commit or undo by the state
 * word of the slot it names), then frees its lock words and wakes waiters.  `shards` are read-only
 * mappings.  Every field of the record is checked; a record that does not fit what the owner really held
 * is ignored and counted in *refused.
 */
int cross_recover(
    struct cross *c, uint32_t owner, const struct shard *shards, unsigned n, unsigned *refused);
/* Frees every lock word that names a worker w without runs[w] (SHARDS_MAX entries), or no possible one: a
 * hostile worker can write any word.  Supervisor; a dead worker counts as running until cross_recover().
 * Returns how many were freed. */
unsigned cross_free_words(struct cross *c, const bool *runs);
/* Recounts every user, prefix and the total from the shards (a shard started cold; supervisor, no live
 * workers). */
void cross_recount(struct cross *c, struct shard *shards, unsigned n);

/* ---- audit.c ------------------------------------------------------------------------------------ */

/*
 * The invariants, on read-only mappings: counts per user, prefix, total equal the live sessions; every
 * session is found by its 5-tuple; no descriptor or relayed address twice; channel and peer a bijection;
 * block chains sound, no block in two chains; free lists sound (only with `still`: no process writes).
 * Without `still` counts and locks are read while they change: what is found counts only when it is found
 * again and again.  Calls back for each breach; returns how many.
 */
typedef void audit_breach_h(void *arg, const char *text);
unsigned state_audit(const struct cross *c, const struct shard *shards, unsigned n, bool still, tp_ms now,
    audit_breach_h *cb, void *arg);

#endif
