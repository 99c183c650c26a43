"""Order by hashes and then by another column, against NumPy's."""

import numpy as np
import pytest

from transforms.deduplication.ordering import by_two


@pytest.mark.parametrize("values", [2, 1000, 2**40])
@pytest.mark.parametrize("count", [0, 1, 2, 3000])
def test_the_order_is_that_of_lexsort(values, count):
    rng = np.random.default_rng([values, count])
    first, second = rng.integers(0, values, count, np.uint64), rng.integers(0, 3, count)
    assert by_two(first, second).tolist() == np.lexsort((second, first)).tolist()


def test_rows_that_share_both_stay_in_their_order():
    first, second = np.arange(1000, dtype=np.uint64), np.arange(1000)
    first[500:520], second[500:520] = 500, 1
    second[510] = 0
    assert by_two(first, second)[500:520].tolist() == [510, *range(500, 510), *range(511, 520)]
