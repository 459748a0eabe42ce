"""Who gets which identity from an environment's authority: two ValidatingAdmissionPolicies.

A CertificateRequest brings its names in a PEM that CEL cannot decode. So nobody may make one for our authority but cert-manager,
which writes down what a Certificate says; and of Certificates, whose names CEL does see, each service's is in one place. What CEL
cannot see: the names in a request, who approved it, and the authority's own secret. Not here: who may make a person's Certificate,
act as cert-manager, read that secret, or make another issuer of it, which RBAC alone says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from services.core import admission
from services.core.admission import refuse_unless
from services.core.kube import Object, Resource
from services.core.tls import person_id

REQUESTS = Resource("cert-manager.io", "v1", "certificaterequests")
CERTIFICATES = Resource("cert-manager.io", "v1", "certificates")
NAME_OF_REQUESTS, NAME_OF_CERTIFICATES = "ai-infra-certificate-requests", "ai-infra-certificates"
PERSON: Final = person_id("")
UNREAD: Final = ("commonName", "emailAddresses", "literalSubject", "otherNames")
"""Fields of a Certificate that give names of other kinds than ours."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Of one Certificate. uris, addresses: exactly these URIs and IP addresses; names: its DNS names, None for any, where its owner
    is trusted with all of a namespace."""

    namespace: str
    name: str
    uris: Sequence[str] = ()
    names: Sequence[str] | None = None
    addresses: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Authority:
    """issuer: a ClusterIssuer; requester: user name of cert-manager's controller; people: namespace of people's Certificates."""

    issuer: str
    requester: str
    people: str
    identities: Sequence[Identity]


def requests_policy(authority: Authority) -> Object:
    refusal = refuse_unless(
        f"!({_ours(authority)}) || request.userInfo.username == '{authority.requester}'",
        f"only cert-manager asks the issuer {authority.issuer}: make a Certificate, whose names can be seen",
    )
    return admission.policy(NAME_OF_REQUESTS, REQUESTS, [refusal])


def certificates_policy(authority: Authority) -> Object:
    """Certificates of other issuers are not judged."""
    uris = {_key(identity): list(identity.uris) for identity in authority.identities}
    names = {_key(identity): list(identity.names) for identity in authority.identities if identity.names is not None}
    addresses = {_key(identity): list(identity.addresses) for identity in authority.identities if identity.addresses}
    variables = {
        "ours": _ours(authority),
        "key": "object.metadata.namespace + '/' + object.metadata.name",
        "uris": "has(object.spec.uris) ? object.spec.uris : []",
        "names": "has(object.spec.dnsNames) ? object.spec.dnsNames : []",
        "addresses": "has(object.spec.ipAddresses) ? object.spec.ipAddresses : []",
        "known": _map(uris),
        "named": _map(names),
        "addressed": _map(addresses),
        "person": f"object.metadata.namespace == '{authority.people}' && variables.uris.size() == 1"
        f" && variables.uris[0].startsWith('{PERSON}') && variables.uris[0].substring({len(PERSON)}).matches('^[A-Za-z0-9._-]+$')",
    }
    refusals = (
        refuse_unless(
            "!variables.ours || (variables.key in variables.known ? variables.uris == variables.known[variables.key]"
            " : variables.person)",
            f"issuer {authority.issuer}: spec.uris is not the identity of this Certificate; a person's is in namespace"
            f" {authority.people}, with one URI {PERSON}NAME",
        ),
        refuse_unless(
            "!variables.ours || (variables.key in variables.known"
            " ? !(variables.key in variables.named) || variables.names == variables.named[variables.key]"
            " : variables.names.size() == 0)",
            f"issuer {authority.issuer}: spec.dnsNames are not those of this Certificate; a person's has none",
        ),
        # An address is a host that somebody calls, as a DNS name is.
        refuse_unless(
            "!variables.ours || (variables.key in variables.addressed ? variables.addresses == variables.addressed[variables.key]"
            " : variables.addresses.size() == 0)",
            f"issuer {authority.issuer}: spec.ipAddresses are not those of this Certificate; few have any",
        ),
        refuse_unless(
            "!variables.ours || !has(object.spec.isCA) || !object.spec.isCA",
            f"issuer {authority.issuer}: isCA would make an authority of whoever holds the key",
        ),
        # OpenSSL takes the common name for a host's where a certificate has no DNS name.
        refuse_unless(
            f"!variables.ours || !({' || '.join(f'has(object.spec.{field})' for field in UNREAD)})",
            f"issuer {authority.issuer}: {', '.join(UNREAD)} are names that nobody here needs, and somebody might go by",
        ),
    )
    return admission.policy(NAME_OF_CERTIFICATES, CERTIFICATES, refusals, variables=variables)


def requests_binding() -> Object:
    """In every namespace, as that of Certificates: whoever may make these objects anywhere would else have any identity."""
    return admission.binding(NAME_OF_REQUESTS)


def certificates_binding() -> Object:
    return admission.binding(NAME_OF_CERTIFICATES)


def _ours(authority: Authority) -> str:
    reference = "object.spec.issuerRef"
    return f"{reference}.name == '{authority.issuer}' && has({reference}.kind) && {reference}.kind == 'ClusterIssuer'"


def _key(identity: Identity) -> str:
    return f"{identity.namespace}/{identity.name}"


def _map(lists: Mapping[str, list[str]]) -> str:
    """A map in CEL. Lists of one type, the empty one too."""
    return "{" + ", ".join(f"{key!r}: dyn({value})" for key, value in lists.items()) + "}"
