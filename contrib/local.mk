# contrib
EXTRA_DIST += %D%/fail2ban/filter.d/turnpike.conf %D%/fail2ban/jail.d/turnpike.conf
EXTRA_DIST += %D%/monitoring/alerts.yaml %D%/monitoring/grafana.json %D%/monitoring/prometheus.yaml
EXTRA_DIST += %D%/completion/turnpikectl.bash
EXTRA_DIST += %D%/sysctl.d/turnpike.conf %D%/nftables.conf
EXTRA_DIST += %D%/packages %D%/install-packages %D%/quickstart %D%/quickstart-proof.py %D%/run-tests
EXTRA_DIST += %D%/proxies/haproxy.cfg %D%/proxies/nginx.conf
# service files: installed only where configure was told to (--with-initdir, --with-systemdsystemunitdir)
EXTRA_DIST += %D%/turnpike.service.in %D%/turnpike.init.in %D%/turnpike.default %D%/turnpike.logrotate
CLEANFILES += %D%/turnpike.service %D%/turnpike
SERVICE_EDIT = $(SED) -e 's|@sbindir[@]|$(sbindir)|g' -e 's|@bindir[@]|$(bindir)|g' \
	-e 's|@sysconfdir[@]|$(sysconfdir)|g' -e 's|@runtimedir[@]|$(runtimedir)|g'
%D%/turnpike.service: $(srcdir)/%D%/turnpike.service.in Makefile
	$(AM_V_GEN)$(MKDIR_P) %D% && $(SERVICE_EDIT) $(srcdir)/%D%/turnpike.service.in >$@.tmp && mv $@.tmp $@
%D%/turnpike: $(srcdir)/%D%/turnpike.init.in Makefile
	$(AM_V_GEN)$(MKDIR_P) %D% && $(SERVICE_EDIT) $(srcdir)/%D%/turnpike.init.in >$@.tmp && chmod +x $@.tmp && mv $@.tmp $@
if INSTALL_UNIT
unitdir = $(systemdsystemunitdir)
nodist_unit_DATA = %D%/turnpike.service
endif
if INSTALL_INIT
initscriptdir = $(initdir)
nodist_initscript_SCRIPTS = %D%/turnpike
endif
EXTRA_DIST += %D%/container/Containerfile %D%/kubernetes/kustomization.yaml %D%/kubernetes/namespace.yaml \
	%D%/kubernetes/daemonset.yaml %D%/kubernetes/turnpike.yaml
# the converter of coturn's configuration, installed under another name
EXTRA_DIST += %D%/coturn2turnpike
CLEANFILES += %D%/turnpike-convert
nodist_bin_SCRIPTS = %D%/turnpike-convert
%D%/turnpike-convert: $(srcdir)/%D%/coturn2turnpike Makefile
	$(AM_V_GEN)$(MKDIR_P) %D% && $(SED) '1s|.*|#!$(PYTHON3)|' $(srcdir)/%D%/coturn2turnpike >$@.tmp && chmod +x $@.tmp && mv $@.tmp $@
