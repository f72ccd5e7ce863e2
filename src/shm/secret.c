/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * secret.c: keys derived from the boot-long master.
 */
#include "config.h"

#include <sodium.h>

#include "tp/shm.h"

_Static_assert(SECRET_BYTES == crypto_kdf_KEYBYTES, "the master is a libsodium KDF key");

void
secret_derive(uint8_t out[32], const uint8_t master[SECRET_BYTES], const char context[8], uint64_t number)
{
	int err = crypto_kdf_derive_from_key(out, 32, number, context, master);

	assert(err == 0);
	(void)err;
}
