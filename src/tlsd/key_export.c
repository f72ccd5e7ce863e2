/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * key_export.c: watches an OpenSSL handshake through public interfaces and exports the finished session
 * for room seal.
 */
#include "config.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/ssl.h>

#include "tp/tlsd.h"

static const char suites13[] = "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256";
static const char suites12[] = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
			       "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
			       "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256";

/* The slot is the type's default (0), set aside by OpenSSL for the application. */
static struct tlsd_tap *
tap_of(const SSL *ssl)
{
	return SSL_get_app_data(ssl);
}

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/*
 * "LABEL client_random secret", hex in lower case, each byte of which costs OpenSSL a call of sprintf():
 * a server asks for lines only from one Finished of TLS 1.3 (on_message) to the secret that comes behind
 * it.
 */
static void
on_keylog(const SSL *ssl, const char *line)
{
	static const char *const label[2] = { "CLIENT_TRAFFIC_SECRET_0 ", "SERVER_TRAFFIC_SECRET_0 " };
	struct tlsd_tap *tap = tap_of(ssl);
	bool enough = SSL_version(ssl) != TLS1_3_VERSION; /* before 1.3 there is another way to ask */

	for (unsigned i = 0; tap != NULL && i < 2; i++) {
		if (strncmp(line, label[i], strlen(label[i])) != 0)
			continue;
		const char *hex = strrchr(line, ' ') + 1;
		size_t len = strlen(hex) / 2;
		if (len != 32 && len != 48)
			return;
		for (size_t b = 0; b < len; b++)
			tap->secret[i][b] = (uint8_t)(hex_value(hex[2 * b]) << 4 |
			    hex_value(hex[2 * b + 1]));
		tap->secret_len[i] = (uint8_t)len;
		tap->secrets |= (uint8_t)(1u << i);
		enough = true;
	}
	if (enough && SSL_is_server(ssl))
		SSL_CTX_set_keylog_callback(SSL_get_SSL_CTX(ssl), NULL);
}

/* The Finished that we send over DTLS, with its message_seq, whole: what seal_final_flight() repeats.  In
 * TLS 1.3 our secret is made when ours was written, and the client's when its own was read. */
static void
on_message(int write, int version, int type, const void *buf, size_t len, SSL *ssl, void *arg)
{
	static const uint8_t head[4] = { 20, 0, 0, 12 }, fragment[6] = { 0, 0, 0, 0, 0, 12 };
	struct tlsd_tap *tap = arg;
	const uint8_t *p = buf;

	if (type == SSL3_RT_HANDSHAKE && version == TLS1_3_VERSION && len > 0 && p[0] == SSL3_MT_FINISHED)
		SSL_CTX_set_keylog_callback(SSL_get_SSL_CTX(ssl), on_keylog);
	if (!write || !tap->dtls || type != SSL3_RT_HANDSHAKE || len != sizeof tap->finished)
		return;
	if (memcmp(p, head, sizeof head) != 0 || memcmp(p + 6, fragment, sizeof fragment) != 0)
		return;
	memcpy(tap->finished, p, len);
	tap->finished_len = (uint8_t)len;
}

int
tlsd_ctx_policy(SSL_CTX *ctx)
{
	uint64_t options = SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
	    SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_SSLv3 | SSL_OP_NO_TLSv1 | SSL_OP_NO_TLSv1_1 |
	    SSL_OP_NO_DTLSv1;

	SSL_CTX_set_options(ctx, options);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_read_ahead(ctx, 0);
	SSL_CTX_set_keylog_callback(ctx, on_keylog);
	if (SSL_CTX_set_cipher_list(ctx, suites12) != 1 || SSL_CTX_set_ciphersuites(ctx, suites13) != 1 ||
	    SSL_CTX_set_num_tickets(ctx, 0) != 1 || SSL_CTX_set_max_early_data(ctx, 0) != 1)
		return -EINVAL;
	return 0;
}

int
tlsd_tap_attach(struct tlsd_tap *tap, SSL *ssl)
{
	memset(tap, 0, sizeof *tap);
	tap->dtls = SSL_is_dtls(ssl);
	if (SSL_set_app_data(ssl, tap) != 1)
		return -ENOMEM;
	SSL_set_msg_callback(ssl, on_message);
	SSL_set_msg_callback_arg(ssl, tap);
	return 0;
}

void
tlsd_tap_detach(SSL *ssl)
{
	SSL_set_app_data(ssl, NULL);
	SSL_set_msg_callback(ssl, NULL);
	SSL_set_msg_callback_arg(ssl, NULL);
}

void
tlsd_tap_fini(struct tlsd_tap *tap)
{
	OPENSSL_cleanse(tap, sizeof *tap);
}

static uint32_t
head_len(const struct tlsd_tap *tap)
{
	return tap->dtls ? SEAL_DTLS_HEAD : SEAL_HEAD;
}

/* A record went out whole: count it, and keep what a protected one tells. */
static int
record_done(struct tlsd_tap *tap)
{
	uint32_t h = head_len(tap), body = tap->len - h;
	unsigned epoch = tap->ccs;
	uint64_t number = tap->seq[epoch];

	if (tap->dtls) {
		uint64_t n = get_u64(tap->head + 3);
		if (n >> 48 > 1)
			return -EPROTO;
		epoch = (unsigned)(n >> 48);
		number = n & ((UINT64_C(1) << 48) - 1);
	}
	if (epoch == 1 && body >= 8) {
		tap->nonce = get_u64(tap->head + h) - number;
		tap->has_nonce = true;
	}
	/* A retransmitted flight may go back to epoch 0, never to an older number. */
	if (number + 1 > tap->seq[epoch])
		tap->seq[epoch] = number + 1;
	if (tap->head[0] == SEAL_T_CCS)
		tap->ccs = true;
	tap->have = tap->len = 0;
	return 0;
}

