"""Nova's contract as data: requests to a metadata service, and the response to each.

A request is written for any instance; `Identity` fills in which one. The status is what Nova 34
behind gunicorn gives, with a Neutron that knows no metadata providers, to an instance that has a
port with an IPv4 address, a key pair called "lab" and user data.
"""

import uuid
from dataclasses import dataclass
from enum import Enum

from lab.stand_ins.metadata_instance import Instance
from lab.stand_ins.metadata_service import sign

Headers = tuple[tuple[str, str], ...]

# Values in braces are filled in for the instance that asks: see `Identity`.
AUTHENTIC: Headers = (
    ("X-Instance-ID", "{uuid}"),
    ("X-Tenant-ID", "{project}"),
    ("X-Instance-ID-Signature", "{signature}"),
    ("X-Forwarded-For", "10.0.0.5"),
)


def without(name: str) -> Headers:
    """The authentic headers but for one."""
    return tuple(field for field in AUTHENTIC if field[0] != name)


def replacing(name: str, *values: str) -> Headers:
    """The authentic headers with `name` sent once per value, in the original's place."""
    return tuple(
        (field, sent)
        for field, value in AUTHENTIC
        for sent in (values if field == name else (value,))
    )


def adding(*fields: tuple[str, str]) -> Headers:
    """The authentic headers and some more."""
    return (*AUTHENTIC, *fields)


class Same(Enum):
    """What must be the same of two services' answers, beside the status."""

    STATUS = "nothing else"
    TYPE = "the Content-Type"
    KEYS = "the Content-Type, and the JSON document's keys, at every depth"
    BODY = "the Content-Type, and the body byte for byte"


@dataclass(frozen=True)
class Case:
    """One request, the status it is answered with, and what else is of interest of the answer."""

    name: str
    status: int
    path: str
    same: Same = Same.STATUS
    method: str = "GET"
    headers: Headers = AUTHENTIC
    body: bytes = b""


META = "/openstack/latest/meta_data.json"
PASSWORD = "/openstack/latest/password"

