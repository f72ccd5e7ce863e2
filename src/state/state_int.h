/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * state_int.h: what the files of this room share: the layouts of the regions SHARD, KEYS and CROSS.
 *
 * SHARD[i], offsets follow from slot_max alone (never from words in the region):
 *
 *   +-------------------------------- page 0: struct shard_head
 *   | magic layout seed, bump, free lists, index size
 *   +-------------------------------- slots
 *   | slot_max x struct session (256 B)     used below `bump`; a free one links by `more`
 *   +-------------------------------- index area 0      tables of 2^k entries, k even
 *   +-------------------------------- index area 1      tables of 2^k entries, k odd
 *   | The table of size k lies at the start of area k & 1.  Growing builds k + 1 in the other area
 *   | and flips the one word index_log2.  Derived data: adopt verifies it and rebuilds on doubt.
 *   +-------------------------------- blocks
 *   | block_max x struct block (64 B)       used below `block_bump`; chained from sessions
 *   +-------------------------------- connections
 *   | groups of 32: a page of struct conn (128 B), two pages of records (2 x 128 B each, streams only)
 *   |                                       used below `conn_bump`; a free one links by `next`
 *   +-------------------------------- ring links
 *   | ring_max x uint32_t                   of free rings
 *   +-------------------------------- rings
 *   | ring_max x RING_BYTES                 used below `ring_bump`; sparse
 *   +--------------------------------
 *
 * KEYS[i]: one page of struct keys_head, then slot_max each of struct session_key, struct conn_key,
 * CONN_PLACE_LEN (DTLS) and CONN_SECRETS_LEN (TLS 1.3) bytes.
 *
 * CROSS:
 *
 *   +-------------------------------- page 0: struct cross_head (seed, total, total bandwidth)
 *   | lines    CROSS_STRIPES x struct stripe (a lock word each, what it covers)
 *   |          0..63 accounts by key, 64 tokens, 65 the total: taken in ascending order
 *   | redo     SHARDS_MAX x struct redo, written by their owners only
 *   | tokens   TOKENS x struct token
 *   | rates    RATES x 64-bit word
 *   | heads    per account stripe ACCOUNT_HEADS chain heads
 *   | accounts per account stripe ACCOUNTS x struct account (64 B)
 *   | conns    SHARDS_MAX x struct conn_counts, written by the shard's owner only
 *   +--------------------------------
 *
 * Links ("next", "more", "free", heads) are index + 1, 0 ends.
 */
#ifndef TP_STATE_INT_H
#define TP_STATE_INT_H

#include "tp/state.h"

#define PAGE       4096u
#define PAGE_UP(n) (((size_t)(n) + PAGE - 1) & ~(size_t)(PAGE - 1))

/* What others may change at any moment is fetched once, with these; then checked, then used. */
static inline uint32_t
peek32(const uint32_t *p)
{
	return atomic_load_explicit((_Atomic uint32_t *)p, memory_order_relaxed);
}
static inline void
peek_words(void *to, const void *from, size_t n)
{
	const _Atomic uint64_t *at = from;
	uint8_t *out = to;

	for (size_t i = 0; i < n / 8; i++) {
		uint64_t word = atomic_load_explicit((_Atomic uint64_t *)&at[i], memory_order_relaxed);

		memcpy(out + i * 8, &word, 8);
	}
}

/* ---- SHARD ------------------------------------------------------------------------------------ */

#define SHARD_MAGIC    0x54505348u /* "TPSH" */
#define KEYS_MAGIC     0x54504b59u /* "TPKY" */
#define SLOT_LIMIT     (1u << 28)
#define INDEX_LOG2_MIN 9u    /* 512 entries: one page */
#define CHAIN_MAX      4096u /* blocks in one session's chain */

struct shard_head {
	uint32_t magic, layout;
	uint32_t index, slot_max;
	uint8_t seed[16];
	_Atomic uint32_t bump; /* slots ever used */
	uint32_t free;         /* first free slot + 1 */
	_Atomic uint32_t live;
	_Atomic uint32_t index_log2;
	uint32_t index_count; /* entries in the index */
	_Atomic uint32_t block_bump;
	uint32_t block_free;        /* first free block + 1 */
	uint32_t block_chained;     /* blocks in chains of permissions and channels */
	_Atomic uint32_t conn_bump; /* connections ever used */
	uint32_t conn_free;         /* first free one + 1 */
	_Atomic uint32_t ring_bump;
	uint32_t ring_free; /* first free ring + 1 */
	/* Not needed to go on: a shard that began before there was this has 0. */
	_Alignas(64) _Atomic uint64_t packets; /* received */
};
_Static_assert(sizeof(struct shard_head) <= PAGE, "the header is one page");

