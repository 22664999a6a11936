"""What a retention pass would do: the snapshots of each item judged by the rules of that item.

Kept true: rules are never applied across items, nor across devices; an item of which no snapshot would be left loses
none; a snapshot that cannot be read is in no plan, and so stays.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo

from client.errors import AmbiguousItem, NoSuchItem
from client.vault.snapshots import Snapshot
from domain.retention import Candidate, Verdict, evaluate
from domain.retention_policy import KEEP_EVERYTHING, Policy


@dataclass(frozen=True, slots=True)
class Rules:
    """The policies in force in a vault: `given` overrides all; an item without one of its own has the default."""

    default: Policy = KEEP_EVERYTHING
    items: Mapping[str, Policy] = field(default_factory=dict)
    given: Policy | None = None

    def of(self, item: str) -> Policy:
        return self.given or self.items.get(item, self.default)


@dataclass(frozen=True, slots=True)
class ItemPlan:
    """One item of one device; `snapshots` are all that it has, oldest first.

    `item` and `device` are empty for what no item is known of: it goes by host and paths (restic's).
    """

    item: str
    device: str
    snapshots: tuple[Snapshot, ...]
    policy: Policy
    verdict: Verdict

    @property
    def kept(self) -> list[tuple[Snapshot, tuple[str, ...]]]:
        """What stays, oldest first, with the reasons; all of it, if the rules would leave nothing."""
        if self.verdict.keeps_none:
            return [(one, ("the rules would remove every snapshot of the item",)) for one in self.snapshots]
        return [(one, self.verdict.kept[one.id]) for one in self.snapshots if one.id in self.verdict.kept]

    @property
    def removed(self) -> list[Snapshot]:
        removed = set(self.verdict.removed)
        return [one for one in self.snapshots if one.id in removed]


@dataclass(frozen=True, slots=True)
class Plan:
    """The items of a vault, those whose newest snapshot is oldest first."""

    items: tuple[ItemPlan, ...] = ()

    @property
    def removed(self) -> list[Snapshot]:
        return [one for item in self.items for one in item.removed]

    @property
    def spared(self) -> list[ItemPlan]:
        """Items that keep everything only because they would lose everything."""
        return [item for item in self.items if item.verdict.keeps_none]


def make_plan(
    oldest_first: Sequence[Snapshot],
    rules: Rules,
    now: datetime,
    zone_of: Callable[[Policy], tzinfo],
    wanted: str = "",
) -> Plan:
    """Judge the snapshots of a vault; of the item `wanted`, an id or the beginning of one, if it is given.

    Raises NoSuchItem, AmbiguousItem; BadRetention for a zone that is not known.
    """
    groups: dict[tuple[str, ...], list[Candidate]] = {}
    by_id = {snapshot.id: snapshot for snapshot in oldest_first}
    for order, snapshot in enumerate(oldest_first):
        groups.setdefault(_key(snapshot), []).append(Candidate(snapshot.id, snapshot.time, order))
    if wanted:
        chosen = chosen_item({by_id[group[0].id].item for group in groups.values()}, wanted)
        groups = {key: group for key, group in groups.items() if by_id[group[0].id].item == chosen}
    plans = []
    for group in sorted(groups.values(), key=lambda group: group[-1].order):
        first = by_id[group[0].id]
        policy = rules.of(first.item)
        verdict = evaluate(group, policy, now, zone_of(policy))
        snapshots = tuple(by_id[one.id] for one in group)
        plans.append(ItemPlan(first.item, first.device, snapshots, policy, verdict))
    return Plan(tuple(plans))


def _key(snapshot: Snapshot) -> tuple[str, ...]:
    """What tells an item of a device from others; of a snapshot without one its host and paths."""
    if snapshot.item:
        return ("item", snapshot.item, snapshot.device)
    return ("paths", snapshot.device, snapshot.hostname, *sorted(snapshot.paths))


def chosen_item(items: Iterable[str], wanted: str) -> str:
    """The item whose id begins with `wanted`. Raises NoSuchItem, AmbiguousItem."""
    matches = [item for item in items if item and item.startswith(wanted.lower())]
    if len(matches) > 1:
        raise AmbiguousItem(item=wanted, count=len(matches))
    if not matches:
        raise NoSuchItem(item=wanted)
    return matches[0]
