"""What opendal says that went wrong, in a few words for a person.

Kept true: what is told holds no credentials and no headers, for only codes and words that are known are taken from
opendal's text, and where there is none its first line.
"""

import re
from enum import StrEnum

_KIND = re.compile(r"(\w+) \((?:permanent|temporary|persistent)\)")
_SERVICE = re.compile(r"^\s*service: (\w+)$", re.MULTILINE)  # in the context of an error
_CODE = re.compile(r'code: "(\w+)"|<Code>(\w+)</Code>|reason: "(\w+)"')  # S3's and Azure's, Google's
_STATUS = re.compile(r"status: (\d{3})")
_LONGEST = 200
_STRUCTURES = ("<", "{", "S3Error {", "GcsErrorResponse {")  # pages and dumps that tell a person nothing


class Trouble(StrEnum):
    """What kind of failure it is."""

    MISSING = "missing"
    EXISTS = "exists"
    SHORT = "short"
    CUT = "cut"  # fewer bytes come, each time, than there are
    FULL = "full"
    UNREACHED = "unreached"  # no answer came
    BUSY = "busy"  # the store asks to come again
    BEHIND = "behind"  # it does not show yet what was stored
    UNKNOWN_TO_IT = "unknown to it"  # the store lacks what the call asks for
    REFUSED = "refused"


class Failure(Exception):
    """One call that failed; `said` is for a person, after the store's place and a colon."""

    def __init__(self, trouble: Trouble, said: str) -> None:
        super().__init__(said)
        self.trouble = trouble
        self.said = said

    @property
    def passes(self) -> bool:
        """Whether the same call may succeed a little later."""
        return self.trouble in (Trouble.UNREACHED, Trouble.BUSY, Trouble.BEHIND)


_WRONG_KEY = "it does not know this access key, or the secret does not belong to it: check both"
# By opendal's name of a kind of store, where it calls what opens it otherwise than S3 does.
_WRONG_LOGINS = {
    "azblob": "it does not know this account, or the account key does not belong to it: check both",
    "gcs": "it does not take this service account's key: check it",
    "b2": "it does not know this key id, or the application key does not belong to it: check both",
    "swift": "it does not take this token: check it, or get a new one if its time is over",
    "webdav": "it does not take this user with this password: check both",
}
NO_CONTAINER = "there is no such bucket or container: make it first, or check its name"
_OTHER_REGION = "the bucket lies in another region: give that one, or the endpoint of that region"
_CLOCK = "this machine's clock is too far from the store's: set it right"
_DENIED = "it does not let this key do that: look at the key's rights"
_DENIED_LOGINS = {
    "azblob": "it does not let this account key do that: look at the rights of the account",
    "gcs": "it does not let this service account do that: look at its rights",
    "swift": "it does not let this token do that: look at its rights",
    "webdav": "it does not let this user do that: look at the user's rights",
}
_NO_TLS = "it does not speak TLS: is the port right, and is an address without TLS meant, which says http?"
_UNTRUSTED = (
    "its certificate is not one that this machine trusts: add its CA to the machine's, or name a file with all CAs in "
    "SSL_CERT_FILE"
)
_NO_STORE = "it does not know what is asked of it: look whether the address is that of such a store"
_HELD = "a rule of the store, or a snapshot of it, holds what is to be replaced or removed"
_CODES = {
    "InvalidAccessKeyId": _WRONG_KEY,
    "SignatureDoesNotMatch": _WRONG_KEY,
    "AuthenticationFailed": _WRONG_KEY,
    "InvalidAuthenticationInfo": _WRONG_KEY,
    "InvalidToken": _WRONG_KEY,
    "ExpiredToken": _WRONG_KEY,
    "NoSuchBucket": NO_CONTAINER,
    "ContainerNotFound": NO_CONTAINER,
    "ContainerBeingDeleted": "the container is being deleted",
    "AuthorizationHeaderMalformed": _OTHER_REGION,
    "PermanentRedirect": _OTHER_REGION,
    "TemporaryRedirect": _OTHER_REGION,
    "IllegalLocationConstraintException": _OTHER_REGION,
    "RequestTimeTooSkewed": _CLOCK,
    "RequestExpired": _CLOCK,
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "AuthorizationFailure": _DENIED,
    "AuthorizationPermissionMismatch": _DENIED,
    "BlobImmutableDueToPolicy": _HELD,
    "SnapshotsPresent": _HELD,
    "retentionPolicyNotMet": _HELD,
}
_FULL = {
    "QuotaExceeded",
    "StorageQuotaExceeded",
    "AccountStorageQuotaExceeded",
    "InsufficientStorage",
    "XMinioStorageFull",
    "storage_cap_exceeded",
    "507",
}
_BUSY = {
    "SlowDown",
    "SlowDownRead",
    "SlowDownWrite",
    "TooManyRequests",
    "ServerBusy",
    "ServiceUnavailable",
    "ConditionalRequestConflict",
    "RequestTimeout",
    "rateLimitExceeded",
    "userRateLimitExceeded",
    "408",
    "429",
    "503",
}
_ENDED = {"NoSuchUpload"}  # by a rule of the store, or from elsewhere
_GARBLED = {"BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"}
_SHORT = {"InvalidRange", "416"}
_LACKING = {"NotImplemented", "501"}
_UNTAKEN = {
    "InvalidArgument",
    "InvalidRequest",
    "UnsupportedHeader",
}  # as some say of a checksum
_STATUSES = {
    "401": _WRONG_KEY,
    "403": _DENIED,
    "405": _NO_STORE,
    "301": _OTHER_REGION,
    "307": _OTHER_REGION,
    "308": _OTHER_REGION,
}
_UNREACHED = (
    ("dns error", "its name is not known: check the address and the network"),
    ("Connection refused", "nothing answers there: check the address and the port"),
    ("InvalidContentType", _NO_TLS),
    ("certificate", _UNTRUSTED),
    ("timed out", "it did not answer in time"),
    ("", "the connection broke: check the network"),
)
_KINDS = {
    "NotFound": Trouble.MISSING,
    "ConditionNotMatch": Trouble.EXISTS,
    "AlreadyExists": Trouble.EXISTS,
    "RangeNotSatisfied": Trouble.SHORT,
}


