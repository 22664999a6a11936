"""Who calls: the instance behind a client certificate, or the session behind a bearer token."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import grpc

from services.common.errors import NotAllowed, NotSignedIn

SCHEME = "oort"
# The role in the certificates that operators' tools carry.
OPERATOR = "operator"
_BEARER = "bearer "


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance of a role, as its certificate's URI SAN `oort://<role>/<instance>` says."""

    role: str
    name: str

    def __str__(self) -> str:
        return f"{SCHEME}://{self.role}/{self.name}"

    @classmethod
    def parse(cls, uri: str) -> "Instance | None":
        """Read a URI SAN; None if it is not one of ours."""
        parts = urlsplit(uri)
        name = parts.path.removeprefix("/")
        if parts.scheme != SCHEME or not parts.netloc or not name or "/" in name or parts.query or parts.fragment:
            return None
        return cls(parts.netloc, name)


def peer(context: grpc.aio.ServicerContext[Any, Any]) -> Instance:
    """The instance that calls over mutual TLS. Raises NotAllowed if the certificate names none, or several."""
    names = context.auth_context().get("x509_subject_alternative_name", [])
    instances = [found for name in names if (found := Instance.parse(name.decode("utf-8", "replace")))]
    if len(instances) != 1:
        raise NotAllowed(detail="The call needs a client certificate that names one oort:// instance.")
    return instances[0]


def require_peer(context: grpc.aio.ServicerContext[Any, Any], *roles: str) -> Instance:
    """The calling instance, if it is of one of `roles`. Raises NotAllowed."""
    instance = peer(context)
    if instance.role not in roles:
        raise NotAllowed(detail=f"{instance} may not call this: only {', '.join(roles)} may.")
    return instance


def bearer(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """The token of `authorization: Bearer TOKEN`. Raises NotSignedIn."""
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str) and value.lower().startswith(_BEARER):
            token = value[len(_BEARER) :].strip()
            if token:
                return token
    raise NotSignedIn
