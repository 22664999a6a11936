import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.names import CONFIG, BadName, ObjectKind, ObjectName

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize("kind", [kind for kind in ObjectKind if not kind.is_root_file])
def test_a_name_survives_being_written_and_read(kind: ObjectKind) -> None:
    name = ObjectName(kind, HEX)
    assert ObjectName.parse(str(name)) == name


def test_packs_lie_in_a_sub_folder_and_other_objects_do_not() -> None:
    assert ObjectName(ObjectKind.PACK, HEX).path == f"data/01/{HEX}"
    assert ObjectName(ObjectKind.INDEX, HEX).path == f"index/{HEX}"
    assert CONFIG.path == "config"


def test_the_name_of_a_body_is_its_sha256() -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert ObjectName.of(ObjectKind.KEY, b"").id == empty


@pytest.mark.parametrize(
    "text",
    ["", "data", "data/", "data/..", f"data/{HEX.upper()}", f"data/{HEX}0", f"data/01/{HEX}", f"../{HEX}",
     "config/x", f"config/{HEX}", f"other/{HEX}", f"data/{HEX}\n"],
)  # fmt: skip
def test_what_is_not_a_name_is_refused(text: str) -> None:
    with pytest.raises(BadName):
        ObjectName.parse(text)


@given(st.text())
def test_no_text_becomes_a_path_outside_the_vault(text: str) -> None:
    try:
        path = ObjectName.parse(text).path
    except BadName:
        return
    assert ".." not in path
    assert not path.startswith("/")
