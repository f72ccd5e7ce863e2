/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * frame.c: where a frame ends on a stream, and ChannelData.
 */
#include "config.h"

#include "tp/stun.h"

int
frame_stream_len(const uint8_t *p, size_t n)
{
	enum frame_kind kind;
	int len;

	if (n == 0)
		return 0;
	kind = frame_kind(p[0]);
	if (kind != FRAME_STUN && kind != FRAME_CHANNEL)
		return STUN_F_TYPE;
	if (n < CHANNEL_HEADER)
		return 0;
	len = get_u16(p + 2);
	if (kind == FRAME_CHANNEL)
		return CHANNEL_HEADER + ((len + 3) & ~3);
	if (len % 4 != 0)
		return STUN_F_LENGTH;
	return STUN_HEADER + len;
}

int
channel_parse(struct channel_data *c, const uint8_t *p, size_t n)
{
	uint16_t number, len;

	if (n < CHANNEL_HEADER)
		return STUN_F_SHORT;
	number = get_u16(p);
	len = get_u16(p + 2);
	if (number < CHANNEL_MIN || number > CHANNEL_MAX)
		return STUN_F_TYPE;
	if (len > n - CHANNEL_HEADER)
		return STUN_F_SHORT;
	if (n - CHANNEL_HEADER - len > 3)
		return STUN_F_LENGTH;
	*c = (struct channel_data){ .number = number, .len = len, .data = p + CHANNEL_HEADER };
	return STUN_OK;
}