struct keys_head {
	uint32_t magic, layout, index, slot_max;
};

enum block_kind {
	BLOCK_FREE,
	BLOCK_PERM4,
	BLOCK_CHAN4,
	BLOCK_PERM6,
	BLOCK_CHAN6,
	BLOCK_BUCKET,
	BLOCK_KINDS
};

struct perm6 {
	uint8_t ip[16];
	uint32_t expiry;
};
struct chan6 {
	uint8_t ip[16];
	uint16_t port, number;
	uint32_t expiry;
};
struct bucket {
	_Atomic uint64_t tat[2]; /* per direction: when the allocation's own bucket is full again, ns */
	uint32_t lease[2];       /* bytes taken from the user's and the total bucket, not yet spent */
	uint32_t account;        /* the user's account in its stripe + 1; 0: not looked up */
	uint32_t user_rate;      /* of this user, bytes a second; 0: as configured */
};
#define BLOCK_PERM4S 6
#define BLOCK_CHAN4S 4
#define BLOCK_PERM6S 2
#define BLOCK_CHAN6S 2

struct block {
	uint32_t next;
	uint32_t owner; /* slot + 1; 0: free */
	uint32_t gen;   /* of the session */
	uint8_t kind;   /* enum block_kind */
	uint8_t mark;   /* adopt: reached from a session */
	uint16_t zero;
	union {
		struct perm4 perm4[BLOCK_PERM4S];
		struct chan4 chan4[BLOCK_CHAN4S];
		struct perm6 perm6[BLOCK_PERM6S];
		struct chan6 chan6[BLOCK_CHAN6S];
		struct bucket bucket;
	};
};
_Static_assert(sizeof(struct block) == 64, "a block is one cache line");

/* shard.c */
static inline uint32_t
shard_block_chain_max(uint32_t slot_max)
{
	return 2 * slot_max + 512;
}
/* Every session can have its bucket, whatever permissions and channels take. */
static inline uint32_t
shard_block_max(uint32_t slot_max)
{
	return 3 * slot_max + 512;
}
#define RINGS_MIN 96u
#define RINGS_MAX 16384u
/* Only connections with something half received or unsent have one. */
static inline uint32_t
shard_ring_max(uint32_t slot_max)
{
	return slot_max > RINGS_MAX / 3 ? RINGS_MAX : slot_max * 3 < RINGS_MIN ? RINGS_MIN : slot_max * 3;
}
static inline uint32_t
shard_block_bump(const struct shard *s)
{
	uint32_t n = atomic_load_explicit(&s->head->block_bump, memory_order_acquire);

	return n < s->block_max ? n : s->block_max;
}
/* Makes a slot that nothing refers to free: blocks, key and content are wiped; with `list`, it is put
 * on the free list. */
void slot_scrub(struct shard *s, struct session *x);
void slot_free_push(struct shard *s, struct session *x);
struct session_key *slot_key(const struct shard *s, uint32_t slot);

/* index.c */
uint32_t index_tag(const struct shard *s, const struct addr *client, uint8_t transport, uint16_t listener);
static inline uint32_t
session_tag(const struct shard *s, const struct session *x)
{
	return index_tag(s, &x->client, x->transport, x->listener);
}
void index_reserve(struct shard *s); /* room for one more entry: grows when needed */
void index_insert(struct shard *s, uint32_t tag, uint32_t slot);
void index_remove(struct shard *s, uint32_t tag, uint32_t slot);
bool index_has(const struct shard *s, uint32_t tag, uint32_t slot); /* also for readers */
/* Number of entries and two sums over their slots, to compare with those of the live slots. */
struct index_sum {
	uint64_t count, sum, squares;
};
static inline void
index_sum_add(struct index_sum *t, uint32_t slot)
{
	uint64_t n = (uint64_t)slot + 1;

	t->count++;
	t->sum += n;
	t->squares += n * n;
}
struct index_sum index_sum(const struct shard *s);
void index_rebuild(struct shard *s, uint32_t live);

