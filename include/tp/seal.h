/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * seal.h: the record layer of TLS 1.2, TLS 1.3 and DTLS 1.2, for sessions whose handshake OpenSSL made in
 * another process.  RFC 5246, 5288, 6347, 7905, 8446.  AEAD only; no handshake, no renegotiation, no
 * tickets.
 *
 * Sans-IO: no kernel, no clock, no heap, no log, no globals.  Bytes are borrowed for the call.  The state
 * is plain structs without pointers which the caller keeps in shared memory and a successor reads after
 * kill -9:
 *
 *   struct seal          128 B  protocol, suite, keys        both          written at start and by seal_sync()
 *   struct seal_pos       32 B  sequence numbers, counters   TLS streams   a VALUE: functions return the next one
 *   struct seal_dtls      32 B  sequence number, window      DTLS          changed in place, in an order that is safe
 *   struct seal_secrets  192 B  traffic secrets (cold)       TLS 1.3       two slots a direction, by generation
 *   struct seal_final     40 B  the final flight (cold)      DTLS server   to answer a retransmitted Finished
 *
 * The order in which the caller must do things, or a nonce is used twice or a byte is lost:
 *
 *   stream, out   seal into the ring with pos; COMMIT {ring head, next pos} in one flip; only then send.
 *                 Killed before the flip: the same nonce seals again, but the first ciphertext never left.
 *   stream, in    open OUT OF PLACE; act; commit {parsed, next pos}.  The ciphertext is intact until then.
 *   KeyUpdate     seal_rekey() fills the slot of the next generation, which no committed pos names, and moves the
 *                 generation in the pos to be committed; seal_sync() follows.  At most one a direction and commit.
 *   DTLS, out     seal_dtls_take() stores the next number; only then seal_dtls_seal().  A crash leaves a hole.
 *   DTLS, in      seal_window_fresh(); seal_dtls_open(); seal_window_mark(); only then act.
 *   adoption      a successor calls seal_valid(), and for TLS 1.3 seal_sync() with the committed pos.
 *
 * One writer per session.  The function that frees a session's memory wipes it (sodium_memzero).
 * Errors: 0 or a positive count, or a negative enum seal_fault.  Numbers on the wire are big-endian; in the
 * structs they are in the machine's order.
 */
#ifndef TP_SEAL_H
#define TP_SEAL_H

#include "tp/base.h"

enum seal_proto { SEAL_NONE = 0, SEAL_TLS12 = 1, SEAL_TLS13 = 2, SEAL_DTLS12 = 3 };
/* The AEAD and the hash of its key schedule.  0 is never valid. */
enum seal_suite { SEAL_AES128_SHA256 = 1, SEAL_AES256_SHA384 = 2, SEAL_CHACHA_SHA256 = 3 };
enum seal_role { SEAL_SERVER = 0, SEAL_CLIENT = 1 };
enum seal_way { SEAL_TX = 0, SEAL_RX = 1 }; /* ours to the peer; the peer's to us */
/* ContentType, RFC 8446 5.1 */
enum seal_type { SEAL_T_CCS = 20, SEAL_T_ALERT = 21, SEAL_T_HANDSHAKE = 22, SEAL_T_DATA = 23 };
/* AlertDescription, RFC 8446 6; those that this layer sends or knows */
enum seal_alert {
	SEAL_A_CLOSE_NOTIFY = 0,
	SEAL_A_UNEXPECTED = 10,
	SEAL_A_BAD_MAC = 20,
	SEAL_A_OVERFLOW = 22,
	SEAL_A_ILLEGAL = 47,
	SEAL_A_DECODE = 50,
	SEAL_A_INTERNAL = 80,
	SEAL_A_USER_CANCELED = 90,
	SEAL_A_NO_RENEGOTIATION = 100,
};
#define SEAL_WARNING     1
#define SEAL_FATAL_LEVEL 2

