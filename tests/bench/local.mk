# bench
noinst_PROGRAMS += %D%/bench_stun
%C%_bench_stun_SOURCES = %D%/bench_stun.c
%C%_bench_stun_LDADD = src/stun/libtp_stun.a src/base/libtp_base.a $(SODIUM_LIBS) $(CRYPTO_LIBS)
