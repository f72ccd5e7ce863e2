/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * authd_int.h: what the files of the room share.
 */
#ifndef TP_AUTHD_INT_H
#define TP_AUTHD_INT_H

#include "tp/authd.h"

/* USERHASH (RFC 8489 14.4) of each static user, sorted by the hash. */
struct authd_hash { uint8_t hash[32]; uint32_t user, zero; };

struct authd_db {
	uint64_t generation;
	const struct users *users;		/* guarded, read-only */
	const struct authd_hash *hashes;		/* likewise */
	const struct users_user *stand_in;	/* likewise: tried for a name that does not exist */
	size_t realm_len;
};

/* NULL when absent. */
const struct users_user *db_find_name(const struct authd_db *db, const void *name, size_t len);
const struct users_user *db_find_hash(const struct authd_db *db, const uint8_t hash[32]);

#endif
