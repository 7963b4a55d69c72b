#!/bin/sh
# After the package went. Keys and messages in /var/lib/rccs stay, also when the
# package is purged: nobody can make them again.
set -e
if [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
if [ "$1" = purge ] && [ -d "${DPKG_ROOT:-}/var/lib/rccs" ]; then
	echo "rccs: keys and messages stay in /var/lib/rccs; remove that directory when nobody needs them" >&2
fi
