/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * worker_keys.c: keys of nonces and DTLS cookies, which change with the time and are the same in every
 * worker.
 */
#include "config.h"

#include "worker_int.h"

#define COOKIE_EPOCH_MS 30000u /* a cookie is good for one to two of them */

static void
cookie_keys(struct worker_keys *k, tp_ms now)
{
	uint64_t epoch = now / COOKIE_EPOCH_MS;

	if (k->cookie_epoch == epoch && k->made)
		return;
	k->cookie_epoch = epoch;
	for (unsigned i = 0; i < 2; i++) {
		secret_derive(k->cookies.key[i], k->secret, "tpcookie", epoch - i);
		k->cookies.number[i] = (uint8_t)(epoch - i);
	}
}

static void
nonce_keys(struct worker_keys *k, struct nonce_keys *n, tp_ms now)
{
	uint64_t epoch = now / NONCE_EPOCH_MS;

	if (n->epoch == epoch && k->made)
		return;
	n->epoch = epoch;
	secret_derive(n->key[0], k->secret, "tpnonce0", epoch);
	secret_derive(n->key[1], k->secret, "tpnonce0", epoch - 1);
}

void
worker_keys(struct worker *w)
{
	cookie_keys(&w->keys, w->turn.now);
	nonce_keys(&w->keys, &w->turn.nonces, w->turn.now);
	w->keys.made = true;
}
