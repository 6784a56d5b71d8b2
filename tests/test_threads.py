"""Threads of this library's own for products of NumPy: BLAS has its own back when all are done."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest

from dgex._threads import blas, in_order, threads_of_products


def n_threads():
    return [library["num_threads"] for library in blas().info()]


@pytest.fixture(autouse=True)
def two_threads():
    """BLAS with two threads, whatever the machine has."""
    if not n_threads():
        pytest.skip("NumPy has a BLAS without a number of threads")
    with blas().limit(limits=2):
        yield


def test_products_take_one_thread_each_and_then_as_many_as_before():
    assert set(n_threads()) == {2}
    with threads_of_products() as threads:
        assert set(n_threads()) == set(threads.submit(n_threads).result()) == {1}
        assert threads._max_workers == 2
        assert threads.submit(np.matmul, np.eye(3), np.ones(3)).result().tolist() == [1, 1, 1]
    assert set(n_threads()) == {2}


def test_errors_give_them_back():
    with pytest.raises(KeyError, match="trouble"), threads_of_products():
        raise KeyError("trouble")
    assert set(n_threads()) == {2}
    with threads_of_products() as threads:
        assert threads._max_workers == 2


def test_while_someone_has_them_others_get_one():
    with threads_of_products():
        with threads_of_products() as threads:
            assert threads._max_workers == 1
            assert threads.submit(np.matmul, np.eye(3), np.ones(3)).result().tolist() == [1, 1, 1]
        assert set(n_threads()) == {1}
    assert set(n_threads()) == {2}


def test_they_stay_one_each_until_the_last_user_is_done():
    first, second = ExitStack(), ExitStack()
    first.enter_context(threads_of_products())
    threads = second.enter_context(threads_of_products())
    first.close()
    assert set(n_threads()) == set(threads.submit(n_threads).result()) == {1}
    second.close()
    assert set(n_threads()) == {2}


def test_any_thread_can_have_them_and_leaves_nothing_behind():
    def counted():
        with threads_of_products() as threads:
            return threads._max_workers, set(threads.submit(n_threads).result())

    with threads_of_products():
        pass
    with ThreadPoolExecutor(1) as lasting:
        assert lasting.submit(counted).result() == (2, {1})
        assert set(n_threads()) == {2}
        with blas().limit(limits=1):
            assert set(n_threads()) == {1}
        assert counted() == (2, {1})
    assert set(n_threads()) == {2}


def test_what_threads_that_live_on_have_begun_the_last_user_ends():
    first, second = ExitStack(), ExitStack()
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        one.submit(first.enter_context, threads_of_products()).result()
        other.submit(second.enter_context, threads_of_products()).result()
        one.submit(first.close).result()
        assert set(n_threads()) == {1}
        other.submit(second.close).result()
        assert set(n_threads()) == {2}


def test_results_come_in_the_order_of_the_items():
    waits = [0.02, 0.0, 0.01, 0.0, 0.0] * 4

    def slept(number):
        time.sleep(waits[number])
        return number

    assert list(in_order(slept, range(len(waits)))) == list(range(len(waits)))
    assert list(in_order(slept, [])) == []
    assert set(n_threads()) == {2}


def test_an_error_ends_them_and_few_items_are_begun():
    begun = []

    def fails(number):
        begun.append(number)
        raise KeyError("trouble")

    with pytest.raises(KeyError, match="trouble"):
        list(in_order(fails, range(10_000)))
    assert len(begun) <= 2 * os.cpu_count()
    assert set(n_threads()) == {2}
