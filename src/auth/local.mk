# auth
noinst_LIBRARIES += %D%/libtp_auth.a
%C%_libtp_auth_a_SOURCES = %D%/nonce.c %D%/rest_name.c %D%/cache.c %D%/check.c
%C%_libtp_auth_a_CFLAGS = $(AM_CFLAGS) $(SODIUM_CFLAGS)
