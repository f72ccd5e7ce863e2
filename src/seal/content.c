/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * content.c: what authenticated content means: alerts, KeyUpdate, renegotiation, and the names of faults.
 */
#include "config.h"

#include "seal_int.h"

static const struct {
	int fault;
	enum seal_alert alert;
	const char *name;
} faults[] = {
	{ SEAL_OK, SEAL_A_CLOSE_NOTIFY, "ok" },
	{ SEAL_F_MAC, SEAL_A_BAD_MAC, "wrong tag" },
	{ SEAL_F_TYPE, SEAL_A_UNEXPECTED, "unexpected record" },
	{ SEAL_F_LENGTH, SEAL_A_OVERFLOW, "record too long" },
	{ SEAL_F_DECODE, SEAL_A_DECODE, "malformed record" },
	{ SEAL_F_VALUE, SEAL_A_ILLEGAL, "illegal value" },
	{ SEAL_F_LIMIT, SEAL_A_INTERNAL, "key used up" },
	{ SEAL_F_FLOOD, SEAL_A_UNEXPECTED, "empty records" },
	{ SEAL_F_ROOM, SEAL_A_INTERNAL, "no room" },
	{ SEAL_F_STATE, SEAL_A_INTERNAL, "bad state" },
	{ SEAL_F_COMMIT, SEAL_A_INTERNAL, "rekey before commit" },
	{ SEAL_F_CRYPTO, SEAL_A_INTERNAL, "cipher failed" },
};

enum seal_alert
seal_fault_alert(int fault)
{
	for (size_t i = 0; i < TP_COUNT(faults); i++)
		if (faults[i].fault == fault)
			return faults[i].alert;
	return SEAL_A_INTERNAL;
}

const char *
seal_fault_name(int fault)
{
	for (size_t i = 0; i < TP_COUNT(faults); i++)
		if (faults[i].fault == fault)
			return faults[i].name;
	return "unknown";
}

void
alert_write(uint8_t out[2], enum seal_proto proto, enum seal_alert what)
{
	bool warning = what == SEAL_A_CLOSE_NOTIFY || what == SEAL_A_USER_CANCELED ||
	    (what == SEAL_A_NO_RENEGOTIATION && proto != SEAL_TLS13);

	out[0] = warning ? SEAL_WARNING : SEAL_FATAL_LEVEL;
	out[1] = (uint8_t)what;
}

static int
judge_alert(const struct seal *k, struct seal_in *in)
{
	if (in->len != 2)
		return SEAL_F_DECODE;
	in->alert = in->data[1];
	if (in->alert == SEAL_A_CLOSE_NOTIFY)
		in->kind = SEAL_CLOSE;
	else if (k->proto == SEAL_TLS13) /* RFC 8446 6: the level means nothing */
		in->kind = in->alert == SEAL_A_USER_CANCELED ? SEAL_NOTHING : SEAL_FATAL;
	else if (in->data[0] == SEAL_WARNING)
		in->kind = SEAL_NOTHING;
	else if (in->data[0] == SEAL_FATAL_LEVEL)
		in->kind = SEAL_FATAL;
	else
		return SEAL_F_VALUE;
	return SEAL_OK;
}

/* RFC 8446 4.6.3.  Nothing may stand behind it in its record, because the key changes; and one that is
 * split over two records, which no known client sends, is not put together. */
static int
judge_handshake13(struct seal_in *in)
{
	static const uint8_t update[4] = { HS_KEY_UPDATE, 0, 0, 1 };

	if (in->len == 0 || in->data[0] != HS_KEY_UPDATE)
		return SEAL_F_TYPE;
	if (in->len != 5 || memcmp(in->data, update, sizeof update) != 0)
		return SEAL_F_DECODE;
	if (in->data[4] > 1)
		return SEAL_F_VALUE;
	in->kind = SEAL_KEY_UPDATE;
	in->answer = in->data[4] == 1;
	return SEAL_OK;
}

static int
judge_handshake12(const struct seal *k, struct seal_in *in)
{
	if (in->len == 0)
		return SEAL_F_DECODE;
	uint8_t first = k->role == SEAL_SERVER ? HS_CLIENT_HELLO : HS_HELLO_REQUEST;
	if (in->data[0] == first)
		in->kind = SEAL_RENEGOTIATE;
	else if (k->proto == SEAL_DTLS12 && in->data[0] == HS_FINISHED)
		in->kind = SEAL_FINISHED;
	else if (k->proto == SEAL_DTLS12)
		in->kind = SEAL_NOTHING;
	else
		return SEAL_F_TYPE;
	return SEAL_OK;
}

int
content_judge(const struct seal *k, struct seal_in *in)
{
	in->kind = SEAL_NOTHING;
	in->alert = 0;
	in->answer = false;
	switch (in->type) {
	case SEAL_T_DATA:
		in->kind = in->len > 0 ? SEAL_DATA : SEAL_NOTHING;
		return SEAL_OK;
	case SEAL_T_ALERT:
		return judge_alert(k, in);
	case SEAL_T_HANDSHAKE:
		return k->proto == SEAL_TLS13 ? judge_handshake13(in) : judge_handshake12(k, in);
	default:
		return SEAL_F_TYPE;
	}
}
