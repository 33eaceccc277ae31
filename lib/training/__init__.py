"""What a page runs: data, the training loop and the measures of a model's pictures.

Knows no model of the book.
"""

from lib.training.checkpoint import CheckpointError
from lib.training.classifier import DigitClassifier, digit_classifier
from lib.training.data import PHOTOGRAPHS, DataError, Labelled, load, load_mnist, load_photograph
from lib.training.ema import EMA
from lib.training.finite import NonFiniteLoss, NonFiniteWeights
from lib.training.fit import budget, default_device, fit
from lib.training.history import History
from lib.training.metrics import digit_statistics, frechet_distance
from lib.training.schedule import learning_rate
from lib.training.weights import load_weights

__all__ = [
    "EMA",
    "PHOTOGRAPHS",
    "CheckpointError",
    "DataError",
    "DigitClassifier",
    "History",
    "Labelled",
    "NonFiniteLoss",
    "NonFiniteWeights",
    "budget",
    "default_device",
    "digit_classifier",
    "digit_statistics",
    "fit",
    "frechet_distance",
    "learning_rate",
    "load",
    "load_mnist",
    "load_photograph",
    "load_weights",
]
