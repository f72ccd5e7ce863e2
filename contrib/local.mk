# contrib
EXTRA_DIST += %D%/packages %D%/install-packages %D%/quickstart %D%/quickstart-proof.py %D%/run-tests
# service files: installed only where configure was told to (--with-initdir, --with-systemdsystemunitdir)
EXTRA_DIST += %D%/turnpike.service.in %D%/turnpike.init.in
# the version, by the tag; a distribution has it in a file
EXTRA_DIST += %D%/version
dist-hook:
	echo '$(VERSION)' >$(distdir)/.tarball-version
# documents and examples
dist_doc_DATA = README NEWS COPYING AUTHORS SECURITY.md doc/install.md doc/first-call.md doc/nat.md doc/tls.md doc/firewall.md \
	doc/monitor.md doc/sizing.md doc/secure.md doc/ipv6.md doc/troubleshoot.md doc/moving-from-coturn.md doc/databases.md \
	doc/packages.md doc/docker.md doc/kubernetes.md doc/clouds.md doc/scaling.md doc/survival.md doc/security.md \
	doc/conformance.md doc/performance.md
exampledir = $(docdir)/examples
dist_example_DATA = %D%/nftables.conf %D%/turnpike.logrotate %D%/turnpike.default %D%/completion/turnpikectl.bash
monitoringdir = $(exampledir)/monitoring
dist_monitoring_DATA = %D%/monitoring/alerts.yaml %D%/monitoring/grafana.json %D%/monitoring/prometheus.yaml
proxiesdir = $(exampledir)/proxies
dist_proxies_DATA = %D%/proxies/haproxy.cfg %D%/proxies/nginx.conf
sysctldir = $(exampledir)/sysctl.d
dist_sysctl_DATA = %D%/sysctl.d/turnpike.conf
apparmordir = $(exampledir)/apparmor
dist_apparmor_DATA = %D%/apparmor/usr.sbin.turnpiked
filterdir = $(exampledir)/fail2ban/filter.d
dist_filter_DATA = %D%/fail2ban/filter.d/turnpike.conf
jaildir = $(exampledir)/fail2ban/jail.d
dist_jail_DATA = %D%/fail2ban/jail.d/turnpike.conf
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
# Under the names that logrotate and bash look for.
optional_install =
optional_uninstall =
if INSTALL_LOGROTATE
optional_install += install-logrotate
optional_uninstall += uninstall-logrotate
endif
if INSTALL_COMPLETION
optional_install += install-completion
optional_uninstall += uninstall-completion
endif
install-data-local: $(optional_install)
uninstall-local: $(optional_uninstall)
install-logrotate:
	$(MKDIR_P) '$(DESTDIR)$(logrotatedir)'
	$(INSTALL_DATA) $(srcdir)/%D%/turnpike.logrotate '$(DESTDIR)$(logrotatedir)/turnpike'
uninstall-logrotate:
	rm -f '$(DESTDIR)$(logrotatedir)/turnpike'
install-completion:
	$(MKDIR_P) '$(DESTDIR)$(bashcompletiondir)'
	$(INSTALL_DATA) $(srcdir)/%D%/completion/turnpikectl.bash '$(DESTDIR)$(bashcompletiondir)/turnpikectl'
uninstall-completion:
	rm -f '$(DESTDIR)$(bashcompletiondir)/turnpikectl'
.PHONY: install-logrotate uninstall-logrotate install-completion uninstall-completion
EXTRA_DIST += %D%/container/Containerfile %D%/kubernetes/kustomization.yaml %D%/kubernetes/namespace.yaml \
	%D%/kubernetes/daemonset.yaml %D%/kubernetes/turnpike.yaml
# the converter of coturn's configuration, installed under another name
EXTRA_DIST += %D%/coturn2turnpike
CLEANFILES += %D%/turnpike-convert
nodist_bin_SCRIPTS = %D%/turnpike-convert
%D%/turnpike-convert: $(srcdir)/%D%/coturn2turnpike Makefile
	$(AM_V_GEN)$(MKDIR_P) %D% && $(SED) '1s|.*|#!$(PYTHON3)|' $(srcdir)/%D%/coturn2turnpike >$@.tmp && chmod +x $@.tmp && mv $@.tmp $@
# packages: `make deb` makes deb/turnpike_VERSION_ARCH.deb from what `make dist` packs (needs debhelper)
EXTRA_DIST += %D%/debian/control %D%/debian/rules %D%/debian/copyright %D%/debian/source/format %D%/debian/needrestart.conf \
	%D%/debian/turnpike.lintian-overrides %D%/debian/turnpike.postinst %D%/debian/turnpike.postrm
EXTRA_DIST += %D%/rpm/turnpike.spec.in %D%/rpm/turnpike.sysusers %D%/rpm/turnpike.tmpfiles
.PHONY: deb
DEB_REVISION = 1
deb: dist
	rm -rf deb && mkdir deb
	tar -xf $(distdir).tar.xz -C deb
	cp -r deb/$(distdir)/contrib/debian deb/$(distdir)/debian
	printf 'turnpike (%s-%s) unstable; urgency=medium\n\n  * Release %s; see NEWS.\n\n -- %s  %s\n' '$(VERSION)' '$(DEB_REVISION)' '$(VERSION)' \
		'The Turnpike developers <turnpike@example.org>' "$$(date -u -R)" >deb/$(distdir)/debian/changelog
	sed -i 's/3.0 (native)/3.0 (quilt)/' deb/$(distdir)/debian/source/format
	cd deb/$(distdir) && dpkg-buildpackage -us -uc -b
