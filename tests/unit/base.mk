# unit tests of base
if HAVE_CHECK
check_PROGRAMS += %D%/check_base
TESTS += %D%/check_base
%C%_check_base_SOURCES = %D%/check_base.c %D%/check_base.h %D%/check_base_addr.c %D%/check_base_text.c \
	%D%/check_base_cursor.c %D%/check_base_log.c
%C%_check_base_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
%C%_check_base_LDADD = src/base/libtp_base.a $(CHECK_LIBS)
endif
