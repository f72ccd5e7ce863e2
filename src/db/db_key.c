/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * db_key.c: keys of RFC 8489 9.2.2 from a password, and small tools of the threads.
 */
#include "config.h"

#include <errno.h>
#include <openssl/evp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "db_int.h"

static void
digest(const EVP_MD *md, uint8_t *out, const char *name, size_t name_len, const char *realm,
    const char *password, size_t len)
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();

	if (c != NULL && EVP_DigestInit_ex(c, md, NULL) == 1 && EVP_DigestUpdate(c, name, name_len) == 1 &&
	    EVP_DigestUpdate(c, ":", 1) == 1 && EVP_DigestUpdate(c, realm, strlen(realm)) == 1 &&
	    EVP_DigestUpdate(c, ":", 1) == 1 && EVP_DigestUpdate(c, password, len) == 1)
		(void)EVP_DigestFinal_ex(c, out, NULL);
	EVP_MD_CTX_free(c);
}

void
db_key_md5(
    uint8_t out[16], const char *name, size_t name_len, const char *realm, const char *password, size_t len)
{
	digest(EVP_md5(), out, name, name_len, realm, password, len);
}

void
db_key_sha256(
    uint8_t out[32], const char *name, size_t name_len, const char *realm, const char *password, size_t len)
{
	digest(EVP_sha256(), out, name, name_len, realm, password, len);
}

void
db_hmackey(char out[33], const char *name, const char *realm, const char *password)
{
	uint8_t key[16] = { 0 };

	db_key_md5(key, name, strlen(name), realm, password, strlen(password));
	text_hex(out, key, sizeof key);
}

int
db_fail(struct db_error *e, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(e->text, sizeof e->text, fmt, ap);
	va_end(ap);
	for (char *p = e->text; *p != '\0'; p++) /* libraries end their texts with newlines */
		if (*p == '\n' || *p == '\r')
			*p = p[1] == '\0' ? '\0' : ' ';
	return err;
}

uint64_t
db_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

int
db_left(uint64_t deadline)
{
	uint64_t now = db_now();

	return now >= deadline ? 0 : (int)(deadline - now);
}

int
db_poll(int fd, short events, uint64_t deadline)
{
	struct pollfd p = { .fd = fd, .events = events };
	int n;

	do {
		n = poll(&p, 1, db_left(deadline));
	} while (n < 0 && errno == EINTR);
	return n > 0 ? 0 : n == 0 ? -ETIMEDOUT : -errno;
}

void
db_kick_take(int fd)
{
	uint64_t n;

	(void)!read(fd, &n, sizeof n);
}

int
db_wait_plain(int kick, int ms)
{
	if (db_poll(kick, POLLIN, db_now() + (uint64_t)ms) == 0)
		db_kick_take(kick);
	return 0;
}
