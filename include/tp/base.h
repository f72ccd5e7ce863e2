/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * base.h: addresses, prefixes, byte cursors, time units, the log.
 *
 * Everything else stands on this room; it knows nothing of the others.
 * Errors: 0 or -errno.
 */
#ifndef TP_BASE_H
#define TP_BASE_H

#include <assert.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>

#define TP_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define TP_COUNT(a)          (sizeof(a) / sizeof((a)[0]))
/* The build zeroes automatic variables; this one is large, on the data path, and written before it is
 * read. */
#if defined __has_attribute
#if __has_attribute(uninitialized)
#define TP_UNSET __attribute__((uninitialized))
#endif
#endif
#ifndef TP_UNSET
#define TP_UNSET
#endif

/* Units of time.  Instants are CLOCK_MONOTONIC: milliseconds in arguments, whole seconds in shared
 * slots (rounded up at the moment of storing, so nothing expires early). */
typedef uint64_t tp_ms; /* instant or span, milliseconds, monotonic */
#define TP_SEC_UP(ms) ((uint32_t)(((ms) + 999u) / 1000u))

/* Of a daemon.  Part of shared layouts and messages. */
#define SHARDS_MAX    128
#define LISTENERS_MAX 256 /* what a row of the ledger and a tag of the worker can name */
#define RELAYS_MAX    32

/*
 * How a client reaches us.  One bit each, so that a listener's set of transports fits a byte; the numbers
 * are part of shared layouts and messages.
 */
enum transport { TRANSPORT_UDP = 1, TRANSPORT_TCP = 2, TRANSPORT_TLS = 4, TRANSPORT_DTLS = 8 };
#define TRANSPORT_STREAMS (TRANSPORT_TCP | TRANSPORT_TLS) /* connections of the kernel */
static inline bool
transport_is_stream(unsigned t)
{
	return (t & TRANSPORT_STREAMS) != 0;
}
/* One transport, not a set. */
static inline bool
transport_is_valid(unsigned t)
{
	return t != 0 && t <= TRANSPORT_DTLS && (t & (t - 1)) == 0;
}

/* ---- addr.c ------------------------------------------------------------------------------- */

enum { ADDR_NONE = 0, ADDR_V4 = 4, ADDR_V6 = 6 };

/*
 * A transport address.  The port is in host order.  An IPv4 address occupies ip[0..3] in network
 * order and ip[4..15] are zero, so that two addresses are equal exactly when their bytes are.
 * All zero is "no address".
 */
struct addr {
	uint8_t family; /* ADDR_* */
	uint8_t zero;
	uint16_t port;
	uint8_t ip[16];
};
_Static_assert(sizeof(struct addr) == 20, "struct addr is part of shared layouts");

#define ADDR_STRLEN 56 /* "[v6]:port" and its NUL fit */

/* Kernel form to ours.  A v4-mapped IPv6 address stays IPv6 (peer policy judges it as such).
 * -EAFNOSUPPORT for families other than AF_INET and AF_INET6. */
int addr_from_sockaddr(struct addr *a, const struct sockaddr *sa);
/* Ours to the kernel's; returns the length for bind(2)/sendmsg(2), 0 when a->family is ADDR_NONE. */
socklen_t addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *ss);
/* "192.0.2.1", "192.0.2.1:3478", "2001:db8::1", "[2001:db8::1]:3478".  Strict: no names, no
 * spaces, no octal, no zone.  Port 0 when absent.  -EINVAL leaves *a alone. */
int addr_parse(struct addr *a, const char *text);
/* Writes "ip" when the port is 0, otherwise "ip:port" / "[ip]:port"; always terminated. Returns buf. */
char *addr_print(const struct addr *a, char buf[ADDR_STRLEN]);
/* The same without the port (for logs of permissions). */
char *addr_print_ip(const struct addr *a, char buf[ADDR_STRLEN]);
static inline unsigned
addr_iplen(const struct addr *a)
{
	return a->family == ADDR_V4 ? 4u : 16u;
}
static inline bool
addr_eq(const struct addr *a, const struct addr *b)
{
	return memcmp(a, b, sizeof *a) == 0;
}
static inline bool
addr_ip_eq(const struct addr *a, const struct addr *b)
{
	return a->family == b->family && memcmp(a->ip, b->ip, sizeof a->ip) == 0;
}

/* First to last, of one family, ports 0, inclusive. */
struct addr_range {
	struct addr first, last;
};
static inline bool
addr_range_has(const struct addr_range *r, const struct addr *a)
{
	return r->first.family == a->family && memcmp(a->ip, r->first.ip, sizeof a->ip) >= 0 &&
	    memcmp(a->ip, r->last.ip, sizeof a->ip) <= 0;
}

/* An IP prefix.  Host bits are zero. */
struct cidr {
	uint8_t family; /* ADDR_* */
	uint8_t bits;   /* prefix length, 0..32 or 0..128 */
	uint8_t ip[16];
};
/* "10.0.0.0/8", "2001:db8::/32", or a bare address (/32, /128).  -EINVAL for anything else, host
 * bits set included: a rule that says something other than it seems to is refused. */