/* session.c: seqlock that may be nested */
static inline bool
change_begin(struct session *x)
{
	if (atomic_load_explicit(&x->seq, memory_order_relaxed) & 1)
		return false;
	session_change(x);
	return true;
}
static inline void
change_end(struct session *x, bool mine)
{
	if (mine)
		session_changed(x);
}
static inline void
slot_copy(struct session *to, const struct session *from)
{
	peek_words((void *)to, (const void *)from, sizeof *to);
}

/* conn.c, ring.c, conn_adopt.c */
void conn_wipe(struct shard *s, const struct conn *c);
uint32_t ring_high(const struct shard *s);
void conn_adopt_all(struct shard *s);
struct audit;
void audit_conns(struct audit *a, const struct shard *s);

/* block.c */
struct block *block_take(
    struct shard *s, const struct session *x, enum block_kind kind); /* NULL: none left */
void block_give(struct shard *s, struct block *b);
void block_link(
    struct shard *s, struct session *x, struct block *b); /* publishes it at the head of the chain */
uint32_t block_chain_room(const struct shard *s); /* blocks that permissions and channels may still take */
void block_give_all(struct shard *s, struct session *x);
static inline uint32_t
block_ref(const struct shard *s, const struct block *b)
{
	return (uint32_t)(b - s->blocks) + 1;
}
/* Writer: the block of a link that belongs to this session, NULL at the end or at anything odd. */
static inline struct block *
block_of(const struct shard *s, const struct session *x, uint32_t link)
{
	struct block *b;

	if (link == 0 || link > shard_block_bump(s))
		return NULL;
	b = &s->blocks[link - 1];
	return b->gen == x->gen && b->owner == session_slot(s, x) + 1 ? b : NULL;
}
/* Reader: a checked copy. */
bool block_read(const struct shard *s, uint32_t link, uint32_t gen, struct block *copy);
#define CHAIN_EACH(b, s, x)                                                                                \
	for (unsigned steps_ = ((b) = block_of((s), (x), (x)->more), 0);                                   \
	     (b) != NULL && steps_ < CHAIN_MAX; (b) = block_of((s), (x), (b)->next), steps_++)

/* perm.c, chan.c */
static inline bool
in_force(uint32_t expiry, tp_ms now)
{
	return (uint64_t)expiry * 1000u > now;
}
static inline struct perm4 *
perm_inline(struct session *x, unsigned i)
{
	return i < 2 ? &x->perm_a[i] : &x->perm_b[i - 2];
}
static inline uint32_t
addr_ip4(const struct addr *a)
{
	uint32_t ip;

	memcpy(&ip, a->ip, sizeof ip);
	return ip;
}
static inline void
store32(uint32_t *p, uint32_t v)
{
	atomic_store_explicit((_Atomic uint32_t *)p, v, memory_order_release);
}
static inline void
store16(uint16_t *p, uint16_t v)
{
	atomic_store_explicit((_Atomic uint16_t *)p, v, memory_order_release);
}
static inline void
addr_from4(struct addr *a, uint32_t ip, uint16_t port)
{
	memset(a, 0, sizeof *a);
	a->family = ADDR_V4;
	a->port = port;
	memcpy(a->ip, &ip, sizeof ip);
}
static inline void
addr_from6(struct addr *a, const uint8_t ip[16], uint16_t port)
{
	memset(a, 0, sizeof *a);
	a->family = ADDR_V6;
	a->port = port;
	memcpy(a->ip, ip, 16);
}

/* peers.c: every used entry of a session, in force or not; also of a reader's copy */
void peers_each(const struct shard *s, const struct session *x, peer_each_h *cb, void *arg);
/* Frees what is over, counts the rest, gives empty blocks back. */
void peers_sweep(struct shard *s, struct session *x, tp_ms now);

/* ---- CROSS ------------------------------------------------------------------------------------ */

