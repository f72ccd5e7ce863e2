/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * state: sessions, permissions, channels, quotas, reservation tokens; tables in shared memory.
 *
 *   SHARD[i]  owner: the worker of shard i, the only writer, no lock.  Steward and supervisor read.
 *   KEYS[i]   owner: the same worker.  Mapped by nobody else.
 *   CROSS     all workers, under striped lock words; the supervisor recovers what a dead worker left.
 *
 * Publish last: a slot is filled, then its state word is stored with release.  A process may be killed
 * between any two stores; shard_adopt() and cross_recover() bring everything back to a state that
 * state_audit() accepts.  Errors: 0 or -errno.  No kernel call but futex (through shm).
 */
#ifndef TP_STATE_H
#define TP_STATE_H

#include "tp/shm.h"

#define STATE_LAYOUT_SHARD 1
#define STATE_LAYOUT_KEYS  1
#define STATE_LAYOUT_CROSS 1
#define SHARDS_MAX 128
#define SLOT_NONE UINT32_MAX

/* ---- session.c ------------------------------------------------------------------------------ */

enum session_state { SESSION_FREE, SESSION_FILLING, SESSION_LIVE, SESSION_ENDING };
enum session_flag {
	SESSION_RELAY_OPEN = 1,		/* every relay socket is in the epoll and its filter detached */
	SESSION_RESERVED   = 2,		/* EVEN-PORT with R: a RESERVATION-TOKEN went with the answer */
	SESSION_REDEEMED   = 4,		/* made with a RESERVATION-TOKEN */
	SESSION_MTU        = 8,		/* DONT-FRAGMENT was asked for */
};

/* A relay socket: its descriptor number (the supervisor's, the same in every process), its port, and
 * the row of conf.relays that it is bound on. */
struct relay_ref {
	int32_t  fd;			/* -1: none */
	uint16_t port;
	uint8_t  row;			/* index into the relay table */
	uint8_t  family;		/* ADDR_V4, ADDR_V6, 0 when absent */
};
struct perm4 { uint32_t ip, expiry; };				/* ip in network order; expiry 0: free; seconds */
struct chan4 { uint32_t ip; uint16_t port, number; uint32_t expiry; };	/* number 0: free */
#define SESSION_PERM4 6
#define SESSION_CHAN4 4
#define SESSION_NAME 20

/*
 * One allocation, 256 bytes:
 *
 *   line 0   who and where: what a packet in either direction reads first
 *   line 1   four IPv4 channels, two permissions
 *   line 2   four more permissions, traffic
 *   line 3   identity: transaction, user
 *
 * More, and everything IPv6, is in 64-byte overflow blocks of the same region, chained from `more`.
 */
struct session {
	_Atomic uint32_t state;		/* enum session_state; stored last with release */
	uint32_t gen;			/* raised each time the slot is filled; never 0 when live */
	_Atomic uint32_t seq;		/* seqlock: odd while cold fields change */
	uint32_t expiry;		/* seconds, monotonic */
	struct addr client;		/* remote transport address */
	uint16_t listener;		/* row of conf.listeners */
	uint8_t  transport;		/* enum conf_transport as a number: 1 udp, 2 tcp, 4 tls, 8 dtls */
	uint8_t  flags;			/* enum session_flag */
	struct relay_ref relay[2];	/* [0] always present; [1] the other family of a dual allocation */
	uint32_t policy;		/* generation of the peer policy that its peers were judged by */
	uint32_t more;			/* first overflow block + 1; 0: none */

	struct chan4 chan[SESSION_CHAN4];
	struct perm4 perm_a[2];

	struct perm4 perm_b[SESSION_PERM4 - 2];
	uint64_t up_bytes, down_bytes;
	uint32_t up_packets, down_packets;	/* wrap */
	uint32_t client_seen;		/* seconds: last packet of the client */
	uint32_t bucket;		/* overflow block + 1 with bandwidth leases; 0: none */

