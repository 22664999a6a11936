"""A node whose bodies lie in Azure or in Google's store, on emulators, for `make campaign-clouds`."""

import pytest

from clouds.testing.emulators import azure, google
from services.storage.transfer.tests.test_bodies import (  # the same tests
    auth_server,
    kept,
    reapers,
    test_a_body_that_is_not_what_its_name_says_is_never_seen,
    test_a_crash_between_stage_and_place_loses_nothing,
    test_a_lost_catalogue_comes_back_and_what_the_other_node_lacks_is_fetched,
    test_a_node_that_is_drained_removes_all_and_not_again_for_an_older_copy_of_the_database,
    test_an_altered_and_a_lost_copy_are_found_and_healed_from_the_other_node,
    test_what_an_adoption_brings_in_lies_where_restic_looks,
    test_what_is_removed_comes_back_from_the_basket_or_goes_for_good,
    test_what_was_put_is_listed_and_read_whole_and_in_parts_also_after_a_restart,
)

__all__ = [
    "auth_server",
    "kept",
    "reapers",
    "test_a_body_that_is_not_what_its_name_says_is_never_seen",
    "test_a_crash_between_stage_and_place_loses_nothing",
    "test_a_lost_catalogue_comes_back_and_what_the_other_node_lacks_is_fetched",
    "test_a_node_that_is_drained_removes_all_and_not_again_for_an_older_copy_of_the_database",
    "test_an_altered_and_a_lost_copy_are_found_and_healed_from_the_other_node",
    "test_what_an_adoption_brings_in_lies_where_restic_looks",
    "test_what_is_removed_comes_back_from_the_basket_or_goes_for_good",
    "test_what_was_put_is_listed_and_read_whole_and_in_parts_also_after_a_restart",
]

pytestmark = [
    pytest.mark.usefixtures("emulator"),
    pytest.mark.parametrize("emulator", [azure, google], indirect=True, ids=["azure", "google"], scope="session"),
    pytest.mark.parametrize("kept", ["emulator"], indirect=True),
]
