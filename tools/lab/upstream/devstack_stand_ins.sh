#!/usr/bin/env bash
# Stand-ins for devstack: the functions it documents for plugins, and the order of its three scripts.
#
#   devstack_stand_ins.sh stack|unstack|clean NODE
#   devstack_stand_ins.sh settings NODE VARIABLE...     what they are once the plugin's are read
#
# NODE is a file of variables, as stack.sh has them from stackrc, local.conf and its libraries:
# ENABLED_SERVICES, PLUGIN_DIR and so on. A service runs in the background; its process id is in
# SERVICE_DIR, its log in LOG_DIR. The caller ends processes that are left.
#
# shellcheck disable=SC1090 # whose plugin it is, the caller says

# shellcheck disable=SC2034 # for the plugin
SERVICE_TIMEOUT=60
# A service ends by itself after this time.
LONGEST_TEST=1200

# Messages

function echo_summary { printf '%s\n' "$*"; }

function warn { printf '[WARNING] %s: %s\n' "$1" "$2" >&2; }

function die {
    printf '[ERROR] %s: %s\n' "$1" "$2" >&2
    exit 1
}

# Services

function define_plugin { :; }

function is_service_enabled {
    local service
    for service in "$@"; do
        if [[ ",$ENABLED_SERVICES," == *",$service,"* ]]; then
            return 0
        fi
        case $service in
            nova) if [[ ",$ENABLED_SERVICES" == *,n-* ]]; then return 0; fi ;;
            neutron) if [[ ",$ENABLED_SERVICES" == *,q-* ]]; then return 0; fi ;;
        esac
    done
    return 1
}

function enable_service {
    local service
    for service in "$@"; do
        if [[ ",${DISABLED_SERVICES:-}," == *",$service,"* ]]; then
            warn "$LINENO" "$service has been disabled"
        elif ! is_service_enabled "$service"; then
            ENABLED_SERVICES+=,$service
        fi
    done
}

