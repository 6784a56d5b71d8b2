import numpy as np
import pytest

from dgex._partition import TargetSets, assigned, clustered_sets, one_set, random_sets, target_sets


def test_random_sets_are_disjoint_and_of_nearly_equal_size():
    sets = random_sets(23, 4, np.random.default_rng(0))
    assert sets.sizes == (6, 6, 6, 5)
    assert sorted(np.concatenate(sets.members)) == list(range(23))
    assert all((np.diff(members) > 0).all() for members in sets.members)
    assert not np.array_equal(sets.partition, random_sets(23, 4, np.random.default_rng(1)).partition)


def test_clusters_are_the_genes_that_move_together():
    # Three groups of unequal size, each following a factor of its own, in units that differ by gene.
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat([0, 1, 2], [20, 12, 5]))
    factors = rng.normal(size=(300, 3))
    y = (factors[:, groups] + 0.5 * rng.normal(size=(300, 37))) * rng.uniform(0.1, 100, 37) + rng.uniform(0, 1000, 37)
    sets = clustered_sets(y, np.arange(300), 3, np.random.default_rng(0))
    assert [set(members) for members in sets.members] == [set(np.flatnonzero(groups == g)) for g in range(3)]


def test_clusters_are_learned_from_the_given_profiles_only():
    rng = np.random.default_rng(0)
    y = rng.normal(size=(200, 30))
    rows = np.arange(100)
    one = clustered_sets(y, rows, 4, np.random.default_rng(0)).partition
    y[100:] = np.nan
    np.testing.assert_array_equal(clustered_sets(y, rows, 4, np.random.default_rng(0)).partition, one)


def test_no_cluster_takes_more_than_twice_its_share_and_none_is_empty():
    rng = np.random.default_rng(0)
    y = np.column_stack([rng.normal(size=(100, 1)) + 0.01 * rng.normal(size=(100, 90)), rng.normal(size=(100, 10))])
    sets = clustered_sets(y, np.arange(100), 5, rng)
    assert sets.largest <= 40
    assert min(sets.sizes) >= 1
    assert sorted(np.concatenate(sets.members)) == list(range(100))


def test_constant_genes_can_be_clustered():
    sets = clustered_sets(np.ones((10, 6)), np.arange(10), 3, np.random.default_rng(0))
    assert sorted(np.concatenate(sets.members)) == list(range(6))
    assert min(sets.sizes) >= 1


def test_the_nearest_target_chooses_first_and_empty_sets_get_the_farthest():
    distances = np.array([[0.1, 0.9, 3.0], [0.3, 0.4, 3.0], [0.2, 0.8, 3.0], [0.5, 0.6, 3.0]])
    # Two places each: targets 0 and 2 are nearest to set 0, then 1 and 3 go to set 1; the third takes the farthest of a
    # largest set, target 3.
    assert assigned(distances, capacity=2).tolist() == [0, 1, 0, 2]


@pytest.mark.parametrize("n_sets", [1, 3])
def test_numbers_by_target_are_split_and_joined(n_sets):
    sets = random_sets(7, n_sets, np.random.default_rng(0)) if n_sets > 1 else one_set(7)
    array = np.arange(14).reshape(2, 7) + 1
    stack = sets.split(array)
    assert stack.shape == (n_sets, 2, sets.largest)
    assert (stack != 0).sum() == 14
    np.testing.assert_array_equal((stack != 0).all(axis=1), sets.present)
    np.testing.assert_array_equal(sets.joined(stack), array)
    np.testing.assert_array_equal(sets.joined(np.pad(stack, [(0, 0), (0, 0), (0, 3)])), array)
    np.testing.assert_array_equal(sets.partition, TargetSets.of(sets.partition).partition)


def test_adjacent_columns_are_a_slice():
    sets = TargetSets((np.array([2, 3, 4, 9]), np.array([0, 1])))
    assert sets.columns(0, 0, 3) == slice(2, 5)
    assert sets.columns(0, 2, 8).tolist() == [4, 9]
    assert sets.columns(1, 2, 4).tolist() == []


def test_the_parameters_ask_for_sets():
    y, rows, rng = np.random.default_rng(0).normal(size=(20, 8)), np.arange(20), np.random.default_rng(0)
    assert target_sets("clustered", 1, y, rows, rng).sizes == (8,)
    assert target_sets("random", 8, y, rows, rng).sizes == (1,) * 8
    assert len(target_sets("clustered", 3, y, rows, rng)) == 3
    with pytest.raises(ValueError, match="Got n_partitions=9, but expected at most 8"):
        target_sets("random", 9, y, rows, rng)