int cidr_parse(struct cidr *c, const char *text);
char *cidr_print(const struct cidr *c, char buf[ADDR_STRLEN]);
bool cidr_has(const struct cidr *c, const struct addr *a);
/* The address's prefix of `bits` bits (rates and quotas: 32 for IPv4, 64 for IPv6). */
void addr_mask(struct addr *out, const struct addr *a, unsigned bits);

/* ---- cursors (inline): one check at the end ------------------------------------------------ */

/* Reader over borrowed bytes.  After the first short read `bad` is set, every later read returns
 * zero, and nothing beyond `end` is ever touched.  Integers are big-endian. */
struct rd {
	const uint8_t *p, *end;
	bool bad;
};
static inline struct rd
rd_over(const void *p, size_t n)
{
	const uint8_t *b = p;
	return (struct rd){ .p = b, .end = b + n, .bad = false };
}
static inline size_t
rd_left(const struct rd *r)
{
	return r->bad ? 0 : (size_t)(r->end - r->p);
}
static inline const uint8_t *
rd_bytes(struct rd *r, size_t n)
{
	const uint8_t *p = r->p;
	if (r->bad || n > (size_t)(r->end - r->p)) {
		r->bad = true;
		return NULL;
	}
	r->p += n;
	return p;
}
static inline uint8_t
rd_u8(struct rd *r)
{
	const uint8_t *p = rd_bytes(r, 1);
	return p != NULL ? *p : 0;
}
static inline uint16_t
rd_u16(struct rd *r)
{
	const uint8_t *p = rd_bytes(r, 2);
	return p != NULL ? (uint16_t)((p[0] << 8) | p[1]) : 0;
}
static inline uint32_t
rd_u32(struct rd *r)
{
	const uint8_t *p = rd_bytes(r, 4);
	return p != NULL ? ((uint32_t)p[0] << 24) | ((uint32_t)p[1] << 16) | ((uint32_t)p[2] << 8) | p[3]
			 : 0;
}
static inline uint64_t
rd_u64(struct rd *r)
{
	uint64_t hi = rd_u32(r);
	return (hi << 32) | rd_u32(r);
}

/* Writer into the caller's memory, same rules. */
struct wr {
	uint8_t *base, *p, *end;
	bool bad;
};
static inline struct wr
wr_over(void *p, size_t n)
{
	uint8_t *b = p;
	return (struct wr){ .base = b, .p = b, .end = b + n, .bad = false };
}
static inline size_t
wr_len(const struct wr *w)
{
	return (size_t)(w->p - w->base);
}
/* Room for n bytes, or NULL and bad. */
static inline uint8_t *
wr_room(struct wr *w, size_t n)
{
	uint8_t *p = w->p;
	if (w->bad || n > (size_t)(w->end - w->p)) {
		w->bad = true;
		return NULL;
	}
	w->p += n;
	return p;
}
static inline void
wr_bytes(struct wr *w, const void *src, size_t n)
{
	uint8_t *p = wr_room(w, n);
	if (p != NULL && n > 0)
		memcpy(p, src, n);
}
static inline void
wr_zero(struct wr *w, size_t n)
{
	uint8_t *p = wr_room(w, n);
	if (p != NULL && n > 0)
		memset(p, 0, n);
}
static inline void
put_u16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}
static inline void
put_u32(uint8_t *p, uint32_t v)
{
	put_u16(p, (uint16_t)(v >> 16));
	put_u16(p + 2, (uint16_t)v);
}
static inline void
put_u64(uint8_t *p, uint64_t v)
{
	put_u32(p, (uint32_t)(v >> 32));
	put_u32(p + 4, (uint32_t)v);
}
static inline uint16_t
get_u16(const uint8_t *p)
{
	return (uint16_t)((p[0] << 8) | p[1]);
}
static inline uint32_t
get_u32(const uint8_t *p)
{
	return ((uint32_t)get_u16(p) << 16) | get_u16(p + 2);
}
static inline uint64_t
get_u64(const uint8_t *p)
{
	return ((uint64_t)get_u32(p) << 32) | get_u32(p + 4);
}
static inline void
wr_u8(struct wr *w, uint8_t v)
{
	wr_bytes(w, &v, 1);
}
static inline void
wr_u16(struct wr *w, uint16_t v)
{
	uint8_t *p = wr_room(w, 2);
	if (p != NULL)
		put_u16(p, v);
}
static inline void
wr_u32(struct wr *w, uint32_t v)
{
	uint8_t *p = wr_room(w, 4);
	if (p != NULL)
		put_u32(p, v);
}
static inline void
wr_u64(struct wr *w, uint64_t v)
{
	uint8_t *p = wr_room(w, 8);
	if (p != NULL)
		put_u64(p, v);
}

/* ---- text.c ------------------------------------------------------------------------------- */