enum seal_fault {
	SEAL_OK = 0,
	SEAL_F_MAC = -1,  /* the tag is wrong: stream: close; DTLS: drop and count */
	SEAL_F_TYPE = -2, /* a type, version or message that has no place here: stream: close; DTLS: drop */
	SEAL_F_LENGTH = -3,  /* over 2^14 bytes of plaintext, or a record over SEAL_RECORD_MAX */
	SEAL_F_DECODE = -4,  /* shorter than it must be; a malformed alert or KeyUpdate */
	SEAL_F_VALUE = -5,   /* KeyUpdate with a request that is neither 0 nor 1 */
	SEAL_F_LIMIT = -6,   /* this key must not be used further: rekey or close */
	SEAL_F_FLOOD = -7,   /* SEAL_IDLE_MAX records in a row that carried nothing */
	SEAL_F_ROOM = -8,    /* the caller's buffer is too small; nothing was written */
	SEAL_F_STATE = -9,   /* the keys are not those of pos (seal_sync), or the state is not valid */
	SEAL_F_COMMIT = -10, /* a second rekey of one direction before the first was committed */
	SEAL_F_CRYPTO = -11, /* libcrypto or libsodium failed */
};
/* The alert to send before a stream is closed for this fault (RFC 8446 6.2). */
enum seal_alert seal_fault_alert(int fault);
const char *seal_fault_name(int fault);

#define SEAL_PLAIN_MAX    16384                              /* RFC 8446 5.1 */
#define SEAL_HEAD         5                                  /* TLS record header */
#define SEAL_DTLS_HEAD    13                                 /* DTLS 1.2 record header */
#define SEAL_RECORD_MAX   (SEAL_HEAD + SEAL_PLAIN_MAX + 256) /* longest stream record, header included */
#define SEAL_OVERHEAD_MAX (SEAL_DTLS_HEAD + 8 + 16) /* most bytes a record has beyond its content */
/* Key use.  RFC 8446 5.5: 2^24.5 full-size records for AES-GCM; asked for at 2^24, refused at 2^24.5. */
#define SEAL_UPDATE_AT    (UINT64_C(1) << 24)
#define SEAL_GCM13_MAX    UINT64_C(23726566)
/* Everything else, and DTLS whose numbers have 48 bits. */
#define SEAL_SEQ_MAX      (UINT64_C(1) << 47)
/* DTLS: of these the last are for the alert that ends it (and what else is not data). */
#define SEAL_SEQ_LAST     32
/* Bad DTLS records before the session is closed: far below the 2^36 of RFC 9147 4.5.3, and costly
 * for an attacker with a spoofed address. */
#define SEAL_BAD_MAX      (UINT32_C(1) << 31)
#define SEAL_IDLE_MAX     32
#define SEAL_RESEND_MAX   8 /* answers to a retransmitted Finished, per session */

/* ---- state -------------------------------------------------------------------------------- */

/* All zero is "no session". */
struct seal {
	uint8_t proto;    /* enum seal_proto */
	uint8_t suite;    /* enum seal_suite */
	uint8_t role;     /* enum seal_role */
	uint8_t fragment; /* max_fragment_length the client asked for (RFC 6066 4): 0 none, 1..4 */
	/* by enum seal_way: key and iv are those of this generation; SEAL_GEN_NONE: torn */
	uint32_t gen[2];
	uint8_t key[2][32]; /* AES-128 uses 16, the rest is zero */
	uint8_t iv[2][12];  /* (D)TLS 1.2 GCM uses 4 (the salt), the rest is zero */
	uint32_t pad;
	uint64_t nonce; /* (D)TLS 1.2 GCM, ours: the explicit nonce of number n is nonce + n */
	uint8_t spare[16];
};
_Static_assert(sizeof(struct seal) == 128, "struct seal is a shared layout");
#define SEAL_GEN_NONE UINT32_MAX

