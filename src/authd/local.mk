# authd
noinst_LIBRARIES += %D%/libtp_authd.a
%C%_libtp_authd_a_SOURCES = %D%/credentials.c %D%/answer.c %D%/rest_key.c %D%/authd.c %D%/key_rows.c %D%/lookup.c %D%/lookup_events.c %D%/lookup_rate.c %D%/authd_sandbox.c %D%/followed.c %D%/forget.c %D%/operator.c %D%/lookup_int.h %D%/authd_int.h
%C%_libtp_authd_a_CFLAGS = $(AM_CFLAGS) $(CRYPTO_CFLAGS) $(SODIUM_CFLAGS)
