/* SPDX-License-Identifier: BSD-3-Clause */
/* check_stun_frame.c: frame.c: kinds by the first byte, lengths on a stream, ChannelData. */
#include "config.h"

#include "check_stun.h"

START_TEST(kinds)
{
	for (unsigned i = 0; i < 256; i++) {
		enum frame_kind want = i <= 3 ? FRAME_STUN
		    : i >= 20 && i <= 63      ? FRAME_DTLS
		    : i >= 64 && i <= 127     ? FRAME_CHANNEL
					      : FRAME_JUNK;

		ck_assert_int_eq(frame_kind((uint8_t)i), want);
	}
}
END_TEST

static const struct {
	uint8_t head[4];
	int len;
} streams[] = {
	{ { 0x00, 0x01, 0x00, 0x00 }, 20 },
	{ { 0x00, 0x03, 0x00, 0x58 }, 108 },
	{ { 0x01, 0x01, 0x07, 0xec }, 2048 },
	{ { 0x00, 0x01, 0x07, 0xf0 }, 2052 },
	{ { 0x00, 0x01, 0xff, 0xfc }, FRAME_STREAM_MAX },
	{ { 0x00, 0x01, 0xff, 0xfd }, STUN_F_LENGTH },
	{ { 0x00, 0x01, 0xff, 0xff }, STUN_F_LENGTH },
	{ { 0x00, 0x01, 0x00, 0x01 }, STUN_F_LENGTH },
	{ { 0x00, 0x01, 0x00, 0x06 }, STUN_F_LENGTH },
	{ { 0x40, 0x00, 0x00, 0x00 }, 4 },
	{ { 0x40, 0x00, 0x00, 0x01 }, 8 },
	{ { 0x40, 0x00, 0x00, 0x04 }, 8 },
	{ { 0x4f, 0xff, 0x00, 0x05 }, 12 },
	{ { 0x40, 0x00, 0xff, 0xff }, 65540 },
};

START_TEST(stream_lengths)
{
	for (size_t n = 0; n < 4; n++)
		ck_assert_int_eq(frame_stream_len(at_the_edge(streams[_i].head, n), n), 0);
	ck_assert_int_eq(frame_stream_len(at_the_edge(streams[_i].head, 4), 4), streams[_i].len);
}
END_TEST

START_TEST(stream_out_of_step)
{
	for (unsigned i = 0; i < 256; i++) {
		uint8_t head[4] = { (uint8_t)i };
		bool ok = i < 4 || (i >= 64 && i < 128);

		for (size_t n = 1; n < 4; n++)
			ck_assert_int_eq(frame_stream_len(head, n), ok ? 0 : STUN_F_TYPE);
		ck_assert_int_eq(frame_stream_len(head, 4) > 0, ok);
	}
}
END_TEST

static int
channel(struct channel_data *c, uint16_t number, uint16_t len, size_t follows)
{
	uint8_t buf[CHANNEL_HEADER + 64] = { 0 };

	channel_header(buf, number, len);
	return channel_parse(c, at_the_edge(buf, CHANNEL_HEADER + follows), CHANNEL_HEADER + follows);
}

START_TEST(channel_lengths)
{
	struct channel_data c;

	for (uint16_t len = 0; len < 40; len++)
		for (size_t follows = 0; follows < 60; follows++) {
			int want = follows < len ? STUN_F_SHORT
			    : follows - len > 3  ? STUN_F_LENGTH
						 : STUN_OK;

			ck_assert_int_eq(channel(&c, CHANNEL_MIN, len, follows), want);
			if (want == STUN_OK) {
				ck_assert_uint_eq(c.number, CHANNEL_MIN);
				ck_assert_uint_eq(c.len, len);
			}
		}
	for (size_t n = 0; n < CHANNEL_HEADER; n++)
		ck_assert_int_eq(channel_parse(&c, at_the_edge("\x40\x00\x00", n), n), STUN_F_SHORT);
	ck_assert_int_eq(channel(&c, CHANNEL_MIN, 0xffff, 60), STUN_F_SHORT);
}
END_TEST

START_TEST(channel_numbers)
{
	struct channel_data c;

	for (unsigned n = 0; n < 65536; n++)
		ck_assert_int_eq(
		    channel(&c, (uint16_t)n, 0, 0), n >= 0x4000 && n <= 0x7fff ? STUN_OK : STUN_F_TYPE);
}
END_TEST

START_TEST(channel_data_is_borrowed)
{
	static const uint8_t bytes[] = "\x40\x07\x00\x05hello\0\0";
	struct channel_data c;

	ck_assert_int_eq(channel_parse(&c, bytes, sizeof bytes), STUN_OK);
	ck_assert_ptr_eq(c.data, bytes + 4);
	ck_assert_uint_eq(c.number, 0x4007);
}
END_TEST

Suite *
suite_frame(void)
{
	Suite *s = suite_create("frame");
	TCase *t = tcase_create("frame");

	tcase_add_test(t, kinds);
	tcase_add_loop_test(t, stream_lengths, 0, TP_COUNT(streams));
	tcase_add_test(t, stream_out_of_step);
	tcase_add_test(t, channel_lengths);
	tcase_add_test(t, channel_numbers);
	tcase_add_test(t, channel_data_is_borrowed);
	suite_add_tcase(s, t);
	return s;
}
