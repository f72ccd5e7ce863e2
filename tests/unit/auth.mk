# unit tests of auth
if HAVE_CHECK
check_PROGRAMS += %D%/check_auth
TESTS += %D%/check_auth
%C%_check_auth_SOURCES = %D%/check_auth.c %D%/check_auth.h %D%/check_auth_nonce.c %D%/check_auth_names.c
%C%_check_auth_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
%C%_check_auth_LDADD = src/auth/libtp_auth.a src/state/libtp_state.a src/shm/libtp_shm.a src/stun/libtp_stun.a \
	src/base/libtp_base.a $(CHECK_LIBS) $(SODIUM_LIBS) $(CRYPTO_LIBS)
endif
