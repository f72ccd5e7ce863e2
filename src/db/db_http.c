/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * db_http.c: asks a web service for the key of a user.
 *
 *	POST URL	{ "realm": R, "username": U, "client": "192.0.2.1:4000", "purpose": "turn" }
 *	200		{ "key": HEX | "password": TEXT, "ttl": SECONDS, "limits": { ... }, "tag": TEXT }
 *	404, 401, 403	there is no such user
 *
 * Everything else is a failure, and a failure gives no access.
 */
#include "config.h"

#include <curl/curl.h>
#include <errno.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "db_int.h"

#define ANSWER_MAX 16384

struct hook {
	CURL *c;
	const struct users_database *d;
	struct addr server;
	size_t len;
	char answer[ANSWER_MAX];
};

static void
hook_close(void *conn)
{
	struct hook *h = conn;

	curl_easy_cleanup(h->c);
	explicit_bzero(h, sizeof *h);
	free(h);
}

static size_t
on_bytes(char *bytes, size_t one, size_t n, void *arg)
{
	struct hook *h = arg;

	(void)one;
	if (n > sizeof h->answer - 1 - h->len)
		return 0; /* too long: the transfer ends with an error */
	memcpy(h->answer + h->len, bytes, n);
	h->len += n;
	return n;
}