	uint8_t  txid[12];		/* of the Allocate that made it */
	uint32_t lifetime;		/* granted then, seconds */
	uint64_t user;			/* keyed hash of realm and the stable part of the user name */
	uint64_t name;			/* keyed hash of the whole user name: 441 when another one comes */
	uint32_t created;		/* seconds, monotonic */
	uint16_t perm_count, chan_count;	/* in use or expired but not yet swept */
	uint32_t conn;			/* stream or DTLS record state; 0: plain UDP */
	char     user_text[SESSION_NAME];	/* beginning of the stable name, for people; zero padded */
};
_Static_assert(sizeof(struct session) == 256, "a session is four cache lines");
_Static_assert(offsetof(struct session, chan) == 64 && offsetof(struct session, perm_b) == 128 &&
    offsetof(struct session, txid) == 192, "lines");

struct session_ref { uint32_t slot, gen; };

/* What only the owner maps: the key that requests on this allocation are checked with. */
struct session_key {
	uint32_t gen;			/* of the session it belongs to */
	uint8_t  alg, len;		/* enum stun_alg as a number; 16 or 32 */
	uint16_t zero;
	int64_t  credential_expiry;	/* Unix seconds, 0: none (strict_expiry) */
	uint8_t  key[32];
};

/* A mapped shard, in private memory of whoever mapped it. */
struct shard {
	unsigned index;
	void    *region;		/* SHARD[i] */
	void    *keys;			/* KEYS[i]; NULL for readers */
	bool     writer;
	uint32_t slot_max;
	struct session *slots;
	/* Of this room only: */
	struct shard_head *head;
	struct block *blocks;
	_Atomic uint64_t *area[2];	/* of index tables */
	unsigned index_max;		/* log2 of the largest table */
	uint32_t block_max;
};
/* Sizes of the regions for at most `slot_max` sessions (sparse: an idle shard touches a few pages). */
size_t shard_region_size(uint32_t slot_max);
size_t shard_keys_size(uint32_t slot_max);
/* Binds a mapping.  A writer on an all-zero region initialises it (`seed`: 16 bytes for the index hash); a
 * reader finds it empty (`seed` unused).  -EPROTO: another layout, -EINVAL: nonsense in the header. */
int  shard_attach(struct shard *s, unsigned index, void *region, void *keys, uint32_t slot_max, bool writer,
    const uint8_t seed[16]);
/*
 * Writer, once before it serves: validates every slot, frees what was being filled, rebuilds free lists and,
 * where it does not match the live slots, the index.  `dropped` is called for each session that was live or
 * ending and is not kept (its sockets must go); may be NULL.  Such a session still holds its counts in
 * CROSS, so its slot stays SESSION_ENDING: session_sweep() hands it to `over`, and cross_close() frees it.
 */
struct shard_adopted { uint32_t live, dropped, half; };
typedef void shard_dropped_h(void *arg, const struct session *s, uint32_t slot, const char *why);
struct shard_adopted shard_adopt(struct shard *s, tp_ms now, shard_dropped_h *dropped, void *arg);

/* Is a KEYS region of this layout, or still empty?  0 or -EPROTO. */
int  shard_keys_check(const void *keys);

uint32_t shard_live(const struct shard *s);
uint32_t shard_high(const struct shard *s);	/* slots ever used: iterate below it */
/* Reader (another process): a consistent copy of a live slot, or false. */
bool session_read(const struct shard *s, uint32_t slot, struct session *copy);

/* The live session of a client, by remote address, transport and listener; NULL. */
struct session *session_find(struct shard *s, const struct addr *client, uint8_t transport, uint16_t listener);
static inline uint32_t session_slot(const struct shard *s, const struct session *x) { return (uint32_t)(x - s->slots); }
/* The live session of a reference, NULL when it is gone. */
struct session *session_get(struct shard *s, struct session_ref ref);
struct session_key *session_key(struct shard *s, const struct session *x);
/*
 * For batches, so that the memory of all is on its way before the first is handled: session_prefetch() fetches a client's
 * place in the index and returns its tag, session_prefetch_slot() the slot that is found there (session_prefetch_at(): by its number),
 * session_find_tag() is session_find() without hashing again.
 */
