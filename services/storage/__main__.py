"""A storage node: `python -m services.storage`, with its settings in the environment (settings.py)."""

import gc

if __name__ == "__main__":
    gc.disable()  # what a start makes is no garbage; process.main has it on again when the role serves

import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.resources import files
from operator import attrgetter

import grpc
from oort.storage.v1 import (
    buckets_pb2,
    buckets_pb2_grpc,
    nodes_pb2,
    nodes_pb2_grpc,
    rescans_pb2,
    rescans_pb2_grpc,
    scrubs_pb2,
    scrubs_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
)

from services.common.listeners import Served
from services.common.migrations import migrations_in
from services.common.process import Drain, Parts, Role, Runtime, main
from services.common.rpc import internal_channel
from services.common.worker import Worker
from services.storage.access.gate import Gate, OperatorGate, TokenGate, load_keys
from services.storage.access.rates import PATIENCE_SECONDS, Rates, open_rates
from services.storage.adoption.run import Adoption
from services.storage.adoption.unentered import Unentered
from services.storage.opening import disk_threads, open_disks, open_stores
from services.storage.peers import Peers
from services.storage.regions.bringing import Bringer
from services.storage.regions.following import Follower
from services.storage.regions.healing import OtherRegions
from services.storage.regions.orders import Orders
from services.storage.regions.removals import Removals
from services.storage.regions.telling import Telling
from services.storage.removal.basket import Baskets
from services.storage.removal.reaper import Reaper
from services.storage.rpc.adoptions import AdoptionsRpc
from services.storage.rpc.buckets import BucketsRpc
from services.storage.rpc.control import ControlRpc
from services.storage.rpc.copies import CopiesRpc
from services.storage.rpc.limiting import LimitCalls
from services.storage.rpc.nodes import NodesRpc
from services.storage.rpc.objects import ObjectsRpc
from services.storage.rpc.protection import ProtectionRpc
from services.storage.rpc.quotas import QuotasRpc
from services.storage.rpc.regions import RegionsRpc
from services.storage.rpc.rescans import RescansRpc
from services.storage.rpc.scrubs import ScrubsRpc
from services.storage.rpc.sessions import SessionsRpc
from services.storage.settings import StorageSettings
from services.storage.transfer.gets import Gets, LocalObjects
from services.storage.transfer.incoming import Incoming
from services.storage.transfer.memory import keep_frames
from services.storage.transfer.own import OwnCopies
from services.storage.transfer.patience import Patience
from services.storage.transfer.puts import Puts
from services.storage.transfer.streams import Streams
from services.storage.upkeep.answering import Answering
from services.storage.upkeep.clearing import Clearer
from services.storage.upkeep.moves import Mover
from services.storage.upkeep.owners import Owners
from services.storage.upkeep.placement import Placement
from services.storage.upkeep.reconcile import Reconciler
from services.storage.upkeep.replication import Replicator
from services.storage.upkeep.rescan import Rescan
from services.storage.upkeep.scrub import Scrubber
from services.storage.upkeep.work import Figures, Presence, every, jobs
from services.storage.volumes.disks import Disks
from services.storage.volumes.pace import Pace
from services.storage.volumes.steady import read_when_idle
from services.storage.volumes.threads import DiskThreads, VolumeThreads

_THREADS_OF_ALL = 4
_BUCKETS = buckets_pb2.DESCRIPTOR.services_by_name["BucketService"].full_name
_CONTROL = sessions_pb2.DESCRIPTOR.services_by_name["SessionControlService"].full_name
_NODES = nodes_pb2.DESCRIPTOR.services_by_name["NodeService"].full_name
_RESCANS = rescans_pb2.DESCRIPTOR.services_by_name["RescanService"].full_name
_SCRUBS = scrubs_pb2.DESCRIPTOR.services_by_name["ScrubService"].full_name
_SESSIONS = sessions_pb2.DESCRIPTOR.services_by_name["SessionService"].full_name