#define CROSS_MAGIC     0x54504352u /* "TPCR" */
#define ACCOUNT_STRIPES 64u
#define STRIPE_TOKEN    64u
#define STRIPE_TOTAL    65u
#define CROSS_STRIPES   66u
#define ACCOUNTS        49152u /* per stripe: 3 million in all, a million users and prefixes with slack */
#define ACCOUNT_HEADS   16384u /* per stripe */
#define ACCOUNT_WALK    256u   /* longest chain that is followed; keys are hashes under a secret */
#define TOKENS          8192u
#define TOKEN_WINDOW    16u /* places where one token may be */
#define RATES           65536u
#define RATE_WAYS       8u

struct cross_head {
	uint32_t magic, layout;
	uint8_t seed[16];
	/* 1 from the first reservation on: before it no page of tokens is touched */
	_Atomic uint32_t reserved;
	_Alignas(64) _Atomic uint64_t total;  /* under STRIPE_TOTAL */
	_Alignas(64) _Atomic uint64_t tat[2]; /* total bandwidth, up and down */
};

struct stripe {
	_Alignas(64) lock_word lock;
	_Atomic uint32_t bump; /* accounts ever used */
	_Atomic uint32_t free; /* first free account + 1 */
};
_Static_assert(sizeof(struct stripe) == 64, "a lock word has its own cache line");

enum account_kind { ACCOUNT_FREE, ACCOUNT_USER, ACCOUNT_PREFIX };
struct account {
	_Alignas(64) _Atomic uint64_t key;
	_Atomic uint32_t count; /* sessions; 0: free */
	_Atomic uint32_t next;
	_Atomic uint32_t kind;
	uint32_t zero;
	_Atomic uint64_t tat[2]; /* bandwidth of the user, up and down */
};
_Static_assert(sizeof(struct account) == 64, "an account is one cache line");

/* A reservation counts for its owner, its prefix and in total as long as the token word is not 0.  prefix
 * 0: it does not count (made by a release before it did). */
struct token {
	_Atomic uint64_t token;
	uint64_t user;
	uint32_t id, expiry;
	uint64_t prefix;
};

/*
 * What a worker is about to change under locks that it holds: typed, by keys and slot, no addresses.
 * `op` is stored last when it is staged, and zeroed when all is applied.  What happened is said by the
 * state word of the slot (OPEN is done when the slot is live or takes another's place, CLOSE when it is
 * free) or, for FORGET, by the token word.
 */
enum redo_op { REDO_NONE, REDO_OPEN = 3, REDO_CLOSE, REDO_FORGET /* a reservation that is over */ };
/* An account before and by how much it changes; key 0: none. */
struct redo_count {
	uint64_t key;
	uint32_t before;
	int32_t change;
};
struct redo {
	_Alignas(64) _Atomic uint32_t op;
	uint32_t shard, slot, gen;
	uint64_t total; /* before */
	int32_t total_change;
	uint32_t token_at;                     /* place + 1; 0: no token */
	struct redo_count user, prefix, other; /* other: the prefix of a reservation from elsewhere */
	struct reservation token;              /* consumed or forgotten: as it was; put: as it shall be */
	uint32_t put;                          /* the token is put, not taken */
	uint32_t zero[3];
};
_Static_assert(sizeof(struct redo) == 128, "two cache lines");

#define CROSS_LINES_AT  PAGE_UP(sizeof(struct cross_head))
#define CROSS_REDO_AT   (CROSS_LINES_AT + PAGE_UP(CROSS_STRIPES * sizeof(struct stripe)))
#define CROSS_TOKENS_AT (CROSS_REDO_AT + PAGE_UP(SHARDS_MAX * sizeof(struct redo)))
#define CROSS_RATES_AT  (CROSS_TOKENS_AT + PAGE_UP(TOKENS * sizeof(struct token)))
#define CROSS_HEADS_AT  (CROSS_RATES_AT + PAGE_UP(RATES * sizeof(uint64_t)))
#define CROSS_ACCOUNTS_AT                                                                                  \
	(CROSS_HEADS_AT + PAGE_UP((size_t)ACCOUNT_STRIPES * ACCOUNT_HEADS * sizeof(uint32_t)))
#define CROSS_CONNS_AT                                                                                     \
	(CROSS_ACCOUNTS_AT + PAGE_UP((size_t)ACCOUNT_STRIPES * ACCOUNTS * sizeof(struct account)))
