# devstack plugin of the OVS metadata agent: sourced as plugin.sh MODE [PHASE].
#
# What a node gets depends on the services that are enabled on it:
#
#   q-svc, neutron-api       ZooKeeper, unless OVS_METADATA_STORE_URL names one; Neutron's service plugin
#   n-api-meta               Nova's settings, and the deployment's configuration in the store
#   q-l3, neutron-l3         no metadata proxy for each router
#   ovs-metadata-agent       the agent; enabled where n-cpu is
#
# shellcheck shell=bash

_XTRACE_OVS_METADATA=$(set +o | grep xtrace)
set +o xtrace

# One line USER:PASSWORD, for ZooKeeper's ACLs.
OVS_METADATA_AUTH_FILE=$OVS_METADATA_CONF_DIR/zookeeper-auth
OVS_METADATA_ZOOKEEPER_CONF_DIR=$OVS_METADATA_CONF_DIR/zookeeper
OVS_METADATA_ZOOKEEPER_DATA_DIR=$OVS_METADATA_DATA_DIR/zookeeper
OVS_METADATA_SNAPSHOT_DIR=$OVS_METADATA_DATA_DIR/snapshots
OVS_METADATA_COMMANDS="mn-conf ovs-metadata"

# Whether there is anything for us to do on this node.
function is_ovs_metadata_node {
    is_service_enabled ovs-metadata-agent ovs-metadata-zookeeper q-svc neutron-api n-api-meta \
        q-l3 neutron-l3
}

# Run one of our commands as root: only root may read the store's credentials.
function ovs_metadata_command {
    local command=$1
    shift
    sudo "$OVS_METADATA_VENV/bin/$command" --config "$OVS_METADATA_CONF" "$@"
}

# The store's password; empty for a ZooKeeper without ACLs.
function ovs_metadata_store_password {
    printf '%s\n' "${OVS_METADATA_STORE_PASSWORD-${SERVICE_PASSWORD:-}}"
}

# Set an option to the text on standard input. iniset passes the value to sed as an argument, which every
# user of the machine can read: here only the shell itself sees it.
function ovs_metadata_iniset_secret {
    local file=$1 mark=@ovs-metadata-secret@ value text
    IFS= read -r value
    iniset "$file" "$2" "$3" "$mark"
    text=$(<"$file")
    printf '%s\n' "${text//"$mark"/"$value"}" >"$file"
}

# stack pre-install
# -----------------

function install_ovs_metadata_packages {
    if is_ubuntu; then
        install_package python3-venv
    fi
    if ! is_service_enabled ovs-metadata-zookeeper; then
        return 0
    fi
    if ! is_ubuntu; then
        die $LINENO "There is no package of ZooKeeper here: set OVS_METADATA_STORE_URL to one that runs elsewhere"
    fi
    # The package zookeeperd would start a server on its own.
    install_package zookeeper default-jre-headless
}

# stack install
# -------------

function install_ovs_metadata {
    # In an environment of its own: some of what it needs is newer than devstack's constraints,
    # which pip_install reads from REQUIREMENTS_DIR, would allow beside the other services.
    sudo install -d -m 0755 -o "$STACK_USER" "$OVS_METADATA_DATA_DIR"
    if [[ ! -x "$OVS_METADATA_VENV/bin/pip" ]]; then
        "${PYTHON:-python3}" -m venv "$OVS_METADATA_VENV"
    fi
    : >"$OVS_METADATA_VENV/upper-constraints.txt"
    PIP_VIRTUAL_ENV=$OVS_METADATA_VENV REQUIREMENTS_DIR=$OVS_METADATA_VENV \
        pip_install -e "${OVS_METADATA_DIR}[agent]"

    # The service plugin runs within Neutron, and needs only kazoo beyond what Neutron has.
    if is_service_enabled q-svc neutron-api; then
        pip_install -e "$OVS_METADATA_DIR"
    fi

    local command
    for command in $OVS_METADATA_COMMANDS; do
        sudo ln -sf "$OVS_METADATA_VENV/bin/$command" "$OVS_METADATA_LINK_DIR/$command"
    done
}

# stack post-config
# -----------------

function configure_ovs_metadata {
    configure_ovs_metadata_host
    if is_service_enabled ovs-metadata-zookeeper; then
        configure_ovs_metadata_zookeeper
        start_ovs_metadata_zookeeper
    fi
    if is_service_enabled q-svc neutron-api; then
        configure_ovs_metadata_neutron
    fi
    if is_service_enabled q-l3 neutron-l3; then
        iniset "$Q_L3_CONF_FILE" DEFAULT enable_metadata_proxy False
    fi
    if is_service_enabled n-api-meta; then
        configure_ovs_metadata_nova
    fi
}

