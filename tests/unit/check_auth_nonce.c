/* SPDX-License-Identifier: BSD-3-Clause */
/* check_auth_nonce.c: the stateless nonce: form, age, and everything that its MAC must cover. */
#include "config.h"

#include "check_auth.h"
#include "tp/auth.h"

#define REALM     "example.org"
#define REALM_LEN 11
#define LIFETIME  600000

static const struct nonce_for client = {
	.client = { .family = ADDR_V4, .port = 5000, .ip = { 192, 0, 2, 1 } },
	.transport = TRANSPORT_UDP,
	.realm = REALM,
	.realm_len = REALM_LEN,
};
static struct nonce_keys keys;

static void
fresh_keys(void)
{
	keys.epoch = 5;
	memset(keys.key[0], 5, 32);
	memset(keys.key[1], 4, 32);
}

static enum nonce_verdict
judge(const char *nonce, tp_ms now)
{
	uint32_t bits;

	return nonce_judge(nonce, NONCE_LEN, &keys, &client, now, LIFETIME, &bits);
}

static void
make(char out[NONCE_LEN], uint32_t bits, tp_ms now)
{
	nonce_make(out, &keys, bits, &client, now);
}

START_TEST(form)
{
	char n[NONCE_LEN];
	uint32_t bits = 0;

	fresh_keys();
	make(n, NONCE_BIT_ALGORITHMS, 123456789);
	ck_assert_mem_eq(n, "obMatJos2gAAA", 13); /* RFC 8489 18.1: bit 0 is the first bit of three bytes */
	make(n, NONCE_BIT_USERHASH, 123456789);
	ck_assert_mem_eq(n, "obMatJos2QAAA", 13);
	make(n, NONCE_BIT_USERHASH | NONCE_BIT_ALGORITHMS, 123456789);
	ck_assert_int_eq(nonce_judge(n, NONCE_LEN, &keys, &client, 123456789, LIFETIME, &bits), NONCE_GOOD);
	ck_assert_uint_eq(bits, NONCE_BIT_USERHASH | NONCE_BIT_ALGORITHMS);
	ck_assert_int_eq(
	    nonce_judge(n, NONCE_LEN - 1, &keys, &client, 123456789, LIFETIME, &bits), NONCE_FOREIGN);
}
END_TEST

START_TEST(age)
{
	tp_ms made = 123456789;
	char n[NONCE_LEN];

	fresh_keys();
	make(n, 0, made);
	ck_assert_int_eq(judge(n, made), NONCE_GOOD);
	ck_assert_int_eq(judge(n, made + LIFETIME), NONCE_GOOD); /* never early */
	ck_assert_int_eq(judge(n, made + LIFETIME + 16000), NONCE_STALE);
	ck_assert_int_eq(judge(n, made - 8000), NONCE_GOOD); /* another worker's clock is a batch ahead */
	/* The time's 16 bits wrap. */
	made = (tp_ms)0x10000 * 8000 - 1;
	make(n, 0, made);
	ck_assert_int_eq(judge(n, made + 10000), NONCE_GOOD);
	ck_assert_int_eq(judge(n, made + LIFETIME + 16000), NONCE_STALE);
}
END_TEST

START_TEST(every_character_counts)
{
	char n[NONCE_LEN], m[NONCE_LEN];

	fresh_keys();
	make(n, NONCE_BIT_ALGORITHMS, 1000000);
	for (unsigned i = 0; i < NONCE_LEN; i++)
		for (unsigned c = 0; c < 256; c++) {
			memcpy(m, n, NONCE_LEN);
			m[i] = (char)c;
			ck_assert(m[i] == n[i] || judge(m, 1000000) == NONCE_FOREIGN);
		}
}
END_TEST

static enum nonce_verdict
judge_for(const char *nonce, const struct nonce_for *f)
{
	uint32_t bits;

	return nonce_judge(nonce, NONCE_LEN, &keys, f, 1000000, LIFETIME, &bits);
}

START_TEST(bound_to_client_and_realm)
{
	struct nonce_for other = client;
	char n[NONCE_LEN];

	fresh_keys();
	make(n, 0, 1000000);
	ck_assert_int_eq(judge_for(n, &other), NONCE_GOOD);
	other.client.port = 6000;
	ck_assert_int_eq(judge_for(n, &other), NONCE_FOREIGN);
	other = client;
	other.client.ip[3] ^= 1;
	ck_assert_int_eq(judge_for(n, &other), NONCE_FOREIGN);
	other = client;
	other.client.family = ADDR_V6;
	ck_assert_int_eq(judge_for(n, &other), NONCE_FOREIGN);
	for (uint8_t t = TRANSPORT_TCP; t <= TRANSPORT_DTLS; t = (uint8_t)(t << 1)) {
		other = client;
		other.transport = t;
		ck_assert_int_eq(judge_for(n, &other), NONCE_FOREIGN);
	}
	other = client;
	other.realm_len--;
	ck_assert_int_eq(judge_for(n, &other), NONCE_FOREIGN);
}
END_TEST

/* What a foreign nonce claims decides which checks of RFC 8489 9.2.4 apply before it is found foreign. */
START_TEST(claimed_features)
{
	uint32_t bits = 1;

	fresh_keys();
	ck_assert_int_eq(nonce_judge("obMatJos2gAAAanything", 21, &keys, &client, 1000000, LIFETIME, &bits),
	    NONCE_FOREIGN);
	ck_assert_uint_eq(bits, NONCE_BIT_ALGORITHMS);
	ck_assert_int_eq(
	    nonce_judge("obMatJos2gAA", 12, &keys, &client, 1000000, LIFETIME, &bits), NONCE_FOREIGN);
	ck_assert_uint_eq(bits, 0);
	ck_assert_int_eq(
	    nonce_judge("another server's", 16, &keys, &client, 1000000, LIFETIME, &bits), NONCE_FOREIGN);
	ck_assert_uint_eq(bits, 0);
}
END_TEST

START_TEST(two_epochs)
{
	char n[NONCE_LEN];

	fresh_keys();
	make(n, 0, 1000000);
	memcpy(keys.key[1], keys.key[0], 32);
	memset(keys.key[0], 6, 32);
	ck_assert_int_eq(judge(n, 1000000), NONCE_GOOD);
	memcpy(keys.key[1], keys.key[0], 32);
	memset(keys.key[0], 7, 32);
	ck_assert_int_eq(judge(n, 1000000), NONCE_FOREIGN);
}
END_TEST

Suite *
suite_nonce(void)
{
	Suite *s = suite_create("nonce");
	TCase *c = tcase_create("nonce");

	tcase_add_test(c, form);
	tcase_add_test(c, age);
	tcase_add_test(c, every_character_counts);
	tcase_add_test(c, bound_to_client_and_realm);
	tcase_add_test(c, claimed_features);
	tcase_add_test(c, two_epochs);
	suite_add_tcase(s, c);
	return s;
}
