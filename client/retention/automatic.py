"""The retention pass that follows a backup, where rules are stored: whether it is due, and what its failure means.

Kept true: only stored rules are gone by; the last pass is the one that auth knows of, so all devices of the account
agree; a pass that need not be never makes a backup fail, nor does one that this device may not do, as it may only add.
"""

import os
import sys
import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from oort.auth.v1 import devices_pb2
from oort.auth.v1.profiles_pb2 import Vault as VaultEntry

from client.account.connection import OUT_OF_REACH
from client.account.device import Device
from client.account.opening import place_of
from client.errors import AppendOnly, OortError
from client.retention.plan import Plan
from client.retention.run import Pass, RetentionOrder, RetentionResult, RetentionView
from client.retention.stored import last_pass
from domain.automatic_pass import PassLevel, PassNeed, Strength, chosen_level, pass_need
from domain.sessions import Purpose


@dataclass(frozen=True, slots=True)
class AutomaticPass:
    """What followed a backup: `result` of a pass that was done, or why it was not in `failure`."""

    need: PassNeed
    result: RetentionResult | None = None
    failure: OortError | None = None


def pass_after_backup(
    device: Device, vault_name: str, level: PassLevel, order: RetentionOrder, view: RetentionView
) -> AutomaticPass:
    """Do the pass that is due after a backup to a vault, if one is. Only interruptions are raised."""
    need = PassNeed.MUST if level is PassLevel.IMMEDIATE else PassNeed.TRY  # as long as nothing says that it must be
    try:
        with place_of(device, vault_name, Purpose.RETENTION) as place:
            run = Pass(device, place, order, view)
            result = run.look()
            need = _need(device, place.entry, level, result.plan, run.now)
            if need is PassNeed.NONE:
                return AutomaticPass(need)
            if not place.store.allows(Purpose.RETENTION):
                return AutomaticPass(need, failure=AppendOnly(place=place.store.place))
            run.carry_out(result)
    except OortError as error:
        return AutomaticPass(need, failure=error)
    return AutomaticPass(need, result)


def _need(device: Device, entry: VaultEntry, level: PassLevel, plan: Plan, now: datetime) -> PassNeed:
    if level is PassLevel.AUTOMATIC:
        level = chosen_level(level, _count_devices(device), own_strength())
    last = last_pass(entry)
    return pass_need(level, None if last is None else now - last, len(plan.removed))


def own_strength() -> Strength:
    """Of this machine; what the system does not tell counts as little."""
    has_clock = hasattr(time, "CLOCK_BOOTTIME")
    uptime = time.clock_gettime(time.CLOCK_BOOTTIME) if has_clock else time.monotonic()
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        memory = 0
    is_32_bit = sys.maxsize < 1 << 32
    return Strength(timedelta(seconds=uptime), sys.platform == "linux", memory, is_32_bit)


def _count_devices(device: Device) -> int:
    """How many devices the account has, as far as it matters: 1 or more."""
    from oort.auth.v1.devices_pb2_grpc import DeviceServiceStub

    stub = DeviceServiceStub(device.connection.channel)
    try:
        answer = device.connection.call(stub.ListDevices, devices_pb2.ListDevicesRequest(page_size=2))
    except OUT_OF_REACH:
        return 2
    return len(answer.devices)