/* Where a TLS stream stands.  Copied, never shared in place; part of the record that the caller flips. */
struct seal_pos {
	uint64_t seq[2]; /* number of the next record, by enum seal_way */
	uint32_t gen[2]; /* KeyUpdates so far, by enum seal_way (TLS 1.3; otherwise 0) */
	uint16_t idle;   /* records in a row that carried nothing */
	uint8_t asked;   /* our KeyUpdate asked for theirs, which has not come */
	uint8_t zero;
	uint32_t updates; /* KeyUpdates received; the caller caps their rate */
};
_Static_assert(sizeof(struct seal_pos) == 32, "struct seal_pos is a shared layout");

/* Where a DTLS association stands.  In place, by its one writer. */
struct seal_dtls {
	uint64_t tx;       /* next number of epoch 1 */
	uint64_t top;      /* highest received number + 1; 0: none */
	uint64_t seen;     /* bit (n & 63): number n, of the 64 below top, was received */
	uint32_t bad;      /* records whose tag was wrong */
	uint32_t replayed; /* records that the window refused */
};
_Static_assert(sizeof(struct seal_dtls) == 32, "struct seal_dtls is a shared layout");
_Static_assert(sizeof(struct seal) + sizeof(struct seal_dtls) <= 192, "the hot part of a session");

/* TLS 1.3 traffic secrets: generation g of a direction is in slot g & 1.  32 or 48 bytes used. */
struct seal_secrets {
	uint8_t secret[2][2][48]; /* [enum seal_way][generation & 1] */
};
_Static_assert(sizeof(struct seal_secrets) == 192, "struct seal_secrets is a shared layout");

#define SEAL_FINISHED_LEN                                                                                  \
	24 /* DTLS handshake header 12 + verify_data 12 (RFC 6347 4.2.2, RFC 5246 7.4.9) */
/* DTLS server: ChangeCipherSpec in epoch 0 and our Finished in epoch 1, to be sent again. */
struct seal_final {
	uint8_t finished[SEAL_FINISHED_LEN]; /* plaintext, message_seq included */
	uint64_t tx0;                        /* next number of epoch 0 */
	uint32_t resent;                     /* times it was sent again */
	uint32_t len;                        /* SEAL_FINISHED_LEN, or 0: nothing stored */
};
_Static_assert(sizeof(struct seal_final) == 40, "struct seal_final is a shared layout");

/* A session as turnpike-tls hands it over: what does not apply is zero.  Same machine, same build. */
struct seal_session {
	struct seal keys;
	struct seal_pos pos;         /* TLS */
	struct seal_dtls dtls;       /* DTLS */
	struct seal_secrets secrets; /* TLS 1.3 */
	struct seal_final final;     /* DTLS server; of no use once application data came from the client */
};
_Static_assert(sizeof(struct seal_session) == 424, "struct seal_session is a message");

/* ---- keys.c ------------------------------------------------------------------------------- */

/* IANA cipher suite number to ours; 0 for one that this protocol or this layer does not have.
 * TLS 1.3: 1301-1303.  (D)TLS 1.2: C02B C02C C02F C030 CCA8 CCA9. */
unsigned seal_suite_of(enum seal_proto proto, uint16_t iana);
const char *seal_suite_name(unsigned suite);
/* Bytes of a TLS 1.3 traffic secret: 32 or 48. */
size_t seal_secret_len(unsigned suite);
/* Are the constant fields in range?  A successor asks before it uses what it found. */
bool seal_valid(const struct seal *k);

/*
 * A TLS 1.3 session from CLIENT_TRAFFIC_SECRET_0 and SERVER_TRAFFIC_SECRET_0 (len bytes each, as the key
 * log has them).  Generation 0; the numbers in a pos start at zero.  RFC 8446 7.3.  SEAL_F_STATE for a
 * length that does not fit the suite, SEAL_F_CRYPTO.  *k and *s are set only on success.
 */
int seal_start13(struct seal *k, struct seal_secrets *s, enum seal_role role, unsigned suite,
    const uint8_t *client, const uint8_t *server, size_t len);
