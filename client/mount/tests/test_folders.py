"""What a mount remembers is what the kernel remembers."""

from client.mount import kernel
from client.mount.folders import Folders
from client.mount.listing import Listing
from client.vault.modes import NodeType
from client.vault.tests.builders import a_node

TREE = bytes(32)


def a_listing(*names: bytes) -> Listing:
    listing = Listing()
    for name in names:
        listing.add(a_node(name, NodeType.DIR, subtree=TREE))
    return listing


def test_a_folder_is_forgotten_with_the_last_of_what_is_in_it() -> None:
    folders = Folders()
    listing = a_listing(b"a", b"b")
    root = folders.root(3, "5e", TREE, b"ids/5e")
    folders.told(root, 2)
    inner = folders.inside(root, listing, 1)
    folders.told(inner, 3)
    assert (inner.path, len(folders)) == (b"ids/5e/b", 2)

    for _ in range(3):
        folders.forget(inner.node_of(0), 1)
    assert len(folders) == 1
    assert folders.holding(inner.node_of(0)) is None
    again = folders.inside(root, listing, 1)
    assert again.number > inner.number  # a number is never given again
    assert again.inode == inner.inode
    folders.forget(again.node, 1)
    assert len(folders) == 1
    folders.forget(root.node_of(0), 1)
    assert len(folders) == 0


def test_a_folder_that_is_open_stays() -> None:
    folders = Folders()
    root = folders.root(3, "5e", TREE, b"ids/5e")
    folders.opened(root, 1)
    folders.told(root, 1)
    folders.forget(root.node_of(0), 1)
    assert folders.holding(root.node_of(0)) == (root, 0)
    folders.opened(root, -1)
    assert len(folders) == 0


def test_another_snapshot_of_the_same_name_is_another_folder() -> None:
    folders = Folders()
    first = folders.root(3, "5e", TREE, b"dates/now")
    assert folders.root(3, "5e", TREE, b"dates/now") is first
    assert folders.root(3, "6f", TREE, b"dates/now") is not first


def test_files_of_several_names_have_one_number_in_a_snapshot_and_another_in_others() -> None:
    listing = Listing()
    for name, inode in ((b"a", 7), (b"b", 7), (b"c", 8)):
        listing.add(a_node(name, links=2, inode=inode))
    folders = Folders()
    one = folders.root(3, "5e", TREE, b"ids/5e")
    other = folders.root(4, "6f", TREE, b"ids/6f")
    a, b, c = (one.inode_of(listing, place) for place in range(3))
    assert a == b != c
    assert a != other.inode_of(listing, 0)


def test_what_a_listing_tells_of_is_found_in_it_again() -> None:
    attributes = kernel.attributes(0o100644, 1, 1, 0, 0, 0, 0, 0)
    told = [kernel.dirent_plus(7 + at, 1, attributes, at, b"x" * at, lasting=True) for at in range(1, 20)]
    own = kernel.nothing_of(kernel.dirent(1, 1, 0o040555, b"."))
    assert list(kernel.nodes_of(own + b"".join(told))) == [0, *range(8, 27)]