# The file of this host, which the commands read as well, and the store's credentials.
function configure_ovs_metadata_host {
    local conf=$OVS_METADATA_CONF rundir=$OVS_METADATA_OVS_RUNDIR
    sudo install -d -m 0755 "$OVS_METADATA_CONF_DIR"
    sudo install -m 0644 "$OVS_METADATA_DIR/etc/agent.conf.sample" "$conf"
    iniset -sudo "$conf" store url "$OVS_METADATA_STORE_URL"
    iniset -sudo "$conf" store snapshot_dir "$OVS_METADATA_SNAPSHOT_DIR"
    iniset -sudo "$conf" agent host "$OVS_METADATA_HOST"
    iniset -sudo "$conf" agent namespace "$OVS_METADATA_NAMESPACE"
    iniset -sudo "$conf" agent state_dir "$OVS_METADATA_RUN_DIR"
    iniset -sudo "$conf" agent debug "${ENABLE_DEBUG_LOG_LEVEL:-False}"
    iniset -sudo "$conf" ovs bridge "$OVS_METADATA_BRIDGE"
    iniset -sudo "$conf" ovs rundir "$rundir"
    iniset -sudo "$conf" ovs ovsdb_connection "unix:$rundir/db.sock"

    sudo install -d -m 0700 "$OVS_METADATA_SNAPSHOT_DIR"

    local xtrace password
    xtrace=$(set +o | grep xtrace)
    set +o xtrace
    password=$(ovs_metadata_store_password)
    sudo rm -f "$OVS_METADATA_AUTH_FILE"
    if [[ -n "$password" ]]; then
        # Neutron runs as this user, the agent as root.
        sudo install -m 0600 -o "$STACK_USER" /dev/null "$OVS_METADATA_AUTH_FILE"
        printf 'ovs-metadata:%s\n' "$password" | sudo tee "$OVS_METADATA_AUTH_FILE" >/dev/null
        iniset -sudo "$conf" store zookeeper_auth_file "$OVS_METADATA_AUTH_FILE"
    fi
    $xtrace
}

function configure_ovs_metadata_zookeeper {
    local dir=$OVS_METADATA_ZOOKEEPER_CONF_DIR
    sudo install -d -m 0755 "$dir"
    sudo install -d -m 0700 -o "$STACK_USER" "$OVS_METADATA_ZOOKEEPER_DATA_DIR"
    sudo tee "$dir/zoo.cfg" >/dev/null <<CONF
dataDir=$OVS_METADATA_ZOOKEEPER_DATA_DIR
clientPort=$OVS_METADATA_ZOOKEEPER_PORT
clientPortAddress=$(ipv6_unquote "$OVS_METADATA_ZOOKEEPER_HOST")
tickTime=2000
maxClientCnxns=0
autopurge.purgeInterval=1
admin.enableServer=false
CONF
    # To the journal.
    sudo tee "$dir/log4j.properties" >/dev/null <<CONF
log4j.rootLogger=INFO, console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%p %c{1} %m%n
CONF
}

function start_ovs_metadata_zookeeper {
    local dir=$OVS_METADATA_ZOOKEEPER_CONF_DIR
    local main=org.apache.zookeeper.server.quorum.QuorumPeerMain
    # zookeeper.jar names those it needs, but for logging.
    local classpath=$dir jar
    for jar in zookeeper slf4j-log4j12 log4j-1.2; do
        classpath+=:/usr/share/java/$jar.jar
    done
    run_process ovs-metadata-zookeeper \
        "$(command -v java) -Xmx256m -cp $classpath $main $dir/zoo.cfg"
    # The whole way, credentials included.
    test_with_retry \
        "sudo $OVS_METADATA_VENV/bin/ovs-metadata --config $OVS_METADATA_CONF port list >/dev/null" \
        "ZooKeeper did not start" "$SERVICE_TIMEOUT"
}

# devstack writes the list of service plugins after this phase.
function configure_ovs_metadata_neutron {
    neutron_service_plugin_class_add ovs_metadata
    iniset "$NEUTRON_CONF" ovs_metadata store_url "$OVS_METADATA_STORE_URL"
    if [[ -e "$OVS_METADATA_AUTH_FILE" ]]; then
        iniset "$NEUTRON_CONF" ovs_metadata zookeeper_auth_file "$OVS_METADATA_AUTH_FILE"
    fi
}

