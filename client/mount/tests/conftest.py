import pytest

from client.testing.mounts import why_nothing_can_be_mounted


@pytest.fixture(autouse=True)
def can_mount(request: pytest.FixtureRequest) -> None:
    """Mounting takes what no package brings: a kernel with FUSE that lets this user, in this container, use it."""
    if request.node.get_closest_marker("needs") is not None:
        why = why_nothing_can_be_mounted()
        if why:
            pytest.skip(why)