uint32_t session_prefetch(const struct shard *s, const struct addr *client, uint8_t transport, uint16_t listener);
void session_prefetch_slot(const struct shard *s, uint32_t tag);
void session_prefetch_at(const struct shard *s, uint32_t slot);
struct session *session_find_tag(struct shard *s, const struct addr *client, uint8_t transport, uint16_t listener,
    uint32_t tag);

/* A slot in SESSION_FILLING with a new generation and everything else zero; NULL when the shard is full.
 * Its session_key() is zero but for the generation.  Fill both, then cross_open().  session_abandon() gives it back. */
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
uint32_t session_sweep(struct shard *s, uint32_t cursor, uint32_t n, tp_ms now, session_over_h *over, void *arg);

/* ---- perm.c: permissions and channels of one session ------------------------------------------ */

#define PERMISSION_LIFETIME 300		/* seconds, RFC 8656 9 */
#define CHANNEL_LIFETIME    600		/* seconds, RFC 8656 12 */
/* By IP address only.  perm_set installs or refreshes until now + PERMISSION_LIFETIME (never shortens);
 * -ENOSPC when `max` is reached or the region's blocks are. */
bool perm_has(const struct shard *s, const struct session *x, const struct addr *peer, tp_ms now);
int  perm_set(struct shard *s, struct session *x, const struct addr *peer, tp_ms now, unsigned max);
/* Would `n` more distinct addresses fit?  (All or nothing of CreatePermission.) */
bool perm_fits(const struct shard *s, const struct session *x, const struct addr *peers, unsigned n, tp_ms now, unsigned max);
/* Drops the permission for this address and every channel to it (a peer that policy newly denies). */
void perm_drop(struct shard *s, struct session *x, const struct addr *peer);

/* 0 and *peer set, or false.  Expired ones are not found. */
bool chan_peer(const struct shard *s, const struct session *x, uint16_t number, tp_ms now, struct addr *peer);
/* The number bound to a peer, 0 when none. */
uint16_t chan_number(const struct shard *s, const struct session *x, const struct addr *peer, tp_ms now);
/* Binds or refreshes.  -EEXIST: the number has another peer, or the peer another number; -ENOSPC. */
int  chan_bind(struct shard *s, struct session *x, uint16_t number, const struct addr *peer, tp_ms now, unsigned max);
/* Every permission or channel that is in force (turnpikectl sessions ID, audit). channel 0: a permission. */
typedef void peer_each_h(void *arg, const struct addr *peer, uint16_t channel, uint32_t expiry);
void session_each_peer(const struct shard *s, const struct session *x, tp_ms now, peer_each_h *cb, void *arg);

/* ---- cross.c: what crosses shards ------------------------------------------------------------- */

struct cross {
	void *region;
	uint32_t owner;			/* index of this worker: the name in lock words and of its redo log */
	bool     hurried;		/* the last transaction waited for a lock in vain: the next waits LOCK_WAIT_MS only */
};
size_t cross_region_size(void);
/* Who attaches first to the all-zero region (the supervisor) gives the seed and initialises it; everybody
 * else may pass NULL.  A reader's owner is UINT32_MAX.  -EPROTO: another layout, or not initialised. */
int  cross_attach(struct cross *c, void *region, uint32_t owner, const uint8_t seed[16]);

struct cross_limits { uint64_t per_user, per_prefix, total; };	/* 0: none */
/* Keyed 64-bit hashes under the region's seed (the same in every worker, different each boot). */
uint64_t cross_hash(const struct cross *c, const void *bytes, size_t len);
uint64_t cross_prefix(const struct cross *c, const struct addr *client);	/* /32 or /64 */