static void *
hook_open(const struct users_database *d, bool change, uint64_t deadline, struct db_error *e)
{
	struct hook *h = calloc(1, sizeof *h);

	(void)change;
	(void)deadline;
	if (h == NULL || (h->c = curl_easy_init()) == NULL) {
		free(h);
		db_fail(e, -ENOMEM, "out of memory");
		return NULL;
	}
	h->d = d;
	curl_easy_setopt(h->c, CURLOPT_URL, d->connection);
	curl_easy_setopt(h->c, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(h->c, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(h->c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(h->c, CURLOPT_PROXY, "");
	curl_easy_setopt(h->c, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(h->c, CURLOPT_SSL_VERIFYHOST, 2L);
	curl_easy_setopt(h->c, CURLOPT_USERAGENT, "turnpike/" PACKAGE_VERSION);
	curl_easy_setopt(h->c, CURLOPT_WRITEFUNCTION, on_bytes);
	curl_easy_setopt(h->c, CURLOPT_WRITEDATA, h);
	if (d->ca[0] != '\0')
		curl_easy_setopt(h->c, CURLOPT_CAINFO, d->ca);
	return h;
}

static void
hook_server(void *conn, struct addr *a)
{
	*a = ((const struct hook *)conn)->server;
}

/* X-Turnpike-Signature: t=UNIX,v1=HEX of HMAC-SHA256(secret, UNIX "." body) */
static struct curl_slist *
headers(const struct users_database *d, const char *body)
{
	struct curl_slist *list = curl_slist_append(NULL, "Content-Type: application/json");
	long long now = (long long)time(NULL);
	uint8_t mac[EVP_MAX_MD_SIZE];
	unsigned mac_len = 0;
	char hex[2 * EVP_MAX_MD_SIZE + 1], line[256], *text = NULL;
	int n;

	if (d->secret[0] == '\0' || (n = asprintf(&text, "%lld.%s", now, body)) < 0)
		return list;
	if (HMAC(EVP_sha256(), d->secret, (int)strlen(d->secret), (const uint8_t *)text, (size_t)n, mac,
		&mac_len) != NULL) {
		snprintf(line, sizeof line, "X-Turnpike-Signature: t=%lld,v1=%s", now,
		    text_hex(hex, mac, mac_len));
		list = curl_slist_append(list, line);
	}
	free(text);
	return list;
}

static uint64_t
number(const json_t *o, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(o, key));

	return n > 0 ? (uint64_t)n : 0;
}

static int
read_answer(const struct hook *h, const struct db_ask *ask, struct db_found *found, struct db_error *e)
{
	json_t *o = json_loadb(h->answer, h->len, 0, NULL);
	const json_t *limits = json_object_get(o, "limits");
	const char *key = json_string_value(json_object_get(o, "key"));
	const char *password = json_string_value(json_object_get(o, "password"));
	const char *tag = json_string_value(json_object_get(o, "tag"));
	int err = 0;

	if (key != NULL && password == NULL) {
		err = facts_key(found, key, strlen(key));
	} else if (password != NULL && key == NULL && password[0] != '\0') {
		db_key_md5(found->md5, ask->name, ask->name_len, ask->realm, password, strlen(password));
		db_key_sha256(
		    found->sha256, ask->name, ask->name_len, ask->realm, password, strlen(password));
		found->has_md5 = found->has_sha256 = true;
	} else {
		err = -EINVAL;
	}
	if (err < 0)
		db_fail(e, -EBADMSG, "the answer has no usable key (hexadecimal) or password");
	found->ttl = (uint32_t)(number(o, "ttl") < 86400 ? number(o, "ttl") : 86400);
	found->expires = (int64_t)number(o, "expires");
	found->limits = (struct db_limits){ number(limits, "allocations"), number(limits, "permissions"),
		number(limits, "bandwidth") / 8 };
	if (tag != NULL)
		text_copy(found->tag, sizeof found->tag, tag);
	json_decref(o);
	return err < 0 ? -EBADMSG : 0;
}

static char *
question(const struct db_ask *ask)
{
	char client[ADDR_STRLEN], *body;
	json_t *o = json_pack("{s:s, s:s%, s:s, s:s}", "realm", ask->realm, "username", ask->name,
	    (size_t)ask->name_len, "client", addr_print(&ask->client, client), "purpose", "turn");

	body = o != NULL ? json_dumps(o, JSON_COMPACT) : NULL; /* NULL: a name that is no UTF-8 */
	json_decref(o);
	return body;
}

static void
note_server(struct hook *h)
{
	char *ip = NULL;
	struct addr a;
	long port = 0;

	if (curl_easy_getinfo(h->c, CURLINFO_PRIMARY_IP, &ip) == CURLE_OK && ip != NULL &&
	    addr_parse(&a, ip) == 0) {
		(void)curl_easy_getinfo(h->c, CURLINFO_PRIMARY_PORT, &port);
		a.port = (uint16_t)port;
		h->server = a;
	}
}

static int
hook_user(
    void *conn, const struct db_ask *ask, struct db_found *found, uint64_t deadline, struct db_error *e)
{
	struct hook *h = conn;
	struct curl_slist *list;
	char *body = question(ask);
	long code = 0;
	CURLcode rc;
	int err;

	if (body == NULL)
		return -ENOENT;
	list = headers(h->d, body);
	h->len = 0;
	curl_easy_setopt(h->c, CURLOPT_HTTPHEADER, list);
	curl_easy_setopt(h->c, CURLOPT_POSTFIELDS, body);
	curl_easy_setopt(h->c, CURLOPT_TIMEOUT_MS, (long)db_left(deadline) + 1);
	rc = curl_easy_perform(h->c);
	curl_slist_free_all(list);
	free(body);
	note_server(h);
	if (rc != CURLE_OK)
		return db_fail(e, -ENOTCONN, "%s", curl_easy_strerror(rc));
	(void)curl_easy_getinfo(h->c, CURLINFO_RESPONSE_CODE, &code);
	if (code == 200)
		err = read_answer(h, ask, found, e);
	else if (code == 401 || code == 403 || code == 404)
		err = -ENOENT;
	else
		err = db_fail(e, -EIO, "it answered %ld", code);
	sodium_memzero(h->answer, sizeof h->answer);
	return err;
}

static void
hook_prepare(void)
{
	(void)curl_global_init(CURL_GLOBAL_ALL);
}

const struct db_engine db_http = { .name = "http",
	.built = true,
	.open = hook_open,
	.close = hook_close,
	.server = hook_server,
	.user = hook_user,
	.prepare = hook_prepare };
