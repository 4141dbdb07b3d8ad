#!/bin/sh
# Installs what is missing of the Debian packages that the lab runs (with `test` or `bench`, what those need too). Says
# so, does so, or says what to do.
set -eu

missing=""
need() { # need COMMAND PACKAGE
    PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

need ovs-vswitchd openvswitch-switch
need ovs-ofctl openvswitch-common
need ip iproute2
need nft nftables
need ping iputils-ping
need nc netcat-openbsd
need ethtool ethtool

if [ "${1-}" = test ]; then
    # Beside the API server, which tests/kube/build.sh builds.
    need etcd etcd-server
    # In the image; a test looks up which package has it.
    need modprobe kmod
    # What the node's plugin is chained with: portmap, which calls iptables, and tuning.
    [ -x /usr/lib/cni/portmap ] || missing="$missing containernetworking-plugins"
    need iptables iptables
    # A host's firewall: the tests run it in a network namespace, on a bus of its own.
    need firewalld firewalld
    need dbus-daemon dbus-daemon
fi

if [ "${1-}" = bench ]; then
    # The plugins to compare with, which are not on the PATH.
    [ -x /usr/lib/cni/bridge ] || missing="$missing containernetworking-plugins"
    # Open vSwitch's own client in Python, to compare with.
    /usr/bin/python3 -c 'import ovs.db.idl' >/dev/null 2>&1 || missing="$missing python3-openvswitch"
fi

if ! command -v cargo >/dev/null 2>&1; then
    echo "deps: cargo is missing: install Rust 1.95 or newer (https://rustup.rs)" >&2
    exit 3
fi
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "deps: missing:$missing; install them as root: apt-get install$missing" >&2
    exit 3
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "deps: missing:$missing (Debian package names); install them with this system's package manager" >&2
    exit 3
fi
echo "deps: installing$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# Debian starts what it installs. The tests want firewalld's program, and nobody a firewall on this machine by the way.
firewall=""
case "$missing " in *" firewalld "*) [ ! -d /run/systemd/system ] || firewall=firewalld.service ;; esac
[ -z "$firewall" ] || systemctl --quiet mask "$firewall"
status=0
# shellcheck disable=SC2086
apt-get install -q -y --no-install-recommends $missing || status=$?
if [ -n "$firewall" ]; then
    systemctl --quiet unmask "$firewall"
    systemctl --quiet disable "$firewall" || [ "$status" != 0 ]
fi
exit "$status"