/*
 * Makes the filled slot live, counting it for its user, its client's prefix and in total, as one
 * transaction: either all of it is seen, or none, whatever instruction the worker dies at.  With `token`
 * (not 0) the reservation is consumed in the same transaction.  The key must be in session_key() before.
 * -EDQUOT per user, -EUSERS per prefix, -ENOSPC in total, -ENOENT the token is gone, -ETIMEDOUT a lock.
 */
int  cross_open(struct cross *c, struct shard *s, struct session *x, const struct cross_limits *limits, uint64_t token);
/* The reverse: the slot becomes SESSION_ENDING -> free, counts are given back, its blocks and key are
 * wiped.  The caller has taken its sockets out of the epoll first.  Cannot fail for good: on
 * -ETIMEDOUT the session is in SESSION_ENDING, no packet finds it, and the sweep tries again. */
int  cross_close(struct cross *c, struct shard *s, struct session *x);
uint32_t cross_user_count(struct cross *c, uint64_t user);	/* without lock: a moment old */
uint64_t cross_total(const struct cross *c);

/* Reservation tokens (RFC 8656 7.2): single use, 30 s, bound to the user, redeemable from any shard. */
#define TOKEN_LIFETIME 30
struct reservation { uint64_t token, user; uint32_t id, expiry; };	/* id: the supervisor's name for the socket */
int  token_put(struct cross *c, const struct reservation *r, tp_ms now);	/* -ENOSPC, -EEXIST, -ETIMEDOUT */
/* 0 and a copy; -ENOENT for unknown, expired or another user's. Does not consume (cross_open does). */
int  token_look(struct cross *c, uint64_t token, uint64_t user, tp_ms now, struct reservation *r);

/* Rates of answers to the unauthenticated: lossy, lock-free, bounded memory; false: over the rate. */
enum rate_kind { RATE_CHALLENGE, RATE_BINDING, RATE_KINDS };
bool rate_take(struct cross *c, enum rate_kind kind, uint64_t prefix, uint32_t per_second, uint32_t burst, tp_ms now);

/* Bandwidth: token buckets, bytes per second.  A session spends a local lease (its bucket block); when that
 * is used up it takes the next from the user's and the total bucket in CROSS (atomics, no lock).  False:
 * drop.  `up`: client to peer. */
struct bandwidth { uint64_t per_allocation, per_user, total; };		/* 0: none */
bool bandwidth_take(struct cross *c, struct shard *s, struct session *x, const struct bandwidth *b, bool up, uint32_t bytes, tp_ms now);

/*
 * Supervisor, after waitpid() of worker `owner`: replays its redo record (commit or undo by the state word
 * of the slot it names), then frees its lock words and wakes waiters.  `shards` are read-only mappings.
 * Every field of the record is checked; a record that does not fit what the owner really held is ignored and
 * counted in *refused.
 */
int  cross_recover(struct cross *c, uint32_t owner, const struct shard *shards, unsigned n, unsigned *refused);
/* Recounts every user, prefix and the total from the shards (a shard started cold; supervisor, no live workers). */
void cross_recount(struct cross *c, struct shard *shards, unsigned n);

/* ---- audit.c ------------------------------------------------------------------------------------ */

/*
 * The invariants, on read-only mappings: counts per user, prefix, total equal the live sessions; every
 * session is found by its 5-tuple; no descriptor or relayed address twice; channel and peer a bijection;
 * block chains sound, no block in two chains; free lists sound (only with `still`: nobody writes).
 * Calls back for each breach; returns how many.
 */
typedef void audit_breach_h(void *arg, const char *text);
unsigned state_audit(const struct cross *c, const struct shard *shards, unsigned n, bool still, tp_ms now,
    audit_breach_h *cb, void *arg);

#endif