def is_of_opendal(error: Exception) -> bool:
    """Its errors have no base class of their own."""
    return type(error).__module__ == "opendal.exceptions"


def is_missing(error: Exception) -> bool:
    """Whether it says that there is no such file."""
    if isinstance(error, Failure):
        return error.trouble is Trouble.MISSING
    return is_of_opendal(error) and type(error).__name__ == "NotFound"


def read_failure(error: Exception) -> Failure:
    """What an error of opendal's means, or an OSError by which it tells of one where a file is written."""
    text = str(error)
    told = _KIND.match(text)
    kind = told[1] if told else type(error).__name__
    known = {next(filter(None, found.groups())) for found in (_CODE.search(text), _STATUS.search(text)) if found}
    refusal = next((table[word] for table in (_CODES, _STATUSES) for word in sorted(known & table.keys())), None)
    if known & _GARBLED:
        failure = Failure(Trouble.BUSY, "what came there was not what was sent: check the network")
    elif known & _ENDED:
        failure = Failure(Trouble.BUSY, "the upload was ended there before it was whole: try again")
    elif kind in _KINDS and not known & (_CODES.keys() | _BUSY):
        failure = Failure(_KINDS[kind], _in_short(text))
    elif "too little data" in text or known & _SHORT:
        failure = Failure(Trouble.SHORT, "it sent fewer bytes than were asked for")
    elif known & _FULL:
        failure = Failure(Trouble.FULL, "it takes no more")
    elif kind == "RateLimited" or known & _BUSY:
        failure = Failure(Trouble.BUSY, "it is busy, or limits how often it is asked: try again later")
    elif refusal or kind == "PermissionDenied":
        failure = Failure(Trouble.REFUSED, _in_words_of_the_store(refusal or _DENIED, text))
    elif known & _LACKING or ("x-amz-checksum" in text and known & _UNTAKEN):
        failure = Failure(Trouble.UNKNOWN_TO_IT, f"it lacks what is asked of it ({_in_short(text)})")
    else:
        failure = _by_its_text(text)
    return failure


def _in_words_of_the_store(refusal: str, text: str) -> str:
    """A refusal of what opens a store, with what such a store calls that."""
    service = _SERVICE.search(text)
    words = {_WRONG_KEY: _WRONG_LOGINS, _DENIED: _DENIED_LOGINS}.get(refusal, {})
    return words.get(service[1], refusal) if service else refusal


def _by_its_text(text: str) -> Failure:
    """What an error means that has no code known here."""
    if "reqwest" in text:
        said = next(said for word, said in _UNREACHED if word in text)
        return Failure(Trouble.REFUSED if said is _NO_TLS else Trouble.UNREACHED, said)
    if "signing http request" in text:
        # Only of a key that cannot be read is it said that it is the credential, and not who gives tokens for it.
        if "failed to parse" in text:
            return Failure(Trouble.REFUSED, "its key cannot be read: look at the credential")
        return Failure(
            Trouble.UNREACHED, "no token comes for the credential: it is not right, or who gives them is away"
        )
    if "deserialize" in text:
        return Failure(Trouble.BUSY, "its answer breaks off, or is none of such a store: is the address right?")
    if "(temporary)" in text:
        return Failure(Trouble.BUSY, f"{_in_short(text)}: try again later")
    return Failure(Trouble.REFUSED, _in_short(text))


def _in_short(text: str) -> str:
    """What the store says: a code; else what `Unexpected (permanent) at write => what it says` says; else a status."""
    if code := _CODE.search(text):
        return f"it answers {next(filter(None, code.groups()))}"
    said = text.partition("\n")[0].partition(" => ")[2]
    said = "".join(character for character in said if character.isprintable()).strip().rstrip(".")
    if said and not said.startswith(_STRUCTURES):
        return said[:_LONGEST]
    status = _STATUS.search(text)
    return f"it answers with the status {status[1]}" if status else "it does not say what is wrong"
