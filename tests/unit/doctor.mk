# unit tests of doctor
EXTRA_DIST += %D%/check_doctor.c
if HAVE_CHECK
check_PROGRAMS += %D%/check_doctor
TESTS += %D%/check_doctor
%C%_check_doctor_SOURCES = %D%/check_doctor.c
%C%_check_doctor_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
%C%_check_doctor_LDADD = src/doctor/libtp_doctor.a src/conf/libtp_conf_yaml.a src/conf/libtp_conf.a src/io/libtp_io.a \
	src/base/libtp_base.a $(CHECK_LIBS) $(JANSSON_LIBS) $(YAML_LIBS) $(SODIUM_LIBS) $(CRYPTO_LIBS)
endif
