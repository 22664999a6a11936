"""Files that were copied by hand into a bucket's folder on its nodes, entered in the catalogue where they lie.

Kept true: they come in through one session, as an import does; config and keys first, then all packs of all nodes, then
all index files, then the snapshots. What a later kind may need and could still come, because a copy of it goes on or
its node does not answer, is waited for: nothing of that kind is entered then, and each file is named.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from oort.storage.v1 import adoptions_pb2, adoptions_pb2_grpc

from client.errors import ObjectMissing, ServerUnreachable, UsageError
from client.stores.abc import ObjectInfo
from deploy.seeding.beginning import Beginning
from deploy.seeding.errors import AnotherVault, NotARepository, Unreadable
from deploy.seeding.export import Moved
from deploy.seeding.session import BucketSession
from domain.names import CONFIG, BadName, ObjectKind, ObjectName

_KINDS = (ObjectKind.PACK, ObjectKind.INDEX, ObjectKind.SNAPSHOT)
_PLACE = "The bucket's folder on the nodes"
_COPY_GOES_ON = "what it may need is left out, and may still come: repeat the command"
_INDEX_LEFT_OUT = "what it needs may be listed in an index file that is left out"


@dataclass(slots=True)
class Adopted(Moved):
    """What was entered. `kept` counts files that the catalogue knew.

    `keys` are those that open the vault from now on; `in_basket` counts files of what lies in the waste basket,
    `revived` packs and index files that came out of it; `down` has the nodes that did not answer to the end, and why.
    """

    keys: list[str] = field(default_factory=list)
    in_basket: int = 0
    revived: int = 0
    down: dict[str, str] = field(default_factory=dict)


def adopt(session: BucketSession, nodes: Sequence[str], told: Callable[[Moved], None]) -> Adopted:
    """From the bucket's homes among `nodes`, or from all for none. `told` hears after each file how far it is.

    Raises UsageError for a node that is no home; NotARepository, AnotherVault, QuotaExceeded; ServerUnreachable when
    no node answers.
    """
    strangers = sorted(set(nodes) - set(session.homes))
    if strangers:
        raise UsageError(detail=f"Node {strangers[0]} is no home of the bucket: {', '.join(session.homes)} are.")
    return _Adoption(session, nodes or session.homes, told).run()


@dataclass(slots=True)
class _Roots:
    """The small files as the nodes told of them, or why one is refused; those of the first node that has them."""

    place: str = _PLACE
    found: dict[str, adoptions_pb2.ReadRootsResponse] = field(default_factory=dict)

    def key_names(self) -> Iterable[ObjectName]:
        names = map(_object_name, sorted(self.found))
        return [name for name in names if name is not None and name.kind is ObjectKind.KEY]

    def read(self, name: ObjectName, most: int) -> bytes:
        answer = self.found.get(str(name))
        if answer is None:
            raise ObjectMissing(name=name, place=self.place)
        if answer.refused or len(answer.body) > most:
            raise Unreadable(detail=answer.refused or f"it has more than {most} bytes")
        return answer.body


class _Adoption:
    def __init__(self, session: BucketSession, nodes: Sequence[str], told: Callable[[Moved], None]) -> None:
        self._session = session
        self._nodes = nodes
        self._told = told
        self._adopted = Adopted()
        self._roots = _Roots()
        self._beginning = Beginning(session, self._roots, self._adopted)

    def run(self) -> Adopted:
        for node in self._nodes:
            self._read_roots(node)
        if len(self._adopted.down) == len(self._nodes):
            raise ServerUnreachable(server="No home of the bucket", reason="; ".join(self._adopted.down.values()))
        self._begin()
        withheld = self._all_of(ObjectKind.PACK)
        withheld = self._all_of(ObjectKind.INDEX, withheld)
        self._all_of(ObjectKind.SNAPSHOT, withheld or (_INDEX_LEFT_OUT if self._lacks_index() else ""))
        self._strike_entered()
        if not (self._adopted.damaged or self._adopted.down):
            self._session.finish_adoption()
        return self._adopted

    def _all_of(self, kind: ObjectKind, withheld: str = "") -> str:
        """Of every node; answers why the next kind has to wait, empty if it need not."""
        is_going_on = [self._take(node, kind, withheld) for node in self._nodes]
        return withheld or self._why_all_wait() or (_COPY_GOES_ON if any(is_going_on) else "")

    def _why_all_wait(self) -> str:
        """Empty if they need not."""
        down = ", ".join(self._adopted.down)
        return f"what it needs may lie on a node that does not answer ({down})" if down else ""

    def _lacks_index(self) -> bool:
        """Whether an index file is left out, and none of that name came from another node."""
        left_out = {name for name in map(_object_name, self._adopted.damaged) if name and name.kind is ObjectKind.INDEX}
        return bool(left_out) and bool(left_out - {info.name for info in self._session.list(ObjectKind.INDEX)})

    def _strike_entered(self) -> None:
        """What was left out of one folder, and came from another one, is in."""
        left = {name for name in map(_object_name, self._adopted.damaged) if name is not None}
        for kind in {name.kind for name in left} & set(_KINDS):
            for info in self._session.list(kind):
                if info.name in left:
                    del self._adopted.damaged[str(info.name)]

    def _read_roots(self, node: str) -> None:
        request = adoptions_pb2.ReadRootsRequest(session_id=self._session.id)
        try:
            for root in self._session.stream_of(
                node,
                lambda channel, metadata: adoptions_pb2_grpc.AdoptionServiceStub(channel).ReadRoots(
                    request, metadata=metadata
                ),
            ):
                self._note_root(node, root)
        except ServerUnreachable as error:
            self._adopted.down[node] = str(error)

    def _note_root(self, node: str, root: adoptions_pb2.ReadRootsResponse) -> None:
        """Of several of one name keep the first one that is whole. Raises AnotherVault."""
        first = self._roots.found.setdefault(root.name, root)
        if root.refused or root is first:
            return
        if root.name == str(CONFIG) and not first.refused and root.body != first.body:
            raise AnotherVault(bucket=self._session.bucket, folder=f"the folder on node {node}")
        is_whole_key = root.name == f"{ObjectKind.KEY.value}/{sha256(root.body).hexdigest()}"
        if first.refused or is_whole_key:
            self._roots.found[root.name] = root

    def _begin(self) -> None:
        """Make the bucket this vault, if it is none yet, and store the keys that the catalogue does not know."""
        has_config = str(CONFIG) in self._roots.found
        if not has_config and self._beginning.has_no_config():
            raise NotARepository(folder=_PLACE, detail="it has no file config, and neither has the bucket a whole one")
        keys = self._beginning.keys()
        if has_config:
            config = self._beginning.config()
            seal = self._beginning.seal() if self._beginning.has_no_config() else b""
            keys = self._beginning.begin(config, keys, seal)
        for name, body in keys.items():
            info = ObjectInfo(name, len(body))
            is_new = self._session.put(info, lambda body=body: iter((body,)))  # type: ignore[misc] # mypy infers no default
            self._adopted.count(info, moved=is_new)
            self._adopted.keys += [str(name)] if is_new else []
        for text, root in self._roots.found.items():
            if root.refused:
                self._adopted.damaged.setdefault(text, root.refused)

    def _take(self, node: str, kind: ObjectKind, withheld: str) -> bool:
        """Whether something is left out that may still come."""
        if node in self._adopted.down:
            return False
        request = adoptions_pb2.AdoptRequest(session_id=self._session.id, kind=kind, withheld=withheld)
        adopted, last, is_going_on = self._adopted, adoptions_pb2.AdoptResponse(), False
        try:
            for step in self._session.stream_of(
                node,
                lambda channel, metadata: adoptions_pb2_grpc.AdoptionServiceStub(channel).Adopt(
                    request, metadata=metadata
                ),
            ):
                if step.objects > last.objects:
                    adopted.objects[kind.value] = adopted.objects.get(kind.value, 0) + step.objects - last.objects
                adopted.bytes += step.bytes - last.bytes
                adopted.kept += step.known - last.known
                adopted.in_basket += step.in_basket - last.in_basket
                adopted.revived += step.revived - last.revived
                for left in step.left_out:
                    adopted.damaged[left.name] = left.reason
                    is_going_on |= left.passing
                last = step
                self._told(adopted)
        except ServerUnreachable as error:
            adopted.down[node] = str(error)
        return is_going_on


def _object_name(text: str) -> ObjectName | None:
    """None for the path of what is no object."""
    try:
        return ObjectName.parse(text)
    except BadName:
        return None