function disable_service {
    local service rest
    for service in "$@"; do
        DISABLED_SERVICES=${DISABLED_SERVICES:-},$service
        rest=,$ENABLED_SERVICES,
        rest=${rest//,$service,/,}
        rest=${rest#,}
        ENABLED_SERVICES=${rest%,}
    done
}

# As the user and in the network namespace that are asked for; refuses what systemd would not run.
function run_process {
    local service=$1 command=$2 user=${4:-$STACK_USER}
    if ! is_service_enabled "$service"; then
        return 0
    fi
    if [[ "$command" != /* || "$command" == *sudo* ]]; then
        die $LINENO "systemd would not run: $command"
    fi
    local prefix=()
    if [[ -n "${NODE_NAMESPACE:-}" ]]; then
        prefix=(nsenter "--net=/run/netns/$NODE_NAMESPACE")
    fi
    mkdir -p "$SERVICE_DIR"
    # shellcheck disable=SC2086 # a command line, as in a unit file
    setsid timeout --foreground "$LONGEST_TEST" "${prefix[@]}" \
        setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups \
        $command </dev/null >>"$LOG_DIR/$service.log" 2>&1 &
    echo $! >"$SERVICE_DIR/$service.pid"
}

function stop_process {
    local pid file=$SERVICE_DIR/$1.pid
    if ! is_service_enabled "$1" || [[ ! -e "$file" ]]; then
        return 0
    fi
    pid=$(<"$file")
    kill "$pid" || true
    tail --pid "$pid" -f /dev/null
    rm "$file"
}

function test_with_retry {
    timeout "$3" sh -c "while ! $1; do sleep 0.5; done" || die $LINENO "$2"
}

function async_wait { echo "Waited for $*" >>"$LOG_DIR/async.log"; }

# Packages

function is_ubuntu { [[ "${NODE_PACKAGES:-deb}" == deb ]]; }

# Installs nothing: what a test needs, the tests' own set-up installs.
function install_package {
    dpkg-query -W "$@" >>"$LOG_DIR/packages.log"
}

function pip_install {
    local pip=$DEVSTACK_VENV/bin/pip
    if [[ -n "${PIP_VIRTUAL_ENV:-}" && -d "$PIP_VIRTUAL_ENV" ]]; then
        pip=$PIP_VIRTUAL_ENV/bin/pip
    fi
    "$pip" --disable-pip-version-check --quiet install \
        -c "$REQUIREMENTS_DIR/upper-constraints.txt" "$@"
}

function pip_uninstall {
    "${PIP_VIRTUAL_ENV:?the other way uses the system}/bin/pip" --quiet uninstall -y "$1" || true
}

# Values

function ipv6_unquote { tr -d '[]' <<<"$1"; }

function generate_hex_string { od -An -v -tx1 -N "$1" /dev/urandom | tr -d ' \n'; }

# Files of options

# _ini [-sudo] VERB FILE SECTION OPTION [VALUE], VERB being get, set or delete.
function _ini {
    if [[ "$2" == -sudo ]]; then
        set -- "$1" "${@:3}"
    fi
    local verb=$1 file=$2 text
    if [[ "$verb" != get && ! -e "$file" ]]; then
        touch "$file"
    fi
    text=$(VERB=$verb SECTION=$3 OPTION=$4 VALUE=${5:-} awk '
        function add() { print ENVIRON["OPTION"] " = " ENVIRON["VALUE"]; done = 1 }
        BEGIN { verb = ENVIRON["VERB"]; wanted = "[" ENVIRON["SECTION"] "]" }
        /^\[/ {
            if (inside && verb == "set" && !done) add()
            inside = ($0 == wanted)
            found = found || inside
        }
        inside && match($0, /^[A-Za-z0-9_]+[ \t]*=[ \t]*/) {
            name = substr($0, 1, RLENGTH)
            sub(/[ \t]*=.*/, "", name)
            if (name == ENVIRON["OPTION"]) {
                if (verb == "get") print substr($0, RLENGTH + 1)
                if (verb == "set" && !done) add()
                next
            }
        }
        verb != "get" { print }
        END {
            if (verb == "set" && !found) print "\n" wanted
            if (verb == "set" && !done) add()
        }' "$file")
    if [[ "$verb" == get ]]; then
        printf '%s\n' "$text"
    else
        printf '%s\n' "$text" >"$file"
    fi
}

function iniset { _untraced _iniset "$@"; }
function iniget { _untraced _ini get "$@"; }
function inidelete { _untraced _ini delete "$@"; }

# devstack's passes the value to sed, where every user of the machine can read it: recorded for tests.
function _iniset {
    printf '%s\n' "$*" >>"$LOG_DIR/iniset.log"
    _ini set "$@"
}

# Run a command without showing it, as devstack does within such functions.
function _untraced {
    local xtrace
    xtrace=$(set +o | grep xtrace)
    set +o xtrace
    "$@"
    $xtrace
}

# Neutron

function neutron_service_plugin_class_add {
    if [[ ",${Q_SERVICE_PLUGIN_CLASSES:-}," != *",$1,"* ]]; then
        Q_SERVICE_PLUGIN_CLASSES=${Q_SERVICE_PLUGIN_CLASSES:+$Q_SERVICE_PLUGIN_CLASSES,}$1
    fi
}

# The three scripts

function plugin {
    source "$PLUGIN_DIR/devstack/plugin.sh" "$@"
}

function stack {
    set -o errexit
    source "$PLUGIN_DIR/devstack/settings"
    plugin stack pre-install
    plugin stack install
    if is_service_enabled q-svc; then
        neutron_service_plugin_class_add router
    fi
    plugin stack post-config
    if [[ -n "${Q_SERVICE_PLUGIN_CLASSES:-}" ]]; then
        iniset "$NEUTRON_CONF" DEFAULT service_plugins "$Q_SERVICE_PLUGIN_CLASSES"
    fi
    plugin stack extra
    plugin stack test-config
}

function unstack {
    source "$PLUGIN_DIR/devstack/settings"
    plugin unstack
}

function clean {
    (unstack)
    source "$PLUGIN_DIR/devstack/settings"
    plugin clean
}

source "$2"
set -o xtrace
case $1 in
    stack | unstack | clean) "$1" ;;
    settings)
        source "$PLUGIN_DIR/devstack/settings"
        set +o xtrace
        declare -p "${@:3}"
        ;;
esac
