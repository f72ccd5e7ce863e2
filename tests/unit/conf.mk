# unit tests of conf
if HAVE_CHECK
check_PROGRAMS += %D%/check_conf
TESTS += %D%/check_conf
%C%_check_conf_SOURCES = %D%/check_conf.c %D%/check_conf.h %D%/check_conf_options.c %D%/check_conf_yaml.c \
	%D%/check_conf_lists.c %D%/check_conf_files.c %D%/check_conf_dump.c %D%/check_conf_certs.c
%C%_check_conf_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
%C%_check_conf_LDADD = src/conf/libtp_conf_yaml.a src/conf/libtp_conf.a src/base/libtp_base.a \
	$(CHECK_LIBS) $(YAML_LIBS) $(SODIUM_LIBS) $(CRYPTO_LIBS)
endif
EXTRA_DIST += %D%/conf/example.yaml %D%/conf/bob.key %D%/conf/new.secret %D%/conf/conf.d/more.yaml
