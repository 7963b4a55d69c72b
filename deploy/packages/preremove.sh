#!/bin/sh
# Before the package goes. An upgrade, "upgrade" for dpkg and 1 for rpm, leaves
# the old program running until the new one is there.
set -e
case "$1" in
remove | 0)
	if [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then
		systemctl disable --now rccs.service
	fi
	;;
esac
