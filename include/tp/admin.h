/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * admin.h: the control protocol, turnpike-admin, metrics, log targets.
 *
 * turnpike-admin maps every region read-only and answers from them; what changes something it hands to
 * the supervisor.  It is the only process that writes logs.  Errors: 0 or -errno.
 */
#ifndef TP_ADMIN_H
#define TP_ADMIN_H

#include <stdio.h>

#include "tp/base.h"

/* ---- ctl_line.c: the protocol, for both ends; easy to speak with netcat ---------------------- */

/*
 *   request   [--json] command word word ...\n	at most CTL_LINE_MAX bytes; a word with blanks: "..." with \" and \\ inside
 *   answer    code length\n			code: enum ctl_code; length: bytes that follow
 *             body
 *
 * One connection may ask several times, one after the other.
 */
#define CTL_LINE_MAX  4096
#define CTL_WORDS_MAX 64
#define CTL_HEAD_MAX  32
enum ctl_code { CTL_OK, CTL_REFUSED, CTL_USAGE };
#define CTL_SOCKET "control" /* in the runtime directory */

/* Splits in place; words point into the line.  The count, or -EINVAL: open quote, control characters,
 * too many. */
int ctl_split(char *line, char *words[CTL_WORDS_MAX]);
/* Writes the words as one line with its newline; its length, or -EINVAL when they do not fit or cannot
 * be written. */
int ctl_join(char *out, size_t len, int argc, char *const *argv);
/* "code length\n".  0 and *used bytes; -EAGAIN: not complete yet; -EPROTO. */
int ctl_head_parse(const char *p, size_t len, unsigned *code, size_t *body, size_t *used);
/* "90", "90s", "30m", "12h", "1d" to seconds; -EINVAL. */
int ctl_seconds(const char *text, int64_t *seconds);

/* ---- ctl_commands.c -------------------------------------------------------------------------- */

enum ctl_command {
#define COMMAND(name, word, args, help) CTL_CMD_##name,
#include "tp/tbl/commands.def"
#undef COMMAND
	CTL_COMMANDS
};
struct ctl_command_row {
	const char *word, *args, *help;
};
extern const struct ctl_command_row ctl_commands[CTL_COMMANDS];
int ctl_command_find(const char *word); /* enum ctl_command, -1 */
void ctl_commands_help(FILE *f);
void ctl_commands_man(FILE *f); /* the commands section of turnpikectl(8), roff */

/* ---- log_line.c: one record as a line -------------------------------------------------------- */

/* Is this datagram a record that can be printed? */
bool logline_check(const struct log_rec *r, size_t len);
/* Each returns the length of a terminated line; whatever the sender put in, it is one line of printable
 * ASCII. */
#define LOGLINE_MAX (6 * LOG_TEXT_MAX + 256)
size_t logline_text(const struct log_rec *r, char out[LOGLINE_MAX]);
size_t logline_json(const struct log_rec *r, char out[LOGLINE_MAX]);
size_t logline_syslog(const struct log_rec *r, char out[LOGLINE_MAX]);  /* with <priority>, for /dev/log */
size_t logline_journal(const struct log_rec *r, char out[LOGLINE_MAX]); /* journald's native protocol */

/* ---- log_target.c: where they go ------------------------------------------------------------- */

enum target_kind { TARGET_STDERR, TARGET_FILE, TARGET_SYSLOG, TARGET_JOURNALD };
struct target {
	enum target_kind kind;
	int fd;
	bool json;
	char name[256]; /* as configured */
	uint64_t lost;  /* records that it did not take */
};
/*
 * Opens `name` (stderr, syslog, journald or an absolute path); on failure *t stays as it was.  A file is
 * made for its owner, or when it is `shared` for its group as well.
 */
int target_open(struct target *t, const char *name, bool json, bool shared);
void target_close(struct target *t);
/* Never waits: what is not taken at once is counted. */
void target_write(struct target *t, const struct log_rec *r);

/* ---- admin.c: the process -------------------------------------------------------------------- */

/* turnpike-admin INDEX; returns the exit code. */
int admin_main(int argc, char **argv);

#endif