int
tlsd_tap_out(struct tlsd_tap *tap, const uint8_t *p, size_t n)
{
	uint32_t h = head_len(tap), keep = h + 8;

	while (n > 0) {
		uint32_t want = tap->len > 0 ? tap->len - tap->have : h - tap->have;
		uint32_t step = n < want ? (uint32_t)n : want;
		for (uint32_t i = 0; i < step && tap->have + i < keep; i++)
			tap->head[tap->have + i] = p[i];
		tap->have += step;
		p += step;
		n -= step;
		if (tap->len == 0 && tap->have == h) {
			if (tap->head[0] < SEAL_T_CCS || tap->head[0] > SEAL_T_DATA)
				return -EPROTO;
			tap->len = h + get_u16(tap->head + h - 2);
		}
		if (tap->len > 0 && tap->have == tap->len) {
			int err = record_done(tap);
			if (err != 0)
				return err;
		}
	}
	return 0;
}

static int
export13(struct seal_session *out, const struct tlsd_tap *tap, enum seal_role role, unsigned suite)
{
	size_t len = seal_secret_len(suite);

	if (tap->secrets != 3 || tap->secret_len[0] != len || tap->secret_len[1] != len)
		return -EPROTO;
	return seal_start13(&out->keys, &out->secrets, role, suite, tap->secret[0], tap->secret[1], len) ==
		SEAL_OK
	    ? 0
	    : -EPROTO;
}

static int
export12(
    struct seal_session *out, SSL *ssl, const struct tlsd_tap *tap, enum seal_role role, unsigned suite)
{
	uint8_t master[48], client_random[32], server_random[32];
	const SSL_SESSION *session = SSL_get_session(ssl);

	if (!tap->has_nonce || tap->seq[1] == 0 || session == NULL)
		return -EPROTO;
	if (SSL_SESSION_get_master_key(session, master, sizeof master) != sizeof master ||
	    SSL_get_client_random(ssl, client_random, 32) != 32 ||
	    SSL_get_server_random(ssl, server_random, 32) != 32)
		return -EPROTO;
	int fault = seal_start12(&out->keys, tap->dtls ? SEAL_DTLS12 : SEAL_TLS12, role, suite, master,
	    client_random, server_random, tap->nonce);
	OPENSSL_cleanse(master, sizeof master);
	if (fault != SEAL_OK)
		return -EPROTO;
	if (!tap->dtls) {
		out->pos.seq[SEAL_TX] = tap->seq[1];
		out->pos.seq[SEAL_RX] = 1; /* their Finished was number 0, and nothing else was read */
		return 0;
	}
	out->dtls.tx = tap->seq[1];
	if (role == SEAL_CLIENT)
		return 0;
	if (tap->finished_len != SEAL_FINISHED_LEN || tap->seq[0] == 0)
		return -EPROTO;
	memcpy(out->final.finished, tap->finished, SEAL_FINISHED_LEN);
	out->final.len = SEAL_FINISHED_LEN;
	out->final.tx0 = tap->seq[0];
	return 0;
}

/* A TLS 1.3 ticket would have used record numbers that were not counted, and DTLS would have to repeat
 * one with the final flight: exporting after all would use a nonce twice. */
static int
plain_enough(SSL *ssl)
{
	if (SSL_is_server(ssl) &&
	    (SSL_get_num_tickets(ssl) != 0 || (SSL_get_options(ssl) & SSL_OP_NO_TICKET) == 0))
		return -ENOTSUP;
	if (SSL_session_reused(ssl) || SSL_get_current_compression(ssl) != NULL)
		return -ENOTSUP;
	if (SSL_version(ssl) == TLS1_3_VERSION && SSL_get_early_data_status(ssl) == SSL_EARLY_DATA_ACCEPTED)
		return -ENOTSUP;
	return 0;
}

int
tlsd_export(struct seal_session *out, SSL *ssl, const struct tlsd_tap *tap)
{
	struct seal_session s = { 0 };
	const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
	enum seal_role role = SSL_is_server(ssl) ? SEAL_SERVER : SEAL_CLIENT;
	int version = SSL_version(ssl);

	if (!SSL_is_init_finished(ssl) || cipher == NULL || tap->have != 0)
		return -EAGAIN;
	if (SSL_has_pending(ssl))
		return -EBUSY;
	enum seal_proto proto = version == TLS1_3_VERSION ? SEAL_TLS13
	    : version == TLS1_2_VERSION                   ? SEAL_TLS12
	    : version == DTLS1_2_VERSION                  ? SEAL_DTLS12
							  : SEAL_NONE;
	unsigned suite = seal_suite_of(proto, SSL_CIPHER_get_protocol_id(cipher));
	if (suite == 0)
		return -ENOTSUP;
	int err = plain_enough(ssl);
	if (err == 0)
		err = proto == SEAL_TLS13 ? export13(&s, tap, role, suite)
					  : export12(&s, ssl, tap, role, suite);
	s.keys.fragment = SSL_SESSION_get_max_fragment_length(SSL_get_session(ssl));
	if (err == 0 && !seal_valid(&s.keys))
		err = -EPROTO;
	if (err == 0)
		*out = s;
	OPENSSL_cleanse(&s, sizeof s);
	return err;
}
