/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stun.h: the codec.  Messages, attributes, integrity, framing.  RFC 8489, RFC 8656 (ChannelData).
 *
 * Sans-IO: no kernel, no clock, no heap, no log, no globals.  Bytes are borrowed for the call.
 * Errors: 0 or a negative enum stun_fault; never a STUN error code (that is the caller's decision).
 */
#ifndef TP_STUN_H
#define TP_STUN_H

#include "tp/base.h"

#define STUN_COOKIE       0x2112A442u
#define STUN_HEADER       20
#define STUN_TXID         12 /* bytes of transaction id */
#define STUN_PORT         3478
#define STUN_ATTRS_MAX    64             /* a message with more is malformed */
#define STUN_UNKNOWN_MAX  STUN_ATTRS_MAX /* a 420 lists all of them */
#define STUN_USERNAME_MAX 763            /* RFC 8489 14.3: what an RFC 5389 client may send */
#define STUN_REALM_MAX    763            /* RFC 8489 14.9: under 128 characters, 763 bytes */
#define STUN_NONCE_MAX    763
#define STUN_KEY_MAX      32 /* MD5: 16, SHA-256: 32 (RFC 8489 18.5) */

enum stun_class { STUN_REQUEST, STUN_INDICATION, STUN_SUCCESS, STUN_ERROR };
enum stun_method {
	STUN_BINDING = 0x001,
	STUN_ALLOCATE = 0x003,
	STUN_REFRESH = 0x004,
	STUN_SEND = 0x006,
	STUN_DATA = 0x007,
	STUN_CREATE_PERMISSION = 0x008,
	STUN_CHANNEL_BIND = 0x009,
	STUN_CONNECT = 0x00A,
	STUN_CONNECTION_BIND = 0x00B,
	STUN_CONNECTION_ATTEMPT = 0x00C,
};
/* STUN_A_NAME = number, STUN_E_NAME = number */
enum stun_attr_type {
#define ATTR(number, name, kind) STUN_A_##name = number,
#include "tp/tbl/attrs.def"
#undef ATTR
};
enum stun_error {
#define ERROR(number, name, phrase, help) STUN_E_##name = number,
#include "tp/tbl/errors.def"
#undef ERROR
};
enum stun_alg { STUN_ALG_NONE = 0, STUN_ALG_MD5 = 1, STUN_ALG_SHA256 = 2 }; /* RFC 8489 18.5 */

enum stun_fault {
	STUN_OK = 0,
	STUN_F_SHORT = -1,  /* fewer bytes than the header says, or no header */
	STUN_F_LENGTH = -2, /* length not a multiple of 4, more bytes than the header says, over 65,535 */
	STUN_F_COOKIE = -3, /* no magic cookie (RFC 3489 clients included) */
	STUN_F_ATTRS = -4,  /* an attribute runs over the end, or more than STUN_ATTRS_MAX */
	STUN_F_FINGERPRINT = -5, /* FINGERPRINT wrong or not last */
	STUN_F_TYPE = -6,        /* first two bits not zero */
};

/* ---- frame.c ------------------------------------------------------------------------------ */

enum frame_kind { FRAME_STUN, FRAME_CHANNEL, FRAME_DTLS, FRAME_JUNK };
/* By the first byte (RFC 7983, RFC 8656 12): 0-3 STUN, 20-63 DTLS, 64-127 ChannelData, else junk. */
static inline enum frame_kind
frame_kind(uint8_t first)
{
	return first < 4                 ? FRAME_STUN
	    : first >= 64 && first < 128 ? FRAME_CHANNEL
	    : first >= 20 && first < 64  ? FRAME_DTLS
					 : FRAME_JUNK;
}
/*
 * How long is the frame that starts here, on a stream (RFC 8489 6.2.2, RFC 8656 12.5)?
 * > 0  its length on the wire, padding of ChannelData to 4 included;
 * 0    not enough bytes to tell (needs 4, a bad first byte is told at once);
 * < 0  STUN_F_TYPE / STUN_F_LENGTH: out of step, close the connection.
 * Up to FRAME_STREAM_MAX: what 16 bits of length can say (a Send indication carries up to 64 KiB of data).
 */
int frame_stream_len(const uint8_t *p, size_t n);
#define FRAME_STREAM_MAX (20 + 65532)

#define CHANNEL_HEADER   4
#define CHANNEL_MIN      0x4000
#define CHANNEL_MAX_8656 0x4FFF /* RFC 8656 12 */
#define CHANNEL_MAX      0x7FFF /* RFC 5766 11; bound only with relay.rfc5766_channels */
struct channel_data {
	uint16_t number;
	uint16_t len;        /* of data */
	const uint8_t *data; /* inside the caller's bytes */
};
/* A whole datagram (or one stream frame).  Bytes after the data: up to 3 are padding, more are
 * STUN_F_LENGTH; fewer than announced STUN_F_SHORT.  Numbers outside the range STUN_F_TYPE. */
int channel_parse(struct channel_data *c, const uint8_t *p, size_t n);
static inline void
channel_header(uint8_t out[CHANNEL_HEADER], uint16_t number, uint16_t len)
{
	put_u16(out, number);
	put_u16(out + 2, len);
}

/* ---- stun_msg.c -------------------------------------------------------------------------------- */

struct stun_attr {
	uint16_t type, len;   /* len without padding */
	const uint8_t *value; /* inside the message */
};

/* A message that was parsed; everything points into the caller's buffer.  Attributes after
 * MESSAGE-INTEGRITY (other than MESSAGE-INTEGRITY-SHA256 and FINGERPRINT) and after
 * MESSAGE-INTEGRITY-SHA256 (other than FINGERPRINT) are not in attr[] (RFC 8489 14.5-14.6). */
struct stun_msg {
	const uint8_t *raw;
	size_t len;
	uint8_t cls; /* enum stun_class */
	uint16_t method;
	uint8_t txid[STUN_TXID];
	uint8_t count, unknown_count;
	bool has_fingerprint;               /* present and right */
	uint32_t mi_off, mi256_off;         /* offset of the attribute header from raw; 0: absent */
	uint16_t mi256_len;                 /* value length */
	uint16_t unknown[STUN_UNKNOWN_MAX]; /* comprehension-required ones without a row in attrs.def */
	struct stun_attr attr[STUN_ATTRS_MAX];
};
/* A whole message of exactly n bytes.  Never reads beyond; any alignment. */
int stun_parse(struct stun_msg *m, const uint8_t *p, size_t n);
/* The first attribute of the type (RFC 8489 14: later duplicates are ignored) or NULL. */
const struct stun_attr *stun_find(const struct stun_msg *m, uint16_t type);
/* The next one of the same type after `a` (several XOR-PEER-ADDRESS) or NULL. */
const struct stun_attr *stun_find_next(const struct stun_msg *m, const struct stun_attr *a);
/* Name for logs and metrics: "Allocate", "unknown". */
const char *stun_method_name(uint16_t method);
const char *stun_error_phrase(unsigned code);
const char *stun_fault_name(int fault);

/* ---- attr.c: typed reading.  False when length or content is not what the RFC says (a 400), or a is
 * NULL; what it would have written is then untouched. ------------------------------------------ */

bool stun_get_u32(const struct stun_attr *a, uint32_t *v);
/* XOR-*-ADDRESS.  Family must be 1 or 2 with 8 or 20 bytes. */
bool stun_get_xaddr(const struct stun_msg *m, const struct stun_attr *a, struct addr *out);
bool stun_get_channel(
    const struct stun_attr *a, uint16_t *number); /* any number; the caller judges the range */
bool stun_get_even_port(const struct stun_attr *a, bool *reserve);
/* REQUESTED-/ADDITIONAL-ADDRESS-FAMILY: family as ADDR_V4/ADDR_V6, 0 when the value is another (440). */
bool stun_get_family(const struct stun_attr *a, uint8_t *family);
/* PASSWORD-ALGORITHM: the algorithm number as sent; parameters must be empty. */
bool stun_get_alg(const struct stun_attr *a, uint16_t *alg);

/* ---- build.c: writing into the caller's buffer ---------------------------------------------- */

/* Sticky-error builder; padding is zero; check with stun_end(). */
struct stun_out {
	struct wr w;
	uint8_t txid[STUN_TXID];
};
void stun_begin(struct stun_out *o, void *buf, size_t cap, enum stun_class cls, uint16_t method,
    const uint8_t txid[STUN_TXID]);
void stun_put_bytes(struct stun_out *o, uint16_t type, const void *value, size_t len);
void stun_put_u32(struct stun_out *o, uint16_t type, uint32_t v);
void stun_put_xaddr(struct stun_out *o, uint16_t type, const struct addr *a);
void stun_put_addr(struct stun_out *o, uint16_t type, const struct addr *a); /* ALTERNATE-SERVER */
/* ERROR-CODE with its reason phrase, or with an empty one. */
void stun_put_error(struct stun_out *o, unsigned code, bool phrase);
void stun_put_address_error(
    struct stun_out *o, uint8_t family, unsigned code); /* ADDRESS-ERROR-CODE, RFC 8656 18.12 */
void stun_put_unknown(struct stun_out *o, const uint16_t *types, unsigned n);
void stun_put_icmp(
    struct stun_out *o, uint8_t type, uint8_t code, uint32_t data); /* RFC 8656 18.13 ICMP; type < 128 */
/* MESSAGE-INTEGRITY (20 bytes) / MESSAGE-INTEGRITY-SHA256 (32 bytes) over what stands before. */
void stun_put_mi(struct stun_out *o, const uint8_t *key, size_t key_len);
void stun_put_mi256(struct stun_out *o, const uint8_t *key, size_t key_len);
void stun_put_fingerprint(struct stun_out *o);
/* Fixes the header; returns the length, 0 when it did not fit. */
size_t stun_end(struct stun_out *o);

/* Largest header that the data path puts in front of a payload: Data indication to an IPv6 peer:
 * 20 header + 24 XOR-PEER-ADDRESS + 4 DATA header. */
#define STUN_DATA_HEADROOM 48
/* Writes the Data indication's header directly in front of `payload` (the caller guarantees
 * STUN_DATA_HEADROOM bytes before and 3 bytes after it, which become zero padding).  The transaction
 * id is the caller's (any unique value).  Returns where the message starts; *total its length.  NULL and
 * *total 0 when the message would be longer than FRAME_STREAM_MAX. */
uint8_t *stun_data_indication(
    uint8_t *payload, size_t len, const struct addr *peer, const uint8_t txid[STUN_TXID], size_t *total);

/* ---- sign.c ------------------------------------------------------------------------------- */

/* Is the integrity attribute right?  Constant time.  False when it is absent or of a wrong length
 * (SHA-1: 20; SHA-256: 32, since TURN allows no truncation, RFC 8489 14.6). */
bool stun_check_mi(const struct stun_msg *m, const uint8_t *key, size_t key_len);
bool stun_check_mi256(const struct stun_msg *m, const uint8_t *key, size_t key_len);
/* Long-term key (RFC 8489 9.2.2, 18.5): MD5 or SHA-256 of "user:realm:password"; returns 16 or 32, 0 for
 * STUN_ALG_NONE and unknown numbers (no PASSWORD-ALGORITHM means MD5: the caller says so). */
size_t stun_key(enum stun_alg alg, const void *user, size_t user_len, const void *realm, size_t realm_len,
    const void *password, size_t password_len, uint8_t out[STUN_KEY_MAX]);
/* USERHASH = SHA-256(user ":" realm), RFC 8489 14.4. */
void stun_userhash(const void *user, size_t user_len, const void *realm, size_t realm_len, uint8_t out[32]);
/* CRC-32 (ISO-HDLC) as FINGERPRINT uses it, before the XOR. */
uint32_t stun_crc32(const void *p, size_t n);

#endif