#define CONN_BUCKETS 16384u
struct conn_counts {
	_Alignas(64) _Atomic uint32_t total;
	_Alignas(64) _Atomic uint16_t bucket[CONN_BUCKETS];
};
#define CROSS_SIZE            (CROSS_CONNS_AT + PAGE_UP(SHARDS_MAX * sizeof(struct conn_counts)))

#define CROSS_AT(c, at, type) ((type *)(void *)((uint8_t *)(c)->region + (at)))
static inline struct cross_head *
cross_head(const struct cross *c)
{
	return CROSS_AT(c, 0, struct cross_head);
}
static inline struct stripe *
cross_stripe(const struct cross *c, unsigned i)
{
	return CROSS_AT(c, CROSS_LINES_AT, struct stripe) + i;
}
static inline struct redo *
cross_redo(const struct cross *c, uint32_t owner)
{
	return CROSS_AT(c, CROSS_REDO_AT, struct redo) + owner;
}
static inline struct token *
cross_token(const struct cross *c, uint32_t i)
{
	return CROSS_AT(c, CROSS_TOKENS_AT, struct token) + i;
}
static inline _Atomic uint64_t *
cross_rate(const struct cross *c, uint32_t i)
{
	return CROSS_AT(c, CROSS_RATES_AT, _Atomic uint64_t) + i;
}
static inline _Atomic uint32_t *
account_heads(const struct cross *c, unsigned stripe)
{
	return CROSS_AT(c, CROSS_HEADS_AT, _Atomic uint32_t) + (size_t)stripe * ACCOUNT_HEADS;
}
static inline struct account *
accounts(const struct cross *c, unsigned stripe)
{
	return CROSS_AT(c, CROSS_ACCOUNTS_AT, struct account) + (size_t)stripe * ACCOUNTS;
}

/* account.c: under the lock of the key's stripe, except account_find() */
static inline uint64_t
account_mix(uint64_t key)
{
	return key * 0x9e3779b97f4a7c15u;
} /* should a key be no hash */
static inline unsigned
account_stripe(uint64_t key)
{
	return (unsigned)(account_mix(key) >> 58);
}
static inline uint32_t
account_bucket(uint64_t key)
{
	return (uint32_t)(account_mix(key) >> 40) & (ACCOUNT_HEADS - 1);
}
static inline uint32_t
account_bump(const struct cross *c, unsigned stripe)
{
	uint32_t n = atomic_load_explicit(&cross_stripe(c, stripe)->bump, memory_order_relaxed);

	return n < ACCOUNTS ? n : ACCOUNTS;
}
uint32_t account_find(const struct cross *c, enum account_kind kind, uint64_t key); /* index + 1; 0: none */
uint32_t account_count(const struct cross *c, enum account_kind kind, uint64_t key);
bool account_room(const struct cross *c, unsigned stripe, uint32_t n);
void account_more(struct cross *c, enum account_kind kind, uint64_t key); /* room was checked */
void account_less(struct cross *c, enum account_kind kind, uint64_t key);
/* Recovery: sets a count without caring for lists, then rebuilds the lists of a stripe. */
void account_force(struct cross *c, enum account_kind kind, uint64_t key, uint32_t count);
void account_relist(struct cross *c, unsigned stripe);

/* token.c */
uint32_t token_place(const struct cross *c, uint64_t token); /* place + 1; 0: not there */
uint32_t token_room(const struct cross *c, uint64_t token);  /* place + 1 for a new one; 0: none */
void token_store(struct token *t, const struct reservation *r);
static inline struct reservation
token_copy(const struct token *t, uint64_t token)
{
	return (struct reservation){
		.token = token, .user = t->user, .id = t->id, .expiry = t->expiry, .prefix = t->prefix
	};
}
void token_clear(struct token *t);

/* audit.c, audit_cross.c */
struct audit_row {
	uint64_t user, prefix;
	struct addr client;
	struct relay_ref relay[2];
	uint32_t shard, slot, gen;
	uint8_t transport;
	bool live; /* else ending: counted, but not found */
	uint16_t listener;
};
struct audit {
	const struct cross *cross;
	audit_breach_h *cb;
	void *arg;
	unsigned breaches;
	bool still;
	tp_ms now;
	struct audit_row *rows;
	size_t n, room;
};
void audit_breach(struct audit *a, const char *fmt, ...) TP_PRINTF(2, 3);
void audit_cross(struct audit *a, const struct shard *shards, unsigned n);

#endif
