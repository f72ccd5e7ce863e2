/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_seal_vectors.c: published vectors: RFC 8448 (TLS 1.3 keys and records), NIST CAVP for SP 800-135
 * (TLS 1.2 key blocks).
 */
#include "config.h"

#include <check.h>
#include <openssl/evp.h>
#include <sodium.h>
#include <stdlib.h>

#include "seal_suites.h"
#include "tp/seal.h"

static struct seal_ctx ctx;

static void
setup(void)
{
	ck_assert_int_eq(seal_ctx_init(&ctx), 0);
}

static void
teardown(void)
{
	seal_ctx_fini(&ctx);
}

static size_t
unhex(uint8_t *out, size_t room, const char *text)
{
	size_t n = 0;

	ck_assert_int_eq(sodium_hex2bin(out, room, text, strlen(text), " ", &n, NULL), 0);
	return n;
}

static void
assert_hex(const void *got, const char *want)
{
	uint8_t bytes[256];
	size_t n = unhex(bytes, sizeof bytes, want);

	ck_assert_mem_eq(got, bytes, n);
}

/* RFC 8448 section 3, "Simple 1-RTT Handshake" */
static const char c_ap[] = "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5";
static const char s_ap[] = "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643";
static const char client_data[] =
    "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a"
    "20441e2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4";
static const char server_data[] =
    "17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30efaf97d90e6dffc602dcb"
    "501a59a8fcc49c4bf2e5f0a21c0047c2abf332540dd032e167c2955d";
static const char client_close[] = "1703030013c9872760655666b74d7ff1153efd6db6d0b0e3";
static const char server_close[] = "1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9";

static void
start_8448(struct seal *k, struct seal_secrets *s, enum seal_role role)
{
	uint8_t client[32], server[32];

	unhex(client, 32, c_ap);
	unhex(server, 32, s_ap);
	ck_assert_int_eq(seal_start13(k, s, role, SEAL_AES128_SHA256, client, server, 32), 0);
}

START_TEST(rfc8448_keys)
{
	struct seal k;
	struct seal_secrets s;

	start_8448(&k, &s, SEAL_SERVER);
	assert_hex(k.key[SEAL_TX], "9f02283b6c9c07efc26bb9f2ac92e356");
	assert_hex(k.iv[SEAL_TX], "cf782b88dd83549aadf1e984");
	assert_hex(k.key[SEAL_RX], "17422dda596ed5d9acd890e3c63f5051");
	assert_hex(k.iv[SEAL_RX], "5b78923dee08579033e523d9");
	start_8448(&k, &s, SEAL_CLIENT);
	assert_hex(k.key[SEAL_RX], "9f02283b6c9c07efc26bb9f2ac92e356");
	assert_hex(k.key[SEAL_TX], "17422dda596ed5d9acd890e3c63f5051");
}
END_TEST

/* The server's data is number 1: a NewSessionTicket was number 0. */
START_TEST(rfc8448_records)
{
	struct seal k;
	struct seal_secrets s;
	struct seal_pos pos = { .seq = { 1, 0 } }, next;
	struct seal_in in;
	uint8_t rec[128], out[128], plain[50];

	for (unsigned i = 0; i < sizeof plain; i++)
		plain[i] = (uint8_t)i;
	start_8448(&k, &s, SEAL_SERVER);
	size_t n = unhex(rec, sizeof rec, client_data);
	ck_assert_int_eq(seal_stream_len(&k, rec, n), (int)n);
	ck_assert_int_eq(seal_open(&k, &pos, &ctx, rec, n, out, sizeof out, &in, &next), 0);
	ck_assert_int_eq(in.kind, SEAL_DATA);
	ck_assert_uint_eq(in.len, sizeof plain);
	ck_assert_mem_eq(in.data, plain, sizeof plain);
	ck_assert_uint_eq(next.seq[SEAL_RX], 1);
	pos = next;
	ck_assert_int_eq(
	    seal_seal(&k, &pos, &ctx, SEAL_T_DATA, plain, sizeof plain, out, sizeof out, &next), 72);
	assert_hex(out, server_data);
	pos = next;
	n = unhex(rec, sizeof rec, client_close);
	ck_assert_int_eq(seal_open(&k, &pos, &ctx, rec, n, out, sizeof out, &in, &next), 0);
	ck_assert_int_eq(in.kind, SEAL_CLOSE);
	ck_assert_int_eq(seal_alert(&k, &pos, &ctx, SEAL_A_CLOSE_NOTIFY, out, sizeof out, &next), 24);
	assert_hex(out, server_close);
	ck_assert_uint_eq(next.seq[SEAL_TX], 3);
}
END_TEST

