# unit tests of keep
if HAVE_CHECK
check_PROGRAMS += %D%/check_authd
TESTS += %D%/check_authd
%C%_check_authd_SOURCES = %D%/check_authd.c
%C%_check_authd_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS) $(SODIUM_CFLAGS)
%C%_check_authd_LDADD = src/authd/libtp_authd.a src/auth/libtp_auth.a src/stun/libtp_stun.a src/conf/libtp_conf.a \
	src/base/libtp_base.a $(CHECK_LIBS) $(SODIUM_LIBS) $(CRYPTO_LIBS)
endif
