/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * attr.c: typed reading of attribute values.  Reserved bits are ignored as the RFCs ask.
 */
#include "config.h"

#include "stun_int.h"

bool
stun_get_u32(const struct stun_attr *a, uint32_t *v)
{
	if (a == NULL || a->len != 4)
		return false;
	*v = get_u32(a->value);
	return true;
}

void
stun_xor_ip(uint8_t ip[16], unsigned n, const uint8_t txid[STUN_TXID])
{
	uint8_t mask[16];

	put_u32(mask, STUN_COOKIE);
	memcpy(mask + 4, txid, STUN_TXID);
	for (unsigned i = 0; i < n; i++)
		ip[i] ^= mask[i];
}

bool
stun_get_xaddr(const struct stun_msg *m, const struct stun_attr *a, struct addr *out)
{
	struct addr x = { 0 };
	unsigned n;

	if (a == NULL || (a->len != 8 && a->len != 20))
		return false;
	n = a->len - 4u;
	if (a->value[1] != (n == 4 ? WIRE_V4 : WIRE_V6))
		return false;
	x.family = n == 4 ? ADDR_V4 : ADDR_V6;
	x.port = (uint16_t)(get_u16(a->value + 2) ^ (STUN_COOKIE >> 16));
	memcpy(x.ip, a->value + 4, n);
	stun_xor_ip(x.ip, n, m->txid);
	*out = x;
	return true;
}

bool
stun_get_channel(const struct stun_attr *a, uint16_t *number)
{
	if (a == NULL || a->len != 4)
		return false;
	*number = get_u16(a->value);
	return true;
}

bool
stun_get_even_port(const struct stun_attr *a, bool *reserve)
{
	if (a == NULL || a->len != 1)
		return false;
	*reserve = (a->value[0] & 0x80) != 0;
	return true;
}

bool
stun_get_family(const struct stun_attr *a, uint8_t *family)
{
	if (a == NULL || a->len != 4)
		return false;
	*family = a->value[0] == WIRE_V4 ? ADDR_V4 : a->value[0] == WIRE_V6 ? ADDR_V6 : ADDR_NONE;
	return true;
}

bool
stun_get_alg(const struct stun_attr *a, uint16_t *alg)
{
	if (a == NULL || a->len != 4 || get_u16(a->value + 2) != 0)
		return false;
	*alg = get_u16(a->value);
	return true;
}
