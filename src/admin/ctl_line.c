/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctl_line.c: the control protocol's lines, for turnpikectl and turnpike-admin.
 */
#include "config.h"

#include <errno.h>

#include "tp/admin.h"

static bool
is_control(char c)
{
	return (unsigned char)c < 0x20 || c == 0x7f;
}

/* Reads one word at *p, writing it unquoted from *p on (it never grows); -EINVAL. */
static int
take_word(char **p)
{
	char *in = *p, *out = *p;
	bool quoted = false, ended;

	for (; *in != '\0' && (quoted || *in != ' '); in++) {
		if (is_control(*in))
			return -EINVAL;
		if (*in == '"') {
			quoted = !quoted;
			continue;
		}
		if (quoted && *in == '\\' && (in[1] == '"' || in[1] == '\\'))
			in++;
		*out++ = *in;
	}
	if (quoted)
		return -EINVAL;
	ended = *in == '\0';
	*out = '\0';
	*p = ended ? in : in + 1;
	return 0;
}

int
ctl_split(char *line, char *words[CTL_WORDS_MAX])
{
	char *p = line;
	int n = 0;

	for (;;) {
		while (*p == ' ')
			p++;
		if (*p == '\0')
			return n;
		if (n == CTL_WORDS_MAX)
			return -EINVAL;
		words[n++] = p;
		if (take_word(&p) < 0)
			return -EINVAL;
	}
}

static void
put_word(struct wr *w, const char *word)
{
	bool quote = word[0] == '\0' || strpbrk(word, " \"\\") != NULL;

	if (quote)
		wr_u8(w, '"');
	for (; *word != '\0'; word++) {
		if (*word == '"' || *word == '\\')
			wr_u8(w, '\\');
		wr_u8(w, (uint8_t)*word);
	}
	if (quote)
		wr_u8(w, '"');
}

int
ctl_join(char *out, size_t len, int argc, char *const *argv)
{
	struct wr w = wr_over(out, len);

	if (argc > CTL_WORDS_MAX)
		return -EINVAL;
	for (int i = 0; i < argc; i++) {
		for (const char *p = argv[i]; *p != '\0'; p++)
			if (is_control(*p))
				return -EINVAL;
		if (i > 0)
			wr_u8(&w, ' ');
		put_word(&w, argv[i]);
	}
	wr_u8(&w, '\n');
	return w.bad || wr_len(&w) > CTL_LINE_MAX ? -EINVAL : (int)wr_len(&w);
}

/* Decimal at p[*at], moved past; false when there is none or it is over 15 digits. */
static bool
take_number(const char *p, size_t len, size_t *at, uint64_t *v)
{
	size_t start = *at;

	for (*v = 0; *at < len && p[*at] >= '0' && p[*at] <= '9' && *at - start < 15; (*at)++)
		*v = *v * 10 + (uint64_t)(p[*at] - '0');
	return *at > start;
}

int
ctl_head_parse(const char *p, size_t len, unsigned *code, size_t *body, size_t *used)
{
	const char *end = memchr(p, '\n', len < CTL_HEAD_MAX ? len : CTL_HEAD_MAX);
	uint64_t c, n;
	size_t at = 0;

	if (end == NULL)
		return len < CTL_HEAD_MAX ? -EAGAIN : -EPROTO;
	if (!take_number(p, len, &at, &c) || c > CTL_USAGE || p[at++] != ' ' ||
	    !take_number(p, len, &at, &n) || p + at != end)
		return -EPROTO;
	*code = (unsigned)c;
	*body = (size_t)n;
	*used = at + 1;
	return 0;
}

int
ctl_seconds(const char *text, int64_t *seconds)
{
	static const struct {
		const char *unit;
		int64_t s;
	} units[] = {
		{ "", 1 },
		{ "s", 1 },
		{ "m", 60 },
		{ "h", 3600 },
		{ "d", 86400 },
	};
	size_t at = 0;
	uint64_t v;

	if (!take_number(text, strlen(text), &at, &v) || v > 1000000000)
		return -EINVAL;
	for (unsigned i = 0; i < TP_COUNT(units); i++)
		if (strcmp(text + at, units[i].unit) == 0) {
			*seconds = (int64_t)v * units[i].s;
			return 0;
		}
	return -EINVAL;
}
