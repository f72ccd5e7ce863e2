/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * authd.h: turnpike-auth.  Answers "whose request is this, and by which key?" from static users and TURN
 * REST secrets.  The only process that holds them; it never faces the network.  Errors: 0 or -errno.
 */
#ifndef TP_AUTHD_H
#define TP_AUTHD_H

#include "tp/auth.h"
#include "tp/conf.h"
#include "tp/db.h"
#include "tp/msg.h"

/* ---- credentials.c: users and secrets in guarded memory -------------------------------------- */

/* Locked into memory where permitted, between guard pages, read-only once made, wiped when freed. */
struct authd_db;
/* Copies `size` bytes of USERS.  -EINVAL when they fail users_validate() or names are out of order,
 * -ENOMEM. */
int authd_db_new(struct authd_db **db, const struct users *u, size_t size, uint64_t generation);
void authd_db_free(struct authd_db *db); /* NULL allowed */
/* What the answers name as their generation: a reload that changed no credential raises it, too. */
void authd_db_generation(struct authd_db *db, uint64_t generation);
unsigned authd_db_users(const struct authd_db *db);
unsigned authd_db_secrets(const struct authd_db *db);

/* ---- answer.c: one request -------------------------------------------------------------------- */

/* What databases have told: one entry each, NULL where there is none. */
struct authd_more {
	unsigned count;
	const struct db_facts *facts[USERS_DATABASES_MAX];
	const struct db_found *found[USERS_DATABASES_MAX]; /* of the name of this request */
};
/* The user that a request names; false when it names none that a database could know. */
struct authd_asked {
	char realm[128];
	uint16_t name_len;
	bool rest;
	char name[STUN_USERNAME_MAX];
};
bool authd_name(const struct authd_db *db, const void *message, size_t len, struct authd_asked *a);
/* What was spent on an answer.  For one database it does not depend on the user or the password. */
struct authd_work {
	uint64_t keys, rest_hmacs, checks;
};
/*
 * Which key signed this request (a whole STUN message)?  Candidates are the static user of that name and,
 * when the name has the REST form, both password forms of each secret that is not past its `until`.  All
 * of them are always tried, with stand-ins for those that do not exist, and the result is selected
 * without branches.  Expiry is reported and not judged.  *g is complete; the caller wipes it.  *work (may
 * be NULL) is added to.  Keys and secrets of databases (more, may be NULL) are tried behind the static
 * ones.
 */
void authd_judge(const struct authd_db *db, const struct authd_more *more, const void *message, size_t len,
    int64_t unix_now, struct auth_grant *g, struct authd_work *work);

/* ---- rest_key.c: TURN REST credentials ------------------------------------------------------------- */

#define REST_PASSWORD_MAX 48 /* base64 of 32 bytes and its NUL fit */
/* base64(HMAC(secret, name)), SHA-1 or SHA-256; returns its length. */
size_t rest_password(bool sha256, const void *secret, size_t secret_len, const void *name, size_t name_len,
    char out[REST_PASSWORD_MAX]);
/*
 * Fills name ("expiry:user", or "expiry" when user is empty), password, realm and expiry by the first
 * valid secret.  -ENOENT: there is none; -EINVAL: the user is too long or unprintable, or the lifetime
 * (seconds) is not 1 .. 10 years.
 */
#define REST_LIFETIME_MAX (INT64_C(3650) * 86400)
int authd_credential(const struct authd_db *db, const char *user, int64_t lifetime, bool sha256,
    int64_t unix_now, struct msg_cred_answer *a);

/* ---- authd.c: the process --------------------------------------------------------------------- */

/* turnpike-auth INDEX; returns the exit code. */
int authd_main(int argc, char **argv);

#endif