/*
 * A TLS 1.2 or DTLS 1.2 session from the master secret and the hellos' randoms (RFC 5246 6.3).  nonce:
 * for GCM, the explicit nonce our side would have used for record number 0: (nonce of any record that
 * OpenSSL sent under these keys) - (that record's number, without the epoch), modulo 2^64.  Ignored for
 * ChaCha20.
 */
int seal_start12(struct seal *k, enum seal_proto proto, enum seal_role role, unsigned suite,
    const uint8_t master[48], const uint8_t client_random[32], const uint8_t server_random[32],
    uint64_t nonce);

/*
 * The next key of one direction (RFC 8446 7.2): writes the slot of generation committed->gen + 1 in *s,
 * which no committed state refers to, and sets next->gen and next->seq.  Nothing else of *next changes.
 * SEAL_F_COMMIT when next->gen is ahead already: commit first.  Then call seal_sync() with *next.
 */
int seal_rekey(const struct seal *k, struct seal_secrets *s, const struct seal_pos *committed,
    struct seal_pos *next, enum seal_way way);
/*
 * Makes the keys in *k those of pos's generations; does nothing when they are.  Safe to be killed in and
 * to be called before pos is committed: the generations tell, and the secrets are the truth.  TLS 1.2:
 * only checks.
 */
int seal_sync(struct seal *k, const struct seal_secrets *s, const struct seal_pos *pos);

/* ---- aead.c ------------------------------------------------------------------------------- */

#define SEAL_CTX_SLOTS 16
struct evp_cipher_ctx_st;
struct evp_cipher_st;
/*
 * Working memory for libcrypto's ciphers, one per process (not shared memory, not thread safe).  Made at
 * start, because making it allocates (libcrypto allocates once more at a slot's first use).  A few keyed
 * contexts are kept, so that a busy session is not keyed for every record.
 */
struct seal_ctx {
	bool sodium_aes; /* libsodium has AES-256-GCM on this processor; a test may clear it */
	struct evp_cipher_st *cipher[4]; /* by enum seal_suite */
	struct evp_cipher_ctx_st *slot[SEAL_CTX_SLOTS];
	uint8_t key[SEAL_CTX_SLOTS][32];
	uint8_t suite[SEAL_CTX_SLOTS];
};
/* 0 or SEAL_F_CRYPTO (nothing to fini then). */
int seal_ctx_init(struct seal_ctx *c);
/* What libcrypto makes once, a millisecond or two: done with the first record that needs it, or now.  A
 * worker that takes over has packets to relay first. */
int seal_ctx_warm(struct seal_ctx *c);
/* Forgets the keys that are kept, for instance after a session ended. */
void seal_ctx_wipe(struct seal_ctx *c);
void seal_ctx_fini(struct seal_ctx *c);

/* ---- content.c ---------------------------------------------------------------------------- */

/* What a record said, once its tag was right. */
enum seal_kind {
	SEAL_DATA,       /* application data: data, len (over 0) */
	SEAL_NOTHING,    /* empty data, a warning, a handshake message of no interest: go on */
	SEAL_CLOSE,      /* close_notify: answer with one (RFC 8446 6.1), then close */
	SEAL_FATAL,      /* the peer's fatal alert, in `alert`: close without an answer */
	SEAL_KEY_UPDATE, /* TLS 1.3: seal_rekey(SEAL_RX) and seal_sync() before the next record; `answer` */
	SEAL_RENEGOTIATE, /* (D)TLS 1.2: not here: send the warning no_renegotiation, or ignore it */
	SEAL_FINISHED,    /* DTLS server: the client did not get our final flight: seal_final_flight() */
};
struct seal_in {
	uint8_t kind;  /* enum seal_kind */
	uint8_t type;  /* enum seal_type, the inner one in TLS 1.3 */
	uint8_t alert; /* of an alert: its description */
	bool answer;   /* KeyUpdate: the peer asks for ours */
	size_t len;
	const uint8_t *data; /* inside the caller's `out` */
};

