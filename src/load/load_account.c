/* SPDX-License-Identifier: BSD-3-Clause */
/* load_account.c: which sequence numbers arrived, exactly, however late or often. */
#include "config.h"

#include <stdlib.h>
#include <sysexits.h>

#include "load_int.h"

static void
grow(struct side *s, size_t word)
{
	size_t words = s->words != 0 ? s->words : 8;
	uint64_t *more;

	while (words <= word)
		words *= 2;
	more = realloc(s->seen, words * sizeof *more);
	if (more == NULL)
		fatal(EX_OSERR, "no memory for %zu sequence numbers of one flow: run for a shorter time",
		    words * 64);
	memset(more + s->words, 0, (words - s->words) * sizeof *more);
	s->seen = more;
	s->words = words;
}

enum seen
side_seen(struct side *s, uint64_t seq, uint64_t now)
{
	size_t word = seq / 64;
	uint64_t bit = 1ull << (seq % 64);
	bool late = seq < s->top;

	if (word >= s->words)
		grow(s, word);
	if (s->seen[word] & bit) {
		s->duplicate++;
		return SEEN_AGAIN;
	}
	s->seen[word] |= bit;
	s->got++;
	if (now - s->last > s->gap) {
		s->gap = now - s->last;
		s->gap_at = now;
	}
	s->last = now;
	if (late) {
		s->reordered++;
		return SEEN_LATE;
	}
	s->top = seq + 1;
	return SEEN_NEW;
}

void
side_fini(struct side *s)
{
	free(s->seen);
	s->seen = NULL;
	s->words = 0;
}
