/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * keep: the keeper.  Answers "whose request is this, and by which key?" from static users and TURN REST secrets.
 * The only process that holds them; it never faces the network.  Errors: 0 or -errno.
 */
#ifndef TP_KEEP_H
#define TP_KEEP_H

#include "tp/auth.h"
#include "tp/conf.h"
#include "tp/msg.h"

/* ---- db.c: users and secrets in guarded memory ------------------------------------------------- */

/* Locked into memory where permitted, between guard pages, read-only once made, wiped when freed. */
struct keep_db;
/* Copies `size` bytes of USERS.  -EINVAL when they fail users_validate() or names are out of order, -ENOMEM. */
int  keep_db_new(struct keep_db **db, const struct users *u, size_t size, uint64_t generation);
void keep_db_free(struct keep_db *db);			/* NULL allowed */
/* What the answers name as their generation: a reload that changed no credential raises it, too. */
void keep_db_generation(struct keep_db *db, uint64_t generation);
unsigned keep_db_users(const struct keep_db *db);
unsigned keep_db_secrets(const struct keep_db *db);

/* ---- judge.c: one request -------------------------------------------------------------------- */

/* What was spent on an answer.  For one database it is the same whoever asks with whatever password. */
struct keep_work { uint64_t keys, rest_hmacs, checks; };
/*
 * Which key signed this request (a whole STUN message)?  Candidates are the static user of that name and, when the name
 * has the REST form, both password forms of each secret that is not past its `until`.  All of them are always tried, with
 * stand-ins for those that do not exist, and the result is selected without branches.  Expiry is reported and not
 * judged.  *g is complete; the caller wipes it.  *work (may be NULL) is added to.
 */
void keep_judge(const struct keep_db *db, const void *message, size_t len, int64_t unix_now, struct auth_grant *g,
    struct keep_work *work);

/* ---- rest.c: TURN REST credentials ------------------------------------------------------------- */

#define REST_PASSWORD_MAX 48		/* base64 of 32 bytes and its NUL fit */
/* base64(HMAC(secret, name)), SHA-1 or SHA-256; returns its length. */
size_t rest_password(bool sha256, const void *secret, size_t secret_len, const void *name, size_t name_len,
    char out[REST_PASSWORD_MAX]);
/*
 * Fills name ("expiry:user", or "expiry" when user is empty), password, realm and expiry by the first valid secret.
 * -ENOENT: there is none; -EINVAL: the user is too long or unprintable, or the lifetime (seconds) is not 1 .. 10 years.
 */
#define REST_LIFETIME_MAX (INT64_C(3650) * 86400)
int  keep_credential(const struct keep_db *db, const char *user, int64_t lifetime, bool sha256, int64_t unix_now,
    struct msg_cred_answer *a);

/* ---- keeper.c: the process --------------------------------------------------------------------- */

/* turnpike-keeper INDEX; returns the exit code. */
int  keeper_main(int argc, char **argv);

#endif
