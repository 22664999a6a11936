"""All comes to rest: every session is over, nodes are up and whole, one retention and the reaper have run."""

from services.storage.tests.model.pruning import Retention
from services.storage.tests.model.world import World

_ROUNDS = 40


async def come_to_rest(world: World) -> None:
    """Object locks are let go, silent sessions ended, files settled, copies healed; a retention removes no snapshot."""
    world.down, world.locked = frozenset(), False
    async with world.db.worker() as unit:
        cursor = await unit.execute(
            "select id from sessions where bucket_id = %s and ended_seq is null", (world.claims.bucket,)
        )
        running = [row[0] for row in await cursor.fetchall()]
    for session in running:
        await world.end_silent(session)
    await _nodes_work(world)
    last = Retention("the last retention", world, world.device())
    for _ in range(_ROUNDS):
        if last.done:
            break
        await last.run(last.moves()[0])
    assert last.done, "the last retention does not come to its end"
    await _nodes_work(world)


async def _nodes_work(world: World) -> None:
    for node in world.nodes:
        await world.incoming[node].settle()
    for node in world.nodes:
        await world.heal(node)
    for node in world.nodes:
        await world.reapers[node].reap()
