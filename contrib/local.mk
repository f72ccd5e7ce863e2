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
# packages: `make deb` makes deb/turnpike_VERSION_ARCH.deb from what `make dist` packs (needs debhelper)
EXTRA_DIST += %D%/debian/control %D%/debian/rules %D%/debian/copyright %D%/debian/source/format %D%/debian/needrestart.conf \
	%D%/debian/turnpike.lintian-overrides %D%/debian/turnpike.postinst %D%/debian/turnpike.postrm %D%/debian/turnpike.docs %D%/debian/turnpike.examples
EXTRA_DIST += %D%/apparmor/usr.sbin.turnpiked doc/packages.md doc/survival.md
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
