"""cloud-init, the client nearly every instance runs, finds its instance: real Nova, whole path."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import pytest
from hypervisor_fixtures import close_hypervisor, make_hypervisor

from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor, instance_of
from lab.rig.process import wait_for
from lab.rig.relay import Relay
from lab.upstream.cloud_init import BOOT_PATHS, Discovery, discover
from lab.upstream.cloud_init_install import BOOKWORM, NEWEST, install_cloud_init
from lab.upstream.nova import Nova

IPV4_URL = "http://169.254.169.254"
IPV6_URL = "http://[fe80::a9fe:a9fe%eth0]"
"""With the zone as the C library writes it, which is what cloud-init 22.4 understands."""


SOURCES: tuple[Literal["OpenStack", "Ec2"], ...] = ("OpenStack", "Ec2")

SUITES = (BOOKWORM, NEWEST)
"""Suites of Debian whose cloud-init is tried: 22.4, and the newest."""

# What the fixtures wait for, Nova above all, has limits of its own.
pytestmark = pytest.mark.timeout(120, func_only=True)


@pytest.fixture(scope="module", autouse=True)
def _cloud_init() -> None:
    """Fetch them outside the tests' time limit."""
    for suite in SUITES:
        install_cloud_init(suite)


@pytest.fixture(scope="module")
def cloud(nova: Nova) -> Iterator[Hypervisor]:
    """A hypervisor whose agent asks the real Nova."""
    hypervisor = make_hypervisor()
    hypervisor.secret = nova.secret
    try:
        hypervisor.start()
        with Relay(hypervisor.namespace, 8775, urlsplit(nova.url).netloc):
            hypervisor.start_agent()
            yield hypervisor
    finally:
        close_hypervisor(hypervisor)


@pytest.fixture(scope="module")
def guests(cloud: Hypervisor, nova: Nova) -> list[Guest]:
    """Two with the same addresses, and one that has only IPv6; Nova knows them all."""
    addresses = ["10.0.0.5/24", "10.0.0.5/24", "fd00:10::5/64"]
    guests = [
        cloud.add_guest(f"g{number}", address=address) for number, address in enumerate(addresses)
    ]
    nova.create_instances(map(instance_of, guests))
    for guest in guests:
        cloud.wait_until_served(guest)
    return guests


@pytest.fixture
def guest(guests: list[Guest]) -> Guest:
    return guests[0]


@pytest.fixture
def ipv6_guest(guests: list[Guest]) -> Guest:
    """The one that has only IPv6, without a route for any other."""
    guests[2].run("ip", "-4", "route", "flush", "169.254.169.254")
    return guests[2]


def assert_found(discovery: Discovery, guest: Guest) -> None:
    """It found this guest's instance: keys, user data and name are different for each."""
    assert discovery.found, discovery.log
    instance = instance_of(guest)
    assert discovery.public_keys == tuple(instance.public_keys.values())
    assert discovery.user_data.encode() == instance.user_data
    assert discovery.hostname == guest.name
    assert discovery.requests


def assert_found_without_errors(discovery: Discovery, guest: Guest) -> None:
    """And every answer was a document, or that there is none: no error of the way there."""
    assert_found(discovery, guest)
    assert {request.status for request in discovery.requests} <= {200, 404}


@pytest.mark.parametrize("suite", SUITES)
def test_the_openstack_source_finds_its_instance(guest: Guest, suite: str) -> None:
    discovery = discover(guest, "OpenStack", suite=suite)
    assert_found_without_errors(discovery, guest)
    assert discovery.instance_id == guest.instance_id
    assert discovery.address == IPV4_URL
    # The instance is recognised by the UUID in the machine's DMI data, at the next boot.
    assert discovery.still_the_same


def test_the_requests_of_a_boot_are_those_the_benchmarks_send(guest: Guest) -> None:
    paths = [request.path for request in discover(guest, "OpenStack").requests]
    keys = [path for path in paths if "/public-keys/" in path]
    assert len(keys) == 2
    assert tuple(path for path in paths if path not in keys) == BOOT_PATHS


@pytest.mark.parametrize("suite", SUITES)
def test_the_ec2_source_finds_its_instance(guest: Guest, suite: str) -> None:
    discovery = discover(guest, "Ec2", cloud=False, suite=suite)
    assert_found_without_errors(discovery, guest)
    # Nova's EC2 identifiers count instances; "i-" and eight hexadecimal digits.
    assert discovery.instance_id.startswith("i-")
    assert discovery.address == IPV4_URL