@asynccontextmanager
async def wire(
    runtime: Runtime[StorageSettings], gate: Gate | None = None, *, redis_patience: float = PATIENCE_SECONDS
) -> AsyncIterator[Parts]:
    """Open disks and channels, settle what an earlier run left, and say that the node lives. Closes all at the end.

    In tests `gate` replaces the one of vault tokens, and `redis_patience` is longer where a limit has to hold.
    """
    settings, db, clock, node = runtime.settings, runtime.db, runtime.clock, runtime.settings.instance
    worker, silent, copy_seconds = runtime.worker, settings.node_silent_seconds, settings.copy_stall_seconds
    async with AsyncExitStack() as stack:
        gate = gate or TokenGate(load_keys(settings.token_keys), settings.cluster_name, clock)
        idle = DiskThreads(stack.enter_context(read_when_idle()))
        own_disks = open_disks(runtime, stack)
        of_disks = disk_threads(stack, "disk", settings.disk_threads)
        stores, claims = await open_stores(runtime, stack)
        threads = of_disks
        if stores:
            executor = stack.enter_context(ThreadPoolExecutor(_THREADS_OF_ALL, thread_name_prefix="volumes"))
            threads = VolumeThreads(executor, own_disks, of_disks, stores)
        disks = Disks([*own_disks, *(one.store for one in stores)], node, worker.locks)
        peers = Peers(settings)
        stack.push_async_callback(peers.close)
        incoming = Incoming(node, db, disks, threads)
        patience = Patience(clock, runtime.draining, settings.database_connections)
        puts = Puts(
            node, db, disks, threads, peers, patience=patience, silent_seconds=silent, copy_seconds=copy_seconds
        )
        stack.push_async_callback(puts.drain)
        local = LocalObjects(node, db, disks, threads, incoming)
        own = OwnCopies(node, db, disks, threads, incoming)
        gets = Gets(node, db, local, own, peers, silent_seconds=silent, copy_seconds=copy_seconds)
        rates = await stack.enter_async_context(
            open_rates(settings, clock, runtime.metrics.registry, patience=redis_patience)
        )
        streams = Streams(settings.max_streams, settings.stall_seconds, runtime.metrics.registry, worker)
        replicator = Replicator(
            node,
            db,
            disks,
            threads,
            peers,
            own=own,
            regions=OtherRegions(db, peers, clock, copy_seconds),
            clock=clock,
            streams=settings.replication_streams,
            bytes_per_second=settings.replication_bytes_per_second,
            silent_seconds=silent,
            copy_seconds=copy_seconds,
            poll_seconds=settings.replication_poll_seconds,
            registry=runtime.metrics.registry,
        )
        catalogue = migrations_in(ROLE.migrations)[-1].number
        answering = Answering(
            node,
            db,
            [(disk, disk_threads(stack, "answer", 1)) for disk in own_disks],
            clock,
            runtime.metrics.registry,
        )
        presence = Presence(
            settings, db, disks, of_disks, runtime.draining, catalogue=catalogue, silent=answering.silent
        )
        reconciler = Reconciler(
            node,
            db,
            disks,
            threads,
            incoming=incoming,
            presence=presence,
            clock=clock,
            pause_seconds=settings.reconcile_hours * 3600,
        )
        reaper = Reaper(
            node,
            db,
            disks,
            threads,
            incoming,
            basket=settings.basket,
            # Nobody comes back to one that has been over for longer than any may last.
            sessions_kept=settings.session_max_age,
        )
        placement = Placement(
            node,
            db,
            compare=reconciler.bucket,
            waits_for_entry=Unentered(db, disks, threads).lies_here,
            silent_seconds=silent,
            fills=not stores,
        )
        clearer = Clearer(node, db, disks, threads, silent)
        scrubber = Scrubber(
            node,
            db,
            disks,
            idle,
            incoming,
            clock=clock,
            bytes_per_second=settings.scrub_bytes_per_second,
            kept=settings.scrub_kept,
            poll_seconds=settings.scrub_poll_seconds,
            registry=runtime.metrics.registry,
        )
        telling = Telling(db, settings.cluster_name, silent_seconds=silent)
        await _settle_in(worker, incoming, presence)
        beat, brake = settings.beat_seconds, settings.brake
        sessions_of = partial(SessionsRpc, db=db, puts=puts, beat_seconds=beat, silent_seconds=silent, brake=brake)
        operators = OperatorGate(settings.cluster_name)
        copies = CopiesRpc(node, disks=disks, threads=threads, incoming=incoming, local=local, streams=streams)
        drains: list[Drain] = []
        auth = settings.auth_server
        channel = await stack.enter_async_context(internal_channel(settings, auth)) if auth else None
        rescan = Rescan(
            node,
            db,
            disks,
            threads,
            owners=Owners(channel, settings.cluster_name).of,
            compare=reconciler.bucket,
            silent_seconds=silent,
        )
        adoption = Adoption(
            node,
            db,
            disks,
            threads,
            reader=scrubber.reader,
            baskets=Baskets(db, gets, settings.cluster_name),
            patience=patience,
            silent_seconds=silent,
        )
        if settings.rest_listen and channel is not None:
            rest = await _serve_restic(runtime, channel, gate, puts, gets=gets, streams=streams, rates=rates)
            stack.push_async_callback(rest, 0)
            drains.append(rest)
        yield Parts(
            drains=drains,
            around_public=[LimitCalls(rates, gate)],
            public=[
                Served(sessions_pb2_grpc.add_SessionServiceServicer_to_server, sessions_of(gate), _SESSIONS),
                ObjectsRpc(gate, db, puts, gets, streams).served(),
            ],
            internal=[
                Served(
                    buckets_pb2_grpc.add_BucketServiceServicer_to_server,
                    BucketsRpc(db, settings.cluster_name, silent),
                    _BUCKETS,
                ),
                Served(
                    sessions_pb2_grpc.add_SessionControlServiceServicer_to_server,
                    ControlRpc(db, settings.basket),
                    _CONTROL,
                ),
                Served(nodes_pb2_grpc.add_NodeServiceServicer_to_server, NodesRpc(db, silent), _NODES),
                Served(scrubs_pb2_grpc.add_ScrubServiceServicer_to_server, ScrubsRpc(db), _SCRUBS),
                Served(rescans_pb2_grpc.add_RescanServiceServicer_to_server, RescansRpc(node, rescan), _RESCANS),
                Served(sessions_pb2_grpc.add_SessionServiceServicer_to_server, sessions_of(operators), _SESSIONS),
                ObjectsRpc(operators, db, puts, gets, streams).served(),
                ProtectionRpc(db, Baskets(db, gets, settings.cluster_name), settings.basket).served(),
                AdoptionsRpc(operators, adoption).served(),
                QuotasRpc(db).served(),
                RegionsRpc(
                    Orders(db, peers, settings.cluster_name, silent_seconds=silent, copy_seconds=copy_seconds),
                    telling,
                    settings.cluster_name,
                ).served(),
                copies.served(),
            ],
            # Once a node, however many workers serve.
            background=[
                *jobs(
                    settings,
                    clock,
                    db,
                    presence=presence,
                    incoming=incoming,
                    figures=Figures(db, presence, runtime.metrics.registry),
                ),
                *claims,
                answering.run,
                partial(every, clock, settings.reap_seconds, "reap", reaper.reap),
                partial(every, clock, settings.placement_poll_seconds, "place", placement.place),
                partial(every, clock, settings.placement_poll_seconds, "clear former homes", clearer.clear),
                reconciler.run,
                replicator.run,
                _follower(runtime, puts, peers, telling).run,
                scrubber.run,
                _mover(runtime, disks, disk_threads(stack, "move", 1)).run,
            ]
            if worker.is_first
            else [],
            lent=[descriptor for disk in own_disks for descriptor in disk.lent],
        )


