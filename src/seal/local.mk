# seal: sans-IO TLS/DTLS record layer
noinst_LIBRARIES += %D%/libtp_seal.a
%C%_libtp_seal_a_SOURCES = %D%/aead.c %D%/content.c %D%/record_dtls.c %D%/hello.c %D%/keys.c %D%/record12.c %D%/record_stream.c %D%/seal_int.h
%C%_libtp_seal_a_CFLAGS = $(AM_CFLAGS) $(SODIUM_CFLAGS) $(CRYPTO_CFLAGS)