/* ---- record_stream.c ----------------------------------------------------------------------------- */

/* Bytes that a record has before and after its content: (D)TLS 1.2 GCM 13/21 + 16, ChaCha20 5/13 + 16,
 * TLS 1.3 5 + 17. */
size_t seal_before(const struct seal *k);
size_t seal_after(const struct seal *k);
/* Most content of one record that we send: SEAL_PLAIN_MAX, or less where the client asked for that. */
size_t seal_plain_max(const struct seal *k);

/*
 * How long is the record that starts here, header included?  > 0; 0: fewer than 5 bytes, not known yet;
 * SEAL_F_TYPE, SEAL_F_LENGTH or SEAL_F_DECODE: close the stream.  Judged by the header alone.
 */
int seal_stream_len(const struct seal *k, const uint8_t *p, size_t n);

/*
 * Opens one whole record (len from seal_stream_len) into out, which must not overlap it and have room for
 * len - seal_before(k) - 16 bytes.  pos is the state before it; *next (set on success only) the state
 * after it, to be committed with what it led to.  With SEAL_KEY_UPDATE *next still has the old
 * generation.  0 or a fault, all of them fatal to the stream except SEAL_F_ROOM and SEAL_F_STATE (the
 * caller's own).
 */
int seal_open(const struct seal *k, const struct seal_pos *pos, struct seal_ctx *c, const uint8_t *rec,
    size_t len, uint8_t *out, size_t room, struct seal_in *in, struct seal_pos *next);

/*
 * Seals len (0..seal_plain_max(k)) bytes of `type` as one record at out.  data either does not overlap
 * out or is exactly out + seal_before(k) (headroom).  Returns the record's length, seal_before + len +
 * seal_after, or SEAL_F_ROOM, SEAL_F_LENGTH, SEAL_F_STATE, SEAL_F_CRYPTO, SEAL_F_LIMIT (alerts are still
 * sealed at the limit, so that close_notify goes out).
 */
int seal_seal(const struct seal *k, const struct seal_pos *pos, struct seal_ctx *c, uint8_t type,
    const uint8_t *data, size_t len, uint8_t *out, size_t room, struct seal_pos *next);
/* The same with an alert (RFC 8446 6).  The level follows from the description. */
int seal_alert(const struct seal *k, const struct seal_pos *pos, struct seal_ctx *c, enum seal_alert what,
    uint8_t *out, size_t room, struct seal_pos *next);
/*
 * TLS 1.3: a KeyUpdate under the current key; request: the peer shall change its own too.  The caller
 * then calls seal_rekey(SEAL_TX) on *next, seal_sync(), and commits both together.  RFC 8446 4.6.3.
 */
int seal_update(const struct seal *k, const struct seal_pos *pos, struct seal_ctx *c, bool request,
    uint8_t *out, size_t room, struct seal_pos *next);

enum seal_due { SEAL_DUE_NOT, SEAL_DUE_UPDATE, SEAL_DUE_REQUEST, SEAL_DUE_END };
/* TLS 1.3 with AES-GCM near its limit: is a KeyUpdate due, and shall it ask for the peer's (once, until
 * that came)?  Never for others.  SEAL_DUE_END: our key may seal no more data, and no other took its
 * place: close_notify, then close. */
enum seal_due seal_due(const struct seal *k, const struct seal_pos *pos);

/* ---- record_dtls.c ------------------------------------------------------------------------------- */

enum seal_dclass {
	SEAL_D_SESSION, /* epoch 1: seal_window_fresh() and seal_dtls_open() */
	/* epoch 0, ClientHello: beside a live session, never instead of it (RFC 6347 4.2.8) */
	SEAL_D_HELLO,
	/* epoch 0, anything else of a handshake; of a live session a retransmission: ignore */
	SEAL_D_HANDSHAKE,
	SEAL_D_IGNORE, /* epoch 0 alert or data, another epoch, an unknown type */
};
struct seal_dhead {
	uint8_t type;   /* enum seal_type, or what stood there */
	uint8_t dclass; /* enum seal_dclass */
	uint16_t epoch;
	uint64_t seq; /* 48 bits, without the epoch */
	size_t len;   /* of the record, header included */
};
/*
 * The first record of the n bytes left of a datagram; the next one starts head->len further.  Returns its
 * length, or SEAL_F_DECODE (cut short), SEAL_F_TYPE (no DTLS version), SEAL_F_LENGTH: drop the rest of
 * the datagram.  Needs no session.
 */
