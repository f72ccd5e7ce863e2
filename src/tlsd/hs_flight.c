/* SPDX-License-Identifier: BSD-3-Clause */
/* hs_flight.c: bytes that a handshake wrote and that are not sent yet. */
#include "config.h"

#include <stdlib.h>

#include "tlsd_int.h"

bool
flight_add(struct flight *f, const uint8_t *p, size_t n)
{
	uint32_t need, room;
	uint8_t *more;

	if (n > FLIGHT_MAX - f->len)
		return false;
	need = f->len + (uint32_t)n;
	if (need > f->room) {
		for (room = f->room > 0 ? f->room : 4096; room < need; room *= 2)
			;
		more = realloc(f->p, room);
		if (more == NULL)
			return false;
		f->p = more;
		f->room = room;
	}
	memcpy(f->p + f->len, p, n);
	f->len = need;
	return true;
}

void
flight_reset(struct flight *f)
{
	f->len = 0;
	f->pieces = 0;
}

void
flight_fini(struct flight *f)
{
	free(f->p);
	memset(f, 0, sizeof *f);
}
