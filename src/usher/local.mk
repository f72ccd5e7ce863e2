# usher
noinst_LIBRARIES += %D%/libtp_usher.a
%C%_libtp_usher_a_SOURCES = %D%/export.c
%C%_libtp_usher_a_CFLAGS = $(AM_CFLAGS) $(SSL_CFLAGS) $(CRYPTO_CFLAGS) $(SODIUM_CFLAGS)
