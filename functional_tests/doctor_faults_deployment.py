"""Faults of the deployment's configuration and of Nova, made on purpose."""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack

from doctor_faults_host import firewall
from doctor_support import (
    Case,
    Failing,
    Injection,
    NoHttp,
    Nova,
    OtherService,
    Unchecking,
    Ward,
    nova_at,
)

from lab.rig.certificates import Authority
from lab.rig.process import stopped_process
from ovs_metadata.host.config import load
from ovs_metadata.store.configuration import DEFAULT_TEMPLATE
from ovs_metadata.store.layout import config_template_path


def deployed(**values: str | float | bool) -> Injection:
    @contextlib.contextmanager
    def inject(patient: Ward) -> Iterator[None]:
        patient.hypervisor.deploy(**values)
        try:
            yield
        finally:
            hypervisor = patient.hypervisor
            before: dict[str, str | bool] = {
                "enabled": True,
                "nova_metadata_url": hypervisor.nova,
                "shared_secret": hypervisor.secret,
            }
            hypervisor.deploy(**{name: before.get(name) for name in values})

    return inject


@contextlib.contextmanager
def malformed_document(patient: Ward) -> Iterator[None]:
    store, path = patient.hypervisor.store, config_template_path(DEFAULT_TEMPLATE)
    before = store.read_document(path)
    assert before
    assert store.write_document(path, b"{", before.version)
    try:
        yield
    finally:
        now = store.read_document(path)
        assert now
        store.write_document(path, before.data, now.version)


def instead_of_nova(
    kind: type, *, tls: bool = False, days: int = 1, **values: str | bool
) -> Injection:
    """Have something else at another port, and Nova's URL lead there."""

    @contextlib.contextmanager
    def inject(patient: Ward) -> Iterator[None]:
        authority = Authority(patient.hypervisor.root / "authority") if tls else None
        certificate = authority.sign("nova", days=days) if authority else None
        given = {
            name: str(authority.certificate) if authority and value == "{ca}" else value
            for name, value in values.items()
        }
        url = f"{'https' if tls else 'http'}://127.0.0.1:8776"
        with ExitStack() as stack:
            stack.enter_context(nova_at(patient.hypervisor, kind, 8776, certificate))
            stack.enter_context(deployed(nova_metadata_url=url, **given)(patient))
            yield

    return inject


@contextlib.contextmanager
def silent_nova(patient: Ward) -> Iterator[None]:
    service = patient.hypervisor.processes["metadata-service"]
    with deployed(response_timeout=1.0)(patient), stopped_process(service.pid):
        yield


@contextlib.contextmanager
def other_project(patient: Ward) -> Iterator[None]:
    patient.hypervisor.put(patient.guest, project_id="another-project")
    yield
    patient.hypervisor.put(patient.guest)


def firewall_before_nova(patient: Ward) -> AbstractContextManager[None]:
    """The workers' user may not connect to Nova."""
    rule = f"tcp dport 8775 meta skuid {load(patient.hypervisor.config).proxy_user} reject"
    return firewall(patient.hypervisor.namespace, "output", rule)


CASES = [
    # The deployment's configuration.
    Case("value-ignored", deployed(rate_limit="much"), word="", status=1),
    Case("value-ignored", deployed(enabled="perhaps"), status=1),
    Case("settings-unusable", deployed(nova_ca_file="/nowhere/ca.pem"), word=""),
    Case("secret-empty", deployed(shared_secret=""), frozenset({"secret-refused"})),
    Case("document-malformed", malformed_document, word=""),
    # Nova.
    Case("secret-refused", deployed(shared_secret="an-old-one")),
    Case("nova-unreachable", deployed(nova_metadata_url="http://127.0.0.1:9")),
    Case(
        "nova-unreachable",
        deployed(nova_metadata_url="http://127.0.0.1:9,http://127.0.0.1:8775"),
        status=1,
    ),
    Case("nova-firewalled", firewall_before_nova),
    Case("nova-unresolvable", deployed(nova_metadata_url="http://nova.invalid:8775")),
    Case("nova-silent", silent_nova),
    Case("nova-not-http", instead_of_nova(NoHttp)),
    Case("nova-not-nova", instead_of_nova(OtherService)),
    Case("nova-fails", instead_of_nova(Failing)),
    Case("secret-unchecked", instead_of_nova(Unchecking)),
    Case("nova-tls", instead_of_nova(Nova, tls=True)),
    Case("nova-tls", deployed(nova_metadata_url="https://127.0.0.1:8775", connect_timeout=1.0)),
    Case(
        "nova-certificate-expires",
        instead_of_nova(Nova, tls=True, nova_ca_file="{ca}"),
        status=1,
    ),
    Case(
        "nova-certificate-dates",
        instead_of_nova(Nova, tls=True, days=-1, nova_ca_file="{ca}"),
    ),
    Case("nova-tls-unchecked", instead_of_nova(Nova, tls=True, nova_insecure=True), status=1),
    Case("instance-unknown-to-nova", other_project),
    # The switch by which all of it is turned off.
    Case("disabled", deployed(enabled=False), word=""),
]
