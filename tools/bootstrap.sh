# Sourced by the commands in this directory: installs what they need, once.
#
# Debian packages are installed without starting any service. Python packages go into .venv at the
# top of the tree (ours) and into the cache directory (those of others: Nova, Ryu).
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv
PYTHON=$VENV/bin/python

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

need_root() {
    [ "$(id -u)" = 0 ] || fail "must be run as root: it makes network namespaces"
}

# need_packages PACKAGE...: install the Debian packages that are missing.
need_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
            missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "Installing Debian packages: ${missing[*]}"
    # invoke-rc.d asks this program whether it may start a service (exit status 101 is "no"). One
    # that exists already is the administrator's, and apt asks it instead; the comment in the file
    # identifies ours, which a killed run may have left behind.
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ] || grep -q 'ovs-metadata' $policy; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\n# ovs-metadata: no service is to start while tests set up\nexit 101\n' >$policy
        chmod 755 $policy
    fi
    local status=0
    {
        apt-get update -qq &&
            DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
                "${missing[@]}"
    } >"$LOGS/apt.log" 2>&1 || status=$?
    [ -z "$(trap -p EXIT)" ] || rm -f $policy
    trap - EXIT
    [ $status = 0 ] || {
        tail -n 20 "$LOGS/apt.log" >&2
        fail "apt-get could not install ${missing[*]} (whole log: $LOGS/apt.log)"
    }
}

# install_by_hash FILE: install the releases of a file of constraints and no others into .venv.
install_by_hash() {
    # First what builds those that come as source.
    sed -n '/^setuptools==/,/[^\\]$/p' "$1" >"$LOGS/backend.txt"
    "$PYTHON" -m pip install --disable-pip-version-check --require-hashes -r "$LOGS/backend.txt" &&
        "$PYTHON" -m pip install --disable-pip-version-check --no-build-isolation --use-pep517 \
            --require-hashes -r "$1"
}

# need_python INTERPRETER FILE: make $VENV with this project and what a file of constraints has: its
# dependencies and development tools.
need_python() {
    local interpreter=$1 file=$ROOT/$2 stamp=$VENV/.complete wanted
    wanted=$("$interpreter" -VV; cat "$ROOT/pyproject.toml" "$ROOT/setup.py" "$file")
    [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || return 0
    say "Making the virtual environment"
    "$interpreter" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "needs Python 3.11 or later, this is $("$interpreter" -V)"
    if ! {
        { [ "$("$PYTHON" -VV 2>/dev/null)" = "$("$interpreter" -VV)" ] ||
            "$interpreter" -m venv --clear "$VENV"; } &&
            install_by_hash "$file" &&
            "$PYTHON" -m pip install --disable-pip-version-check --no-deps --no-build-isolation \
                --editable "$ROOT" && "$PYTHON" -m pip check &&
            # By these entry points the real Neutron finds the plugin of this tree. Not every
            # setuptools leaves them here.
            (cd "$ROOT" && "$PYTHON" setup.py -q egg_info)
    } >"$LOGS/pip.log" 2>&1; then
        tail -n 20 "$LOGS/pip.log" >&2
        fail "pip could not set up $VENV (whole log: $LOGS/pip.log)"
    fi
    printf '%s' "$wanted" >"$stamp"
}

# compile_tree: daemons that run as another user cannot write the byte code of what only they import.
compile_tree() {
    "$PYTHON" -m compileall -q agent cli flows host proxy publisher store src tools
}

# git reads no checkout of another user, such as that of a container of CI, or a user's after `su`. Root already runs
# the programs of this one.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0=$ROOT

# Without byte code each of the processes that tests start would compile all that it imports.
unset PYTHONDONTWRITEBYTECODE

LOGS=${XDG_CACHE_HOME:-$HOME/.cache}/ovs-metadata/logs
mkdir -p "$LOGS"