/* Key block cut to what the suite takes of it: client key, server key, client iv, server iv. */
static void
key_block(unsigned suite, const char *master, const char *client, const char *server, const char *block)
{
	uint8_t m[48], c[32], s[32], want[128];
	struct seal k;
	size_t kl = suite == SEAL_AES128_SHA256 ? 16 : 32, il = suite == SEAL_CHACHA_SHA256 ? 12 : 4;

	unhex(m, 48, master);
	unhex(c, 32, client);
	unhex(s, 32, server);
	unhex(want, sizeof want, block);
	for (unsigned role = 0; role < 2; role++) {
		unsigned ours = role == SEAL_CLIENT ? SEAL_TX : SEAL_RX; /* where the client's key goes */
		ck_assert_int_eq(seal_start12(&k, SEAL_TLS12, (enum seal_role)role, suite, m, c, s, 7), 0);
		ck_assert_mem_eq(k.key[ours], want, kl);
		ck_assert_mem_eq(k.key[!ours], want + kl, kl);
		ck_assert_mem_eq(k.iv[ours], want + 2 * kl, il);
		ck_assert_mem_eq(k.iv[!ours], want + 2 * kl + il, il);
		ck_assert_uint_eq(k.nonce, suite == SEAL_CHACHA_SHA256 ? 0 : 7);
	}
}

START_TEST(cavp_key_block)
{
	for (unsigned i = 0; i < 2; i++)
		key_block(i ? SEAL_CHACHA_SHA256 : SEAL_AES128_SHA256,
		    "202c88c00f84a17a20027079604787461176455539e705be730890602c289a5001e34eeb3a043e5d52a65e66125188bf",
		    "62e1fd91f23f558a605f28478c58cf72637b89784d959df7e946d3f07bd1b616",
		    "ae6c806f8ad4d80784549dff28a4b58fd837681a51d928c3e30ee5ff14f39868",
		    "d06139889fffac1e3a71865f504aa5d0d2a2e89506c6f2279b670c3e1b74f531016a2530c51a3a0f7e1d6590d0f0566b"
		    "2f387f8d11fd4f731cdd572d2eae927f6f2f81410b25e6960be68985add6c38445ad9f8c64bf8068");
	key_block(SEAL_AES256_SHA384,
	    "b4d49bfa87747fe815457bc3da15073d6ac73389e703079a3503c09e14bd559a5b3c7c601c7365f6ea8c68d3d9596827",
	    "954b5fe1849c2ede177438261f099a2fcd884d001b9fe1de754364b1f6a6dd8e",
	    "1b1c8568344a65c30828e7483c0e353e2c68641c9551efae6927d9cd627a107c",
	    "10fd89ef689c7ef033387b8a8f3e5e8e7c11f680f6bdd71fbac3246a73e98d45d03185dde686e6b2369e4503e9dc5a6d"
	    "2cee3e2bf2fa3f41d3de57dff3e197c8a9d5f74cc2d277119d894f8584b07a0a5822f0bd68b3433ec6adaf5c9406c5f3");
}
END_TEST

START_TEST(suites)
{
	ck_assert_uint_eq(seal_suite_of(SEAL_TLS13, 0x1302), SEAL_AES256_SHA384);
	ck_assert_uint_eq(seal_suite_of(SEAL_TLS12, 0x1302), 0);
	ck_assert_uint_eq(seal_suite_of(SEAL_DTLS12, 0xCCA8), SEAL_CHACHA_SHA256);
	ck_assert_uint_eq(seal_suite_of(SEAL_TLS13, 0xC02B), 0);
	ck_assert_uint_eq(seal_suite_of(SEAL_NONE, 0xC02B), 0);
	ck_assert_uint_eq(seal_suite_of(SEAL_TLS12, 0xC027), 0); /* CBC */
	ck_assert_uint_eq(seal_suite_of(SEAL_TLS12, 0x009C), 0); /* RSA key exchange */
}
END_TEST

/* Refused without a trace: wrong lengths, suites, protocols. */
START_TEST(bad_start)
{
	uint8_t secret[48] = { 0 };
	struct seal k = { 0 };
	struct seal_secrets s;

	ck_assert_int_eq(
	    seal_start13(&k, &s, SEAL_SERVER, SEAL_AES256_SHA384, secret, secret, 32), SEAL_F_STATE);
	ck_assert_int_eq(seal_start13(&k, &s, SEAL_SERVER, 9, secret, secret, 32), SEAL_F_STATE);
	ck_assert_int_eq(
	    seal_start12(&k, SEAL_TLS13, SEAL_SERVER, SEAL_AES128_SHA256, secret, secret, secret, 0),
	    SEAL_F_STATE);
	ck_assert_int_eq(
	    seal_start12(&k, SEAL_NONE, SEAL_SERVER, SEAL_AES128_SHA256, secret, secret, secret, 0),
	    SEAL_F_STATE);
	ck_assert_int_eq(k.proto, SEAL_NONE);
	ck_assert(!seal_valid(&k));
}
END_TEST

Suite *
suite_vectors(void)
{
	Suite *s = suite_create("seal vectors");
	TCase *t = tcase_create("vectors");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, rfc8448_keys);
	tcase_add_test(t, rfc8448_records);
	tcase_add_test(t, cavp_key_block);
	tcase_add_test(t, suites);
	tcase_add_test(t, bad_start);
	suite_add_tcase(s, t);
	return s;
}
