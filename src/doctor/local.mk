# doctor
noinst_LIBRARIES += %D%/libtp_doctor.a
%C%_libtp_doctor_a_SOURCES = %D%/addresses.c %D%/certificates.c %D%/doctor.c %D%/host.c %D%/judge.c %D%/judge_net.c
%C%_libtp_doctor_a_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS) $(SODIUM_CFLAGS) $(CRYPTO_CFLAGS)
