"""How far results are from others. Apart from the models, for contenders in an environment without PyTorch."""

import numpy as np


def distance(got, expected, largest):
    """The norm of the difference, as a part of the norm; gradients that are all but zero are held to the largest one."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    return float(np.linalg.norm((got - expected).ravel()) / max(np.linalg.norm(expected.ravel()), 1e-6 * largest, 1e-30))


def worst(got, expected):
    largest = max(float(np.linalg.norm(np.asarray(value, np.float64).ravel())) for value in expected.values())
    return max(distance(got[key], value, largest) for key, value in expected.items())
