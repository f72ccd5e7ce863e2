/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * firstrun.c: a start without any credential gets a random secret, kept in the state directory.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <sodium.h>

#include "conf_int.h"

#define SECRET_BYTES 32
#define SECRET_TEXT  sodium_base64_ENCODED_LEN(SECRET_BYTES, sodium_base64_VARIANT_URLSAFE_NO_PADDING)

static int
write_all(int fd, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		text += n;
		len -= (size_t)n;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

/* The state directory and what is missing above it: `make install` cannot know --state-dir. */
static int
make_dirs(const char *dir)
{
	char path[300];

	if (text_copy(path, sizeof path, dir) >= sizeof path)
		return -ENAMETOOLONG;
	for (char *p = strchr(path + 1, '/'); p != NULL; p = strchr(p + 1, '/')) {
		*p = '\0';
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

/* Complete or not there at all: written beside its place, then linked, which fails when one exists. */
static int
make_file(const char *dir, const char *path)
{
	uint8_t bytes[SECRET_BYTES];
	char text[SECRET_TEXT + 1], tmp[300];
	int fd, rc;

	if (snprintf(tmp, sizeof tmp, "%s/.secret.XXXXXX", dir) >= (int)sizeof tmp)
		return -ENAMETOOLONG;
	if (access(dir, F_OK) < 0 && (rc = make_dirs(dir)) < 0)
		return rc;
	fd = mkostemp(tmp, O_CLOEXEC); /* O_EXCL, mode 0600 */
	if (fd < 0)
		return -errno;
	randombytes_buf(bytes, sizeof bytes);
	sodium_bin2base64(text, sizeof text, bytes, sizeof bytes, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	text[SECRET_TEXT - 1] = '\n';
	rc = write_all(fd, text, SECRET_TEXT);
	close(fd);
	if (rc == 0 && link(tmp, path) < 0)
		rc = -errno;
	unlink(tmp);
	sodium_memzero(bytes, sizeof bytes);
	sodium_memzero(text, sizeof text);
	return rc;
}

/* The file's only line into s. */
static int
read_secret(const char *path, struct users_secret *s)
{
	struct stat st;
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (st.st_mode & (S_IROTH | S_IWOTH))) {
		close(fd);
		return -EPERM;
	}
	n = read(fd, s->value, sizeof s->value);
	close(fd);
	if (n > 0 && s->value[n - 1] == '\n')
		s->value[--n] = 0;
	if (n < SECRET_BYTES || memchr(s->value, '\n', (size_t)n) != NULL)
		return -EINVAL;
	s->len = (uint16_t)n;
	return 0;
}

static void
say(conf_report_h *report, void *arg, enum log_level level, const char *path, const char *what,
    const char *why)
{
	char text[600];

	snprintf(text, sizeof text, "%s: %s%s", path, what, why);
	report(arg, level, text);
}

int
conf_first_secret(const char *dir, bool check_only, struct conf *c, struct users **users, size_t *len,
    conf_report_h *report, void *arg)
{
	struct users_secret s = { 0 };
	struct users *u;
	char path[280];
	bool made;
	int rc;

	if (snprintf(path, sizeof path, "%s/secret", dir) >= (int)sizeof path)
		return -ENAMETOOLONG;
	if (check_only) {
		say(report, arg, LOG_L_WARN, path,
		    "no auth.users and no auth.secrets: a start uses the random secret in this "
		    "file",
		    access(path, F_OK) == 0 ? "" : ", and makes it first");
		return 0;
	}
	rc = access(path, F_OK) == 0 ? -EEXIST : make_file(dir, path);
	made = rc == 0;
	if (rc == 0 || rc == -EEXIST)
		rc = read_secret(path, &s);
	if (rc < 0) {
		say(report, arg, LOG_L_ERROR, path,
		    "no auth.users and no auth.secrets, and no random secret can be kept here: ",
		    rc == -EINVAL      ? "it is too short"
			: rc == -EPERM ? "it must be a file that not all users may read"
				       : strerror(-rc));
		return rc;
	}
	u = calloc(1, sizeof *u + sizeof s);
	if (u == NULL)
		return -ENOMEM;
	*u = **users;
	u->secret_count = 1;
	memcpy(u + 1, &s, sizeof s);
	sodium_memzero(&s, sizeof s);
	free(*users);
	*users = u;
	*len = sizeof *u + sizeof s;
	c->secret_count = 1;
	c->has_names = false;
	say(report, arg, LOG_L_WARN, path, made ? "a random secret was made" : "this random secret is used",
	    ", because there is no auth.users and no auth.secrets");
	return 0;
}
