/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rest_key.c: TURN REST passwords, and making such a credential.
 */
#include "config.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sodium.h>
#include <stdio.h>

#include "authd_int.h"

size_t
rest_password(bool sha256, const void *secret, size_t secret_len, const void *name, size_t name_len,
    char out[REST_PASSWORD_MAX])
{
	uint8_t mac[EVP_MAX_MD_SIZE];
	unsigned mac_len = 0;

	if (HMAC(sha256 ? EVP_sha256() : EVP_sha1(), secret, (int)secret_len, name, name_len, mac,
		&mac_len) == NULL)
		mac_len = 0; /* out of memory: the empty password, which the caller never accepts */
	sodium_bin2base64(out, REST_PASSWORD_MAX, mac, mac_len, sodium_base64_VARIANT_ORIGINAL);
	sodium_memzero(mac, sizeof mac);
	return strlen(out);
}

static bool
user_is_printable(const char *user, size_t max)
{
	size_t n = strnlen(user, max);

	if (n == max)
		return false;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)user[i] < 0x20 || user[i] == 0x7f)
			return false;
	return true;
}

int
authd_credential(const struct authd_db *db, const char *user, int64_t lifetime, bool sha256,
    int64_t unix_now, struct msg_cred_answer *a)
{
	const struct users_secret *s = users_secrets(db->users), *end = s + db->users->secret_count;
	int n;

	if (lifetime < 1 || lifetime > REST_LIFETIME_MAX ||
	    !user_is_printable(user, sizeof((struct msg_cred_ask *)0)->user))
		return -EINVAL;
	while (s < end && s->until != 0 && s->until <= unix_now)
		s++;
	if (s == end)
		return -ENOENT;
	a->expiry = unix_now + lifetime;
	n = snprintf(
	    a->name, sizeof a->name, "%lld%s%s", (long long)a->expiry, user[0] != '\0' ? ":" : "", user);
	if (n < 0 || (size_t)n >= sizeof a->name)
		return -EINVAL;
	if (rest_password(sha256, s->value, s->len, a->name, (size_t)n, a->password) == 0)
		return -ENOMEM;
	memcpy(a->realm, db->users->realm, sizeof a->realm);
	return 0;
}
