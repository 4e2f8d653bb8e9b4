#!/usr/bin/env bash
# Removes all of Neutron's DHCP ports, as MidoNet's script of this name did: a front of
# `ovs-metadata cleanup dhcp-ports --yes`, whose options it takes (see its --help, docs/cleanup.md).
# Neutron's credentials come from the OS_* variables, or from clouds.yaml.
set -euo pipefail
command -v ovs-metadata >/dev/null || {
    printf '%s: ovs-metadata is not in PATH\n' "${0##*/}" >&2
    exit 1
}
exec ovs-metadata cleanup dhcp-ports --yes "$@"