int seal_dtls_head(struct seal_dhead *head, const uint8_t *p, size_t n);

/* RFC 6347 4.1.2.6.  Fresh: neither seen nor older than 64; asked before opening, changes nothing. */
bool seal_window_fresh(const struct seal_dtls *d, uint64_t seq);
/* After the tag was right and before the content is acted on.  Killed inside, it may refuse a number that
 * never came; it never lets one through twice. */
void seal_window_mark(struct seal_dtls *d, uint64_t seq);
/* Counts a wrong tag; true: too many, close the association. */
bool seal_bad(struct seal_dtls *d);

/*
 * Opens one record (its exact bytes) of class SEAL_D_SESSION.  out does not overlap rec, or is exactly
 * rec + seal_before(k): in place, a datagram dies with its worker anyway.  Then rec is lost on failure.
 * 0 or a fault; every one means: drop the record silently (RFC 6347 4.1.2.7) and, for SEAL_F_MAC,
 * seal_bad().
 */
int seal_dtls_open(const struct seal *k, struct seal_ctx *c, const uint8_t *rec, size_t len, uint8_t *out,
    size_t room, struct seal_in *in);

/* Takes the next number: stored before it is returned.  0, or SEAL_F_LIMIT at SEAL_SEQ_MAX: close. */
int seal_dtls_take(struct seal_dtls *d, uint64_t *seq);
/* Are only the last SEAL_SEQ_LAST numbers left?  Then no more data: close_notify, and close (RFC 6347
 * 4.1: numbers must not wrap, and a new epoch would be a renegotiation). */
bool seal_dtls_spent(const struct seal_dtls *d);
/* As seal_seal(), with a number that was taken and is used for nothing else. */
int seal_dtls_seal(const struct seal *k, struct seal_ctx *c, uint64_t seq, uint8_t type,
    const uint8_t *data, size_t len, uint8_t *out, size_t room);
int seal_dtls_alert(const struct seal *k, struct seal_ctx *c, uint64_t seq, enum seal_alert what,
    uint8_t *out, size_t room);
/*
 * ChangeCipherSpec and Finished once more, as one datagram of at most SEAL_FINAL_MAX bytes with fresh
 * numbers (RFC 6347 4.2.4).  Returns its length, SEAL_F_STATE when nothing is stored, SEAL_F_LIMIT after
 * SEAL_RESEND_MAX times, or what the others return.
 */
#define SEAL_FINAL_MAX (SEAL_DTLS_HEAD + 1 + SEAL_FINISHED_LEN + SEAL_OVERHEAD_MAX)
int seal_final_flight(const struct seal *k, struct seal_ctx *c, struct seal_dtls *d, struct seal_final *f,
    uint8_t *out, size_t room);

/* ---- hello.c: DTLS before there is a session (RFC 6347 4.2.1, 4.2.3) -------------------------- */

#define SEAL_HELLO_MAX  (SEAL_PLAIN_MAX - 12) /* longest ClientHello: one that fits one record */
#define SEAL_COOKIE_LEN 20
#define SEAL_VERIFY_LEN (SEAL_DTLS_HEAD + 12 + 3 + SEAL_COOKIE_LEN) /* a HelloVerifyRequest: 48 bytes */

