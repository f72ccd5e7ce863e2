# keep
noinst_LIBRARIES += %D%/libtp_keep.a
%C%_libtp_keep_a_SOURCES = %D%/db.c %D%/judge.c %D%/rest.c %D%/keeper.c %D%/keep_int.h
%C%_libtp_keep_a_CFLAGS = $(AM_CFLAGS) $(CRYPTO_CFLAGS) $(SODIUM_CFLAGS)