@pytest.mark.parametrize("source", ["OpenStack", "Ec2"])
def test_guests_with_the_same_addresses_find_their_own(
    guests: list[Guest], source: Literal["OpenStack", "Ec2"]
) -> None:
    twins = guests[:2]
    found = [discover(twin, source) for twin in twins]
    for twin, discovery in zip(twins, found, strict=True):
        assert_found_without_errors(discovery, twin)
    assert found[0].instance_id != found[1].instance_id


def test_the_openstack_source_finds_its_instance_over_ipv6_only(ipv6_guest: Guest) -> None:
    # It asks 169.254.169.254 for the EC2 tree nevertheless, and does without when there is none.
    # These settings are the ones docs/cloud-init.md recommends.
    config = {"metadata_urls": [IPV6_URL, IPV4_URL], "max_wait": 30, "retries": 0}
    discovery = discover(ipv6_guest, "OpenStack", config)
    assert_found_without_errors(discovery, ipv6_guest)
    assert discovery.instance_id == ipv6_guest.instance_id
    assert discovery.address == IPV6_URL


def test_the_ec2_source_finds_its_instance_over_ipv6_only(ipv6_guest: Guest) -> None:
    discovery = discover(ipv6_guest, "Ec2", {"metadata_urls": [IPV6_URL]}, cloud=False)
    assert_found_without_errors(discovery, ipv6_guest)
    assert discovery.address == IPV6_URL


def test_ipv6_is_used_when_it_comes_first(guest: Guest) -> None:
    urls = [IPV6_URL, IPV4_URL]
    discovery = discover(guest, "OpenStack", {"metadata_urls": urls, "max_wait": 10})
    assert_found_without_errors(discovery, guest)
    assert discovery.instance_id == guest.instance_id
    assert discovery.address == IPV6_URL


def test_a_machine_that_is_not_openstacks_asks_nothing(guest: Guest) -> None:
    discovery = discover(guest, "OpenStack", cloud=False)
    assert not discovery.found
    assert not discovery.requests


def test_this_machine_is_not_touched(guest: Guest) -> None:
    places = [Path("/var/lib/cloud"), Path("/run/cloud-init"), Path("/etc/cloud")]
    before = [(place.exists(), _newest(place)) for place in places]
    assert_found(discover(guest, "OpenStack"), guest)
    assert [(place.exists(), _newest(place)) for place in places] == before


def _newest(place: Path) -> float:
    return max((path.stat().st_mtime for path in place.rglob("*")), default=0.0)


@pytest.mark.parametrize("suite", SUITES)
def test_the_ec2_source_finds_an_instance_that_looks_like_amazons(
    cloud: Hypervisor, nova: Nova, suite: str
) -> None:
    # It takes the machine for one of Amazon's by its UUID, asks for a token first, and does not
    # fall back if the path is not there.
    guest = cloud.add_guest(f"amazon-{suite[0]}", instance_id=f"ec2{str(uuid.uuid4())[3:]}")
    nova.create_instances([instance_of(guest)])
    cloud.wait_until_served(guest)
    discovery = discover(guest, "Ec2", cloud=False, suite=suite)
    assert_found_without_errors(discovery, guest)
    methods = [(each.method, each.status) for each in discovery.requests]
    assert methods[0] == ("PUT", 200)


@pytest.mark.parametrize("suite", SUITES)
def test_options_against_containers_and_web_pages_change_nothing_for_cloud_init(
    cloud: Hypervisor, guest: Guest, suite: str
) -> None:
    options: dict[str, str | int] = {"hop_limit": 1, "proxied": "refuse", "hosts": "literal"}
    cloud.deploy(**{f"options.{name}": value for name, value in options.items()})
    try:
        wait_for(lambda: guest.curl("/", "-H", "Host: other")[0] == 403, "the options")
        for source in SOURCES:
            discovery = discover(guest, source, cloud=source == "OpenStack", suite=suite)
            assert_found_without_errors(discovery, guest)
    finally:
        cloud.deploy(**{f"options.{name}": None for name in options})
        wait_for(lambda: guest.curl("/", "-H", "Host: other")[0] == 200, "the defaults")
