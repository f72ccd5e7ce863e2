# unit tests of seal, against OpenSSL through the tlsd's export
if HAVE_CHECK
check_PROGRAMS += %D%/check_seal
TESTS += %D%/check_seal
%C%_check_seal_SOURCES = %D%/check_seal.c %D%/check_seal_vectors.c %D%/check_seal_stream.c %D%/check_seal_content.c %D%/check_seal_dtls.c \
	%D%/check_seal_random.c %D%/check_seal_killed.c %D%/seal_link.c %D%/seal_link.h %D%/seal_suites.h
%C%_check_seal_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS) $(SSL_CFLAGS) $(SODIUM_CFLAGS)
%C%_check_seal_LDADD = src/tlsd/libtp_tlsd.a src/seal/libtp_seal.a $(CHECK_LIBS) $(SSL_LIBS) $(SODIUM_LIBS) \
	$(CRYPTO_LIBS)
endif
