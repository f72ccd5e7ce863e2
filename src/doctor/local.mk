# doctor
noinst_LIBRARIES += %D%/libtp_doctor.a
%C%_libtp_doctor_a_SOURCES = %D%/check_addresses.c %D%/check_certificates.c %D%/check_ports.c %D%/doctor.c %D%/host_facts.c %D%/check_host.c %D%/check_net.c
%C%_libtp_doctor_a_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS) $(SODIUM_CFLAGS) $(CRYPTO_CFLAGS)
