#!/bin/sh
# After an installation or an upgrade by dpkg or rpm: the user of the unit, and a
# restart of what runs. Nothing is started that did not run. The data directory
# is made by systemd when the unit starts, with mode 0700.
set -e
root=${DPKG_ROOT:-} # set where dpkg installs below another root

if command -v systemd-sysusers >/dev/null; then
	systemd-sysusers ${root:+"--root=$root"} rccs.conf
elif [ -z "$root" ] && ! getent passwd rccs >/dev/null; then
	useradd --system --user-group --home-dir /var/lib/rccs --no-create-home --shell /usr/sbin/nologin rccs
fi

if [ -z "$root" ] && [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl try-restart rccs.service
fi
