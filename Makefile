# make demo     set up, build, and run lovol's main job on real loop devices
# make check    set up, build, and pass every test
# make check-6.1  pass them on Linux 6.1 too, which runs as a process of this machine;
#               TESTS='snapshots:: groups::' passes those
# make bench    compare with one FICLONE inside a freeze, with btrfs, and with a plain file
# make fuzz     FUZZ_SECONDS=30: everything that parses, for so long each
# make torture  the long form of the tests that break things, and a table of what was tried
# make check-boot  boot a Debian with systemd whose volumes come from /etc/fstab
# make check-package  the packages, installed in a clean Debian, used, and removed again
# make deny     licences, known holes and duplicates of what lovol is built of;
#               DENY='licenses bans sources' leaves out what needs the database of known holes
# make deb, make rpm  packages, in target/package
# make install  PREFIX=/usr/local DESTDIR=

CARGO  ?= cargo
PREFIX ?= /usr/local

# What goes into the packages, and the packages.
STAGE    = target/stage
PACKAGES = target/package
BIN     = $(or $(CARGO_TARGET_DIR),target)/release/lovol
PAGES8  = $(notdir $(wildcard man/*.8))
PAGES5  = $(notdir $(wildcard man/*.5))
UNITS   = $(notdir $(wildcard src/systemd/*.service src/systemd/*.timer))

# mount(8) looks for its helpers in /sbin, wherever lovol itself is.
HELPERDIR ?= /usr/sbin

bindir     = $(PREFIX)/bin
helperdir  = $(DESTDIR)$(HELPERDIR)
mandir     = $(DESTDIR)$(PREFIX)/share/man
bashdir    = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
zshdir     = $(DESTDIR)$(PREFIX)/share/zsh/site-functions
fishdir    = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
unitdir    = $(DESTDIR)$(PREFIX)/lib/systemd/system
tmpfilesdir = $(DESTDIR)$(PREFIX)/lib/tmpfiles.d
rulesdir   = $(DESTDIR)$(PREFIX)/lib/udev/rules.d

.PHONY: help build demo check check-6.1 check-boot check-package bench fuzz torture deny stage deb rpm \
	deps deps-check deps-boot deps-deny deps-fuzz deps-package install uninstall clean
.NOTPARALLEL:

help:
	@sed -n 's/^# make/make/p' Makefile

build:
	$(CARGO) build --release --locked

demo: deps build
	tests/demo.sh $(BIN)

check: deps-check
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --locked -- -D warnings
	$(CARGO) clippy --test disks --locked -- -D warnings
	shellcheck tests/*.sh .ci/run
	$(CARGO) test --locked

check-6.1: deps-check
	tests/kernel-6.1.sh $(TESTS)

check-boot: deps-boot build
	tests/boot.sh $(BIN)

check-package: deb rpm
	tests/package.sh $(PACKAGES)/*.deb $(PACKAGES)/*.rpm

bench: deps-check
	$(CARGO) bench --locked --bench stall

fuzz: deps-fuzz
	tests/fuzz.sh

torture: deps-check
	tests/torture.sh

deny: deps-deny
	$(CARGO) deny --config tests/deny.toml check $(DENY)

# What both packages have in them.
stage: build
	rm -rf $(STAGE)
	mkdir -p $(PACKAGES)
	$(MAKE) install DESTDIR=$(STAGE) PREFIX=/usr HELPERDIR=/usr/sbin
	strip $(STAGE)/usr/bin/lovol
	gzip -9n $(STAGE)/usr/share/man/man?/*

deb: deps-package stage
	rm -f $(PACKAGES)/*.deb
	$(CARGO) deb --no-build --no-strip --output $(PACKAGES)

rpm: deps-package stage
	rm -f $(PACKAGES)/*.rpm
	$(CARGO) generate-rpm --output $(PACKAGES)

deps:
	tests/install-deps.sh build

deps-check:
	tests/install-deps.sh check

deps-boot:
	tests/install-deps.sh boot

deps-deny:
	tests/install-deps.sh deny

deps-package:
	tests/install-deps.sh package

deps-fuzz:
	tests/install-deps.sh fuzz

# Builds nothing, so that `make && sudo make install` never compiles as root.  Enables nothing.
install:
	install -D -m 0755 $(BIN) $(DESTDIR)$(bindir)/lovol
	install -d $(helperdir)
	ln -sfr $(DESTDIR)$(bindir)/lovol $(helperdir)/mount.lovol
	install -d $(mandir)/man8 $(mandir)/man5
	install -m 0644 $(addprefix man/,$(PAGES8)) $(mandir)/man8
	install -m 0644 $(addprefix man/,$(PAGES5)) $(mandir)/man5
	install -D -m 0644 completions/lovol.bash $(bashdir)/lovol
	install -D -m 0644 completions/_lovol $(zshdir)/_lovol
	install -D -m 0644 completions/lovol.fish $(fishdir)/lovol.fish
	install -d $(unitdir)
	for unit in $(UNITS); do \
		sed 's|@bindir@|$(bindir)|' src/systemd/$$unit >$(unitdir)/$$unit && chmod 0644 $(unitdir)/$$unit || exit; \
	done
	install -D -m 0644 src/systemd/lovol.tmpfiles $(tmpfilesdir)/lovol.conf
	install -D -m 0644 src/systemd/59-lovol.rules $(rulesdir)/59-lovol.rules

uninstall:
	rm -f $(DESTDIR)$(bindir)/lovol $(helperdir)/mount.lovol
	rm -f $(addprefix $(mandir)/man8/,$(PAGES8)) $(addprefix $(mandir)/man5/,$(PAGES5))
	rm -f $(bashdir)/lovol $(zshdir)/_lovol $(fishdir)/lovol.fish
	rm -f $(addprefix $(unitdir)/,$(UNITS)) $(tmpfilesdir)/lovol.conf $(rulesdir)/59-lovol.rules

clean:
	$(CARGO) clean