/* Copies text with every byte outside printable ASCII, and `"` and `\`, written as \xNN, so one
 * record stays one line whatever a client sent.  Truncates with "..." ; always terminated. Returns out. */
char *text_escape(char *out, size_t out_len, const void *text, size_t len);
/* strlcpy: always terminates, returns strlen(src). */
size_t text_copy(char *dst, size_t dst_len, const char *src);
/* Lower-case hex; out has 2 * len + 1 bytes. Returns out. */
char *text_hex(char *out, const void *bytes, size_t len);
/* RFC 3339 "2030-01-01T00:00:00Z" (also with +hh:mm) to Unix seconds.  -EINVAL. */
int text_time(int64_t *unix_s, const char *text);

/* ---- mdoc.c ------------------------------------------------------------------------------- */
/*
 * Prints text as lines of mdoc(7) input, at most 72 columns wide where words allow it.  `code` becomes
 * bold, each sentence starts a new line, and what roff would interpret is escaped.  text: NUL-terminated,
 * borrowed.
 */
void text_print_mdoc(const char *text, FILE *f);

/* ---- log.c -------------------------------------------------------------------------------- */

/*
 * One line a record: "subject: what: why".  The only mutable global outside prog/.
 *
 * A record goes to exactly one sink: stderr until log_sink_fd() is called, afterwards one datagram
 * per record on that non-blocking descriptor, which turnpike-admin reads; a full queue is counted in
 * log_lost() and never waited for.
 */
enum log_level { LOG_L_ERROR, LOG_L_WARN, LOG_L_INFO, LOG_L_DEBUG };

#define LOG_TEXT_MAX   1000
#define LOG_FIELDS_MAX 512

/* Datagram of a record (native byte order, same machine, same build; turnpike-admin checks the length). */
struct log_rec {
	uint32_t magic; /* LOG_REC_MAGIC */
	uint8_t level;  /* enum log_level */
	uint8_t role;   /* enum proc_role of tp/msg.h, as a number */
	uint8_t index;  /* process index within its role */
	uint8_t zero;
	int32_t pid;
	uint32_t suppressed; /* records of this class that rate limiting swallowed before this one */
	int64_t wall_us;     /* CLOCK_REALTIME */
	uint16_t len;        /* bytes of text, no NUL */
	uint16_t fields_len; /* bytes of fields behind the text: "key=value" and a NUL each */
	char text[LOG_TEXT_MAX + LOG_FIELDS_MAX];
};
#define LOG_REC_MAGIC 0x54504c32u /* "TPL2" */
#define LOG_REC_HEAD  offsetof(struct log_rec, text)

/* name: "worker", shown with the index in front of records that go to stderr. */
void log_init(const char *name, unsigned role, unsigned index, enum log_level level);
void log_level_set(enum log_level level);
enum log_level log_level_get(void);
const char *log_level_name(enum log_level level);
/* Borrowed descriptor; -1 goes back to stderr. */
void log_sink_fd(int fd);
uint64_t log_lost(void);

/* _warn and _err append ": strerror(errno)"; the x forms do not.  errno is preserved. */
void log_err(const char *fmt, ...) TP_PRINTF(1, 2);
void log_errx(const char *fmt, ...) TP_PRINTF(1, 2);
void log_warn(const char *fmt, ...) TP_PRINTF(1, 2);
void log_warnx(const char *fmt, ...) TP_PRINTF(1, 2);
void log_info(const char *fmt, ...) TP_PRINTF(1, 2);
void log_debug(const char *fmt, ...) TP_PRINTF(1, 2);
/* For what a stranger can cause: at most `burst` records a second per class object (static storage,
 * zeroed); the next record that passes says how many were suppressed. */
struct log_class {
	uint64_t second;
	uint32_t used, suppressed;
};
/* Would log_limited() swallow it now?  If so it is counted as swallowed: for texts that cost something
 * to make. */
bool log_silent(struct log_class *c, uint32_t per_second, enum log_level level);
void log_limited(struct log_class *c, uint32_t per_second, enum log_level level, const char *fmt, ...)
    TP_PRINTF(4, 5);
/*
 * What a record is about, apart from its text: fields of JSON logs and of the journal.  Start with a
 * zeroed struct.  key: lower-case letters and `_`; the value is escaped.  A field that does not fit is
 * left out.
 */
struct log_fields {
	uint16_t len;
	char bytes[LOG_FIELDS_MAX];
};
void log_field(struct log_fields *f, const char *key, const char *value);
/* The number of a key in the list of those that a record may have, below 32; -1: it is not in the list
 * (log.c), and log_field() leaves the field out. */
int log_field_key(const char *key, size_t len);
void log_with(enum log_level level, uint32_t suppressed, const struct log_fields *f, const char *fmt, ...)
    TP_PRINTF(4, 5);
/* log_err() and exit(code). */
void fatal(int code, const char *fmt, ...) TP_PRINTF(2, 3) __attribute__((noreturn));

#endif