CASES = [
    # Authentication.
    Case("root needs none", 200, "/", Same.BODY, headers=()),
    Case("root with dots needs none", 200, "/openstack/..", Same.BODY, headers=()),
    Case("root with a query needs none", 200, "/?a=b", Same.BODY, headers=()),
    Case("root with a wrong signature", 200, "/", headers=replacing("X-Instance-ID", "nobody")),
    Case("POST to root", 200, "/", Same.BODY, "POST", ()),
    Case("root with more slashes needs none", 200, "//", Same.BODY, headers=()),
    Case("no headers at all", 400, META, Same.TYPE, headers=()),
    Case("no X-Instance-ID", 400, META, headers=without("X-Instance-ID")),
    Case("no X-Tenant-ID", 400, META, headers=without("X-Tenant-ID")),
    Case("no signature", 400, META, headers=without("X-Instance-ID-Signature")),
    Case("no X-Forwarded-For", 200, META, headers=without("X-Forwarded-For")),
    Case("wrong signature", 403, META, headers=replacing("X-Instance-ID-Signature", "0" * 64)),
    Case("short signature", 403, META, headers=replacing("X-Instance-ID-Signature", "00")),
    Case("empty signature", 403, META, headers=replacing("X-Instance-ID-Signature", "")),
    Case(
        *("upper-case signature", 403, META),
        headers=replacing("X-Instance-ID-Signature", "{upper_signature}"),
    ),
    Case(
        *("signature beyond ASCII", 500, META),
        headers=replacing("X-Instance-ID-Signature", "\xe9" * 64),
    ),
    Case(
        *("another instance's signature", 403, META),
        headers=replacing("X-Instance-ID-Signature", "{other_signature}"),
    ),
    Case(
        *("signature sent twice", 403, META),
        headers=replacing("X-Instance-ID-Signature", "{signature}", "{signature}"),
    ),
    Case(
        *("two X-Instance-ID, the other's second", 403, META),
        headers=replacing("X-Instance-ID", "{uuid}", "{other_uuid}"),
    ),
    Case(
        *("two X-Instance-ID, the other's first", 403, META),
        headers=replacing("X-Instance-ID", "{other_uuid}", "{uuid}"),
    ),
    Case(
        *("two equal X-Instance-ID", 403, META),
        headers=replacing("X-Instance-ID", "{uuid}", "{uuid}"),
    ),
    Case(
        *("two X-Tenant-ID", 404, META),
        headers=replacing("X-Tenant-ID", "{project}", "{project}"),
    ),
    Case(
        *("two X-Forwarded-For", 200, META),
        headers=replacing("X-Forwarded-For", "10.0.0.5", "10.0.0.6"),
    ),
    Case("wrong tenant", 404, META, Same.TYPE, headers=replacing("X-Tenant-ID", "another")),
    Case("empty tenant", 404, META, headers=replacing("X-Tenant-ID", "")),
    Case("upper-case header names", 200, META, headers=tuple((n.upper(), v) for n, v in AUTHENTIC)),
    Case(
        *("unknown instance, rightly signed", 404, META),
        headers=(
            ("X-Instance-ID", "{unknown_uuid}"),
            ("X-Tenant-ID", "{project}"),
            ("X-Instance-ID-Signature", "{unknown_signature}"),
        ),
    ),
    Case(
        *("empty instance, rightly signed", 404, META),
        headers=(
            ("X-Instance-ID", ""),
            ("X-Tenant-ID", "{project}"),
            ("X-Instance-ID-Signature", "{empty_signature}"),
        ),
    ),
    Case(
        *("underscores beside dashes are ignored", 200, META),
        headers=adding(("X_Instance_ID", "{other_uuid}")),
    ),
    Case(
        *("underscores instead of dashes", 400, META),
        headers=tuple((name.replace("-", "_"), value) for name, value in AUTHENTIC),
    ),
    Case("X-Metadata-Provider", 403, META, headers=adding(("X-Metadata-Provider", "p"))),
    Case(
        *("X-Metadata-Provider, wrong signature", 403, META),
        headers=adding(
            ("X-Metadata-Provider", "p"), ("X-Metadata-Provider-Signature", "{signature}")
        ),
    ),
    Case(
        *("X-Metadata-Provider, rightly signed", 400, META),
        headers=adding(
            ("X-Metadata-Provider", "{uuid}"), ("X-Metadata-Provider-Signature", "{signature}")
        ),
    ),
    Case(
        *("X-Metadata-Provider, no address", 400, META),
        headers=(("X-Metadata-Provider", "p"),),
    ),
    Case("empty X-Metadata-Provider", 200, META, headers=adding(("X-Metadata-Provider", ""))),
    Case("authentication before the path", 403, "/nothing", headers=replacing("X-Instance-ID", "")),
    # The OpenStack tree.
    Case("versions", 200, "/openstack", Same.BODY),
    Case("versions, slash", 200, "/openstack/", Same.BODY),
    Case("documents", 200, "/openstack/latest", Same.BODY),
    Case("documents, slash", 200, "/openstack/latest/", Same.BODY),
    Case("documents by name", 200, "/openstack/latest/version", Same.BODY),
    Case("documents, first version", 200, "/openstack/2012-08-10", Same.BODY),
    Case("documents, middle version", 200, "/openstack/2015-10-15/", Same.BODY),
    Case("documents, last version", 200, "/openstack/2025-04-04/", Same.BODY),
    Case("unknown version", 404, "/openstack/1999-01-01/meta_data.json"),
    Case("metadata", 200, META, Same.KEYS),
    Case("metadata, slash", 200, META + "/", Same.KEYS),
    Case("metadata, query", 200, META + "?x=%2e%2e/y", Same.KEYS),
    Case("metadata, dots", 200, "/openstack/../openstack/./latest//meta_data.json", Same.KEYS),
    Case("metadata, percent-encoded", 200, "/openstack/latest/meta%5fdata.json", Same.KEYS),
    Case("metadata, encoded slash", 200, "/openstack/latest%2fmeta_data.json", Same.KEYS),
    Case("metadata, absolute URI", 200, "http://metadata.lab" + META, Same.KEYS),
    Case("absolute URI with no path is not root", 400, "http://metadata.lab", headers=()),
    Case("absolute URI with no path, authentic", 200, "http://metadata.lab", Same.BODY),
    Case("a target that is no URI", 400, "http://[metadata.lab" + META),
    Case("metadata, first version", 200, "/openstack/2012-08-10/meta_data.json", Same.KEYS),
    Case("metadata, 2015", 200, "/openstack/2015-10-15/meta_data.json", Same.KEYS),
    Case("metadata, 2016", 200, "/openstack/2016-06-30/meta_data.json", Same.KEYS),
    Case("below metadata", 404, META + "/uuid"),
    Case("user data", 200, "/openstack/latest/user_data", Same.BODY),
    Case("vendor data", 200, "/openstack/latest/vendor_data.json", Same.KEYS),
    Case("vendor data 2", 200, "/openstack/latest/vendor_data2.json", Same.KEYS),
    Case("vendor data before its version", 404, "/openstack/2012-08-10/vendor_data.json"),
    Case("network data", 200, "/openstack/latest/network_data.json", Same.BODY),
    Case("network data before its version", 200, "/openstack/2013-10-17/network_data.json"),
    Case("documents before network data", 200, "/openstack/2013-10-17/", Same.BODY),
    Case("more slashes", 200, "//openstack///latest", Same.BODY),
    Case("password before its version", 404, "/openstack/2012-08-10/password"),
    Case("no such document", 404, "/openstack/latest/nothing", Same.TYPE),
    Case("content directory", 404, "/openstack/content"),
    Case("content", 404, "/openstack/content/0000"),
    Case("content below a version", 500, "/openstack/latest/content"),
    # The EC2 tree.
    Case("EC2 versions", 200, "/ec2", Same.BODY),
    Case("EC2 versions, slash", 200, "/ec2/", Same.BODY),
    Case("EC2 latest", 200, "/latest", Same.BODY),
    Case("EC2 latest, slash", 200, "/latest/", Same.BODY),
    Case("EC2 latest with prefix", 200, "/ec2/latest", Same.BODY),
    Case("EC2 metadata", 200, "/latest/meta-data", Same.BODY),
    Case("EC2 metadata, slash", 200, "/latest/meta-data/", Same.BODY),
    Case("EC2 metadata, cloud-init's version", 200, "/2009-04-04/meta-data/", Same.BODY),
    Case("EC2 metadata, 1.0", 200, "/1.0/meta-data/", Same.BODY),
    Case("EC2 metadata, 2007", 200, "/2007-08-29/meta-data/", Same.BODY),
    Case("EC2 metadata, unknown version", 404, "/2011-01-01/meta-data/"),
    Case("EC2 instance id", 200, "/latest/meta-data/instance-id", Same.TYPE),
    Case("EC2 image id", 200, "/latest/meta-data/ami-id", Same.TYPE),
    Case("EC2 hostname", 200, "/latest/meta-data/hostname", Same.BODY),
    Case("EC2 hostname, slash", 200, "/latest/meta-data/hostname/", Same.BODY),
    Case("EC2 public address", 200, "/latest/meta-data/public-ipv4", Same.BODY),
    Case("EC2 local address", 200, "/latest/meta-data/local-ipv4", Same.BODY),
    Case("EC2 instance type", 200, "/latest/meta-data/instance-type", Same.BODY),
    Case("EC2 launch index", 200, "/latest/meta-data/ami-launch-index", Same.BODY),
    Case("EC2 security groups", 200, "/latest/meta-data/security-groups", Same.BODY),
    Case("EC2 keys", 200, "/latest/meta-data/public-keys/", Same.BODY),
    Case("EC2 first key", 200, "/latest/meta-data/public-keys/0/", Same.BODY),
    Case("EC2 first key's text", 200, "/latest/meta-data/public-keys/0/openssh-key", Same.BODY),
    Case("EC2 second key", 404, "/latest/meta-data/public-keys/1/openssh-key"),
    Case("EC2 key by its listing", 404, "/latest/meta-data/public-keys/0=lab/openssh-key"),
    Case("EC2 devices", 200, "/latest/meta-data/block-device-mapping/", Same.BODY),
    Case("EC2 root device", 200, "/latest/meta-data/block-device-mapping/root", Same.BODY),
    Case("EC2 placement", 200, "/latest/meta-data/placement/", Same.BODY),
    Case("EC2 zone", 200, "/latest/meta-data/placement/availability-zone", Same.BODY),
    Case("EC2 user data", 200, "/latest/user-data", Same.BODY),
    Case("EC2 nothing", 404, "/latest/meta-data/nothing"),
    Case("EC2 no such top", 404, "/latest/dynamic/instance-identity/document"),
    Case("below an EC2 leaf", 500, "/latest/meta-data/hostname/x"),
    Case("far below an EC2 leaf", 404, "/latest/meta-data/hostname/x/y"),
    Case("below an EC2 list, its item", 500, "/latest/meta-data/security-groups/default"),
    Case("below an EC2 list, no item", 404, "/latest/meta-data/security-groups/x"),
    Case("below EC2 user data", 500, "/latest/user-data/x"),
    Case("nothing known", 404, "/favicon.ico"),
    Case("path that is not UTF-8", 500, "/latest/%ff"),
    # Methods: Nova does not look at them, except for the password.
    Case("HEAD root", 200, "/", Same.BODY, "HEAD", ()),
    Case("HEAD metadata", 200, META, Same.BODY, "HEAD"),
    Case("HEAD nothing", 404, "/latest/nothing", method="HEAD"),
    Case("POST metadata", 200, META, Same.KEYS, "POST", body=b"{}"),
    Case("PUT metadata", 200, META, Same.KEYS, "PUT", body=b"{}"),
    Case("DELETE metadata", 200, META, Same.KEYS, "DELETE"),
    Case("OPTIONS metadata", 200, META, Same.KEYS, "OPTIONS"),
    Case("PATCH user data", 200, "/latest/user-data", Same.BODY, "PATCH"),
    Case("DELETE nothing", 404, "/latest/nothing", method="DELETE"),
    Case("PUT without authentication", 400, META, method="PUT", headers=()),
    Case(
        "OPTIONS with a wrong tenant",
        200,
        META,
        Same.STATUS,
        "OPTIONS",
        replacing("X-Tenant-ID", "another"),
    ),
    Case(
        "EC2 session token",
        404,
        "/latest/api/token",
        Same.STATUS,
        "PUT",
        adding(("X-aws-ec2-metadata-token-ttl-seconds", "60")),
    ),
    Case("HEAD password", 400, PASSWORD, method="HEAD"),
    Case("PUT password", 400, PASSWORD, method="PUT", body=b"p"),
    Case("DELETE password", 400, PASSWORD, method="DELETE"),
    # Nova's CORS middleware hides every refusal of an OPTIONS request.
    Case("OPTIONS password", 200, PASSWORD, Same.BODY, "OPTIONS"),
    Case("OPTIONS without authentication", 200, META, Same.BODY, "OPTIONS", ()),
    Case("OPTIONS nothing", 200, "/nothing", Same.BODY, "OPTIONS"),
    Case("OPTIONS below a leaf", 500, "/latest/user-data/x", method="OPTIONS"),
    # Accept chooses the form of errors only.
    Case("error as text", 404, "/nothing", Same.TYPE, headers=adding(("Accept", "text/plain"))),
    Case("error as HTML", 404, "/nothing", Same.TYPE, headers=adding(("Accept", "text/html"))),
    Case("error as anything", 404, "/nothing", Same.TYPE, headers=adding(("Accept", "*/*"))),
    Case("metadata as HTML", 200, META, Same.KEYS, headers=adding(("Accept", "text/html"))),
]


@dataclass(frozen=True)
class Identity:
    """Fills in the braces of a table's header values."""

    secret: str
    instance: Instance
    other: Instance

    def fill(self, headers: Headers) -> Headers:
        """The headers as they are sent."""
        unknown = str(uuid.UUID(int=0))
        signature = sign(self.secret, self.instance.uuid)
        values = {
            "uuid": self.instance.uuid,
            "project": self.instance.project_id,
            "signature": signature,
            "upper_signature": signature.upper(),
            "other_uuid": self.other.uuid,
            "other_signature": sign(self.secret, self.other.uuid),
            "unknown_uuid": unknown,
            "unknown_signature": sign(self.secret, unknown),
            "empty_signature": sign(self.secret, ""),
        }
        return tuple((name, value.format_map(values)) for name, value in headers)
