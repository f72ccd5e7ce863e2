/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stun_msg.c: a datagram or a stream frame taken apart into attributes; names for logs.
 */
#include "config.h"

#include "stun_int.h"

static bool
is_known(uint16_t type)
{
	switch (type) {
#define ATTR(number, name, kind) case number:
#include "tp/tbl/attrs.def"
#undef ATTR
		return true;
	default:
		return false;
	}
}

/* Comprehension-required (below 0x8000) and without a row: what a 420 lists, each once. */
static void
note_unknown(struct stun_msg *m, uint16_t type)
{
	if (type >= 0x8000 || is_known(type) || m->unknown_count == STUN_UNKNOWN_MAX)
		return;
	for (unsigned i = 0; i < m->unknown_count; i++)
		if (m->unknown[i] == type)
			return;
	m->unknown[m->unknown_count++] = type;
}

/* Is the attribute hidden because of an integrity attribute before it?  RFC 8489 14.5, 14.6. */
static bool
is_hidden(const struct stun_msg *m, uint16_t type)
{
	if (type == STUN_A_FINGERPRINT)
		return false;
	if (m->mi256_off != 0)
		return true;
	return m->mi_off != 0 && type != STUN_A_MESSAGE_INTEGRITY_SHA256;
}

static int
check_fingerprint(struct stun_msg *m, const struct stun_attr *a, size_t off)
{
	if (a->len != 4 || off + ATTR_HEADER + 4 != m->len)
		return STUN_F_FINGERPRINT;
	/* It is the last one, so the header's length is already the one that the sender hashed. */
	if ((stun_crc32(m->raw, off) ^ FINGERPRINT_XOR) != get_u32(a->value))
		return STUN_F_FINGERPRINT;
	m->has_fingerprint = true;
	return STUN_OK;
}

static int
take_attr(struct stun_msg *m, const struct stun_attr *a, size_t off)
{
	if (is_hidden(m, a->type))
		return STUN_OK;
	if (a->type == STUN_A_MESSAGE_INTEGRITY) {
		m->mi_off = (uint32_t)off;
	} else if (a->type == STUN_A_MESSAGE_INTEGRITY_SHA256) {
		m->mi256_off = (uint32_t)off;
		m->mi256_len = a->len;
	}
	m->attr[m->count++] = *a;
	note_unknown(m, a->type);
	return a->type == STUN_A_FINGERPRINT ? check_fingerprint(m, a, off) : STUN_OK;
}

/* The attributes that follow the header; m->raw and m->len are set and whole. */
static int
take_attrs(struct stun_msg *m)
{
	struct rd r = rd_over(m->raw, m->len);

	rd_bytes(&r, STUN_HEADER);
	for (unsigned seen = 0; rd_left(&r) > 0; seen++) {
		size_t off = (size_t)(r.p - m->raw);
		struct stun_attr a;
		int err;

		a.type = rd_u16(&r);
		a.len = rd_u16(&r);
		a.value = rd_bytes(&r, padded(a.len));
		if (r.bad || seen == STUN_ATTRS_MAX) /* hidden ones count too */
			return STUN_F_ATTRS;
		err = take_attr(m, &a, off);
		if (err != STUN_OK)
			return err;
	}
	return STUN_OK;
}

static int
check_header(const uint8_t *p, size_t n)
{
	size_t len;

	if (n < STUN_HEADER)
		return STUN_F_SHORT;
	if ((p[0] & 0xc0) != 0)
		return STUN_F_TYPE;
	if (get_u32(p + 4) != STUN_COOKIE)
		return STUN_F_COOKIE;
	len = (size_t)get_u16(p + 2) + STUN_HEADER;
	if (len > n)
		return STUN_F_SHORT;
	if (len % 4 != 0 || len < n)
		return STUN_F_LENGTH;
	return STUN_OK;
}

int
stun_parse(struct stun_msg *m, const uint8_t *p, size_t n)
{
	int err = check_header(p, n);
	unsigned type;

	if (err != STUN_OK)
		return err;
	/* Not the whole struct: attr[] is 1 KiB and this runs once per Send indication. */
	type = get_u16(p);
	m->raw = p;
	m->len = n;
	m->cls = (uint8_t)((type & 0x0100) >> 7 | (type & 0x0010) >> 4);
	m->method = (uint16_t)((type & 0x3e00) >> 2 | (type & 0x00e0) >> 1 | (type & 0x000f));
	memcpy(m->txid, p + 8, STUN_TXID);
	m->count = 0;
	m->unknown_count = 0;
	m->has_fingerprint = false;
	m->mi_off = 0;
	m->mi256_off = 0;
	m->mi256_len = 0;
	return take_attrs(m);
}

const struct stun_attr *
stun_find(const struct stun_msg *m, uint16_t type)
{
	for (unsigned i = 0; i < m->count; i++)
		if (m->attr[i].type == type)
			return &m->attr[i];
	return NULL;
}

const struct stun_attr *
stun_find_next(const struct stun_msg *m, const struct stun_attr *a)
{
	for (const struct stun_attr *b = a + 1; b < m->attr + m->count; b++)
		if (b->type == a->type)
			return b;
	return NULL;
}

/* ---- names -------------------------------------------------------------------------------- */

const char *
stun_method_name(uint16_t method)
{
	switch ((enum stun_method)method) {
	case STUN_BINDING:
		return "Binding";
	case STUN_ALLOCATE:
		return "Allocate";
	case STUN_REFRESH:
		return "Refresh";
	case STUN_SEND:
		return "Send";
	case STUN_DATA:
		return "Data";
	case STUN_CREATE_PERMISSION:
		return "CreatePermission";
	case STUN_CHANNEL_BIND:
		return "ChannelBind";
	case STUN_CONNECT:
		return "Connect";
	case STUN_CONNECTION_BIND:
		return "ConnectionBind";
	case STUN_CONNECTION_ATTEMPT:
		return "ConnectionAttempt";
	}
	return "unknown";
}

const char *
stun_error_phrase(unsigned code)
{
	switch (code) {
#define ERROR(number, name, phrase, help)                                                                  \
	case number:                                                                                       \
		return phrase;
#include "tp/tbl/errors.def"
#undef ERROR
	default:
		return "unknown";
	}
}

const char *
stun_fault_name(int fault)
{
	switch ((enum stun_fault)fault) {
	case STUN_OK:
		return "none";
	case STUN_F_SHORT:
		return "short";
	case STUN_F_LENGTH:
		return "length";
	case STUN_F_COOKIE:
		return "cookie";
	case STUN_F_ATTRS:
		return "attributes";
	case STUN_F_FINGERPRINT:
		return "fingerprint";
	case STUN_F_TYPE:
		return "type";
	}
	return "unknown";
}
