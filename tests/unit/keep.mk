# unit tests of keep
if HAVE_CHECK
check_PROGRAMS += %D%/check_keep
TESTS += %D%/check_keep
%C%_check_keep_SOURCES = %D%/check_keep.c
%C%_check_keep_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS) $(SODIUM_CFLAGS)
%C%_check_keep_LDADD = src/keep/libtp_keep.a src/auth/libtp_auth.a src/stun/libtp_stun.a src/conf/libtp_conf.a \
	src/base/libtp_base.a $(CHECK_LIBS) $(SODIUM_LIBS) $(CRYPTO_LIBS)
endif