/* What the body of a whole ClientHello says.  Pointers are into it. */
struct seal_hello {
	uint16_t version;      /* FEFD: DTLS 1.2 */
	const uint8_t *random; /* 32 bytes */
	const uint8_t *cookie;
	size_t cookie_len; /* 0: none */
};
/* SEAL_OK or SEAL_F_DECODE: lengths that do not add up, or something behind it. */
int seal_hello_parse(struct seal_hello *h, const uint8_t *body, size_t len);

/* A part of a ClientHello. */
struct seal_frag {
	uint64_t record_seq;  /* of its record */
	uint16_t message_seq; /* 0: the first hello, 1: the one with the cookie */
	uint32_t total;       /* bytes of the whole body, at most SEAL_HELLO_MAX */
	uint32_t at, len;     /* which of them these are */
	const uint8_t *bytes;
};
/* All of them in a datagram: several in a record, several records. */
struct seal_frags {
	const uint8_t *p, *in;
	size_t left, in_left;
	uint64_t record_seq;
};
static inline struct seal_frags
seal_frags_over(const uint8_t *p, size_t n)
{
	return (struct seal_frags){ .p = p, .left = n };
}
/* 1 and *f is the next one, 0: no more; a fault: there is something else in the datagram, or lengths do
 * not add up. */
int seal_frags_next(struct seal_frags *it, struct seal_frag *f);
/* A record with this fragment alone.  Returns its length, SEAL_FRAG_HEAD + f->len. */
#define SEAL_FRAG_HEAD (SEAL_DTLS_HEAD + 12)
size_t seal_frag_write(uint8_t *out, const struct seal_frag *f);

/* Fragments put together, in any order and overlapping, in the caller's memory; what lies beyond `room`
 * is left out. */
struct seal_gather {
	uint8_t *body;       /* room bytes */
	uint8_t *seen;       /* SEAL_SEEN_LEN(room) bytes: which are there */
	uint32_t room, have; /* have: bytes that are there */
	uint32_t total;      /* of the whole body; 0: nothing came */
	uint64_t record_seq; /* highest number of their records */
};
#define SEAL_SEEN_LEN(room) (((room) + 7) / 8)
void seal_gather_init(struct seal_gather *g, uint8_t *body, uint8_t *seen, size_t room);
/* False: it is of a body of another length, and is left out. */
bool seal_gather_add(struct seal_gather *g, const struct seal_frag *f);
bool seal_gather_whole(const struct seal_gather *g);

/* [0] makes cookies, both are accepted.  number: low byte of the key's epoch, in the cookie's first byte;
 * the two differ by 1 (a daemon younger than one epoch uses any secret key for number - 1). */
struct seal_cookie_keys {
	uint8_t key[2][32];
	uint8_t number[2];
};
/* Does the hello with message number 1 whose beginning was gathered (100 bytes are enough) prove its
 * sender's address? */
enum seal_proof { SEAL_P_PART /* the cookie is not there yet */, SEAL_P_GOOD, SEAL_P_WRONG };
enum seal_proof seal_hello_proof(
    const struct seal_cookie_keys *keys, const struct addr *client, const struct seal_gather *g);

enum seal_verdict {
	SEAL_V_DROP, /* no answer */
	/* send reply, SEAL_VERIFY_LEN bytes: a HelloVerifyRequest, less than twice what asked for it */
	SEAL_V_VERIFY,
	SEAL_V_REST, /* later fragments of a first hello: the one at 0 is answered, nothing is to be done */
	SEAL_V_PASS, /* the address is proven: MSG_HS_DATAGRAM with hello = 1 */
	/* fragments of a second hello without its cookie: as PASS if the address was proven before */
	SEAL_V_PART,
};
/*
 * What to do with a datagram whose first record is of class SEAL_D_HELLO.  Keeps nothing.  A wrong cookie
 * gets no answer: its hello is the client's second message, and one more HelloVerifyRequest would number
 * the handshake out of step; the client starts again.
 */
enum seal_verdict seal_hello_judge(const struct seal_cookie_keys *keys, const struct addr *client,
    const uint8_t *p, size_t n, uint8_t reply[SEAL_VERIFY_LEN]);

#endif