# Nova and the store get the same secret, in one place, so that no other node has to know it.
function configure_ovs_metadata_nova {
    local xtrace secret
    # devstack writes Nova's file at the same time.
    async_wait configure_neutron_nova
    xtrace=$(set +o | grep xtrace)
    set +o xtrace
    secret=${OVS_METADATA_SHARED_SECRET:-$(generate_hex_string 16)}
    iniset "$NOVA_CONF" neutron service_metadata_proxy True
    ovs_metadata_iniset_secret "$NOVA_CONF" neutron metadata_proxy_shared_secret <<<"$secret"
    ovs_metadata_command mn-conf set -t default --secret-file - "agent.openstack.metadata {
        nova_metadata_url : \"$OVS_METADATA_NOVA_URL\"
        enabled : true
    }" <<<"$secret"
    $xtrace
}

# stack extra
# -----------

function start_ovs_metadata {
    run_process ovs-metadata-agent \
        "$OVS_METADATA_VENV/bin/ovs-metadata-agent --config $OVS_METADATA_CONF" "" root
}

# unstack
# -------

# Each step is tried, whatever became of the others, and of stack.sh.
function stop_ovs_metadata {
    if is_service_enabled n-api-meta && [[ -x "$OVS_METADATA_VENV/bin/mn-conf" ]]; then
        # Agents of other nodes see it, and remove their flows and ports.
        ovs_metadata_command mn-conf unset -t default agent.openstack.metadata ||
            warn $LINENO "The store still has the configuration of the metadata agents"
    fi
    if is_service_enabled ovs-metadata-agent; then
        stop_process ovs-metadata-agent
        if [[ -x "$OVS_METADATA_VENV/bin/ovs-metadata-agent" ]]; then
            ovs_metadata_command ovs-metadata-agent --cleanup ||
                warn $LINENO "Something of the metadata agent is still on the bridge"
        fi
    fi
    if is_service_enabled ovs-metadata-zookeeper; then
        stop_process ovs-metadata-zookeeper
    fi
    # The next stack.sh creates Neutron's database again, too.
    sudo rm -rf "$OVS_METADATA_ZOOKEEPER_DATA_DIR" "$OVS_METADATA_SNAPSHOT_DIR" \
        "$OVS_METADATA_RUN_DIR"
    unconfigure_ovs_metadata
}

# Take our settings out of the files of others again.
function unconfigure_ovs_metadata {
    if is_service_enabled n-api-meta && [[ -w "$NOVA_CONF" ]]; then
        inidelete "$NOVA_CONF" neutron service_metadata_proxy
        inidelete "$NOVA_CONF" neutron metadata_proxy_shared_secret
    fi
    if is_service_enabled q-l3 neutron-l3 && [[ -w "$Q_L3_CONF_FILE" ]]; then
        inidelete "$Q_L3_CONF_FILE" DEFAULT enable_metadata_proxy
    fi
    if is_service_enabled q-svc neutron-api && [[ -w "$NEUTRON_CONF" ]]; then
        local plugins
        plugins=",$(iniget "$NEUTRON_CONF" DEFAULT service_plugins),"
        if [[ "$plugins" == *,ovs_metadata,* ]]; then
            plugins=${plugins//,ovs_metadata,/,}
            plugins=${plugins#,}
            iniset "$NEUTRON_CONF" DEFAULT service_plugins "${plugins%,}"
        fi
        inidelete "$NEUTRON_CONF" ovs_metadata store_url
        inidelete "$NEUTRON_CONF" ovs_metadata zookeeper_auth_file
    fi
}

# clean
# -----

function cleanup_ovs_metadata {
    local command link
    for command in $OVS_METADATA_COMMANDS; do
        link=$OVS_METADATA_LINK_DIR/$command
        if [[ "$(readlink "$link")" == "$OVS_METADATA_VENV/bin/$command" ]]; then
            sudo rm -f "$link"
        fi
    done
    if is_service_enabled q-svc neutron-api; then
        if [[ "${GLOBAL_VENV:-}" == True ]]; then
            PIP_VIRTUAL_ENV=$DEVSTACK_VENV pip_uninstall ovs-metadata-agent
        else
            pip_uninstall ovs-metadata-agent
        fi
    fi
    sudo rm -rf "$OVS_METADATA_CONF_DIR" "$OVS_METADATA_DATA_DIR" "$OVS_METADATA_VENV"
}

$_XTRACE_OVS_METADATA

if is_ovs_metadata_node; then
    case "$1 ${2:-}" in
        "stack pre-install")
            echo_summary "Installing packages for the OVS metadata agent"
            install_ovs_metadata_packages
            ;;
        "stack install")
            echo_summary "Installing the OVS metadata agent"
            install_ovs_metadata
            ;;
        "stack post-config")
            echo_summary "Configuring the OVS metadata agent"
            configure_ovs_metadata
            ;;
        "stack extra")
            echo_summary "Starting the OVS metadata agent"
            start_ovs_metadata
            ;;
        "unstack "*) stop_ovs_metadata ;;
        "clean "*) cleanup_ovs_metadata ;;
    esac
fi
