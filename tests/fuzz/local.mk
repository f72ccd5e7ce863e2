# Fuzzers.  Each is fuzz_NAME.c (LLVMFuzzerTestOneInput) with seeds in fuzz_NAME.in/ and four lines here.
# Without an engine replay.c is their main; `make check` runs all of them over their seeds.  With one:
#   CC=clang ./configure --with-sanitizer=address,undefined --with-fuzzer=-fsanitize=fuzzer
#   make check && tests/fuzz/fuzz_stun -max_len=2048 /tmp/corpus $srcdir/tests/fuzz/fuzz_stun.in
if FUZZER
fuzz_main =
fuzz_link = $(AM_LDFLAGS) $(FUZZER_FLAGS)
else
fuzz_main = %D%/replay.c
fuzz_link = $(AM_LDFLAGS)
endif
TESTS += %D%/replay.sh
EXTRA_DIST += %D%/replay.sh %D%/replay.c

check_PROGRAMS += %D%/fuzz_stun
%C%_fuzz_stun_SOURCES = %D%/fuzz_stun.c %D%/fuzz.h $(fuzz_main)
%C%_fuzz_stun_LDFLAGS = $(fuzz_link)
%C%_fuzz_stun_LDADD = src/stun/libtp_stun.a src/base/libtp_base.a $(SODIUM_LIBS) $(CRYPTO_LIBS)
EXTRA_DIST += %D%/fuzz_stun.in

check_PROGRAMS += %D%/fuzz_conf
%C%_fuzz_conf_SOURCES = %D%/fuzz_conf.c %D%/fuzz.h $(fuzz_main)
%C%_fuzz_conf_LDFLAGS = $(fuzz_link)
%C%_fuzz_conf_LDADD = src/conf/libtp_conf_yaml.a src/conf/libtp_conf.a src/base/libtp_base.a $(YAML_LIBS) $(SODIUM_LIBS) $(CRYPTO_LIBS)
EXTRA_DIST += %D%/fuzz_conf.in
check_PROGRAMS += %D%/fuzz_seal
%C%_fuzz_seal_SOURCES = %D%/fuzz_seal.c %D%/fuzz.h $(fuzz_main)
%C%_fuzz_seal_LDFLAGS = $(fuzz_link)
%C%_fuzz_seal_LDADD = src/seal/libtp_seal.a $(SODIUM_LIBS) $(CRYPTO_LIBS)
EXTRA_DIST += %D%/fuzz_seal.in

check_PROGRAMS += %D%/fuzz_turn
%C%_fuzz_turn_SOURCES = %D%/fuzz_turn.c %D%/fuzz.h tests/scenario/world.c tests/scenario/world.h $(fuzz_main)
%C%_fuzz_turn_CFLAGS = $(AM_CFLAGS) $(CRYPTO_CFLAGS) $(SODIUM_CFLAGS)
%C%_fuzz_turn_LDFLAGS = $(fuzz_link)
%C%_fuzz_turn_LDADD = src/turn/libtp_turn.a src/auth/libtp_auth.a src/state/libtp_state.a src/shm/libtp_shm.a \
	src/stun/libtp_stun.a src/base/libtp_base.a $(SODIUM_LIBS) $(CRYPTO_LIBS)
EXTRA_DIST += %D%/fuzz_turn.in
check_PROGRAMS += %D%/fuzz_hello
%C%_fuzz_hello_SOURCES = %D%/fuzz_hello.c %D%/fuzz.h $(fuzz_main)
%C%_fuzz_hello_LDFLAGS = $(fuzz_link)
%C%_fuzz_hello_LDADD = src/seal/libtp_seal.a $(SODIUM_LIBS) $(CRYPTO_LIBS)
EXTRA_DIST += %D%/fuzz_hello.in