async def _settle_in(worker: Worker, incoming: Incoming, presence: Presence) -> None:
    """The first worker settles what an earlier run of the node left, and says that the node lives."""
    if worker.is_first:
        await incoming.recover()
        await presence.beat()
    else:
        await incoming.drop_parts()


def _mover(runtime: Runtime[StorageSettings], disks: Disks, threads: DiskThreads) -> Mover:
    settings = runtime.settings
    return Mover(
        settings.instance,
        runtime.db,
        disks,
        threads,
        clock=runtime.clock,
        crowded_bytes=settings.crowded_bytes,
        bytes_per_second=settings.move_bytes_per_second,
        poll_seconds=settings.move_poll_seconds,
        registry=runtime.metrics.registry,
    )


def _follower(runtime: Runtime[StorageSettings], puts: Puts, peers: Peers, telling: Telling) -> Follower:
    settings, db, clock = runtime.settings, runtime.db, runtime.clock
    return Follower(
        settings.instance,
        settings.cluster_name,
        db,
        peers,
        telling,
        clock,
        Bringer(db, puts, settings.region_streams, Pace(clock, settings.region_bytes_per_second)),
        Removals(db, settings.brake),
        poll_seconds=settings.region_poll_seconds,
        inventory_seconds=settings.region_inventory_hours * 3600,
        beat_seconds=settings.beat_seconds,
        frame_seconds=settings.copy_stall_seconds,
    )


async def _serve_restic(
    runtime: Runtime[StorageSettings],
    auth: grpc.aio.Channel,
    gate: Gate,
    puts: Puts,
    *,
    gets: Gets,
    streams: Streams,
    rates: Rates,
) -> Drain:
    """Serve restic's REST protocol. Imported where it is: what it stands on takes a third of a second."""
    from services.storage.rest.access import Access
    from services.storage.rest.handler import RestHandler
    from services.storage.rest.listener import listen

    settings, clock = runtime.settings, runtime.clock
    access = Access(auth, gate, clock)
    handler = RestHandler(
        settings.instance,
        access,
        runtime.db,
        puts,
        gets,
        streams=streams,
        rates=rates,
        metrics=runtime.metrics,
        clock=clock,
        brake=settings.brake,
    )
    listener = await listen(settings, str(settings.rest_listen), handler)
    return listener.drain


ROLE = Role(
    "storage",
    StorageSettings,
    files("services.storage") / "migrations",
    wire,
    workers=attrgetter("workers"),
    listens=("public_listen", "internal_listen", "rest_listen"),
)

if __name__ == "__main__":
    keep_frames()
    sys.exit(main(ROLE))
