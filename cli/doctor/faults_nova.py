"""Faults of Nova's endpoints, as data."""

from ovs_metadata.cli.doctor.finding import Fault, Hop, Severity

_WARNING, _ERROR = Severity.WARNING, Severity.ERROR

# Nova.

NOVA_UNRESOLVABLE = Fault(
    "nova-unresolvable",
    Hop.NOVA,
    _ERROR,
    "The name of a Nova endpoint cannot be resolved.",
    "Correct nova_metadata_url with mn-conf, or name resolution on this host.",
)
NOVA_UNREACHABLE = Fault(
    "nova-unreachable",
    Hop.NOVA,
    _ERROR,
    "A Nova endpoint accepts no connection.",
    "See that nova-api-metadata runs there, that nova_metadata_url is right, and that no firewall "
    "is in between.",
)
NOVA_TLS = Fault(
    "nova-tls",
    Hop.NOVA,
    _ERROR,
    "There is no TLS connection to a Nova endpoint.",
    "If its certificate is not accepted, set nova_ca_file to the authority that signed it. If it "
    "is no TLS at all, the URL should begin with http://.",
)
NOVA_CERTIFICATE_EXPIRES = Fault(
    "nova-certificate-expires",
    Hop.NOVA,
    _WARNING,
    "The certificate of a Nova endpoint expires soon.",
    "Renew it before guests get no metadata.",
)
NOVA_TLS_UNCHECKED = Fault(
    "nova-tls-unchecked",
    Hop.NOVA,
    _WARNING,
    "Nova's certificate is not checked.",
    "Set nova_ca_file to its authority, and nova_insecure to false.",
)
NOVA_SILENT = Fault(
    "nova-silent",
    Hop.NOVA,
    _ERROR,
    "A Nova endpoint accepts connections and does not answer.",
    "Look at the load and the log of nova-api-metadata there.",
)
NOVA_NOT_HTTP = Fault(
    "nova-not-http",
    Hop.NOVA,
    _ERROR,
    "What answers at a Nova endpoint is not HTTP.",
    "Correct nova_metadata_url: port, and http:// or https://.",
)
NOVA_NOT_NOVA = Fault(
    "nova-not-nova",
    Hop.NOVA,
    _ERROR,
    "What answers at a Nova endpoint is not Nova's metadata API.",
    "Correct nova_metadata_url: it is to be where nova-api-metadata listens, mostly port 8775.",
)
NOVA_FAILS = Fault(
    "nova-fails",
    Hop.NOVA,
    _ERROR,
    "A Nova endpoint answers that it has failed.",
    "Read the log of nova-api-metadata: often it cannot reach its database, or Neutron.",
)
SECRET_REFUSED = Fault(
    "secret-refused",
    Hop.NOVA,
    _ERROR,
    "Nova does not accept the shared secret.",
    "Set the secret that is [neutron] metadata_proxy_shared_secret in its nova.conf, with mn-conf "
    "set --secret-file FILE.",
)
SECRET_UNCHECKED = Fault(
    "secret-unchecked",
    Hop.NOVA,
    _ERROR,
    "Nova does not check signatures.",
    "Set service_metadata_proxy = true and metadata_proxy_shared_secret in [neutron] of its "
    "nova.conf, and restart nova-api-metadata.",
)
INSTANCE_UNKNOWN_TO_NOVA = Fault(
    "instance-unknown-to-nova",
    Hop.NOVA,
    _ERROR,
    "Nova does not know the instance and project that the record names.",
    "The record is stale, or another deployment's: ovs-metadata port sync --from-neutron "
    "renews it.",
)
